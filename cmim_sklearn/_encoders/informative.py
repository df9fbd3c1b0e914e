"""`InformativeEmbedding`: features from the hidden states of any trained encoder-decoder.

Axes: n rows, w features.
"""

import copy
import math
import warnings
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

from cmim_sklearn._encoders.base.generative import _GenerativeEncoder
from cmim_sklearn._encoders.model_inputs import as_texts, make_to_batch
from cmim_sklearn._encoders.model_reader import (
    HiddenStateReader,
    Seq2Seq,
    in_evaluation_mode,
    list_modules,
)
from cmim_sklearn._encoders.pooling import pooled_features
from cmim_sklearn._utils.stacklevel import user_stacklevel

N_CHECKED_ROWS = 3
"""Rows with which `fit` checks the model."""

RELATIVE_TOLERANCE = 0.02
"""Allowed difference between two passes of a row, relative to its largest feature; for bfloat16."""


class InformativeEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Features from the hidden states of any trained encoder-decoder, without further training.

    Each row is encoded to its code (the posterior mean, if the code is random), and the code is
    decoded. The features are the input of the decoder's output layer: the last hidden state before
    the parameters of p(x | z). They hold the same information as the code, but a linear model or
    nearest neighbours often predict better from them.

    Parameters
    ----------
    model : torch.nn.Module
        Trained model with an encoder and a decoder. Its mode, hooks and gradients are restored
        after use. During use it is in evaluation mode, for other threads as well. Clones share the
        model; only `copy.deepcopy` and pickle copy it.
    encode : str or callable, default=None
        Encoder, from a batch to a code.

        - callable: called with the batch.
        - str: dotted name of a method or submodule of `model`.
        - None: the method ``encode`` of the model, or else its submodule ``encoder``.

        It may return a tensor, a distribution, a (mean, log-variance) pair, a pythae
        ``ModelOutput``, or a mapping or object with a ``mean``, ``loc``, ``mu``, ``embedding`` or
        ``latent_dist``.
    decode : str or callable, default=None
        Decoder, from a code to any output: a callable, a dotted name, or None for the method
        ``decode`` or else the submodule ``decoder``. A decoder with two required parameters gets
        the code and the batch, as autoregressive decoders need them (teacher forcing).
    layer : str, torch.nn.Module or callable, default=None
        Output layer, whose *input* gives the features.

        - str or module: a module of `model`, or its dotted name.
        - callable: computes the hidden state from the code, or from the code and the batch.
          ``layer=lambda code: code`` gives the code itself.
        - None: the last linear layer or convolution that `decode` calls. This is wrong, without a
          warning, if the last map is not a module (such as tied weights in a function) or
          something is added after it.
    pooling : {"mean", "last", "max"}, callable or None, default="mean"
        Pooling of the positions of a sequence (n, T, H).

        - "mean", "last", "max": mean, last or largest value over positions, without padding.
          Padding is known from the attention mask of a tokenizer, or for integers from the
          ``padding_idx`` of the model's first `nn.Embedding` that has one.
        - None: all positions concatenated.
        - callable: called with the hidden state and the batch; returns features (n, w).

        Positions of an image (four or more axes) are concatenated except with a callable, since
        their mean does worse than the code.
    batch_size : int, default=256
        Number of rows that pass through the model at a time.
    device : str, default="auto"
        Device of the model. "auto": the model stays where it is. Another name moves it there, also
        after use. A model with float64 weights raises an error on "mps", which has no float64.
    tokenizer : callable, default=None
        Tokenizer, for text models: from a list of strings to a tensor of tokens (n, T), or to a
        mapping of tensors as Hugging Face's tokenizers return. X is then a list or column of
        strings.

    Attributes
    ----------
    layer_ : str or None
        Name of the output layer. None if `layer` is a callable.
    n_features_in_ : int
        Number of columns seen in fit. Not set for text.
    feature_names_in_ : array of shape (n_features,)
        Names of the columns, if all are strings.

    See Also
    --------
    CMIMEncoder : Learns features from a table; ``embedding="informative"`` gives these features.

    Notes
    -----
    The transformer is stateless. `fit` checks that rows pass through the model and finds the layer,
    so that errors come early and `set_output` has feature names, but `transform` works without it.
    `fit` warns if the features of a row are random or depend on other rows.

    Features keep the scale of the model: add a `sklearn.preprocessing.StandardScaler` if the next
    step depends on it.

    A better score than that of the code is not always due to training: a wide random map can
    improve it, too, especially in a decoder that gets the row as input. Compare with an untrained
    decoder. An encoder that reads padding makes features of a row depend on the length of its
    batch.

    Arrays must not have missing values. They are converted to the floating type of the model;
    integers stay integers if the model has an `nn.Embedding`. Scripted modules (``torch.jit``) and
    submodules compiled one by one accept no hooks: pass a callable as `layer`.

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
    >>> embedding = InformativeEmbedding(AutoEncoder()).fit(X)  # use a trained one
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
        """Create a transformer of text from a Hugging Face encoder-decoder model (T5, BART).

        The decoder gets the text itself (teacher forcing), and its last hidden states are pooled.

        Parameters
        ----------
        model : transformers.PreTrainedModel
            Model with a language model head, such as ``T5ForConditionalGeneration``.
        tokenizer : transformers.PreTrainedTokenizerBase
            Tokenizer of the model.
        max_length : int, default=None
            Number of tokens at which texts are truncated. None takes the limit of the tokenizer.
        pooling, batch_size, device
            See the class.

        Returns
        -------
        InformativeEmbedding
            Transformer whose X is a list or column of strings.

        Raises
        ------
        TypeError
            If `model` is not an encoder-decoder language model.
        """
        # A tokenizer without a limit has a huge number, and warns when asked to truncate.
        has_limit = getattr(tokenizer, "model_max_length", math.inf) < 10**9
        return cls(
            Seq2Seq(model),
            pooling=pooling,
            batch_size=batch_size,
            device=device,
            tokenizer=partial(
                tokenizer,
                padding=True,
                padding_side="right",  # as decoders expect it
                truncation=max_length is not None or has_limit,
                max_length=max_length,
                return_tensors="pt",
            ),
        )

    def fit(self, X, y=None):
        """Check that rows pass through the model, and find the output layer.

        Parameters
        ----------
        X : array of shape (n_samples, n_features) or with more axes; or strings
            Rows in the form in which the model takes them. Only the first three are used.
        y : None
            Ignored; part of scikit-learn's API.

        Returns
        -------
        self : InformativeEmbedding

        Raises
        ------
        TypeError
            If `model` is not a module, or the output of the encoder has no code.
        ValueError
            If the model has no encoder, no decoder or no separate output layer; the message lists
            the modules that exist. Also if a part of the model fails on the rows.

        Warns
        -----
        UserWarning
            If the features of a row are random, or depend on other rows in the batch.
        """
        rows = self._read(X, reset=True)[:N_CHECKED_ROWS]
        features, self.layer_ = self._compute(rows)
        self._n_features_out = features.shape[1]
        self._check_repeatable(rows, features)
        return self

    def transform(self, X):
        """Compute the features of rows.

        Parameters
        ----------
        X : array of shape (n_samples, n_features) or with more axes; or strings
            Rows in the form in which the model takes them.

        Returns
        -------
        features : array of shape (n_samples, n_features_out), float32

        Raises
        ------
        ValueError
            If a feature is not finite, naming the row; or if the number of features differs from
            fit or between batches.
        """
        features, _ = self._compute(self._read(X, reset=False))
        expected = getattr(self, "_n_features_out", features.shape[1])
        if features.shape[1] != expected:
            raise ValueError(
                f"X must give {expected} features, as in fit; got {features.shape[1]}. "
                "Concatenated positions need rows of one length: use pooling='mean', or a callable."
            )
        return features

    def _check_repeatable(self, rows, features):
        """Warn if the features of a row are random or depend on other rows."""
        again, _ = self._compute(rows)
        alone = np.concatenate([self._compute(rows[i : i + 1])[0] for i in range(len(rows))])
        tolerance = RELATIVE_TOLERANCE * max(1e-6, float(np.abs(features).max()))
        for found, cause, reason in (
            (again, "from call to call", "encode or decode is probably random"),
            (
                alone,
                "with the other rows of the batch",
                "the model probably expects time before rows, or reads padding",
            ),
        ):
            if found.shape != features.shape or np.abs(found - features).max() > tolerance:
                warnings.warn(
                    f"The features of a row change {cause}: {reason}. Pass encode= or layer= as a "
                    "callable that avoids it.",
                    UserWarning,
                    stacklevel=user_stacklevel(),
                )
                return

    def _read(self, X, *, reset):
        """Rows as an array; texts as an array of strings."""
        if not isinstance(self.model, nn.Module):
            hint = ""
            if isinstance(self.model, _GenerativeEncoder):
                hint = " Set its embedding='informative' instead."
            elif any(cls.__name__ == "NeuralNet" for cls in type(self.model).__mro__):  # skorch's
                hint = " Pass its module_."
            name = type(self.model).__name__
            raise TypeError(f"`model` must be a torch.nn.Module; got {name}.{hint}")
        validate_parameter_constraints(
            self._parameter_constraints, self.get_params(deep=False), type(self).__name__
        )
        if self.tokenizer is not None:
            return as_texts(X)
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

    def _compute(self, rows):
        """Features (n, w) of rows, and the name of the output layer."""
        encode, layer = self._part("encode", "encoder"), self.layer
        is_layer = layer is None or isinstance(layer, str) or layer in set(self.model.modules())
        decode = self._part("decode", "decoder") if is_layer else None
        reader = HiddenStateReader(self.model, encode, decode, layer, self.pooling)
        to_batch = make_to_batch(reader.module_names, self.device, self.tokenizer)
        order = np.arange(len(rows))
        if self.tokenizer is not None:  # batches of texts of similar length have little padding
            order = np.argsort([len(text) for text in rows], kind="stable")
        features = None
        with in_evaluation_mode(reader.module_names):
            for start in range(0, len(rows), self.batch_size):
                some = order[start : start + self.batch_size]
                batch = to_batch(rows[some])
                hidden = reader.read(batch, len(some))
                part = pooled_features(hidden, batch, self.pooling, reader).float().cpu().numpy()
                if features is None:
                    features = np.empty((len(rows), part.shape[1]), np.float32)
                if part.shape[1] != features.shape[1]:
                    raise ValueError(
                        f"Every batch must give {features.shape[1]} features, as the first does; "
                        f"got {part.shape[1]}. Concatenated positions need rows of one length: use "
                        "pooling='mean', 'last' or 'max', or a callable."
                    )
                features[some] = part
        finite = np.isfinite(features).all(1)
        if not finite.all():
            raise ValueError(
                f"Features must be finite; got NaN or infinity in row {int(finite.argmin())}, and "
                f"in {int((~finite).sum())} of {len(rows)} rows in total. Scale X as in the "
                "model's training, or pass layer= as a callable that reads another hidden state."
            )
        return features, reader.module_names.get(reader.layer)

    def _part(self, method, submodule):
        """The callable that `encode` or `decode` names."""
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
        owner, children = type(self.model).__name__, dict(self.model.named_children())
        if given is None:
            problem = (
                f"`model` must have a method {method!r} or a submodule {submodule!r}; got {owner}"
            )
        else:
            problem = f"`{method}` must be a method or submodule of {owner}; got {given!r}"
        raise ValueError(
            f"{problem}. Its submodules are {list_modules(children)}. Pass {method}= as a name or "
            "as a callable."
        )

    def __repr__(self, N_CHAR_MAX=700):
        """Representation with the name and size of the model, not all its layers."""
        params = {name: _shorten(value) for name, value in self.get_params(deep=False).items()}
        return BaseEstimator.__repr__(type(self)(**params), N_CHAR_MAX)

    def __sklearn_clone__(self):
        """Clone that shares the model and the callables."""
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


class _ShortRepr:
    """Replacement of a value whose representation is long."""

    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text


def _shorten(value):
    """Replace a value with a long representation: a module by its size, a callable by its name."""
    if isinstance(value, nn.Module):
        n = sum(parameter.numel() for parameter in value.parameters())
        return _ShortRepr(f"<{type(value).__name__}, {n:,} parameters>")
    if callable(value):
        value = getattr(value, "func", value)  # of a functools.partial
        name = getattr(value, "__qualname__", type(value).__name__)
        return _ShortRepr("<lambda>" if name.endswith("<lambda>") else f"<{name}>")
    return value
