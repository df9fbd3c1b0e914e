"""Encoder-decoders that somebody else wrote: run as they are, watched, and left as they were.

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
"""What outputs of encoders call a posterior mean; the last is pythae's."""

WRAPPED_NAMES = ("latent_dist",)
"""Where outputs of encoders hold a distribution; diffusers' do."""

OUTPUT_LAYERS = (nn.Linear, _ConvNd)
MIXING_LAYERS = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
"""Layers that are no map from a last hidden state: a decoder that ends in one has none to tell."""

ATTENTION_BLOCKS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
"""Their linear layers are inner ones: a decoder that ends in one of these has no output layer."""

MODULES_IN_MESSAGES = 20

# Modules in use by any thread, each with its _Loan. One for the process, since two transformers may
# share a model: the first to come notes the mode and hooks in, the last to go puts both back.
_LOANS = WeakKeyDictionary()
_LOCK = fork_safe_lock()
_THREAD = threading.local()


class _Loan:
    def __init__(self, module):
        self.training = module.training
        self.handle = None
        if not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
            self.handle = module.register_forward_pre_hook(_tell, with_kwargs=True)
        self.n_users = 0


class _Enough(BaseException):
    """The input that was waited for has come: what follows it need not run."""


def _tell(module, args, kwargs):
    """Pass what a module was called with to the thread's recorder, if it has one."""
    record = getattr(_THREAD, "record", None)
    if record is not None:
        values = (*args, *kwargs.values())
        record(module, next((v for v in values if isinstance(v, Tensor)), None))


@contextmanager
def borrowed(modules):
    """Have modules in evaluation mode, without gradients, and watched; then as they were.

    Modes are set one by one, not by ``eval()``, which some models override to do more than that.
    Safe in threads that share modules.

    Parameters
    ----------
    modules : iterable of nn.Module
        With all their submodules among them, each once.
    """
    taken = []
    try:
        with _LOCK:
            for module in modules:
                if module not in _LOANS:
                    _LOANS[module] = _Loan(module)
                _LOANS[module].n_users += 1
                taken.append(module)
                module.training = False
        with torch.no_grad():
            yield
    finally:
        with _LOCK:
            for module in taken:
                loan = _LOANS[module]
                loan.n_users -= 1
                if not loan.n_users:
                    if loan.handle is not None:
                        loan.handle.remove()
                    module.training = loan.training
                    del _LOANS[module]


@contextmanager
def recorded(record):
    """Call ``record(module, input)`` for each borrowed module that this thread calls."""
    outer = getattr(_THREAD, "record", None)
    _THREAD.record = record
    try:
        yield
    finally:
        _THREAD.record = outer


class Reader:
    """Reads the hidden state of a model's decoder, by the parts that a transformer names.

    To be used while the modules in `names` are `borrowed`.

    Parameters
    ----------
    model : nn.Module
    encode : callable
    decode : callable or None
        None where `layer` computes the hidden state.
    layer : str, nn.Module, callable or None
        See `InformativeEmbedding`.
    pooling : object
        Whatever pools; its modules, if it has any, are borrowed too.

    Attributes
    ----------
    names : dict of nn.Module to str
        All modules that may be called, by their names in messages.
    layer : nn.Module or None
        The output layer, once it is found.
    """

    def __init__(self, model, encode, decode, layer, pooling=None):
        self.encode, self.decode, self.wanted = encode, decode, layer
        self.names, self.layer, self._is_called_once = {}, None, False
        parts = {"": model, "encode": encode, "decode": decode, "layer": layer, "pooling": pooling}
        for prefix, part in parts.items():
            root = part if isinstance(part, nn.Module) else getattr(part, "__self__", None)
            if isinstance(root, nn.Module):
                for name, module in root.named_modules(prefix=prefix):
                    self.names.setdefault(module, name)

    def hidden_state(self, batch, n):
        """The hidden state of a batch of n rows, (n, ...)."""
        code = code_of(_call("encode", self.encode, batch), n)
        if self.decode is None:
            return _call("layer", self.wanted, *arguments(self.wanted, code, batch))
        inputs = arguments(self.decode, code, batch)
        if self.layer is None:
            self._find_layer(inputs)
        given = []

        def record(module, value):
            if module is not self.layer:
                return
            if self._is_called_once:
                given.append(value)
                raise _Enough
            given.append(None if value is None else value.clone())  # a step may be overwritten

        with recorded(record), suppress(_Enough):
            _call("decode", self.decode, *inputs)
        if not given or not all(isinstance(value, Tensor) for value in given):
            raise ValueError(
                f"layer {self.names[self.layer]!r} got no tensor from decode for this batch of {n} "
                "rows. Pass layer= as a callable that computes the hidden state from the code."
            )
        return side_by_side(given)

    def _find_layer(self, inputs):
        """Set the output layer: of the modules that decode calls, the one whose input is wanted."""
        called = []
        with recorded(lambda module, _: called.append(module)):
            _call("decode", self.decode, *inputs)
        called = [module for module in called if module in self.names]
        self.layer = self._named(called) if self.wanted is not None else self._last(called)
        self._is_called_once = called.count(self.layer) == 1

    def _named(self, called):
        by_name = {name: module for module, name in self.names.items()}
        layer = by_name.get(self.wanted) if isinstance(self.wanted, str) else self.wanted
        if layer not in called:
            shown = self.wanted if isinstance(self.wanted, str) else self.names[layer]
            what = "is no module of the model" if layer is None else "is not called by decode"
            raise ValueError(
                f"layer={shown!r} {what}. Modules that decode calls, in order: "
                f"{self._listed(called)}."
            )
        return layer

    def _last(self, called):
        inner = {
            module
            for block in called
            if isinstance(block, ATTENTION_BLOCKS)
            for module in block.modules()
        }
        for module in reversed(called):
            if isinstance(module, MIXING_LAYERS) or module in inner:
                break
            if isinstance(module, OUTPUT_LAYERS):
                return module
        raise ValueError(
            "There is no output layer to tell from the rest: decode ends in no linear layer or "
            f"convolution. Modules that it calls, in order: {self._listed(called)}. Name one whose "
            "input is wanted in layer=, or pass a callable that computes the hidden state from the "
            "code."
        )

    def _listed(self, called):
        return listed({self.names[module]: module for module in called if self.names[module]})


def side_by_side(steps):
    """One call's input as it is; those of several calls, a loop over time, as (n, T, ...)."""
    if len(steps) == 1:
        return steps[0]
    return torch.stack(steps, 1) if steps[0].ndim == 2 else torch.cat(steps, 1)


def listed(modules):
    """Name modules (a dict by name) for a message, the last ones where they are many."""
    shown = [f"{name} ({type(module).__name__})" for name, module in modules.items()]
    cut = ["..."] if len(shown) > MODULES_IN_MESSAGES else []
    return ", ".join(cut + shown[-MODULES_IN_MESSAGES:]) or "no modules"


def arguments(function, code, batch):
    """What to call a decoder with: the code, and the batch if it must have both."""
    if isinstance(function, nn.TransformerDecoder):
        raise ValueError(
            "nn.TransformerDecoder takes (target, memory), not a code first. Pass a callable with "
            "the code first, as decode=lambda code, x: model.decoder(x, code)."
        )
    inner = getattr(function, "_orig_mod", function)  # compiled
    inner = inner.module if isinstance(inner, nn.DataParallel) else inner
    try:
        signature = inspect.signature(inner.forward if isinstance(inner, nn.Module) else inner)
    except (TypeError, ValueError):  # a builtin, or a scripted function, that cannot tell
        return (code,)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [
        p for p in signature.parameters.values() if p.default is p.empty and p.kind in positional
    ]
    return (code, batch) if len(required) == 2 else (code,)


def _call(what, function, *inputs):
    """Call a part of a model; torch's own errors are told with what was given."""
    try:
        return function(*inputs)
    except (RuntimeError, IndexError, TypeError, KeyError) as error:
        given = " and ".join(described(value) for value in inputs)
        raise ValueError(
            f"{what} failed on {given}: {error}. X must be as in the model's training, tokens as "
            f"integers; pass {what}= as a callable where something must be done first. For a "
            "Hugging Face model of text, use InformativeEmbedding.from_seq2seq."
        ) from error


def described(value):
    """What a value is, for a message."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}".replace("torch.", "")
    if isinstance(value, Mapping):
        inside = ", ".join(f"{name}: {described(v)}" for name, v in value.items())
        return f"a {type(value).__name__} with {inside}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}: {', '.join(map(described, value))}"
    return f"a {type(value).__name__}"


def code_of(output, n):
    """The code, or the posterior mean, in what an encoder returned.

    Parameters
    ----------
    output : Tensor, distribution, (mean, log-variance) pair, mapping or record
        Of a mapping or record, the entry that has one of the `MEAN_NAMES`.
    n : int
        Rows that were encoded.

    Returns
    -------
    Tensor of shape (n, ...)

    Raises
    ------
    TypeError
        If it is none of these, or its first axis is not that of the rows, naming what it is.
    """
    code = _mean(output, n)
    if code is None or code.ndim < 2 or len(code) != n:
        raise TypeError(
            f"encode must return a tensor ({n}, ...) for {n} rows, a distribution, a (mean, "
            f"log-variance) pair, or a mapping or record with one of "
            f"{', '.join(MEAN_NAMES + WRAPPED_NAMES)}. Got {described(output)}. Pass a callable "
            "that picks the code and puts rows first, as encode=lambda x: model.encode(x)[1]."
        )
    return code


def _mean(output, n):
    if isinstance(output, Tensor):
        return output
    for name in MEAN_NAMES + WRAPPED_NAMES:
        value = _entry(output, name)
        if isinstance(value, Tensor):
            return value
        if name in WRAPPED_NAMES and value is not None:
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


def pool(hidden, pooling, mask=None):
    """Features of steps brought together, (n, w).

    Parameters
    ----------
    hidden : Tensor of shape (n, T, H)
    pooling : {"mean", "last", "max"} or None
        None puts all steps side by side.
    mask : Tensor of shape (n, T), bool, or None
        True at steps that count. Rows without any give zeros.
    """
    if pooling is None:
        return hidden.flatten(1)
    if mask is None:
        mask = hidden.new_ones(hidden.shape[:2], dtype=torch.bool)
    inside = mask.unsqueeze(-1)
    # Filled, not multiplied: what stands at padding may be no number.
    if pooling == "mean":
        return hidden.masked_fill(~inside, 0).sum(1) / inside.sum(1).clamp(min=1)
    if pooling == "max":
        largest = hidden.masked_fill(~inside, -torch.inf).amax(1)
        return largest.masked_fill(~inside.any(1), 0)
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = (positions * mask).amax(1)
    rows = torch.arange(len(hidden), device=mask.device)
    return hidden.masked_fill(~inside, 0)[rows, last]


def steps_of(hidden, layer):
    """Bring a hidden state (n, T, H) of steps to that order; None where it is one of places.

    Of three axes the middle one is time, the last where a 1-D convolution takes it; four and more
    are those of an image.
    """
    if hidden.ndim > 3:
        return None
    return hidden.transpose(1, 2) if isinstance(layer, _ConvNd) else hidden


def padding_mask(batch, modules):
    """True at the items of each row (n, T) that are no padding; None where that is not known.

    A tokenizer's attention mask tells; so does the ``padding_idx`` of the first `nn.Embedding` that
    has one, where the batch is of integers.
    """
    if isinstance(batch, Mapping):
        if "attention_mask" in batch:
            return batch["attention_mask"].bool()
        batch = batch.get("input_ids")
    if batch is None or batch.ndim != 2 or batch.is_floating_point():
        return None
    embeddings = (module for module in modules if isinstance(module, nn.Embedding))
    padding = next((e.padding_idx for e in embeddings if e.padding_idx is not None), None)
    return None if padding is None else batch != padding


def align(mask, n_positions):
    """Bring a mask over a row's items (n, T) to hidden states of which state t tells item t.

    Decoders that are shown all items but the last have T - 1 states, for items from the second on;
    those that begin with a start token and end after the last item have T + 1. None where there is
    no mask, or no such relation.
    """
    if mask is None:
        return None
    T = mask.shape[1]
    if n_positions == T + 1:
        return torch.cat([torch.ones_like(mask[:, :1]), mask], 1)
    if n_positions in (T, T - 1):
        return mask[:, T - n_positions :]
    return None


class Seq2Seq(nn.Module):
    """A Hugging Face encoder-decoder language model, with its parts named as others name theirs.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With ``get_encoder`` and ``prepare_decoder_input_ids_from_labels``, as T5, BART and their
        kin have.
    """

    def __init__(self, model):
        needed = ("get_encoder", "prepare_decoder_input_ids_from_labels")
        missing = [name for name in needed if not hasattr(model, name)]
        if missing:
            raise TypeError(
                "from_seq2seq takes an encoder-decoder language model such as "
                "T5ForConditionalGeneration or BartForConditionalGeneration. Got a "
                f"{type(model).__name__}, which has no {' and no '.join(missing)}."
            )
        super().__init__()
        self.model = model

    def encode(self, batch):
        """The encoder's last hidden state, (n, T, H), of a tokenizer's output."""
        encoder = self.model.get_encoder()
        mask = batch.get("attention_mask")
        return encoder(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state

    def decode(self, code, batch):
        """Logits (n, T, vocabulary) of each token, from the code and the text before it."""
        shown = self.model.prepare_decoder_input_ids_from_labels(labels=batch["input_ids"])
        return self.model(
            encoder_outputs=(code,),
            attention_mask=batch.get("attention_mask"),
            decoder_input_ids=shown,
            use_cache=False,
        ).logits
