"""skorch net that trains a model in whole batches and reads its losses once per epoch."""

import math

import torch
from sklearn.utils._param_validation import InvalidParameterError
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping, EpochTimer, LRScheduler
from skorch.helper import predefined_split
from torch import nn

from cmim_sklearn._training.batches import (
    EncodedTable,
    ShuffledBatches,
    StreamedTable,
    WholeBatches,
    count_batches,
)
from cmim_sklearn._training.callbacks import EpochTasks, OneCycle, Progress, StopTraining
from cmim_sklearn._training.cuda_graph import StepGraphs, Sums
from cmim_sklearn._training.labels import StopLabels
from cmim_sklearn._training.state import (
    bound_gradients,
    copy_optimizer_state,
    copy_tensors,
    restore,
    scale_learning_rate,
    training_state,
)

VALIDATION_SEED = 0
MAX_BACK_OFFS = 3
"""Number of times that a fit returns to the last finite loss and halves its learning rate."""
TABLE_SHARE_OF_FREE_MEMORY = 0.25
"""Fraction of free GPU memory up to which the whole table is moved to the GPU."""


class ObjectiveLoss(nn.Module):
    """Objective with its options, as skorch's criterion.

    Parameters
    ----------
    objective : callable
        From a `Pass` and the options to named per-row terms.
    takes_rows : bool, default=False
        Whether the objective uses ``rows`` of a `Pass`, and takes options that are Tensors
        instead of numbers: fits can then be trained together. True for an objective that never
        compares rows.
    **options : dict
    """

    def __init__(self, objective, *, takes_rows=False, **options):
        super().__init__()
        self.objective, self.takes_rows, self.options = objective, takes_rows, options

    def forward(self, batch):
        """Return the named per-row terms of a `Pass`."""
        return self.terms(batch, **self.options)

    def terms(self, batch, **options):
        """Return the named per-row terms of a `Pass`, for some options, with that of labels."""
        terms = self.objective(batch, **options)
        label = getattr(batch, "label", None)  # two views have none
        return terms if label is None else {**terms, "label": label}

    def callbacks(self):
        """Callbacks of skorch that this loss needs in training."""
        return []


class NotFinite(FloatingPointError):
    """Non-finite loss, even at lower rates; the net has its last weights with a finite loss.

    Parameters
    ----------
    message : str
    training : bool
        True for the training loss, False for the held-out loss.
    """

    def __init__(self, message, training):
        super().__init__(message)
        self.training = training


class LatentNet(NeuralNet):
    """skorch net for a `LatentModel`: batches are encoded rows, losses are named terms.

    Each epoch of the history holds ``train_loss``, ``valid_loss``, ``dur`` and the loss terms under
    ``train_`` and ``valid_`` names, all read from the device once, at the epoch's end.

    Parameters
    ----------
    module : LatentModel
        Instance with initial weights.
    criterion : ObjectiveLoss
        Instance.
    seed : int, default=0
        Seed of the local generator for shuffling and noise.
    autocast : {"bfloat16", "float16"} or None, default=None
        Data type of the forward pass in mixed precision; None trains in float32. There is no
        gradient scaling for "float16".
    cuda_graph : bool, default=True
        Whether to train by CUDA graphs on a GPU, see `StepGraphs`.
    title : str, default="LatentNet"
        Name of the model in progress lines.
    one_cycle : bool, default=True
        Whether the learning rate follows `OneCycle`; otherwise it is constant.
    fit_spec : dict, default=None
        Class, seed and parameters of the estimator, for the fingerprint of a checkpoint.
    **kwargs : dict
        See `skorch.NeuralNet`.

    Attributes
    ----------
    n_resumed_ : int
        Number of epochs restored from a checkpoint; set by a callback as training begins,
        ``max_epochs`` if nothing is left to train.
    has_ended_ : bool
        Whether training is complete, by the number of epochs or by early stopping.
    nonfinite_epochs_ : list of int
        Epochs of the last fit that were repeated because the loss was not finite.
    """

    def __init__(
        self,
        module,
        criterion,
        *,
        seed=0,
        autocast=None,
        cuda_graph=True,
        title="LatentNet",
        fit_spec=None,
        one_cycle=True,
        **kwargs,
    ):
        super().__init__(module, criterion, **kwargs)
        self.seed, self.autocast, self.title = seed, autocast, title
        self.fit_spec, self.one_cycle, self.cuda_graph = fit_spec, one_cycle, cuda_graph

    def __repr__(self):
        """Short text, as scikit-learn's HTML shows it in a table of fitted attributes."""
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

    def initialize_optimizer(self, *args, **kwargs):
        """Make the optimizer; an error names `net_params`."""
        name = getattr(self.optimizer, "__name__", repr(self.optimizer))
        try:
            super().initialize_optimizer(*args, **kwargs)
        except Exception as error:  # any, from the user's class or function
            raise InvalidParameterError(
                f"net_params: {name} failed with its parameters: {type(error).__name__}: {error}"
            ) from error
        if not hasattr(self.optimizer_, "param_groups"):
            raise InvalidParameterError(
                f"net_params['optimizer'] must return an optimizer; {name} returned "
                f"{self.optimizer_!r}."
            )
        return self

    def initialize_callbacks(self):
        """Make the list of callbacks; those with ``comes_last`` run after all others."""
        super().initialize_callbacks()
        self.callbacks_.sort(key=lambda pair: getattr(pair[1], "comes_last", False))
        return self

    def get_iterator(self, dataset, training=False):
        """`WholeBatches` of an `EncodedTable`, or `ShuffledBatches` of a `StreamedTable`."""
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
        """Add the epoch's record to the history, with one record for all its batches.

        skorch's Checkpoint and ProgressBar expect a batch record; it stays empty.
        """
        # Copied here, because at the end of an epoch some callbacks have not yet run.
        self.last_good_state_ = copy_tensors(training_state(self))
        self.add_record()

    def add_record(self):
        """Add the record of a new epoch to the history."""
        super().on_epoch_begin(self)
        self.history.new_batch()

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        """Add no record of the batch: the history is per epoch."""

    def infer(self, x, **fit_params):
        """Sample the noise for a batch x (n, C) and run the model."""
        noise = self.module_.draw_noise(x, self.generator_)
        kind = torch.device(self.device).type
        dtype = getattr(torch, self.autocast) if self.autocast else None
        with torch.autocast(kind, dtype=dtype, enabled=dtype is not None):
            return self.module_(x, noise)

    def train_step_single(self, batch, **fit_params):
        """One forward and backward pass over a batch x (n, C)."""
        if not self.module_.training:  # `_set_training` visits all submodules: as slow as a layer
            self._set_training(True)
        passed = self.infer(batch)
        terms = self.criterion_(passed)
        loss = sum(terms.values()).mean()
        loss.backward()
        bound_gradients(self.optimizer_)
        return {"loss": loss, "y_pred": terms, "passed": passed}

    def validation_step(self, batch, **fit_params):
        """Loss terms of a held-out batch x (n, C)."""
        self._set_training(False)
        with torch.no_grad():
            terms = self.criterion_(self.infer(batch))
        return {"loss": sum(terms.values()).mean(), "y_pred": terms}

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Run over all batches and write the mean of each term to the history.

        Terms are summed on the device; skorch's method reads the loss after each batch. Held-out
        noise is the same in every epoch, so that losses depend on the weights only.
        """
        if iterator is None:
            return
        shared = self.generator_
        if not training:
            self.generator_ = torch.Generator(shared.device).manual_seed(VALIDATION_SEED)
        else:
            if not self.module_.training:
                self._set_training(True)
            self.graphs_.begin_epoch()
        total, names, n_rows = None, (), 0
        for batch in iterator:
            self.notify("on_batch_begin", batch=(batch, None), training=training)
            sums, step = self.graphs_.step(batch) if training else None, {}
            if sums is None:
                step = step_fn(batch, **fit_params)
                sums = Sums.of(step["y_pred"])
            names, n_rows = sums.names, n_rows + sums.n_rows
            total = sums.values.clone() if total is None else total + sums.values
            self.notify("on_batch_end", batch=(batch, None), training=training, **step)
        self.generator_ = shared
        if training:
            # The last step may give non-finite weights although all losses were finite.
            total = torch.where(self._weights_are_finite(), total, torch.nan)
        sums = dict(zip(names, total.tolist(), strict=True))
        self.record_losses(prefix, sums, n_rows, len(iterator))

    def record_losses(self, prefix, sums, n_rows, n_batches):
        """Write the losses of an epoch to the history; the total leaves out the label term.

        Parameters
        ----------
        prefix : {"train", "valid"}
        sums : dict of str to float
            Sum of each term over rows.
        n_rows, n_batches : int

        Raises
        ------
        NotFinite
            If the loss is not finite.
        """
        training = prefix == "train"
        means = {name: value / n_rows for name, value in sums.items()}
        # The loss is that without labels: they would decide when training ends, and their term
        # depends on whether they are still in use.
        loss = sum(mean for name, mean in means.items() if name != "label")
        if not training:
            means.pop("label", None)
        total = sum(means.values())
        if not math.isfinite(total):
            raise NotFinite(
                f"The {'training' if training else 'held-out'} loss is {total} in epoch "
                f"{len(self.history)}, even after halving the learning rate {MAX_BACK_OFFS} times. "
                f"Lower learning_rate_init (now {self.optimizer__lr:g}), or look for columns with "
                "extreme values and scale them with numeric_scaling='quantile'.",
                training,
            )
        earlier = [row[f"{prefix}_loss"] for row in self.history[:-1] if f"{prefix}_loss" in row]
        self.history.record(f"{prefix}_loss", loss)
        self.history.record(f"{prefix}_loss_best", loss < min(earlier, default=math.inf))
        self.history.record(f"{prefix}_batch_count", n_batches)
        for name, mean in means.items():
            self.history.record(f"{prefix}_{name}", mean)

    def end_tasks(self):
        """Close the tasks that scikit-learn's callbacks follow, once the estimator is fitted."""
        for _, callback in self.callbacks_:
            if isinstance(callback, EpochTasks):
                callback.end(self)

    def forget_data(self):
        """Drop the held-out rows, those of labels, and the table of scikit-learn's callbacks."""
        self.train_split = None
        kinds = EpochTasks, StopLabels
        self.callbacks_ = [c for c in self.callbacks_ if not isinstance(c[1], kinds)]
        self.callbacks = [c for c in self.callbacks if not isinstance(c, kinds)]

    def notify(self, method_name, **cb_kwargs):
        """Call a hook of the net and of its callbacks.

        skorch's EarlyStopping ends training by a KeyboardInterrupt, which becomes `StopTraining`.
        Any other KeyboardInterrupt comes from the user.
        """
        getattr(self, method_name)(self, **cb_kwargs)
        self.notify_callbacks(method_name, **cb_kwargs)

    def notify_callbacks(self, method_name, **cb_kwargs):
        """Call a hook of the callbacks alone."""
        for _, callback in self.callbacks_:
            try:
                getattr(callback, method_name)(self, **cb_kwargs)
            except KeyboardInterrupt as stop:
                if isinstance(callback, EarlyStopping) and callback.misses_ >= callback.patience:
                    raise StopTraining from stop
                raise

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Train for ``max_epochs`` on an `EncodedTable` or `StreamedTable`.

        A KeyboardInterrupt restores the best weights and is raised. skorch's method catches it, so
        that a search would continue with its next candidate.
        """
        end = len(self.history) + self.max_epochs
        self.begin_training(X, y)
        n_left = self.max_epochs - self.n_resumed_
        self.graphs_ = StepGraphs(self, n_left * count_batches(len(X), self.batch_size))
        try:
            while not self.has_ended_:
                try:
                    self.fit_loop(X, y, epochs=n_left, **fit_params)
                    self.has_ended_ = True
                except NotFinite as error:
                    self._back_off(error)
                    n_left = end - len(self.history)
        except StopTraining:
            self.has_ended_ = True
        except KeyboardInterrupt:
            if self.last_good_state_ is not None and not self._weights_are_finite():
                restore(self, self.last_good_state_)
            raise
        finally:
            self.graphs_.close()
            self.end_training(X, y)
            del self.graphs_
        return self

    def begin_training(self, X, y=None):
        """Reset the state of training; tell the callbacks that it begins."""
        if not self.initialized_:
            self.initialize()
        self.generator_ = torch.Generator(self.device).manual_seed(self.seed)
        self.n_resumed_, self.has_ended_, self.nonfinite_epochs_ = 0, False, []
        self.last_good_state_ = None
        self.notify("on_train_begin", X=X, y=y)

    def end_training(self, X, y=None):
        """Tell the callbacks that training ends; drop what only training needs."""
        self.notify("on_train_end", X=X, y=y)
        del self.generator_, self.last_good_state_

    def _back_off(self, error):
        """Restore the state before the epoch and halve the rate; raise after three times."""
        restore(self, self.last_good_state_)
        self.halve_rate(error)

    def halve_rate(self, error):
        """Drop the record of the epoch and halve the learning rate; raise after three times."""
        self.nonfinite_epochs_.append(len(self.history))
        del self.history[-1]
        if len(self.nonfinite_epochs_) > MAX_BACK_OFFS:
            raise error
        scale_learning_rate(self, 0.5)

    def _weights_are_finite(self):
        """Whether all weights are finite, as a tensor: reading its value waits for the device."""
        sums = [weight.detach().sum() for weight in self.module_.parameters()]
        return torch.stack(sums).isfinite().all()


def continue_from(net, before):
    """Copy history, optimizer state and critic of the net that trained the same weights before."""
    net.history.extend(before.history)
    copy_optimizer_state(before.optimizer_, net.optimizer_)
    callbacks_before = dict(before.callbacks_)
    for name, callback in net.callbacks_:
        if name in callbacks_before and hasattr(callback, "continue_from"):
            callback.continue_from(callbacks_before[name])


def hold_out(encoded):
    """Held-out encoded rows (n, C) as skorch's `train_split`."""
    return predefined_split(EncodedTable(encoded))


def net_state(net):
    """State of a trained net as JSON values and numpy arrays: weights and history."""
    weights = net.module.state_dict()
    return {
        "weights": {name: weight.detach().cpu().numpy().copy() for name, weight in weights.items()},
        "history": [{k: v for k, v in row.items() if k != "batches"} for row in net.history],
    }
