"""Parameters that several encoders have: what they mean and which values they take, written once.

An encoder names in its constructor those that mean something for it, and `shared_parameters`
completes its documentation and its checks by them.
"""

import inspect
from numbers import Integral, Real
from textwrap import fill, indent
from typing import NamedTuple

from sklearn.utils._param_validation import Interval, StrOptions

from cmim_sklearn._likelihoods.scaling import SCALINGS
from cmim_sklearn._models.features import EMBEDDINGS
from cmim_sklearn._models.latent_prior import LATENT_PRIORS
from cmim_sklearn.latents import POSTERIORS
from cmim_sklearn.networks import ACTIVATIONS, NETWORKS


def shared_parameters(cls):
    """Complete a final encoder class by what it shares with others.

    In its docstring ``%(name)s`` becomes the documentation of that parameter, ``%(shared)s`` that
    of all others without an entry in its own `_parameter_constraints`, in the order of the
    constructor, and ``%(attributes)s`` that of the fitted attributes. The constraints are completed
    likewise.
    """
    # Python 3.13 takes the indentation out itself; python -OO has no docstrings.
    own, doc = cls._parameter_constraints, inspect.cleandoc(cls.__doc__ or "")
    defaults = {p.name: p.default for p in inspect.signature(cls).parameters.values()}
    shared = [name for name in defaults if name not in own]
    cls._parameter_constraints = own | {name: SHARED[name].allowed for name in shared}
    entries = {name: SHARED[name].entry(name, defaults[name]) for name in shared}
    texts = {name: entry for name, entry in entries.items() if f"%({name})s" in doc}
    texts["shared"] = "\n".join(entry for name, entry in entries.items() if name not in texts)
    texts["attributes"] = ATTRIBUTES
    for name, text in texts.items():
        doc = doc.replace(f"%({name})s", text)
    cls.__doc__ = doc
    return cls


class Parameter(NamedTuple):
    """A parameter's type and meaning, for documentation, and the values it takes."""

    kind: str
    text: str
    allowed: list

    def entry(self, name, default):
        """Return its entry in a numpydoc section, for an encoder's default."""
        shown = f'"{default}"' if isinstance(default, str) else default
        text = fill(" ".join(self.text.split()), 92, break_on_hyphens=False)
        return f"{name} : {self.kind}, default={shown}\n{indent(text, ' ' * 4)}"


SHARED = {
    "n_components": Parameter(
        "int",
        """Width d of the latent code. For a map, take 2 of them, and ``embedding="mean"`` where
        there is a choice.""",
        [Interval(Integral, 1, None, closed="left")],
    ),
    "embedding": Parameter(
        '{"informative", "hidden", "layers", "mean"}',
        """What `transform` returns. "informative" is the decoder's last hidden activation at
        the posterior mean, before the map to the parameters of p(x | z); "hidden" is all
        its hidden activations side by side; "layers" is those of the encoder, too, where
        that is no network of your own; "mean" is the posterior mean itself,
        `n_components` wide. All four have an `inverse_transform`. Takes effect at once
        when set after fit.""",
        [StrOptions(set(EMBEDDINGS))],
    ),
    "posterior": Parameter(
        '{"sampled", "learned", "fixed"}',
        """The variance of q(z | x): drawn per row in training, log-variance uniform on [-6,
        0]; learnt, above a soft floor of -6 for the log-variance; or a fixed log-variance
        of -2. Nothing in the loss keeps a learnt variance from running to its floor.""",
        [StrOptions(set(POSTERIORS))],
    ),
    "latent_prior": Parameter(
        '{"mixture", "normal"}',
        """Where codes are drawn from to sample, and what `impute` and `score_samples`
        integrate over: a Gaussian mixture fitted after training to the codes of the rows,
        its size chosen by held-out likelihood; or N(0, I), which only the loss of a
        VAE makes the codes match. Takes effect in fit.""",
        [StrOptions(set(LATENT_PRIORS))],
    ),
    "hidden_layer_sizes": Parameter(
        "int or sequence of int",
        """Widths of the hidden layers, in this order in encoder and decoder alike, where there is
        a decoder. With ``()`` both are linear, and the hidden activation is the code itself.""",
        ["array-like", Interval(Integral, 1, None, closed="left")],
    ),
    "activation": Parameter(
        '{"silu", "relu", "gelu", "elu", "tanh", "identity"}',
        """Of the hidden layers.""",
        [StrOptions(set(ACTIVATIONS))],
    ),
    "encoder": Parameter(
        '{"mlp"} or callable',
        """A callable ``(n_in, n_out, hidden_layer_sizes, activation) -> nn.Module`` that maps
        (n, n_in) to (n, n_out). A function at a module's top level can be pickled. Dropout
        and the like draw from torch's global random state in training: with them fits no
        longer leave it alone, and repeat only if you seed it.""",
        [StrOptions(set(NETWORKS)), callable],
    ),
    "decoder": Parameter(
        '{"mlp"} or callable',
        """As `encoder`; its module has two submodules: ``body``, up to the last hidden
        activation, and ``output``, the map from there.""",
        [StrOptions(set(NETWORKS)), callable],
    ),
    "projector_layer_sizes": Parameter(
        "int or sequence of int",
        """Widths of the layers between code and loss, the last one linear; thrown away after
        training. ``()`` compares the codes themselves.""",
        ["array-like", Interval(Integral, 1, None, closed="left")],
    ),
    "view": Parameter(
        "callable",
        """From encoded rows to two views of them, ``(x, generator) -> (first, second)``. None is
        the row and a `Corruption` of 60 % of its cells for InfoNCE and SuperInfo, two corruptions
        of 30 % for the others.""",
        [callable, None],
    ),
    "categorical_features": Parameter(
        '"from_dtype" or array-like of {str, int, bool}',
        """Columns to treat as categories besides those whose dtype or values say so (category,
        enum, string, and object columns that are not all numbers or all booleans).""",
        [StrOptions({"from_dtype"}), "array-like", None],
    ),
    "numeric_scaling": Parameter(
        '{"quantile", "standard"} or None',
        """How numbers become inputs: through a monotone map to normal scores, by mean and
        standard deviation, or as they are.""",
        [StrOptions({name for name in SCALINGS if name}), None],
    ),
    "max_categories": Parameter(
        "int",
        """The most classes of a categorical column. Rarer levels share one of them, which
        decodes to the most frequent of them and samples them by frequency.""",
        [Interval(Integral, 2, None, closed="left")],
    ),
    "likelihoods": Parameter(
        "dict",
        """Kinds to impose, as ``{"visits": "poisson"}``; by name, or by position in an array.
        Kinds are "gaussian", "bernoulli", "categorical" and "poisson".""",
        [dict, None],
    ),
    "input_masking": Parameter(
        "float",
        """Share of the observed cells hidden from the encoder, not from the likelihood, at
        each step.""",
        [Interval(Real, 0, 1, closed="left")],
    ),
    "batch_size": Parameter(
        "int",
        """The most rows of a training batch, of all processes together; all have nearly the
        same size, and 2 rows at least.""",
        [Interval(Integral, 1, None, closed="left")],
    ),
    "learning_rate_init": Parameter(
        "float",
        """Peak learning rate of AdamW; the rate rises to it and falls to 0 over the fit.""",
        [Interval(Real, 0, None, closed="neither")],
    ),
    "alpha": Parameter(
        "float",
        """Weight decay, decoupled from the gradient.""",
        [Interval(Real, 0, None, closed="left")],
    ),
    "max_iter": Parameter(
        'int or "auto"',
        """Epochs. "auto" makes about 3,000 updates, in 10 to 400 epochs. They are fewer where the
        network has more than 1,200 inputs and outputs, in proportion, as for 400 columns of
        numbers or a few with hundreds of levels: 1,500 for 800 columns.""",
        [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
    ),
    "early_stopping": Parameter(
        "bool",
        """Hold out `validation_fraction` of the rows and stop when their loss no longer falls;
        the best weights are kept. ``fit(X, X_val=...)`` does the same with rows of your
        own.""",
        ["boolean"],
    ),
    "validation_fraction": Parameter(
        "float",
        """Share of rows held out by `early_stopping`. Columns are learnt from all rows.""",
        [Interval(Real, 0, 1, closed="neither")],
    ),
    "n_iter_no_change": Parameter(
        "int",
        """Epochs without improvement before stopping early.""",
        [Interval(Integral, 1, None, closed="left")],
    ),
    "tol": Parameter(
        "float",
        """Improvement of the held-out loss that counts.""",
        [Interval(Real, 0, None, closed="left")],
    ),
    "warm_start": Parameter(
        "bool",
        """Go on from the last fit's columns and weights; the schedule of the learning rate
        restarts.""",
        ["boolean"],
    ),
    "device": Parameter(
        "str",
        """"auto" is a CUDA GPU where there is one, else the CPU; or "cpu", "cuda", "cuda:1",
        "mps". Resolved when used: a fitted encoder moves to where it is set, and a file
        made on a GPU opens without.""",
        [str],
    ),
    "net_params": Parameter(
        "dict",
        """More parameters of the skorch net: ``callbacks`` (as `Checkpoint`, for long fits),
        ``optimizer``, ``autocast="bfloat16"`` for mixed precision, ``compile=True`` for
        `torch.compile` (on a CPU it takes a minute and gains nothing). What this class has a
        parameter for is refused.""",
        [dict, None],
    ),
    "random_state": Parameter(
        "int, RandomState instance or None",
        """Seeds initial weights, shuffling and noise. With an int, fits on one machine's CPU
        are identical to the bit. No global random state is touched.""",
        ["random_state"],
    ),
    "verbose": Parameter(
        "int",
        """1 shows epoch, loss terms and seconds left, in place in a terminal and in a
        notebook; 2 prints every epoch where lines cannot be rewritten.""",
        ["verbose"],
    ),
}

ATTRIBUTES = """table_ : Table
    The columns, their kinds and encodings.
net_ : skorch.NeuralNet
    The net, with its history, callbacks and module.
n_iter_ : int
    Epochs trained, with `warm_start` those of earlier fits included.
loss_curve_ : list of float
    Training loss of each epoch, the mean of a row. Negative values are normal.
validation_scores_ : list of float or None
    Minus the held-out loss of each epoch.
n_features_in_ : int
    Columns seen in fit.
feature_names_in_ : array of shape (n_features,)
    Their names, where all are strings."""
