"""State of a fitted encoder: its network, pickles, files and ONNX export."""

import copy
import warnings
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from cmim_sklearn._encoders.base import persistence
from cmim_sklearn._encoders.base.parameters import isolated
from cmim_sklearn._models.encoding_model import exact_model
from cmim_sklearn._models.inference import on_rows
from cmim_sklearn._tables.schema import Table
from cmim_sklearn._training.net import net_state
from cmim_sklearn._training.net_params import check_net_params
from cmim_sklearn._utils import isolation
from cmim_sklearn._utils.archive import clear_parts, read_bytes, reading, write_bytes
from cmim_sklearn._utils.arrays import writable
from cmim_sklearn._utils.device import resolve_device
from cmim_sklearn._utils.forking import fork_safe_lock
from cmim_sklearn._utils.messages import shown
from cmim_sklearn._utils.stacklevel import user_stacklevel

NET_PARAMETERS = ("learning_rate_init", "alpha", "net_params", "verbose")
"""Parameters of the net that a loaded encoder builds."""

_NETWORK = fork_safe_lock()
"""Held by the thread that builds a loaded network, moves it or sets its mode."""


class FittedParts(NamedTuple):
    """Parts of a fitted encoder that displays and exports need.

    Attributes
    ----------
    table : Table
    model : nn.Module
        In evaluation mode, on the encoder's device.
    embedding : str
        Embedding that `transform` returns.
    centre, scale : array of shape (n_features_out,)
        Features are layers minus `centre`, divided by `scale`.
    """

    table: Table
    model: nn.Module
    embedding: str
    centre: np.ndarray
    scale: np.ndarray


def fitted_parts(encoder) -> FittedParts:
    """Parts of a fitted encoder; raises a NotFittedError before fit."""
    encoder._check_use()
    name = encoder._embedding
    return FittedParts(encoder.table_, encoder._model(), name, *encoder._scales[name])


def read_rows(encoder, X, min_rows=1):
    """`Frame` of a table with the columns of fit, checked as `transform` checks it."""
    return encoder._read(X, reset=False, min_rows=min_rows)


def to_bytes(encoder):
    """Content of the file that `save` of an encoder writes."""
    return encoder._to_bytes()


def custom_networks(encoder):
    """Callables that made the networks of an encoder, by parameter; None for the library's."""
    return encoder._custom_networks()


def from_bytes(cls, data, device, networks):
    """Encoder of a class from the content of its file; raises if it is not valid.

    `networks` are its `custom_networks`.
    """
    return cls._from_bytes(data, device, networks)


class FittedEncoder:
    """State of a fitted encoder.

    The state consists of JSON values and numpy arrays, which pickle, joblib, skops and `save` all
    write. A loaded encoder builds its network at first use.
    """

    _network_parameters = ("encoder",)
    """Parameters that may hold a callable that builds a network."""

    # -- network -----------------------------------------------------------------------------------

    @property
    @isolated()
    def net_(self):
        """Skorch net with its history, callbacks and module."""
        check_is_fitted(self, "_net")
        if isinstance(self._net, dict):
            with _NETWORK:
                if isinstance(self._net, dict):
                    self._net = self._rebuild(self._net)
        return self._net

    def _rebuild(self, state):
        """Net from its state, see `net_state`."""
        model = self._loaded_model(state["weights"])
        net = self._net_of(model, 1, 0)
        net.history.extend(state["history"])
        return net

    def _loaded_model(self, weights):
        model = self._build_model(self.table_.likelihood, self._built, 0)
        self._update_model(model)
        self._add_saved_head(model, weights)
        model.load_state_dict({name: torch.from_numpy(np.array(w)) for name, w in weights.items()})
        return model

    def _add_saved_head(self, model, weights):
        """Give a built model the label head that is among its weights, if any."""

    def _model(self, *, exact=False):
        """Module of the net in evaluation mode, on the device that `device` names now.

        With `exact`, on a device with float64: a copy on the CPU if the device has none.
        """
        model, device = self.net_.module, resolve_device(self.device)

        def is_there(tensor):
            current = tensor.device
            return current.type == device.type and device.index in (None, current.index)

        # Checking all tensors is faster than moving them for each row. The lock keeps a thread
        # from using a network that another thread is still moving.
        with _NETWORK:
            modules = list(model.modules())
            tensors = chain.from_iterable(
                (*m._parameters.values(), *m._buffers.values()) for m in modules
            )
            if not all(tensor is None or is_there(tensor) for tensor in tensors):
                model.to(device)
            if any(module.training for module in modules):
                model.eval()
        return exact_model(model) if exact else model

    # -- files -------------------------------------------------------------------------------------

    @isolated()
    def save(self, path):
        """Write the fitted encoder to one file that holds no code.

        The file has the parameters and everything that was learned, but no training row. It is
        written completely or not at all. Values that only training needs, and that JSON cannot
        hold, are left out with a warning: a custom `view`, all `net_params` if one of them is an
        object, a RandomState instance, scikit-learn's callbacks and metadata requests. For
        functions given as `encoder` and `decoder`, only the name is written; pass them to `load`.

        Parameters
        ----------
        path : str or path-like
            File to write, with any extension. An existing file is replaced and keeps its
            permissions.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the encoder is not fitted.
        TypeError
            If the class is not part of this library, or a parameter or an attribute that you set
            holds a value that JSON and numpy arrays cannot hold.
        EncoderFileError
            If `load` would not accept the file, for example because it is too large.
        OSError
            If the file cannot be written. An existing file is unchanged.

        See Also
        --------
        load : Read the file.
        """
        data = self._to_bytes()
        with reading(path):  # a file that could not be loaded is not written
            self._from_bytes(data, self.device, self._custom_networks())
        clear_parts(path)
        write_bytes(path, data)

    def _to_bytes(self):
        """Content of the file of an encoder; warns of values that it lacks."""
        persistence.check_class(type(self), "save")
        check_is_fitted(self, "_net")
        networks = self._custom_networks()
        state, left_out = persistence.state_to_write(self.__getstate__(), networks)
        if left_out:
            warnings.warn(
                f"{type(self).__name__}.save leaves out values that only training needs and that "
                f"the file cannot hold: {', '.join(left_out)}. Set them again before you fit the "
                "loaded encoder.",
                UserWarning,
                stacklevel=user_stacklevel(),
            )
        return persistence.to_bytes(type(self), state)

    @classmethod
    @isolation.isolated
    def load(cls, path, device="auto", encoder=None, decoder=None):
        """Read a fitted encoder of this class from a file that `save` wrote.

        Files are safe to load from untrusted sources: nothing is unpickled or executed, no name
        in the file is imported or called, and declared sizes are checked before memory is
        allocated. A malicious file can give wrong features, but cannot run code. With the same
        libraries, on the CPU of the same machine, results equal those of the saved encoder to the
        bit. Later releases load files of this release.

        Parameters
        ----------
        path : str or path-like
            File to read.
        device : str, default="auto"
            The `device` of the loaded encoder; the saved encoder's is not used. It is looked up
            at first use.
        encoder, decoder : callable, default=None
            Functions that made the networks of the saved encoder, if those were custom functions.

        Returns
        -------
        encoder : object
            Fitted encoder of this class.

        Raises
        ------
        EncoderFileError
            A ValueError that names the path: the file is not an encoder file, holds another class,
            is truncated or corrupted, has a format that this release does not know, or needs
            `encoder` or `decoder`.
        TypeError
            If the class is not part of this library.
        OSError
            If the file cannot be read.

        See Also
        --------
        save : Write the file.
        """
        persistence.check_class(cls, "load")
        data = read_bytes(path)
        with reading(path):
            return cls._from_bytes(data, device, {"encoder": encoder, "decoder": decoder})

    @classmethod
    def _from_bytes(cls, data, device, networks):
        """Encoder in the bytes of a file, after all checks."""
        parameters, fitted = persistence.from_bytes(data, cls, networks)
        # A parameter that is newer than the release that wrote the file has its default.
        encoder = cls()
        encoder.__setstate__({**vars(encoder), **parameters, **fitted, "device": device})
        encoder._check_loaded()
        return encoder

    def _custom_networks(self):
        """Callables that made the networks, by parameter; None for the library's networks."""
        return {
            name: self._built[name] if callable(self._built[name]) else None
            for name in self._network_parameters
        }

    def _check_loaded(self):
        """Check what use needs, before anything large is allocated: parameters to weights."""
        self._check_values((*self._parameters_after_fit, *NET_PARAMETERS))
        check_net_params(self.net_params or {}, type(self).__name__)
        persistence.check_table(self.table_, self.n_features_in_)
        names = getattr(self, "feature_names_in_", None)
        if names is not None and list(names) != self.table_.layout.names:
            raise ValueError("its feature_names_in_ are not the names of its columns.")
        if self._built.keys() != type(self)()._architecture().keys():
            raise ValueError(
                f"its architecture has the wrong entries, {shown(sorted(self._built))}."
            )
        self._check_size()
        self._check_weights()

    def _check_size(self):
        """Check that the weights in the file are enough for the network, before it is built."""
        likelihood, weights = self.table_.likelihood, self._net["weights"]
        chains = self._layer_chains(likelihood, self._built)
        widths = [n for layers in chains for n in layers]
        if not all(type(n) is int and n > 0 for n in widths):
            raise ValueError(
                f"its architecture has widths {shown(widths)}; expected positive ints."
            )
        present = sum(weight.size for weight in weights.values())
        limit = present
        if any(self._custom_networks().values()):
            limit = max(present, persistence.MAX_OTHER_WEIGHTS)
        needed = sum(a * b for layers in chains for a, b in pairwise(layers))
        if needed > limit:
            raise ValueError(
                f"its architecture takes {needed} weights or more, but the file has {present}."
            )
        for name in self._layer_size_parameters:
            if name not in self._built:  # of the critic, which training builds
                sizes = np.atleast_1d(np.asarray(getattr(self, name), dtype=object)).tolist()
                layers = [likelihood.n_inputs + self._built["n_components"], *sizes]
                if sum(a * b for a, b in pairwise(layers)) > persistence.MAX_OTHER_WEIGHTS:
                    raise ValueError(f"{name}={shown(sizes)} takes more weights than are allowed.")

    def _check_model(self, model):
        """Compare fitted attributes with the network of a file, on the CPU."""

    def _check_weights(self):
        """Build the network on the CPU; compare it with the fitted attributes on one empty row."""
        # `net_` builds it again at first use, on `device`.
        likelihood, weights = self.table_.likelihood, self._net["weights"]
        model = self._build_model(likelihood, self._built, 0).eval()
        self._add_saved_head(model, weights)
        persistence.check_weights(weights, model.state_dict())
        model.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
        self._check_model(model)

        def by_embedding(x):
            layers = self._layers(model, x)
            return {name: torch.cat(parts, 1) for name, parts in layers.items()}

        layers = on_rows(model, by_embedding, np.full((1, likelihood.n_columns), np.nan))
        expected = {name: [layer.shape[1:]] * 2 for name, layer in layers.items()}
        shapes = {name: [part.shape for part in parts] for name, parts in self._scales.items()}
        for name in sorted(shapes.keys() | expected.keys()):
            found, wanted = shapes.get(name), expected.get(name)
            if found != wanted:
                raise ValueError(
                    f"the scales of its features {shown(name)} must have shapes {wanted}; got "
                    f"{shown(found)}."
                )
        if not all(isinstance(row, dict) for row in self._net["history"]):
            raise ValueError("its history must be a list of epochs.")

    @isolated()
    def to_onnx(self, path, output="embedding"):
        """Write an ONNX model of the fitted encoder, with the encoding of its columns.

        The model runs without this library, for example with
        ``onnxruntime.InferenceSession(path)``. Rows are the first axis; any number is accepted.

        - ``"embedding"`` computes `transform`. Each column is an input by its name, of shape
          (n, 1): doubles in its raw unit for numbers and booleans, strings for strings and
          categories (levels of other types as ``str`` converts them), and for levels that doubles
          cannot hold exactly, such as integers beyond 2**53. The output "embedding" is float32 of
          shape (n, n_features_out).
        - ``"decode"`` computes `inverse_transform`: the input is "embedding", the outputs are the
          columns. Booleans are returned as booleans.

        Columns without names are called x0, x1 and so on. An array of numbers is one tensor X
        (n, n_features) of doubles.

        Missing numbers are NaN. A missing string is "", or, if "" is a level, any string that is
        not a level. Unknown levels count as missing, without a warning. Columns that were entirely
        missing in fit decode to NaN or "".

        Parameters
        ----------
        path : str or path-like
            File to write.
        output : {"embedding", "decode"}, default="embedding"
            ``"embedding"``: features from rows; ``"decode"``: rows from features. Features are
            those of the current `embedding`.

        Raises
        ------
        ImportError
            If the package onnx is not installed (``pip install "cmim-sklearn[onnx]"``), or
            onnxscript, with which torch exports custom networks.
        NotImplementedError
            If a column holds dates, times of day or durations.
        ValueError
            If `output` is neither of the two, or "decode" for an encoder without a decoder; if two
            levels of a column are the same string, such as 1 and "1"; if two names are; if doubles
            cannot tell the numbers of a column apart.

        Notes
        -----
        Features equal those of `transform` up to rounding, about 1e-6. Decoded levels equal those
        of `inverse_transform`, and numbers do up to rounding. Values are not checked: values for
        which `transform` raises or warns are accepted. For whole pipelines see
        `cmim_sklearn.onnx.register`.
        """
        from cmim_sklearn.onnx._export import export

        model = export(self, output)
        with open(path, "wb") as file:
            file.write(model.SerializeToString())

    # -- pickle ------------------------------------------------------------------------------------

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_net")  # after fit_schema alone there are no features

    def __getstate__(self):
        """All attributes, as JSON values and numpy arrays."""
        state = dict(super().__getstate__())
        if "table_" in state:
            state["table_"] = self.table_.state()
        if not isinstance(state.get("_net", {}), dict):
            state["_net"] = net_state(self._net)
        if isinstance(state.get("net_params"), dict) and state["net_params"].get("callbacks"):
            # Without fitted attributes: a scheduler that was used holds the optimizer.
            callbacks = [_as_given(callback) for callback in state["net_params"]["callbacks"]]
            state["net_params"] = state["net_params"] | {"callbacks": callbacks}
        return state

    @isolation.isolated
    def __setstate__(self, state):
        state = writable(dict(state))  # joblib maps arrays of a file or of another process
        if "table_" in state:
            state["table_"] = Table.from_state(state["table_"])
        super().__setstate__(state)


def _as_given(callback):
    """Callback, or pair of name and callback, without the attributes that training set."""
    if isinstance(callback, tuple):
        return tuple(_as_given(part) for part in callback)
    if isinstance(callback, type) or not hasattr(callback, "get_params"):
        return callback
    given = copy.copy(callback)
    for name in [name for name in vars(given) if name.endswith("_") and name[0] != "_"]:
        delattr(given, name)
    return given
