"""Features read from a code or from hidden states: `transform`'s, and any model's.

Axes: n rows, d latent components, w features, T positions, H hidden features.
"""

import copy
import math
import warnings
from collections.abc import Mapping
from functools import partial
from numbers import Integral
from operator import attrgetter
from typing import ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from sklearn.utils.validation import validate_data
from torch import nn

from cmim_sklearn._encoders.model_reader import (
    Reader,
    Seq2Seq,
    align,
    borrowed,
    described,
    listed,
    padding_mask,
    pool,
    steps_of,
)
from cmim_sklearn._utils.device import resolve_device
from cmim_sklearn._utils.stacklevel import user_stacklevel

PROBE_ROWS = 3


ROUNDING = 0.02
"""What may differ between two passes of a row, as a share of its largest feature: bfloat16 does."""


class InformativeEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Features from the hidden state of any trained encoder-decoder, without more training.

    Each row is encoded, its code (the posterior mean, where the code is random) decoded, and what
    the decoder's output layer is given is taken for its features: the last hidden state before the
    map to the parameters of p(x | z). The code holds as much, but a linear model or nearest
    neighbours often read more from these.

    Parameters
    ----------
    model : torch.nn.Module
        A trained model with an encoder and a decoder. It is used as it is, and left as it was:
        in its mode, without hooks and without gradients. (While it is used, it is in evaluation
        mode for other threads, too.) Clones share it; nothing copies it but
        `copy.deepcopy` and pickle.
    encode : str or callable, default=None
        From a batch to a code: a callable, or the dotted name of a method or submodule. None takes
        the model's method ``encode``, or else its submodule ``encoder``. What it returns may be a
        tensor, a distribution, a (mean, log-variance) pair, a pythae ``ModelOutput``, or a mapping
        or record with a ``mean``, ``loc``, ``mu``, ``embedding`` or ``latent_dist``.
    decode : str or callable, default=None
        From a code to whatever the model makes of it, likewise: ``decode`` or ``decoder``. If it
        must have two arguments it gets the code and the batch: an autoregressive decoder is shown
        the row itself (teacher forcing).
    layer : str, torch.nn.Module or callable, default=None
        The output layer, a module of `model` or its dotted name: its *input* is taken. None takes
        the last linear layer or convolution that `decode` calls. That is wrong, and cannot be seen
        from outside, where the last map is no module (weights tied to others by a function) or
        something is added behind it. Any other callable computes the hidden state itself, from the
        code, or from the code and the batch: ``layer=lambda code: code`` gives the code.
    pooling : {"mean", "last", "max"}, callable or None, default="mean"
        How the steps of a sequence (n, T, H) are brought together; None puts them side by side.
        Padding is left out: tokens that a tokenizer's attention mask excludes, or integers that are
        the ``padding_idx`` of the model's first `nn.Embedding` that has one. It is for sequences:
        the places of an image (four axes or more) are side by side in any case, since their mean
        does worse than the code. A callable takes the hidden state as it is, and the batch, and
        returns features (n, w).
    batch_size : int, default=256
        Rows that go through the model at a time.
    device : str, default="auto"
        "auto" is where the model is. Any other is where it is moved to, and stays.
    tokenizer : callable, default=None
        For models of text: turns a list of strings into a tensor of tokens (n, T), or into a
        mapping of tensors as Hugging Face's tokenizers do. X is then a list or column of strings.

    Attributes
    ----------
    layer_ : str or None
        Name of the output layer; None where `layer` is a callable.
    n_features_in_ : int
        Columns seen in fit. Not there for text.
    feature_names_in_ : array of shape (n_features,)
        Their names, where all are strings.

    See Also
    --------
    CMIMEncoder : Learns features from a table; its ``embedding="informative"`` is this.

    Notes
    -----
    Stateless: `fit` checks that rows go through and finds the layer, so that errors come early and
    features have names (which `set_output` needs), but `transform` works without it. Fit warns
    where a row's features change from call to call, or with the rows beside it. Features are as the
    model has them: put a `sklearn.preprocessing.StandardScaler` behind where their scale matters.

    Not all of a gain over the code need be the decoder's learning: a wide map of random weights can
    do much of it, all the more if it is shown the row. Compare with a decoder that is not trained.
    An encoder that reads padding makes a row's features depend on how long its batch is.

    Arrays must not have holes. They become the model's floating type, but integers stay integers
    where the model has an `nn.Embedding`. Scripted modules (``torch.jit``) and submodules compiled
    each by itself take no hooks: pass a callable as `layer`.

    References
    ----------
    M. Livne, "cMIM: A Contrastive Mutual Information Framework for Unified Generative and
    Discriminative Representation Learning" (2025), arXiv 2509.21511.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from torch import nn
    >>> from cmim_sklearn import InformativeEmbedding
    >>> class AutoEncoder(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.encoder = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8))
    ...         self.decoder = nn.Sequential(
    ...             nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 64), nn.Sigmoid()
    ...         )
    >>> X, y = load_digits(return_X_y=True)
    >>> embedding = InformativeEmbedding(AutoEncoder()).fit(X)  # one that you have trained
    >>> embedding.layer_
    'decoder.2'
    >>> embedding.transform(X).shape
    (1797, 32)
    """

    _parameter_constraints: ClassVar[dict] = {
        "model": [nn.Module],
        "encode": [str, callable, None],
        "decode": [str, callable, None],
        "layer": [str, callable, None],
        "pooling": [StrOptions({"mean", "last", "max"}), callable, None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "tokenizer": [callable, None],
    }

    def __init__(
        self,
        model,
        *,
        encode=None,
        decode=None,
        layer=None,
        pooling="mean",
        batch_size=256,
        device="auto",
        tokenizer=None,
    ):
        self.model = model
        self.encode = encode
        self.decode = decode
        self.layer = layer
        self.pooling = pooling
        self.batch_size = batch_size
        self.device = device
        self.tokenizer = tokenizer

    @classmethod
    def from_seq2seq(
        cls, model, tokenizer, *, max_length=None, pooling="mean", batch_size=32, device="auto"
    ):
        """Features of text from a Hugging Face encoder-decoder language model (T5, BART).

        The decoder is shown the text itself, and its last hidden states are brought together.

        Parameters
        ----------
        model : transformers.PreTrainedModel
            With a language model's head, such as ``T5ForConditionalGeneration``.
        tokenizer : transformers.PreTrainedTokenizerBase
        max_length : int, default=None
            Tokens after which a text is cut; None keeps to the tokenizer's own limit.
        pooling, batch_size, device
            See the class.

        Returns
        -------
        InformativeEmbedding
            Its X is a list or column of strings.

        Raises
        ------
        TypeError
            If the model is no encoder-decoder language model.
        """
        # Where a tokenizer knows no limit it holds an absurd number, and warns when asked to cut.
        cut = max_length is not None or getattr(tokenizer, "model_max_length", math.inf) < 10**9
        return cls(
            Seq2Seq(model),
            pooling=pooling,
            batch_size=batch_size,
            device=device,
            tokenizer=partial(
                tokenizer,
                padding=True,
                padding_side="right",  # where decoders expect it, whatever the tokenizer's own
                truncation=cut,
                max_length=max_length,
                return_tensors="pt",
            ),
        )

    def fit(self, X, y=None):
        """Check that rows go through the model, and find the layer that features come from.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), or more axes; or strings
        y : None
            Ignored; here by convention.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If the model has no encoder, no decoder or no separable output layer, naming the modules
            that it has.
        TypeError
            If what the encoder returns is no code.
        """
        rows = self._read(X, reset=True)[:PROBE_ROWS]
        features, self.layer_ = self._run(rows)
        self._n_features_out = features.shape[1]
        self._check_repeatable(rows, features)
        return self

    def transform(self, X):
        """Read the features of rows.

        Parameters
        ----------
        X : array of shape (n_samples, n_features), or more axes; or strings

        Returns
        -------
        array of shape (n_samples, n_features_out), float32

        Raises
        ------
        ValueError
            If the model makes a feature that is not finite, naming the row.
        """
        features, _ = self._run(self._read(X, reset=False))
        expected = getattr(self, "_n_features_out", features.shape[1])
        if features.shape[1] != expected:
            raise ValueError(
                f"These rows give {features.shape[1]} features, those of fit gave {expected}. "
                "Positions put side by side need rows of one length: use pooling='mean', or a "
                "callable."
            )
        return features

    def _check_repeatable(self, rows, features):
        """Warn where a row's features are not its own alone."""
        again, _ = self._run(rows)
        alone = np.concatenate([self._run(rows[i : i + 1])[0] for i in range(len(rows))])
        tolerance = ROUNDING * max(1e-6, float(np.abs(features).max()))
        for found, change, reason in (
            (again, "from call to call", "encode or decode draws something at random"),
            (alone, "with the rows beside it", "time may stand before rows, or padding be read"),
        ):
            if found.shape != features.shape or np.abs(found - features).max() > tolerance:
                warnings.warn(
                    f"The features of a row change {change}: {reason}. Pass encode= or layer= as a "
                    "callable that mends it.",
                    UserWarning,
                    stacklevel=user_stacklevel(),
                )
                return

    def _read(self, X, *, reset):
        """Rows as an array, or as an array of strings."""
        if not isinstance(self.model, nn.Module):
            hint = {
                "NeuralNet": " Pass its module_.",
                "CMIMEncoder": " It has embedding='informative' of its own.",
            }
            kinds = [kind.__name__ for kind in type(self.model).__mro__]
            raise TypeError(
                f"model must be a torch.nn.Module. Got a {kinds[0]}."
                + "".join(hint.get(kind, "") for kind in kinds)
            )
        validate_parameter_constraints(
            self._parameter_constraints, self.get_params(deep=False), type(self).__name__
        )
        if self.tokenizer is not None:
            return _strings(X)
        if isinstance(X, torch.Tensor):
            X = X.detach().cpu()
            X = (X.float() if X.dtype == torch.bfloat16 else X).numpy()
        try:
            return validate_data(self, X, reset=reset, allow_nd=True)
        except ValueError as error:
            if "string" not in str(error):
                raise
            raise ValueError(
                f"{error} For text, pass tokenizer=, or use InformativeEmbedding.from_seq2seq."
            ) from error

    def _run(self, rows):
        """Features (n, w) of rows, and the name of the layer they come from."""
        encode, layer = self._part("encode", "encoder"), self.layer
        is_layer = layer is None or isinstance(layer, str) or layer in set(self.model.modules())
        decode = self._part("decode", "decoder") if is_layer else None
        reader = Reader(self.model, encode, decode, layer, self.pooling)
        to_batch = self._to_batch(reader.names)
        order = np.arange(len(rows))
        if self.tokenizer is not None:  # texts of like length together, so that little is padding
            order = np.argsort([len(text) for text in rows], kind="stable")
        features = None
        with borrowed(reader.names):
            for start in range(0, len(rows), self.batch_size):
                some = order[start : start + self.batch_size]
                batch = to_batch(rows[some])
                hidden = reader.hidden_state(batch, len(some))
                part = self._pooled(hidden, batch, len(some), reader).float().cpu().numpy()
                if features is None:
                    features = np.empty((len(rows), part.shape[1]), np.float32)
                if part.shape[1] != features.shape[1]:
                    raise ValueError(
                        f"One batch gave {features.shape[1]} features, another {part.shape[1]}: "
                        "positions put side by side need rows of one length. Use pooling='mean', "
                        "'last' or 'max', or a callable."
                    )
                features[some] = part
        finite = np.isfinite(features).all(1)
        if not finite.all():
            raise ValueError(
                f"The model gave a feature that is not finite in row {int(finite.argmin())}, and "
                f"in {int((~finite).sum())} of {len(rows)} rows in all. Scale X as in its "
                "training, or pass layer= as a callable that takes another hidden state."
            )
        return features, reader.names.get(reader.layer)

    def _part(self, method, submodule):
        """The callable that `encode` or `decode` stands for."""
        given = getattr(self, method)
        if callable(given):
            return given
        for name in (method, submodule) if given is None else (given,):
            try:
                part = attrgetter(name)(self.model)
            except AttributeError:
                continue
            if callable(part):
                return part
        owner = type(self.model).__name__
        either = f"method {method!r} nor a submodule {submodule!r}"
        raise ValueError(
            f"{owner} has no {f'{method}={given!r}' if given else either}. It holds "
            f"{listed(dict(self.model.named_children()))}. Name the part that is to {method} in "
            f"{method}=, or pass a callable."
        )

    def _to_batch(self, modules):
        """A function from rows to what the model takes, on its device."""
        tensors = [t for m in modules for t in (*m.parameters(False), *m.buffers(False))]
        device = tensors[0].device if tensors else torch.device("cpu")
        if self.device != "auto":
            device = resolve_device(self.device)
            for module in modules:
                module.to(device)
        dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)
        takes_tokens = any(isinstance(module, nn.Embedding) for module in modules)

        def to_batch(rows):
            if self.tokenizer is not None:
                tokens = self.tokenizer(rows.tolist())
                if isinstance(tokens, Mapping):
                    return {name: torch.as_tensor(t, device=device) for name, t in tokens.items()}
                return torch.as_tensor(tokens, device=device)
            if takes_tokens and rows.dtype.kind in "iu":
                return torch.from_numpy(rows.astype(np.int64)).to(device)
            as_numpy = np.float64 if dtype == torch.float64 else np.float32
            return torch.from_numpy(rows.astype(as_numpy)).to(device, dtype)

        return to_batch

    def _pooled(self, hidden, batch, n, reader):
        """Features (n, w) of a hidden state."""
        if not isinstance(hidden, torch.Tensor) or hidden.ndim < 2 or len(hidden) != n:
            raise ValueError(
                f"The hidden state of {n} rows must be a tensor ({n}, ...), rows first. Got "
                f"{described(hidden)}. Pass layer= as a callable that puts rows first."
            )
        steps = steps_of(hidden, reader.layer)
        if callable(self.pooling):
            features = torch.as_tensor(self.pooling(hidden, batch))
        elif hidden.ndim == 2 or steps is None:
            features = hidden.flatten(1)
        else:
            mask = align(padding_mask(batch, reader.names), steps.shape[1])
            features = pool(steps.float(), self.pooling, mask)
        if features.ndim != 2 or len(features) != n:
            raise ValueError(
                f"pooling must give features ({n}, w) of {n} rows. Got {tuple(features.shape)} "
                f"from a hidden state {tuple(hidden.shape)}."
            )
        return features

    def __repr__(self, N_CHAR_MAX=700):
        """As any estimator's, with the model by its name and size, not by all of its layers."""
        shown = type(self)(**{k: _brief(v) for k, v in self.get_params(deep=False).items()})
        return BaseEstimator.__repr__(shown, N_CHAR_MAX)

    def __sklearn_clone__(self):
        """Share the model, and all else that may hold on to it, with the clone."""
        clone = type(self)(**self.get_params(deep=False))
        for name in ("_metadata_request", "_sklearn_output_config"):
            if name in vars(self):
                setattr(clone, name, copy.deepcopy(getattr(self, name)))
        return clone

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = ["float32"]
        is_text = self.tokenizer is not None
        tags.input_tags.string = tags.input_tags.one_d_array = is_text
        tags.input_tags.two_d_array = tags.input_tags.three_d_array = not is_text
        return tags


class _Brief:
    """Stands for a value whose own repr would fill a page."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def _brief(value):
    if isinstance(value, nn.Module):
        n = sum(parameter.numel() for parameter in value.parameters())
        return _Brief(f"<{type(value).__name__}, {n:,} parameters>")
    if callable(value):
        value = getattr(value, "func", value)  # of a functools.partial
        name = getattr(value, "__qualname__", type(value).__name__)
        return _Brief("<lambda>" if name.endswith("<lambda>") else f"<{name}>")
    return value


def _strings(X):
    """A list or column of strings, as an array of objects (n,)."""
    values = np.asarray(X, dtype=object)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(
            f"X must be a list or one column of strings, since there is a tokenizer. Got shape "
            f"{values.shape}."
        )
    if not len(values):
        raise ValueError("Found 0 texts where at least 1 is needed.")
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise TypeError(
                f"X must hold strings, since there is a tokenizer. Got {value!r} in row {row}; "
                "fill missing texts first, for example with ''."
            )
    return values
