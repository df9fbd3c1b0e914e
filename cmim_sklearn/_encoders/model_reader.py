"""Hidden states of a trained encoder-decoder, read without changing the model.

Axes: n rows, d latent components, T positions, H hidden features.
"""

import inspect
import threading
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from cmim_sklearn._utils.forking import fork_safe_lock

MEAN_NAMES = ("mean", "loc", "mu", "embedding")
"""Names of the posterior mean in outputs of encoders; "embedding" is pythae's."""

DISTRIBUTION_NAMES = ("latent_dist",)
"""Names of a distribution in outputs of encoders; "latent_dist" is diffusers'."""

OUTPUT_LAYERS = (nn.Linear, _ConvNd)

MIXING_LAYERS = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
"""Layers that mix positions; a decoder that ends in one has no separate output layer."""

ATTENTION_BLOCKS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
"""Blocks whose linear layers are internal; a decoder that ends in one has no output layer."""

MAX_MODULES_LISTED = 20

_IN_USE = WeakKeyDictionary()
"""Modules in use by any thread, each with its `_Usage`: two transformers may share a model."""

_LOCK = fork_safe_lock()
_THREAD = threading.local()


# -- modules in use --------------------------------------------------------------------------------


class _Usage:
    """Mode of a module before its use, its recording hook, and its number of users."""

    def __init__(self, module):
        self.training = module.training
        self.hook = None
        if not isinstance(module, torch.jit.ScriptModule):  # which accepts no hooks
            self.hook = module.register_forward_pre_hook(_record_call, with_kwargs=True)
        self.n_users = 0


@contextmanager
def in_evaluation_mode(modules):
    """Context: modules in evaluation mode, without gradients, and with their calls recorded.

    Afterwards modes and hooks are as before. Threads may share modules: the first user notes the
    mode and the last one restores it. Modes are set one by one, since some models override
    ``eval()`` to do more.

    Parameters
    ----------
    modules : iterable of nn.Module
        Modules and all their submodules, each once.
    """
    used = []
    try:
        with _LOCK:
            for module in modules:
                if module not in _IN_USE:
                    _IN_USE[module] = _Usage(module)
                _IN_USE[module].n_users += 1
                used.append(module)
                module.training = False
        with torch.no_grad():
            yield
    finally:
        with _LOCK:
            for module in used:
                usage = _IN_USE[module]
                usage.n_users -= 1
                if not usage.n_users:
                    if usage.hook is not None:
                        usage.hook.remove()
                    module.training = usage.training
                    del _IN_USE[module]


@contextmanager
def recording(record):
    """Context: ``record(module, input)`` for each call of a module in use by this thread."""
    outer = getattr(_THREAD, "record", None)
    _THREAD.record = record
    try:
        yield
    finally:
        _THREAD.record = outer


def _record_call(module, args, kwargs):
    """Hook that passes a module and its first tensor to the thread's recorder, if it has one."""
    record = getattr(_THREAD, "record", None)
    if record is not None:
        values = (*args, *kwargs.values())
        record(module, next((v for v in values if isinstance(v, Tensor)), None))


# -- hidden states ---------------------------------------------------------------------------------


class HiddenStateReader:
    """Reader of the hidden state before the output layer of a model's decoder.

    Use it in the context `in_evaluation_mode` of `module_names`.

    Parameters
    ----------
    model : nn.Module
    encode : callable
    decode : callable or None
        None if `layer` computes the hidden state.
    layer : str, nn.Module, callable or None
        See `InformativeEmbedding`.
    pooling : object
        Pooling that will be applied. If it is a module, it is put in evaluation mode, too.

    Attributes
    ----------
    module_names : dict of nn.Module to str
        All modules that may be called, with their names for messages.
    layer : nn.Module or None
        Output layer, once it is found.
    """

    def __init__(self, model, encode, decode, layer, pooling=None):
        self.encode, self.decode, self.given_layer = encode, decode, layer
        self.module_names, self.layer, self._is_called_once = {}, None, False
        parts = {"": model, "encode": encode, "decode": decode, "layer": layer, "pooling": pooling}
        for prefix, part in parts.items():
            root = part if isinstance(part, nn.Module) else getattr(part, "__self__", None)
            if isinstance(root, nn.Module):
                for name, module in root.named_modules(prefix=prefix):
                    self.module_names.setdefault(module, name)

    def read(self, batch, n):
        """Hidden state (n, ...) of a batch of n rows."""
        code = code_of(_call_part("encode", self.encode, batch), n)
        if self.decode is None:
            inputs = decoder_inputs(self.given_layer, code, batch)
            hidden = _call_part("layer", self.given_layer, *inputs)
        else:
            hidden = self._read_layer_input(decoder_inputs(self.decode, code, batch), n)
        if not isinstance(hidden, Tensor) or hidden.ndim < 2 or len(hidden) != n:
            raise ValueError(
                f"The hidden state must be a tensor ({n}, ...) for {n} rows, rows first; got "
                f"{describe(hidden)}. Pass layer= as a callable that puts rows first."
            )
        return hidden

    def _read_layer_input(self, inputs, n):
        if self.layer is None:
            self._find_layer(inputs)
        values = []

        def record(module, value):
            if module is not self.layer:
                return
            if self._is_called_once:
                values.append(value)
                raise _LayerReached
            values.append(None if value is None else value.clone())  # loops may overwrite it

        with recording(record), suppress(_LayerReached):
            _call_part("decode", self.decode, *inputs)
        if not values or not all(isinstance(value, Tensor) for value in values):
            raise ValueError(
                f"`layer` must get a tensor from decode; got none in "
                f"{self.module_names[self.layer]!r} for this batch of {n} rows. Pass layer= as a "
                "callable that computes the hidden state from the code."
            )
        return join_calls(values)

    def _find_layer(self, inputs):
        """Find the output layer among the modules that decode calls."""
        called = []
        with recording(lambda module, _: called.append(module)):
            _call_part("decode", self.decode, *inputs)
        called = [module for module in called if module in self.module_names]
        self.layer = self._given(called) if self.given_layer is not None else self._last(called)
        self._is_called_once = called.count(self.layer) == 1

    def _given(self, called):
        """Return the layer that was given by name or as a module."""
        given, layer = self.given_layer, self.given_layer
        if isinstance(given, str):
            layer = {name: module for module, name in self.module_names.items()}.get(given)
        if layer not in called:
            shown = given if isinstance(given, str) else self.module_names[layer]
            reason = "is not in the model" if layer is None else "decode does not call"
            raise ValueError(
                f"`layer` must be a module that decode calls; got {shown!r}, which {reason}. "
                f"Modules that decode calls, in order: {self._list(called)}."
            )
        return layer

    def _last(self, called):
        """Return the last linear layer or convolution."""
        blocks = [module for module in called if isinstance(module, ATTENTION_BLOCKS)]
        internal = {module for block in blocks for module in block.modules()}
        for module in reversed(called):
            if isinstance(module, MIXING_LAYERS) or module in internal:
                break
            if isinstance(module, OUTPUT_LAYERS):
                return module
        raise ValueError(
            "`decode` must end in an output layer, a linear layer or convolution; got one that "
            f"calls, in order: {self._list(called)}. Pass layer= as the name of the module "
            "before which to read, or as a callable that computes the hidden state from the code."
        )

    def _list(self, called):
        names = self.module_names
        return list_modules({names[module]: module for module in called if names[module]})


class _LayerReached(BaseException):
    """Ends a call of the decoder at its output layer, since the rest is not needed."""


def join_calls(inputs):
    """Input of a layer that is called once; inputs of a loop over time as (n, T, ...)."""
    if len(inputs) == 1:
        return inputs[0]
    return torch.stack(inputs, 1) if inputs[0].ndim == 2 else torch.cat(inputs, 1)


def decoder_inputs(function, code, batch):
    """Inputs of a decoder: the code, and the batch if it has two required parameters."""
    if isinstance(function, nn.TransformerDecoder):
        raise ValueError(
            "`decode` must take the code first; got nn.TransformerDecoder, which takes (target, "
            "memory). Pass decode=lambda code, x: model.decoder(x, code)."
        )
    inner = getattr(function, "_orig_mod", function)  # of a compiled module
    inner = inner.module if isinstance(inner, nn.DataParallel) else inner
    try:
        signature = inspect.signature(inner.forward if isinstance(inner, nn.Module) else inner)
    except (TypeError, ValueError):  # a builtin or a scripted function has no signature
        return (code,)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [
        p for p in signature.parameters.values() if p.default is p.empty and p.kind in positional
    ]
    return (code, batch) if len(required) == 2 else (code,)


def _call_part(part, function, *inputs):
    """Call a part of a model; errors of torch become errors that describe the inputs."""
    try:
        return function(*inputs)
    except (RuntimeError, IndexError, TypeError, KeyError) as error:
        given = " and ".join(describe(value) for value in inputs)
        raise ValueError(
            f"`{part}` failed on {given}: {error}. X must be as in the model's training, tokens as "
            f"integers. Pass {part}= as a callable to convert inputs first. For a Hugging Face "
            "text model, use InformativeEmbedding.from_seq2seq."
        ) from error


def code_of(output, n):
    """Code, or posterior mean, in the output of an encoder.

    Parameters
    ----------
    output : Tensor, distribution, (mean, log-variance) pair, mapping or object
        A mapping or object has an entry with one of the `MEAN_NAMES` or `DISTRIBUTION_NAMES`.
    n : int
        Number of encoded rows.

    Returns
    -------
    Tensor of shape (n, ...)

    Raises
    ------
    TypeError
        If the output is none of these, or its first axis does not have length n.
    """
    code = _mean(output, n)
    if code is None or code.ndim < 2 or len(code) != n:
        raise TypeError(
            f"`encode` must return a tensor ({n}, ...) for {n} rows, a distribution, a (mean, "
            f"log-variance) pair, or a mapping or object with one of "
            f"{', '.join(MEAN_NAMES + DISTRIBUTION_NAMES)}; got {describe(output)}. Pass a "
            "callable that picks the code and puts rows first, as encode=lambda x: "
            "model.encode(x)[1]."
        )
    return code


def _mean(output, n):
    if isinstance(output, Tensor):
        return output
    for name in MEAN_NAMES + DISTRIBUTION_NAMES:
        value = _entry(output, name)
        if isinstance(value, Tensor):
            return value
        if name in DISTRIBUTION_NAMES and value is not None:
            return _mean(value, n)
    if isinstance(output, tuple | list) and len(output) == 2:
        mean, log_variance = output
        if isinstance(mean, Tensor) and isinstance(log_variance, Tensor):
            shapes = (mean.shape, mean.shape[1:], (n, 1), ())
            return mean if tuple(log_variance.shape) in map(tuple, shapes) else None
    return None


def _entry(output, name):
    try:
        return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
    except NotImplementedError:  # a distribution whose mean has no closed form
        return None


# -- messages --------------------------------------------------------------------------------------


def list_modules(modules):
    """List modules, a dict by name, for a message: the last ones if there are many."""
    shown = [f"{name} ({type(module).__name__})" for name, module in modules.items()]
    cut = ["..."] if len(shown) > MAX_MODULES_LISTED else []
    return ", ".join(cut + shown[-MAX_MODULES_LISTED:]) or "no modules"


def describe(value):
    """Describe the type and shape of a value for a message."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}".replace("torch.", "")
    if isinstance(value, Mapping):
        inside = ", ".join(f"{name}: {describe(v)}" for name, v in value.items())
        return f"a {type(value).__name__} with {inside}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}: {', '.join(map(describe, value))}"
    return f"a {type(value).__name__}"


# -- Hugging Face models ---------------------------------------------------------------------------


class Seq2Seq(nn.Module):
    """Wrapper of a Hugging Face encoder-decoder language model with `encode` and `decode`.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model with ``get_encoder`` and ``prepare_decoder_input_ids_from_labels``, such as T5 or
        BART.
    """

    def __init__(self, model):
        needed = ("get_encoder", "prepare_decoder_input_ids_from_labels")
        missing = [name for name in needed if not hasattr(model, name)]
        if missing:
            raise TypeError(
                "`model` must be an encoder-decoder language model such as "
                "T5ForConditionalGeneration or BartForConditionalGeneration; got "
                f"{type(model).__name__}, which has no {' and no '.join(missing)}."
            )
        super().__init__()
        self.model = model

    def encode(self, batch):
        """Last hidden state (n, T, H) of the encoder for a tokenizer's output."""
        encoder = self.model.get_encoder()
        mask = batch.get("attention_mask")
        return encoder(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state

    def decode(self, code, batch):
        """Logits (n, T, vocabulary) of each token, given the code and the tokens before it."""
        shifted = self.model.prepare_decoder_input_ids_from_labels(labels=batch["input_ids"])
        return self.model(
            encoder_outputs=(code,),
            attention_mask=batch.get("attention_mask"),
            decoder_input_ids=shifted,
            use_cache=False,
        ).logits
