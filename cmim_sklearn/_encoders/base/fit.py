"""Steps of `fit`, in their order: check, read, learn the schema, split, make the net, keep."""

import copy
import warnings
from contextlib import contextmanager
from numbers import Integral
from typing import NamedTuple

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import validate_parameter_constraints
from sklearn.utils.validation import validate_data

from cmim_sklearn._encoders.base.labels import LABEL_ATTRIBUTES, LabelSteps
from cmim_sklearn._models.features import feature_scale
from cmim_sklearn._models.inference import on_rows
from cmim_sklearn._tables.read import Frame, read
from cmim_sklearn._tables.schema import Table, warn_of_empty, warn_of_unseen
from cmim_sklearn._training.batches import EncodedTable, count_batches
from cmim_sklearn._training.callbacks import EpochTasks, KeepBest
from cmim_sklearn._training.heads import Summary
from cmim_sklearn._training.net import (
    LatentNet,
    continue_from,
    hold_out,
    net_state,
)
from cmim_sklearn._training.net_params import check_net_params
from cmim_sklearn._training.train import Rows
from cmim_sklearn._utils.device import resolve_device
from cmim_sklearn._utils.stacklevel import user_stacklevel

AUTO_UPDATES, AUTO_MIN_EPOCHS, AUTO_MAX_EPOCHS = 1500, 10, 400
AUTO_WIDTH, AUTO_MIN_UPDATES = 1200, 500
"""Width of a network (encoder inputs plus decoder outputs) above which `max_iter="auto"` makes
proportionally fewer updates; and their minimum number."""
SUMMARY_ROWS = 5000
"""Maximum number of rows that are read after training, to scale features."""
COLUMN_PARAMETERS = ("categorical_features", "numeric_scaling", "max_categories", "likelihoods")
"""Parameters that decide the schema of the table."""
TRAINED = (
    "_net", "_scales", "_latents", "_heads", "_missing", "n_iter_", "loss_curve_",
    "validation_scores_",
    *LABEL_ATTRIBUTES,
)  # fmt: skip
"""Attributes that training sets; an encoder may lack some of them."""


class Learned(NamedTuple):
    """Table that was read, its schema, and its rows encoded by the schema."""

    frame: Frame
    table: Table
    encoded: np.ndarray


class Start(NamedTuple):
    """Fit before its training: schema, `_architecture`, rows and initialised net."""

    table: Table
    built: dict
    rows: Rows
    net: LatentNet


class FitSteps(LabelSteps):
    """Steps of `fit`, `fit_parquet` and `partial_fit` that all encoders share."""

    def _check_params(self):
        self._check_values(self._get_param_names())
        for name in self._layer_size_parameters:
            sizes = np.atleast_1d(np.asarray(getattr(self, name), dtype=object)).tolist()
            if any(not isinstance(n, Integral) or isinstance(n, bool) or n < 1 for n in sizes):
                raise ValueError(
                    f"The {name!r} parameter must hold ints of at least 1, one for each layer, or "
                    f"be (); got {getattr(self, name)!r}."
                )
        check_net_params(self.net_params or {}, type(self).__name__)
        resolve_device(self.device)

    def _check_values(self, names):
        """Check the named parameters against their constraints."""
        values = {name: getattr(self, name) for name in names}
        validate_parameter_constraints(
            self._parameter_constraints, values, caller_name=type(self).__name__
        )

    def _learn(self, X):
        """Read a table and learn its schema, or read it by the current schema."""
        frame = self._read(X, reset=not self._is_warm(), min_rows=2)
        table = self._learn_table(frame)
        return Learned(frame, table, table.encode(frame))

    def _start(self, learned, y=None, X_val=None, y_val=None, *, X=None):
        """Steps of `fit` between the schema and training; X is for `_make_net`."""
        target = self._read_labels(y, learned.frame.n_rows)
        rows, built = self._split(learned, X_val, target, y_val), self._architecture()
        return Start(learned.table, built, rows, self._make_net(built, rows, X, y))

    def _is_warm(self):
        """Whether `fit` continues from the current weights."""
        return self.warm_start and hasattr(self, "_net")

    def _read(self, X, *, reset, min_rows, table=None):
        """Read and check a table; with `reset`, note its column names.

        Otherwise warn of values in columns without any value in fit, which count as missing.
        """
        if reset:
            return self._checked(read(X), reset=True, min_rows=min_rows)
        table, unseen = table or self.table_, {}
        frame = read(X, table.types)
        frame = self._checked(frame, reset=False, min_rows=min_rows, table=table)
        frame = table.known(frame, unseen)
        warn_of_unseen(unseen)
        return frame

    def _checked(self, frame, *, reset, min_rows, table=None):
        n_rows = len(frame.columns[0]) if frame.columns else min_rows
        for count, least, what in (
            (n_rows, min_rows, "sample"),
            (len(frame.columns), 1, "feature"),
        ):
            if count < least:
                shape = (len(frame.native), len(frame.columns))
                raise ValueError(
                    f"Found array with {count} {what}(s) (shape={shape}) while a minimum of "
                    f"{least} is required by {type(self).__name__}."
                )
        validate_data(self, frame.native, reset=reset, skip_check_array=True)
        if table is not None:
            table.check_names(frame)
        return frame

    def _learn_table(self, frame, summaries=None):
        """Schema for `fit`: the current one after a warm start, else a new one."""
        if self._is_warm():
            return self._known_table(frame, "warm_start=True", "Set warm_start=False")
        return self._learn_new_table(frame, summaries)

    def _learn_new_table(self, frame, summaries=None):
        table = Table.fit(
            frame,
            categorical_features=self.categorical_features,
            numeric_scaling=self.numeric_scaling,
            max_categories=self.max_categories,
            likelihoods=self._imposed_likelihoods,
            summaries=summaries,
        )
        self._check_table(table, frame)
        warn_of_empty(table)
        return table

    def _known_table(self, frame, what="partial_fit", remedy="Call fit_schema"):
        """Current schema; raises if a parameter that decides it or the network has changed."""
        self._check_unchanged(what, remedy)
        self._check_table(self.table_, frame)
        return self.table_

    def _check_unchanged(self, what, remedy):
        now = self._architecture()
        if hasattr(self, "_net"):
            part, names = "network", list(now)
        else:  # after fit_schema: there is no network
            part, names = "schema", COLUMN_PARAMETERS
        changed = [name for name in names if now[name] != self._built[name]]
        if changed:
            raise ValueError(
                f"{what} continues with the fitted {part}, but {', '.join(changed)} changed since "
                f"it was learned. {remedy} to start again."
            )

    def _split(self, learned, X_val, target=None, y_val=None):
        """Rows of a fit: training rows, and rows held out for early stopping."""
        frame, table, encoded = learned
        seed, kept = draw_seed(self.random_state), np.arange(frame.n_rows)
        held_out, left_out = None, kept[:0]
        if X_val is not None:
            held_out = self._encode_held_out(table, X_val)
        elif self.early_stopping:
            share, minimum = self.validation_fraction, self._min_held_out
            kept, left_out = split(len(encoded), share, minimum, seed)
            encoded, held_out = encoded[kept], encoded[left_out]
        labels = self._plan_labels(target, (kept, left_out), encoded, held_out, y_val, seed)
        data = encoded
        if labels is not None:
            data = np.hstack([encoded, labels.train])
            encoded = data[:, : encoded.shape[1]]

        def take(some):
            return frame.take(kept[some])

        return Rows(table, EncodedTable(data), encoded, take, held_out, seed, target, labels)

    def _encode_held_out(self, table, X_val):
        with errors_name_x_val():
            frame = self._read(X_val, reset=False, min_rows=self._min_held_out, table=table)
            return table.encode(frame)

    def _chunk(self, table, frame):
        """Rows of one `partial_fit`."""
        encoded, seed = table.encode(frame), draw_seed(self.random_state)
        if hasattr(self, "_net"):  # not the noise of earlier chunks again
            seed = int(np.random.RandomState([seed, self.n_iter_]).randint(2**31 - 1))
        return Rows(table, EncodedTable(encoded), encoded, frame.take, None, seed)

    def _make_net(self, built, rows, X=None, y=None):
        """Net for `fit` by an `_architecture`; X and y are for scikit-learn's callbacks.

        Without X, the net does not report to them.
        """
        is_warm, likelihood = self._is_warm(), rows.table.likelihood
        model = self._model_to_train(built, rows, is_warm)
        n_units = self._n_units(likelihood)
        epochs = n_epochs(self.max_iter, len(rows.data), self.batch_size, n_units)
        tasks = () if X is None else self._epoch_tasks(epochs, built, rows, X, y)
        callbacks = [*tasks, *self._label_callbacks(rows)]
        net = self._net_of(model, epochs, rows.seed, rows.held_out_data, callbacks)
        if is_warm:
            net.history.extend(self.net_.history)
        return net

    def _make_net_for_chunk(self, built, rows):
        """Net for one pass of `partial_fit`, with the optimizer of the pass before."""
        before = self.net_ if hasattr(self, "_net") else None
        model = self._model_to_train(built, rows, before is not None)
        net = self._net_of(model, 1, rows.seed, one_cycle=False)
        if before is not None:
            continue_from(net, before)
        return net

    def _model_to_train(self, built, rows, is_warm):
        """New model, or a copy of the current one, so that a fit that fails changes nothing."""
        if is_warm:
            model = copy.deepcopy(self.net_.module)
        else:
            model = self._build_model(rows.table.likelihood, built, rows.seed)
        self._update_model(model)
        self._put_head(model, rows)
        return model

    def _epoch_tasks(self, epochs, built, rows, X, y):
        """Callback that reports to scikit-learn's callbacks (1.9 and later), in a list, or none."""
        context = self._init_callback_context(max_subtasks=epochs)
        if context is None:
            return []

        def fitted_so_far(net):
            summary = self._summarise_quickly(net, rows)
            learnt = {"table_": rows.table, "_built": built, "_net": net_state(net)}
            return summary | learnt

        return [EpochTasks(context, {"estimator": self, "X": X, "y": y}, fitted_so_far)]

    def _net_of(self, model, epochs, seed, held_out=None, callbacks=(), *, one_cycle=True):
        """Initialised net that trains a model with the parameters of the encoder."""
        objective = self._objective(model, seed)
        callbacks = [*callbacks, *objective.callbacks()]
        if held_out is not None:
            callbacks.append(("early_stopping", KeepBest(self.n_iter_no_change, self.tol)))
        device = resolve_device(self.device)
        net_params = dict(self.net_params or {})
        callbacks += list(net_params.pop("callbacks", None) or [])
        net_params.pop("n_threads", None)  # applied around each method, see `isolated`
        if not one_cycle:
            net_params.pop("callbacks__schedule", None)  # there is no schedule to replace
        if "optimizer" not in net_params:
            adamw = {"optimizer": torch.optim.AdamW}
            if not net_params.get("optimizer__foreach"):  # which excludes "fused"
                adamw["optimizer__fused"] = device.type != "mps"
            net_params = adamw | net_params
        net = LatentNet(
            model,
            objective,
            seed=seed,
            title=type(self).__name__,
            one_cycle=one_cycle,
            fit_spec={
                "class": type(self).__name__,
                "seed": None if self.random_state is None else seed,
                "parameters": self.get_params(deep=False),
            },
            callbacks=callbacks,
            max_epochs=epochs,
            batch_size=self.batch_size,
            train_split=None if held_out is None else hold_out(held_out),
            device=device,
            verbose=int(self.verbose),
            optimizer__lr=self.learning_rate_init,
            optimizer__weight_decay=self.alpha,
            **net_params,
        )
        return net.initialize()

    # -- after training ----------------------------------------------------------------------------

    def _summarise(self, net, rows):
        """`Summary` of a trained net."""
        return self._summarise_for_features(net, rows)

    def _summarise_for_features(self, net, rows):
        """As `_summarise`, without what only generation, imputation and scores need."""
        return Summary(self._summarise_quickly(net, rows))

    def _summarise_chunk(self, net, rows):
        """As `_summarise`; one row has no spread, and keeps the scales of the chunk before."""
        if len(rows.encoded) == 1 and hasattr(self, "_net"):
            return Summary(_losses(net))
        return self._summarise(net, rows)

    def _summarise_quickly(self, net, rows):
        """Fitted attributes that are fast to compute, for callbacks that run in each epoch."""
        model = net.module.eval()
        some = rows.encoded[summary_rows(len(rows.encoded), rows.seed, SUMMARY_ROWS)]

        def by_layer(x):
            parts = self._layers(model, x)
            return {(name, i): part for name in parts for i, part in enumerate(parts[name])}

        values = on_rows(model, by_layer, some)
        names = dict.fromkeys(name for name, _ in values)
        scales = {
            name: feature_scale([part for (of, _), part in values.items() if of == name])
            for name in names
        }
        return _losses(net) | self._label_attributes(net, rows) | {"_scales": scales}

    def _keep(self, table, built, trained=None):
        """Set the fitted attributes: schema, `_architecture` before training, and a trained net.

        Then warn about events in training, and raise the interruption that ended it.
        """
        learnt = {"table_": table, "_built": built}
        if trained is None:
            for name in TRAINED:
                vars(self).pop(name, None)
            vars(self).update(learnt)
            return
        # In one step: an interruption leaves all attributes of one fit.
        vars(self).update(trained.summary, **learnt, _net=trained.net)
        for name in set(LABEL_ATTRIBUTES) - set(trained.summary):  # of an earlier fit
            vars(self).pop(name, None)
        try:
            self._warn_of_training(trained)
            trained.net.end_tasks()
        finally:
            trained.net.forget_data()
            if trained.interruption is not None:
                raise trained.interruption

    def _warn_of_training(self, trained):
        if trained.interruption is not None:
            warnings.warn(
                f"Training was interrupted after {self.n_iter_} epochs. The encoder is fitted with "
                "the weights it had then, or with the best ones if rows were held out.",
                UserWarning,
                stacklevel=user_stacklevel(),
            )
        if trained.net.nonfinite_epochs_:
            epochs = ", ".join(map(str, trained.net.nonfinite_epochs_))
            warnings.warn(
                f"The loss was not finite in epoch {epochs}. "
                "Training returned to the previous epoch and continued at half the learning rate. "
                f"Lower learning_rate_init (now {self.learning_rate_init:g}), or check columns "
                "with extreme values.",
                UserWarning,
                stacklevel=user_stacklevel(),
            )

    @contextmanager
    def _names_restored_on_error(self):
        """Restore n_features_in_ and feature_names_in_ if nothing was learned before an error."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            if all(vars(self).get(name) is before.get(name) for name in ("_net", "table_")):
                for name in ("n_features_in_", "feature_names_in_"):
                    vars(self).pop(name, None)
                    if name in before:
                        setattr(self, name, before[name])
            raise


def _losses(net):
    """Fitted attributes that are read from the history of a net."""
    epochs = [row for row in net.history if "train_loss" in row]
    validation = [-row["valid_loss"] for row in epochs if "valid_loss" in row]
    return {
        "n_iter_": len(epochs),
        "loss_curve_": [row["train_loss"] for row in epochs],
        "validation_scores_": validation or None,
    }


def plain_columns(columns):
    """Parameter `categorical_features` as a plain value; a mask as the positions it selects."""
    columns = np.asarray(columns).tolist()
    if isinstance(columns, list) and columns and all(isinstance(c, bool) for c in columns):
        return [position for position, is_selected in enumerate(columns) if is_selected]
    return columns


def layer_sizes(sizes):
    """Widths of layers as a list of ints, from an int or a sequence of ints."""
    return np.atleast_1d(np.asarray(sizes, dtype=int)).tolist()


def draw_seed(random_state):
    """Seed of a fit, drawn from the parameter `random_state`."""
    return int(check_random_state(random_state).randint(2**31 - 1))


def n_epochs(max_iter, n_rows, batch_size, width):
    """Number of epochs for `max_iter`, a number of rows and the width of the network."""
    if max_iter != "auto":
        return int(max_iter)
    # An update of a wide network takes longer, in proportion to its width.
    updates = max(AUTO_MIN_UPDATES, AUTO_UPDATES * min(1, AUTO_WIDTH / width))
    n_batches = count_batches(n_rows, batch_size)
    return int(np.clip(-(-updates // n_batches), AUTO_MIN_EPOCHS, AUTO_MAX_EPOCHS))


def summary_rows(n_rows, seed, max_rows):
    """Positions of the rows that summarise a trained network, in random order."""
    return np.random.RandomState(seed).permutation(n_rows)[:max_rows]


def split(n_rows, validation_fraction, min_held_out, seed):
    """Positions of the rows to train on, and of the rows held out, both in random order."""
    n_held_out = max(min_held_out, round(validation_fraction * n_rows))
    if n_rows - n_held_out < 2:
        raise ValueError(
            f"validation_fraction={validation_fraction} of {n_rows} rows leaves "
            f"{n_rows - n_held_out} to train on; at least 2 are needed. Lower it, pass more rows "
            "or set early_stopping=False."
        )
    order = np.random.RandomState(seed).permutation(n_rows)
    return order[n_held_out:], order[:n_held_out]


@contextmanager
def errors_name_x_val():
    """Prefix errors about held-out rows with the name of their parameter, X_val."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"X_val: {error}") from error
