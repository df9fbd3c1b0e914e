"""Training: a skorch net that reads whole batches and looks at its losses once an epoch.

The only file that imports skorch. It is used as an engine, behind the estimator.
"""

import copy
import functools
import math
import shutil
import sys
import time

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, LRScheduler
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import Dataset

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:
        """Stands in where scikit-learn has no callbacks."""

    def with_callbacks(method):
        """Call the method, one frame further down, as scikit-learn's own does."""

        @functools.wraps(method)
        def called(*args, **kwargs):
            return method(*args, **kwargs)

        return called


VALIDATION_SEED, CIRCLE_SEED = 0, 0
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
    "dataset": "X",
    "predict_nonlinearity": "embedding",
}
"""Parameters of the net that the estimator sets, and which of its own stands for each."""


class EncodedTable(Dataset):
    """An encoded table, float32 (n, C), as the data set that skorch passes around."""

    def __init__(self, encoded):
        self.x = torch.as_tensor(encoded)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], torch.zeros(())


class WholeBatches:
    """Iterate over near-equal batches, each one `index_select` from a contiguous tensor.

    n rows make ceil(n / batch_size) batches whose sizes differ by one at most, so that no row's
    contrastive term depends on how many rows the last batch happened to get; none has a single
    row, unless there is only one.

    Parameters
    ----------
    x : Tensor of shape (n, C)
    batch_size : int
        The most rows of a batch (3 where 2 is asked for and n is odd).
    generator : torch.Generator or None
        Shuffles the rows anew at each pass; None keeps their order.
    device : torch.device or str
        Where batches go.
    """

    def __init__(self, x, batch_size, generator, device):
        self.x, self.generator, self.device = x, generator, device
        self.n_batches = max(1, min(math.ceil(len(x) / batch_size), len(x) // 2))

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        n = len(self.x)
        if self.generator is None:
            order = torch.arange(n, device=self.x.device)
        else:
            order = torch.randperm(n, generator=self.generator, device=self.generator.device)
            order = order.to(self.x.device)
        for index in order.tensor_split(self.n_batches):
            yield self.x.index_select(0, index).to(self.device)


class ObjectiveLoss(nn.Module):
    """An objective with its options, as the criterion that skorch holds."""

    def __init__(self, objective, **options):
        super().__init__()
        self.objective, self.options = objective, options

    def forward(self, batch):
        """Return the named per-row terms of a `Pass`."""
        return self.objective(batch, **self.options)


class StopTraining(Exception):
    """A callback asked for the end of training, which is no interruption by the user."""


class OneCycle(Callback):
    """The learning rate rises for a share of all updates, then falls to nothing, by cosines.

    Replace it by a callback of the same name, "schedule", or turn it off with
    ``net_params={"callbacks__schedule": None}``.

    Parameters
    ----------
    warm_up : float, default=0.3
        The share of updates in which the rate rises, from a 25th.
    """

    def __init__(self, warm_up=0.3):
        self.warm_up = warm_up

    def on_train_begin(self, net, X=None, **kwargs):
        """Count the updates ahead and note the peak rate of each parameter group."""
        self.n_updates_ = net.max_epochs * len(WholeBatches(X.x, net.batch_size, None, "cpu"))
        self.update_ = 0
        self.peaks_ = [group["lr"] for group in net.optimizer_.param_groups]

    def on_batch_begin(self, net, training=False, **kwargs):
        """Set the rate of this update."""
        if not training:
            return
        rise = max(1.0, self.warm_up * self.n_updates_)
        if self.update_ < rise:
            level = 0.04 + 0.96 * (1 - math.cos(math.pi * self.update_ / rise)) / 2
        else:
            progress = (self.update_ - rise) / max(1.0, self.n_updates_ - rise)
            level = (1 + math.cos(math.pi * min(1.0, progress))) / 2
        for group, peak in zip(net.optimizer_.param_groups, self.peaks_, strict=True):
            group["lr"] = peak * level
        self.update_ += 1


class KeepBest(Callback):
    """Stop when the held-out loss no longer falls, and bring the best epoch's weights back.

    skorch's own `EarlyStopping` takes for best only what gained more than the tolerance.

    Parameters
    ----------
    patience : int
        Epochs in a row without a gain of `tol` before stopping.
    tol : float
        In nats a row.
    """

    def __init__(self, patience, tol):
        self.patience, self.tol = patience, tol

    def on_train_begin(self, net, **kwargs):
        """Forget earlier fits."""
        self.misses_, self.best_, self.mark_, self.weights_ = 0, math.inf, math.inf, None

    def on_epoch_end(self, net, **kwargs):
        """Keep the weights if they are the best so far; count epochs without gain."""
        loss = net.history[-1, "valid_loss"]
        if loss < self.best_:
            self.best_, self.weights_ = loss, copy.deepcopy(net.module_.state_dict())
        if loss < self.mark_ - self.tol:
            self.mark_, self.misses_ = loss, 0
        else:
            self.misses_ += 1
        if self.misses_ >= self.patience:
            raise StopTraining

    def on_train_end(self, net, **kwargs):
        """Bring the best weights back."""
        if self.weights_ is not None:
            net.module_.load_state_dict(self.weights_)
            self.weights_ = None


class Progress(Callback):
    """Epoch, seconds left and loss terms: one line in place where that works, else plain lines.

    A terminal and a notebook get a line that is rewritten, cut to the width there is; a file or a
    pipe gets some ten lines in all (each epoch at ``verbose=2``).
    """

    def __init__(self, title):
        self.title = title

    def on_train_begin(self, net, **kwargs):
        """Start the clock."""
        self.start_, self.first_, self.shown_ = time.monotonic(), len(net.history), ""
        self.in_place_ = sys.stdout.isatty() or "ipykernel" in sys.modules
        self.line_ = None

    def on_epoch_end(self, net, **kwargs):
        """Show the epoch that ended, or every tenth of the way where lines add up."""
        if not net.verbose:
            return
        done, planned = len(net.history) - self.first_, net.max_epochs
        row = net.history[-1]
        terms = [
            f"{name.removeprefix('train_')} {value:.2f}"
            for name, value in row.items()
            if name.startswith("train_") and isinstance(value, float)
        ]
        if "valid_loss" in row:
            terms.insert(1, f"held out {row['valid_loss']:.2f}")
        left = (time.monotonic() - self.start_) / done * (planned - done)
        self.line_ = f"[{self.title}] {done}/{planned}, {left:.0f} s left: {', '.join(terms)}"
        if self.in_place_ or net.verbose > 1 or done == 1 or done % max(1, planned // 10) == 0:
            self._show()

    def on_train_end(self, net, **kwargs):
        """Show the last epoch, if that is still to be done, and leave the cursor on a new line."""
        if net.verbose and self.line_:
            self._show()
        if self.in_place_ and self.shown_:
            print(flush=True)

    def _show(self):
        if self.line_ == self.shown_:
            return
        if self.in_place_:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + self.line_[:width].ljust(len(self.shown_[:width])), end="", flush=True)
        else:
            print(self.line_, flush=True)
        self.shown_ = self.line_


class EpochTasks(Callback):
    """Pass the fit and each epoch on to scikit-learn's callbacks (1.9 and later).

    Parameters
    ----------
    context : sklearn.callback.CallbackContext
        Of the whole fit.
    arguments : dict
        What scikit-learn's hooks take: the estimator, X and y.
    fitted : callable
        Makes the attributes of an encoder fitted so far from the net; called only for a callback
        that asks for one.
    """

    def __init__(self, context, arguments, fitted):
        self.context, self.arguments, self.fitted = context, arguments, fitted

    def on_train_begin(self, net, **kwargs):
        """Open the task of the fit."""
        self.context.call_on_fit_task_begin(**self.arguments)

    def end(self, net):
        """Close the task of the fit, once the estimator is fitted."""
        self.context.call_on_fit_task_end(
            **self.arguments, reconstruction_attributes=lambda: self.fitted(net)
        )

    def on_epoch_begin(self, net, **kwargs):
        """Open a sub-task."""
        self.task_ = self.context.subcontext(task_name="epoch")
        self.task_.call_on_fit_task_begin(**self.arguments)

    def on_epoch_end(self, net, **kwargs):
        """Close it, and stop where a callback says so."""
        if self.task_.call_on_fit_task_end(
            **self.arguments, reconstruction_attributes=lambda: self.fitted(net)
        ):
            raise StopTraining


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
    **kwargs : dict
        See `skorch.NeuralNet`.
    """

    def __init__(self, module, criterion, *, seed=0, autocast=None, title="LatentNet", **kwargs):
        if autocast not in (None, "bfloat16", "float16"):
            raise ValueError(
                f"net_params['autocast'] must be 'bfloat16', 'float16' or None. Got {autocast!r}."
            )
        super().__init__(module, criterion, **kwargs)
        self.seed, self.autocast, self.title = seed, autocast, title

    @property
    def _default_callbacks(self):
        callbacks = [("epoch_timer", EpochTimer())]
        own = [c[1] if isinstance(c, tuple) else c for c in self.callbacks or []]
        if not any(isinstance(c, LRScheduler) or c is LRScheduler for c in own):
            callbacks.append(("schedule", OneCycle()))
        return [*callbacks, ("progress", Progress(self.title))]

    def get_iterator(self, dataset, training=False):
        """Return `WholeBatches` over a data set, shuffled in training."""
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
        means = [value / n_rows for value in total.tolist()]
        loss = sum(means)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"The {'training' if training else 'held-out'} loss is {loss} in epoch "
                f"{len(self.history)}. Lower learning_rate_init (now {self.optimizer__lr:g}), or "
                "look for columns with extreme values and scale them with "
                "numeric_scaling='quantile'."
            )
        earlier = [row[f"{prefix}_loss"] for row in self.history[:-1] if f"{prefix}_loss" in row]
        self.history.record(f"{prefix}_loss", loss)
        self.history.record(f"{prefix}_loss_best", loss < min(earlier, default=math.inf))
        self.history.record(f"{prefix}_batch_count", len(iterator))
        for name, mean in zip(names, means, strict=True):
            self.history.record(f"{prefix}_{name}", mean)

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
        self.notify("on_train_begin", X=X, y=y)
        try:
            self.fit_loop(X, y, **fit_params)
        except StopTraining:
            pass
        finally:
            self.notify("on_train_end", X=X, y=y)
            del self.generator_
        return self


class CriticNet(NeuralNet):
    """A second net beside a `LatentNet`: a critic, trained to raise a bound on information.

    Parameters
    ----------
    module : nn.Module
        A function f of encoder inputs (n, W) and codes (n, d), (n,).
    criterion : nn.Module
        From f at pairs and f at shuffled pairs, each (n,), to the bound, (n,).
    **kwargs : dict
        See `skorch.NeuralNet`.
    """

    def train_step_single(self, batch, **fit_params):
        """One backward pass over inputs and codes, without gradients to either."""
        self._set_training(True)
        bound = self.criterion_(*critic_values(self.module_, *batch))
        loss = -bound.mean()
        loss.backward()
        return {"loss": loss, "y_pred": bound}


def critic_values(critic, inputs, z):
    """A critic at pairs (x_i, z_i), and at the pairs of each x with the code of another row."""
    # Each row with the next of a random circle, so that none meets itself. Held-out rows come in
    # their own order, in which neighbours may be alike. The circle is the same for every batch.
    circle = torch.randperm(len(z), generator=torch.Generator().manual_seed(CIRCLE_SEED))
    other = torch.empty_like(circle)
    other[circle] = circle.roll(1)
    return critic(inputs, z), critic(inputs, z[other.to(z.device)])


class TrainCritic(Callback):
    """Give a critic one step on the same codes after each step of the model.

    Parameters
    ----------
    critic : CriticNet
        Initialised.
    """

    def __init__(self, critic):
        self.critic = critic

    def on_batch_end(self, net, training=False, passed=None, **kwargs):
        """Train the critic on the batch that the model was trained on."""
        if training:
            self.critic.train_step((passed.inputs.detach(), passed.z.detach()))


def check_net_params(net_params, owner):
    """Refuse what the estimator, named by `owner`, has parameters of its own for.

    Raises
    ------
    ValueError
        Naming the parameter to use instead.
    TypeError
        If callbacks are no list.
    """
    for name in net_params:
        owned = name if name in OWNED_NET_PARAMS else name.split("__")[0]
        if owned in OWNED_NET_PARAMS:
            raise ValueError(
                f"net_params may not hold {name!r}: {owner} sets it. Use the parameter "
                f"{OWNED_NET_PARAMS[owned]} instead."
            )
    callbacks = net_params.get("callbacks")
    if not isinstance(callbacks, list | tuple | type(None)):
        raise TypeError(f"net_params['callbacks'] must be a list. Got {callbacks!r} instead.")


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


def resolve_device(device):
    """The torch device that a name means on this machine now."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        resolved = None
    if resolved is None or resolved.type not in ("cpu", "cuda", "mps"):
        raise ValueError(
            "The 'device' parameter must be 'auto', 'cpu', 'cuda', 'cuda:N' or 'mps'. Got "
            f"{device!r} instead."
        )
    count = {
        "cpu": lambda: 1,
        "cuda": torch.cuda.device_count,
        "mps": lambda: int(torch.backends.mps.is_available()),
    }[resolved.type]()
    if (resolved.index or 0) >= count:
        raise ValueError(
            f"device={device!r} is not on this machine, which has {count} device(s) of that type. "
            "Set device='auto' to take what there is."
        )
    return resolved
