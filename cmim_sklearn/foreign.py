"""Encoder-decoders that somebody else wrote: run as they are, watched, and left as they were.

Axes: n rows, d latent components, T positions, H hidden features.
"""

import inspect
import threading
from collections.abc import Mapping
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

MEAN_NAMES = ("embedding", "mean", "loc", "mu", "latent_dist")
"""What outputs of encoders call a posterior mean: pythae's, distributions, what wraps them."""

MODULES_IN_MESSAGES = 20

OUTPUT_LAYERS = (nn.Linear, _ConvNd)
MIXING_LAYERS = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
"""Layers that are no map from a last hidden state: a decoder that ends in one has none to tell."""

# Modules in use by any thread, each with its _Loan. One for the process, since two transformers may
# share a model: the first to come notes the mode and hooks in, the last to go puts both back.
_LOANS = WeakKeyDictionary()
_LOCK = threading.Lock()
_THREAD = threading.local()


class _Loan:
    def __init__(self, module):
        self.training = module.training
        self.handle = module.register_forward_pre_hook(_tell, with_kwargs=True)
        self.n_users = 0


def _tell(module, args, kwargs):
    """Pass what a module was called with to the thread's recorder, if it has one."""
    record = getattr(_THREAD, "record", None)
    if record is not None:
        record(module, args[0] if args else next(iter(kwargs.values()), None))


@contextmanager
def borrowed(modules):
    """Have modules in evaluation mode, without gradients, and watched; then as they were.

    Modes are set one by one, not by ``eval()``, which some models override to do more than that.
    Safe in threads that share modules.

    Parameters
    ----------
    modules : list of nn.Module
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
                    loan.handle.remove()
                    module.training = loan.training
                    del _LOANS[module]


@contextmanager
def recorded(record):
    """Call ``record(module, input)`` for each borrowed module that this thread calls."""
    _THREAD.record = record
    try:
        yield
    finally:
        _THREAD.record = None


def is_split(decoder):
    """Whether a decoder has the two parts, ``body`` and ``output``, that this library's have."""
    return (
        isinstance(decoder, nn.Module)
        and callable(getattr(decoder, "body", None))
        and isinstance(getattr(decoder, "output", None), nn.Module)
    )


def listed(modules):
    """Name modules (a dict by name) for a message, the last ones where they are many."""
    listed = [f"{name} ({type(module).__name__})" for name, module in modules.items()]
    if not listed:
        return "no modules"
    cut = ["..."] if len(listed) > MODULES_IN_MESSAGES else []
    return ", ".join(cut + listed[-MODULES_IN_MESSAGES:])


def modules_called(function, *inputs):
    """Modules called while a function runs, in their order, each as often as it was called."""
    called = []
    with recorded(lambda module, _: called.append(module)):
        function(*inputs)
    return called


def inputs_of(layer, function, *inputs):
    """What a layer is given while a function runs, (n, ...).

    A layer called once for each step, as by a loop over a recurrent cell, gives its steps side by
    side, (n, T, ...).
    """
    given = []

    def record(module, value):
        if module is layer:
            given.append(value.detach().clone())

    with recorded(record):
        function(*inputs)
    if len(given) == 1:
        return given[0]
    return torch.stack(given, 1) if given[0].ndim == 2 else torch.cat(given, 1)


def arguments(function, code, batch):
    """What to call a decoder with: the code, and the batch if it must have both."""
    forward = function.forward if isinstance(function, nn.Module) else function
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):  # a builtin, or a compiled function, that cannot tell
        return (code,)
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.default is p.empty and p.kind in positional]
    return (code, batch) if len(required) == 2 else (code,)


def code_of(output):
    """The code, or the posterior mean, in what an encoder returned.

    Parameters
    ----------
    output : Tensor, distribution, (mean, log-variance) pair, mapping or record
        Of a mapping or record, the entry that has one of the `MEAN_NAMES`.

    Returns
    -------
    Tensor
        Its first axis is that of the rows.

    Raises
    ------
    TypeError
        If it is none of these, naming what it is.
    """
    if isinstance(output, Tensor):
        return output
    for name in MEAN_NAMES:
        value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(value, Tensor):
            return value
        if name == "latent_dist" and value is not None:
            return code_of(value)
    if isinstance(output, tuple | list) and len(output) == 2:
        mean, log_variance = output
        if isinstance(mean, Tensor) and isinstance(log_variance, Tensor):
            try:
                if torch.broadcast_shapes(mean.shape, log_variance.shape) == mean.shape:
                    return mean
            except RuntimeError:
                pass
    raise TypeError(
        "encode must return a tensor, a distribution, a (mean, log-variance) pair, or a mapping or "
        f"record with one of {', '.join(MEAN_NAMES)}. Got {_described(output)}. Pass a callable "
        "that picks the code, as encode=lambda x: model.encode(x)[1]."
    )


def _described(output):
    if isinstance(output, Tensor):
        return f"a tensor {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a {type(output).__name__} with {', '.join(map(str, output))}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)}: {', '.join(map(_described, output))}"
    return f"a {type(output).__name__}"


def encode_batch(encode, batch):
    """The code of a batch."""
    try:
        output = encode(batch)
    except (RuntimeError, IndexError) as error:
        shapes = batch if isinstance(batch, Mapping) else {"": batch}
        shapes = ", ".join(f"{k} {tuple(t.shape)} {t.dtype}".strip() for k, t in shapes.items())
        raise ValueError(
            f"The model could not encode a batch of shape {shapes}: {error}. X must be as in its "
            "training; pass encode= as a callable where a batch must be prepared first."
        ) from error
    return code_of(output)


def pool(hidden, pooling, mask=None):
    """Features of positions brought together, (n, w).

    Parameters
    ----------
    hidden : Tensor of shape (n, T, H)
    pooling : {"mean", "last", "max"} or None
        None puts all positions side by side.
    mask : Tensor of shape (n, T), bool, or None
        True at positions that count. Rows without any give zeros.
    """
    if pooling is None:
        return hidden.flatten(1)
    if mask is None:
        mask = hidden.new_ones(hidden.shape[:2], dtype=torch.bool)
    inside = mask.unsqueeze(-1)
    if pooling == "mean":
        return (hidden * inside).sum(1) / inside.sum(1).clamp(min=1)
    if pooling == "max":
        largest = hidden.masked_fill(~inside, -torch.inf).amax(1)
        return largest.masked_fill(~inside.any(1), 0)
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = (positions * mask).amax(1)
    return (hidden * inside)[torch.arange(len(hidden), device=mask.device), last]


def positions_first(hidden, layer):
    """Bring a hidden state with positions to (n, T, H), where they are steps; None where places.

    Linear layers have features last, convolutions second; a 1-D one is taken to run over time.
    """
    if isinstance(layer, nn.Linear):
        return hidden.flatten(1, -2)
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
    """A Hugging Face encoder-decoder language model, with its parts named as they are here.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With ``get_encoder``, ``get_decoder`` and ``prepare_decoder_input_ids_from_labels``, as T5,
        BART and their kin have.
    """

    def __init__(self, model):
        needed = ("get_encoder", "get_decoder", "prepare_decoder_input_ids_from_labels")
        missing = [name for name in needed if not hasattr(model, name)]
        if missing:
            raise TypeError(
                "from_seq2seq takes an encoder-decoder language model such as "
                "T5ForConditionalGeneration or BartForConditionalGeneration. Got a "
                f"{type(model).__name__}, which has no {' and no '.join(missing)}."
            )
        super().__init__()
        self.model = model
        self.decoder = Seq2SeqDecoder(model)

    def encode(self, batch):
        """The encoder's last hidden state, (n, T, H), of a tokenizer's output."""
        encoder = self.model.get_encoder()
        return encoder(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).last_hidden_state


class Seq2SeqDecoder(nn.Module):
    """The decoder of such a model, in two parts: ``body``, and the ``output`` layer after it."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.output = model.get_output_embeddings()

    def body(self, code, batch):
        """The last hidden state (n, T, H); that of token t has seen the text before it."""
        shown = self.model.prepare_decoder_input_ids_from_labels(labels=batch["input_ids"])
        decoder = self.model.get_decoder()
        return decoder(
            input_ids=shown,
            encoder_hidden_states=code,
            encoder_attention_mask=batch["attention_mask"],
            use_cache=False,
        ).last_hidden_state

    def forward(self, code, batch):
        """Logits (n, T, vocabulary)."""
        return self.output(self.body(code, batch))
