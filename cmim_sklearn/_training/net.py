"""Training: a skorch net that reads whole batches and looks at its losses once an epoch.

skorch is used as an engine, behind the estimator: here and by the callbacks alone.
"""

import math
from inspect import signature

import torch
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping, EpochTimer, LRScheduler
from skorch.helper import predefined_split
from torch import nn

from cmim_sklearn._training.batches import (
    EncodedTable,
    ShuffledBatches,
    StreamedTable,
    WholeBatches,
)
from cmim_sklearn._training.callbacks import EpochTasks, OneCycle, Progress, StopTraining
from cmim_sklearn._training.state import copied, restore, slow_down, take_over, training_state

VALIDATION_SEED = 0


MAX_BACK_OFFS = 3
"""How often a fit goes back to its last good epoch and halves its rate."""


TABLE_SHARE_OF_FREE_MEMORY = 0.25


OWNED_NET_PARAMS = {
    "module": "hidden_layer_sizes, encoder, decoder",
    "criterion": "contrastive_weight, temperature",
    "lr": "learning_rate_init",
    "optimizer__lr": "learning_rate_init",
    "optimizer__weight_decay": "alpha",
    "max_epochs": "max_iter",
    "batch_size": "batch_size",
    "iterator_train": "batch_size",
    "iterator_valid": "batch_size",
    "train_split": "early_stopping, validation_fraction, or fit(X, X_val=...)",
    "device": "device",
    "warm_start": "warm_start",
    "verbose": "verbose",
    "seed": "random_state",
    "title": "verbose",
    "origin": "random_state and all others",
    "one_cycle": "net_params={'callbacks__schedule': None}",
    "dataset": "X",
    "predict_nonlinearity": "embedding",
}
"""Parameters of the net that the estimator sets, and which of its own stands for each."""


class ObjectiveLoss(nn.Module):
    """An objective with its options, as the criterion that skorch holds."""

    def __init__(self, objective, **options):
        super().__init__()
        self.objective, self.options = objective, options

    def forward(self, batch):
        """Return the named per-row terms of a `Pass`."""
        return self.objective(batch, **self.options)

    def callbacks(self):
        """Callbacks of skorch that this loss needs in training."""
        return []


class NotFinite(FloatingPointError):
    """A loss was not finite, also at lower rates; the net has its last weights with a finite one.

    Parameters
    ----------
    message : str
    training : bool
        False where it was that of rows held out.
    """

    def __init__(self, message, training):
        super().__init__(message)
        self.training = training


class LatentNet(NeuralNet):
    """A skorch net for a `LatentModel`: its batches are encoded rows, its losses named terms.

    Each epoch of the history holds ``train_loss``, ``valid_loss``, ``dur`` and the loss terms under
    ``train_`` and ``valid_`` names, all read from the device once, at the epoch's end.

    Parameters
    ----------
    module : LatentModel
        An instance, with its parameters drawn.
    criterion : ObjectiveLoss
        An instance.
    seed : int, default=0
        Of the local generator behind shuffling and noise.
    autocast : {"bfloat16", "float16"} or None, default=None
        Mixed precision in the forward pass. float16 has no gradient scaling here.
    title : str, default="LatentNet"
        What the progress line calls the model.
    one_cycle : bool, default=True
        Whether the learning rate goes by `OneCycle`; else it is constant.
    origin : dict, default=None
        What the fit was asked for, by which a checkpoint tells whether it is of the same fit.
    **kwargs : dict
        See `skorch.NeuralNet`.

    Attributes
    ----------
    n_resumed_ : int
        Epochs of this fit that were trained before it was resumed; set by a callback at the
        beginning of training, ``max_epochs`` where nothing is left to do.
    has_ended_ : bool
        False until training has come to its end, by itself or by early stopping.
    faults_ : list of int
        Epochs of the last fit in which the loss was not finite, so that they were begun anew.
    """

    def __init__(
        self,
        module,
        criterion,
        *,
        seed=0,
        autocast=None,
        title="LatentNet",
        origin=None,
        one_cycle=True,
        **kwargs,
    ):
        if autocast not in (None, "bfloat16", "float16"):
            raise ValueError(
                f"net_params['autocast'] must be 'bfloat16', 'float16' or None. Got {autocast!r}."
            )
        super().__init__(module, criterion, **kwargs)
        self.seed, self.autocast, self.title = seed, autocast, title
        self.origin, self.one_cycle = origin, one_cycle

    def __repr__(self):
        """Short, as a notebook's table of fitted attributes needs it; ``module`` shows the rest."""
        n_weights = sum(weight.numel() for weight in self.module.parameters())
        return f"{type(self).__name__}({n_weights:,} weights)"

    @property
    def _default_callbacks(self):
        callbacks = [("epoch_timer", EpochTimer())]
        own = [c[1] if isinstance(c, tuple) else c for c in self.callbacks or []]
        is_scheduled = any(isinstance(c, LRScheduler) or c is LRScheduler for c in own)
        if self.one_cycle and not is_scheduled:
            callbacks.append(("schedule", OneCycle()))
        return [*callbacks, ("progress", Progress(self.title))]

    def initialize_callbacks(self):
        """Make the list of callbacks; one that sees what all others did has ``comes_last``."""
        super().initialize_callbacks()
        self.callbacks_.sort(key=lambda pair: getattr(pair[1], "comes_last", False))
        return self

    def get_iterator(self, dataset, training=False):
        """Return `WholeBatches` over a data set, shuffled in training; of a stream, its batches."""
        if isinstance(dataset, StreamedTable):
            return ShuffledBatches(dataset, self.batch_size, self.generator_, self.device)
        x = dataset.x
        if torch.device(self.device).type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            if x.nbytes < TABLE_SHARE_OF_FREE_MEMORY * free:
                x = x.to(self.device)
        generator = self.generator_ if training else None
        return WholeBatches(x, self.batch_size, generator, self.device)

    def on_epoch_begin(self, net, **kwargs):
        """Open the epoch's record, and in it one for all its batches.

        skorch's Checkpoint and ProgressBar look for the latter; none is written to by us.
        """
        # Here and not as an epoch ends, where callbacks have still to see it.
        self.good_ = copied(training_state(self))
        super().on_epoch_begin(net, **kwargs)
        self.history.new_batch()

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        """Open no record for the batch: the history is by epoch."""

    def infer(self, x, **fit_params):
        """Draw the noise of a batch x (n, C) and run the model on it."""
        noise = self.module_.draw_noise(x, self.generator_)
        kind = torch.device(self.device).type
        dtype = getattr(torch, self.autocast) if self.autocast else None
        with torch.autocast(kind, dtype=dtype, enabled=dtype is not None):
            return self.module_(x, noise)

    def train_step_single(self, batch, **fit_params):
        """One forward and backward pass over a batch x (n, C)."""
        if not self.module_.training:  # which takes as long as a layer: it asks every submodule
            self._set_training(True)
        passed = self.infer(batch)
        terms = self.criterion_(passed)
        loss = sum(terms.values()).mean()
        loss.backward()
        return {"loss": loss, "y_pred": terms, "passed": passed}

    def validation_step(self, batch, **fit_params):
        """The terms of a held-out batch x (n, C)."""
        self._set_training(False)
        with torch.no_grad():
            terms = self.criterion_(self.infer(batch))
        return {"loss": sum(terms.values()).mean(), "y_pred": terms}

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Run over all batches and write the mean of each term to the history.

        skorch's own reads the loss back to Python after each batch; this one adds terms up on the
        device. Held-out noise is the same at every epoch, so that losses differ by the weights
        alone.
        """
        if iterator is None:
            return
        shared = self.generator_
        if not training:
            self.generator_ = torch.Generator(shared.device).manual_seed(VALIDATION_SEED)
        total, names, n_rows = None, (), 0
        for batch in iterator:
            self.notify("on_batch_begin", batch=(batch, None), training=training)
            step = step_fn(batch, **fit_params)
            names = tuple(step["y_pred"])
            n_rows += len(next(iter(step["y_pred"].values())))
            sums = torch.stack([term.detach().sum() for term in step["y_pred"].values()])
            total = sums if total is None else total + sums
            self.notify("on_batch_end", batch=(batch, None), training=training, **step)
        self.generator_ = shared
        if training:
            # The last step may break weights when the losses before it were finite.
            total = torch.where(self._weights_are_finite(), total, torch.nan)
        means = [value / n_rows for value in total.tolist()]
        loss = sum(means)
        if not math.isfinite(loss):
            raise NotFinite(
                f"The {'training' if training else 'held-out'} loss is {loss} in epoch "
                f"{len(self.history)}, also after the learning rate was halved {MAX_BACK_OFFS} "
                f"times. Lower learning_rate_init (now {self.optimizer__lr:g}), or look for "
                "columns with extreme values and scale them with numeric_scaling='quantile'.",
                training,
            )
        earlier = [row[f"{prefix}_loss"] for row in self.history[:-1] if f"{prefix}_loss" in row]
        self.history.record(f"{prefix}_loss", loss)
        self.history.record(f"{prefix}_loss_best", loss < min(earlier, default=math.inf))
        self.history.record(f"{prefix}_batch_count", len(iterator))
        for name, mean in zip(names, means, strict=True):
            self.history.record(f"{prefix}_{name}", mean)

    def end_tasks(self):
        """Close the tasks that scikit-learn's callbacks follow, once the estimator is fitted."""
        for _, callback in self.callbacks_:
            if isinstance(callback, EpochTasks):
                callback.end(self)

    def forget_data(self):
        """Let go of held-out rows and of the table that scikit-learn's callbacks were shown."""
        self.train_split = None
        self.callbacks_ = [c for c in self.callbacks_ if not isinstance(c[1], EpochTasks)]
        self.callbacks = [c for c in self.callbacks if not isinstance(c, EpochTasks)]

    def notify(self, method_name, **cb_kwargs):
        """Call a hook of the net and of its callbacks.

        skorch's EarlyStopping ends training by a KeyboardInterrupt. That one alone is taken for an
        end: any other is the user's, wherever it strikes.
        """
        getattr(self, method_name)(self, **cb_kwargs)
        for _, callback in self.callbacks_:
            try:
                getattr(callback, method_name)(self, **cb_kwargs)
            except KeyboardInterrupt as stop:
                if isinstance(callback, EarlyStopping) and callback.misses_ >= callback.patience:
                    raise StopTraining from stop
                raise

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Train for ``max_epochs`` on an `EncodedTable`; Ctrl-C restores the best weights first.

        skorch's own swallows KeyboardInterrupt, so that a search would go on with the next
        candidate.
        """
        if not self.initialized_:
            self.initialize()
        self.generator_ = torch.Generator(self.device).manual_seed(self.seed)
        self.n_resumed_, self.has_ended_, self.faults_ = 0, False, []
        end, self.good_ = len(self.history) + self.max_epochs, None
        self.notify("on_train_begin", X=X, y=y)
        n_left = self.max_epochs - self.n_resumed_
        try:
            while not self.has_ended_:
                try:
                    self.fit_loop(X, y, epochs=n_left, **fit_params)
                    self.has_ended_ = True
                except NotFinite as fault:
                    self._back_off(fault)
                    n_left = end - len(self.history)
        except StopTraining:
            self.has_ended_ = True
        except KeyboardInterrupt:
            if self.good_ is not None and not self._weights_are_finite():
                restore(self, self.good_)
            raise
        finally:
            self.notify("on_train_end", X=X, y=y)
            del self.generator_, self.good_
        return self

    def _back_off(self, fault):
        """Go back to the last good epoch, at half the rate; raise the fault if that was in vain."""
        restore(self, self.good_)
        self.faults_.append(len(self.history))
        del self.history[-1]
        if len(self.faults_) > MAX_BACK_OFFS:
            raise fault
        slow_down(self, 0.5)

    def _weights_are_finite(self):
        """A tensor, on the device: reading it waits for all that goes on there."""
        sums = [weight.detach().sum() for weight in self.module_.parameters()]
        return torch.stack(sums).isfinite().all()


NET_PARAMS = {name for cls in (NeuralNet, LatentNet) for name in signature(cls).parameters}
NET_PARAMS -= {"kwargs"}
"""Names of all parameters of `LatentNet`, without those of its optimizer, module, ..."""


def check_net_params(net_params, owner):
    """Check `net_params` of an estimator, whose class is named by `owner`.

    Raises
    ------
    ValueError
        If a parameter is unknown, or the estimator has one for it.
    TypeError
        If callbacks are not a list of skorch callbacks.
    """
    free = NET_PARAMS - set(OWNED_NET_PARAMS)
    for name in net_params:
        owned = name if name in OWNED_NET_PARAMS else name.split("__")[0]
        if owned in OWNED_NET_PARAMS:
            raise ValueError(
                f"net_params may not hold {name!r}: {owner} sets it. Use the parameter "
                f"{OWNED_NET_PARAMS[owned]} instead."
            )
        if name.split("__")[0] not in free:
            raise ValueError(
                f"net_params has an unknown parameter {name!r}. It takes {', '.join(sorted(free))} "
                "and their own parameters, such as optimizer__betas."
            )
    callbacks = net_params.get("callbacks")
    if not isinstance(callbacks, list | tuple | type(None)):
        raise TypeError(f"net_params['callbacks'] must be a list. Got {callbacks!r} instead.")
    for callback in callbacks or ():
        own = callback[-1] if isinstance(callback, tuple) else callback
        if not hasattr(own, "on_train_begin"):
            raise TypeError(f"net_params['callbacks'] must hold skorch callbacks. Got {own!r}.")


def go_on_from(net, before):
    """Take over what a net has that trained the same weights: history, optimizer, callbacks."""
    net.history.extend(before.history)
    take_over(net.optimizer_, before.optimizer_)
    there = dict(before.callbacks_)
    for name, callback in net.callbacks_:
        if name in there and hasattr(callback, "_go_on_from"):
            callback._go_on_from(there[name])


def hold_out(encoded):
    """Return skorch's train_split for held-out encoded rows (n, C)."""
    return predefined_split(EncodedTable(encoded))


def net_state(net):
    """What is kept of a trained net, as JSON values and numpy arrays: weights and history."""
    weights = net.module.state_dict()
    return {
        "weights": {name: weight.detach().cpu().numpy().copy() for name, weight in weights.items()},
        "history": [{k: v for k, v in row.items() if k != "batches"} for row in net.history],
    }
