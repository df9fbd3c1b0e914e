"""Parameters that several encoders share: documentation and allowed values, written once."""

import inspect
from functools import partial
from numbers import Integral, Real
from textwrap import fill, indent
from typing import NamedTuple

from sklearn.utils._param_validation import Interval, StrOptions

from cmim_sklearn._likelihoods.scaling import SCALINGS
from cmim_sklearn._models.features import EMBEDDINGS
from cmim_sklearn._models.latent_prior import LATENT_PRIORS
from cmim_sklearn._tables.target import TARGET_TYPES
from cmim_sklearn._utils import isolation
from cmim_sklearn._utils.validation import check_at_least_one
from cmim_sklearn.latents import POSTERIORS
from cmim_sklearn.networks import ACTIVATIONS, NETWORKS

ENCODERS: dict[str, type] = {}
"""Final encoder classes by name."""


def _n_threads(encoder):
    """Number of torch threads that the `net_params` of an encoder ask for."""
    net_params = encoder.net_params if isinstance(encoder.net_params, dict) else {}
    n_threads = net_params.get("n_threads", 1)
    check_at_least_one("net_params['n_threads']", n_threads)
    return n_threads


isolated = partial(isolation.isolated, n_threads=_n_threads)
"""Decorator of a method of an encoder; it may use the threads that `net_params` ask for."""


class Hidden:
    """Descriptor that hides an inherited attribute, as if it did not exist."""

    def __get__(self, instance, owner):
        raise AttributeError


def shared_parameters(cls):
    """Complete a final encoder class, and register it in `ENCODERS`.

    The docstring of the class has placeholders. ``%(name)s`` becomes the documentation of that
    parameter, and ``%(attributes)s`` that of the fitted attributes. ``%(shared)s`` becomes the
    documentation of all other parameters that the class does not list in `_parameter_constraints`,
    in the order of `SHARED`. Their constraints are added, too.
    """
    # cleandoc for Python < 3.13, which keeps the indentation; python -OO has no docstrings.
    own, doc = cls._parameter_constraints, inspect.cleandoc(cls.__doc__ or "")
    signature = inspect.signature(cls.__init__)
    defaults = {p.name: p.default for p in signature.parameters.values()}
    shared = [name for name in SHARED if name in defaults and name not in own]
    cls._parameter_constraints = own | {name: SHARED[name].allowed for name in shared}
    entries = {name: SHARED[name].entry(name, defaults[name]) for name in shared}
    texts = {name: entry for name, entry in entries.items() if f"%({name})s" in doc}
    texts["shared"] = "\n".join(entry for name, entry in entries.items() if name not in texts)
    texts["attributes"] = ATTRIBUTES + (LABEL_ATTRIBUTES if "label_weight" in defaults else "")
    for name, text in texts.items():
        doc = doc.replace(f"%({name})s", text)
    cls.__doc__ = doc
    # As documented: the width of the code, then what distinguishes the class.
    order = dict.fromkeys(["self", "n_components", *own, *shared])
    parameters = [signature.parameters[name] for name in order]
    cls.__init__.__signature__ = signature.replace(parameters=parameters)
    # dask and others copy and compare dataclasses by their fields; a fitted encoder has more state.
    cls.__dataclass_fields__ = Hidden()
    ENCODERS[cls.__name__] = cls
    return cls


class Parameter(NamedTuple):
    """Documentation of a parameter, its type and text, and the values that it takes."""

    kind: str
    text: str
    allowed: list

    def entry(self, name, default):
        """Entry of a numpydoc section, for an encoder's default."""
        shown = f'"{default}"' if isinstance(default, str) else default
        text = fill(" ".join(self.text.split()), 92, break_on_hyphens=False)
        return f"{name} : {self.kind}, default={shown}\n{indent(text, ' ' * 4)}"


SHARED = {
    "n_components": Parameter(
        "int",
        """Width d of the latent code. To draw rows as points in a plane, use 2, with
        ``embedding="mean"`` if the encoder has that parameter.""",
        [Interval(Integral, 1, None, closed="left")],
    ),
    "embedding": Parameter(
        '{"layers", "hidden", "informative", "mean"}',
        """Features that `transform` returns. "layers": all hidden layers of encoder and decoder
        (of the decoder only, if the encoder is a custom network); "hidden": all hidden layers of
        the decoder; "informative": its last hidden layer, before the map to the parameters of
        p(x | z); "mean": the posterior mean, `n_components` wide. Hidden layers of the decoder
        are those at the posterior mean. All four can be inverted. The
        embedding can be changed after fit, without a new fit.""",
        [StrOptions(set(EMBEDDINGS))],
    ),
    "posterior": Parameter(
        '{"sampled", "learned", "fixed"}',
        """Variance of q(z | x). "sampled": log-variance drawn per row from U(-6, 0) in training,
        -6 after training; "learned": log-variance predicted by the encoder, above a lower bound of
        -6; "fixed": log-variance -2. With the A-MIM loss, a learned variance shrinks to its lower
        bound.""",
        [StrOptions(set(POSTERIORS) - {"point"})],
    ),
    "latent_prior": Parameter(
        '{"mixture", "normal"}',
        """Distribution of codes for `sample`, `impute` and `score_samples`. "mixture": a Gaussian
        mixture fitted to the codes of the training rows, with one component for 20 rows, up to 400;
        "normal": N(0, I), which suits the codes only if the loss is that of a VAE. A change takes
        effect in the next fit.""",
        [StrOptions(set(LATENT_PRIORS))],
    ),
    "projector_layer_sizes": Parameter(
        "int or sequence of int",
        """Widths of the layers between code and loss, the last one linear; discarded after
        training. ``()``: no such layer; the loss compares the codes directly.""",
        ["array-like", Interval(Integral, 1, None, closed="left")],
    ),
    "view": Parameter(
        "callable",
        """Function from encoded rows to two views of them, ``(x, generator) -> (first, second)``.
        Rows and generator are on the device of training. None: for InfoNCE and SuperInfo, the row
        and a copy with 60 % of its cells corrupted; for the other encoders, two copies with 30 %
        corrupted (see `Corruption`).""",
        [callable, None],
    ),
    "hidden_layer_sizes": Parameter(
        "int or sequence of int",
        """Widths of the hidden layers, in this order in encoder and decoder. With ``()`` both are
        linear, and the only hidden layer is the code.""",
        ["array-like", Interval(Integral, 1, None, closed="left")],
    ),
    "activation": Parameter(
        '{"silu", "relu", "gelu", "elu", "tanh", "identity"}',
        """Activation function of the hidden layers, by its name in PyTorch. "identity": none.""",
        [StrOptions(set(ACTIVATIONS))],
    ),
    "encoder": Parameter(
        '{"mlp"} or callable',
        """Encoder network. "mlp": a multilayer perceptron; or a callable ``(n_in, n_out,
        hidden_layer_sizes, activation) -> nn.Module`` that maps (n, n_in) to (n, n_out). Define it
        at the top level of a module so that it can be pickled. Dropout and similar layers draw
        from torch's global random state in training: seed it yourself for reproducible fits.""",
        [StrOptions(set(NETWORKS)), callable],
    ),
    "decoder": Parameter(
        '{"mlp"} or callable',
        """Decoder network, as `encoder`. The module of a callable needs two submodules: ``body``,
        up to the last hidden layer, and ``output``, the map from there.""",
        [StrOptions(set(NETWORKS)), callable],
    ),
    "categorical_features": Parameter(
        '"from_dtype" or array-like of {str, int, bool}',
        """Columns to treat as categories, by name, position or mask, in addition to those that are
        categories by dtype or values (category, enum, string, and object columns that are not all
        numbers or all booleans). "from_dtype" or None: no additional columns.""",
        [StrOptions({"from_dtype"}), "array-like", None],
    ),
    "numeric_scaling": Parameter(
        '{"quantile", "standard"} or None',
        """Scaling of numeric columns. "quantile": monotone map to normal scores; "standard":
        subtract the mean and divide by the standard deviation; None: no scaling. Dates and
        durations are scaled as whole numbers of a step, such as a day; None standardises them.""",
        [StrOptions({name for name in SCALINGS if name}), None],
    ),
    "max_categories": Parameter(
        "int",
        """Maximum number of classes of a categorical column. If there are more levels, the
        rarest share one class. It decodes to the most frequent of these levels, and is sampled by
        their frequencies.""",
        [Interval(Integral, 2, None, closed="left")],
    ),
    "likelihoods": Parameter(
        "dict",
        """Column kinds that replace the automatic choice, for example ``{"visits": "poisson"}``.
        Keys are column names, or positions in an array. "gaussian": numbers; "bernoulli": two
        values; "categorical": levels; "poisson": counts. Columns of dates and durations are always
        "datetime" and "duration". Constant columns stay constant.""",
        [dict, None],
    ),
    "input_masking": Parameter(
        "float",
        """Share of the observed cells that are hidden from the encoder, but not from the
        likelihood, in each training step.""",
        [Interval(Real, 0, 1, closed="left")],
    ),
    "label_weight": Parameter(
        "float",
        """Weight of the label term of `fit(X, y)`: the log-loss of a linear classifier, or half the
        squared error of a linear regression, on the decoder's last hidden layer. 0: y is ignored.
        30 is a good value. Some labels are held back, and label training stops when it no longer
        helps to predict them. At least 300 training rows must be labelled, without those that
        `early_stopping` holds out, and at least 30 labels must be there to hold back; else labels
        are not used. `transform` never needs labels.""",
        [Interval(Real, 0, None, closed="left")],
    ),
    "target_type": Parameter(
        '{"auto", "classification", "regression"}',
        """Type of y, if `label_weight` is not 0. "auto": regression if a number is not whole or a
        float above 2**53, else classification; raises for more than 50 whole numbers with fewer
        than 10 rows each on average.""",
        [StrOptions(set(TARGET_TYPES))],
    ),
    "batch_size": Parameter(
        "int",
        """Maximum number of rows of a training batch. All batches have nearly the same size, and
        at least 2 rows.""",
        [Interval(Integral, 1, None, closed="left")],
    ),
    "learning_rate_init": Parameter(
        "float",
        """Maximum learning rate of the optimizer (AdamW by default). In `fit`, the rate rises to it
        in the first 30 % of the updates and then falls to 0.""",
        [Interval(Real, 0, None, closed="neither")],
    ),
    "alpha": Parameter(
        "float",
        """Weight decay of the optimizer. In AdamW it is decoupled from the gradient.""",
        [Interval(Real, 0, None, closed="left")],
    ),
    "max_iter": Parameter(
        'int or "auto"',
        """Number of epochs. "auto": about 1,500 updates, in 10 to 400 epochs. If the network has
        more than 1,200 inputs and outputs (more than 400 numeric columns, or a few columns with
        hundreds of levels), updates decrease in proportion to their number, to at least 500.""",
        [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
    ),
    "early_stopping": Parameter(
        "bool",
        """Whether to hold out `validation_fraction` of the rows, stop when their loss no longer
        falls, and keep the best weights. ``fit(X, X_val=...)`` does the same with given rows.""",
        ["boolean"],
    ),
    "validation_fraction": Parameter(
        "float",
        """Share of rows that `early_stopping` holds out. The schema is learned from all rows.""",
        [Interval(Real, 0, 1, closed="neither")],
    ),
    "n_iter_no_change": Parameter(
        "int",
        """Number of epochs without improvement after which early stopping ends training.""",
        [Interval(Integral, 1, None, closed="left")],
    ),
    "tol": Parameter(
        "float",
        """Minimum improvement of the held-out loss, in the unit of the loss.""",
        [Interval(Real, 0, None, closed="left")],
    ),
    "warm_start": Parameter(
        "bool",
        """Whether `fit` continues from the schema and weights of the last fit. The learning-rate
        schedule starts from its beginning.""",
        ["boolean"],
    ),
    "device": Parameter(
        "str",
        """Device for training and use. "auto": a CUDA GPU if there is one, else the CPU; or "cpu",
        "cuda", "cuda:1", "mps". It can be changed after fit: the network moves at the next use.
        Apple's "mps" has no float64: training and features use float32 there, and densities and
        samples are computed on the CPU.""",
        [str],
    ),
    "net_params": Parameter(
        "dict",
        """Further parameters of the skorch net: ``callbacks`` (such as `Checkpoint`),
        ``optimizer``, ``autocast="bfloat16"`` for mixed precision, ``compile=True`` for
        `torch.compile` (on a CPU it takes a minute and gains nothing), ``cuda_graph=False`` for
        plain training steps on a GPU instead of CUDA graphs, ``n_threads`` for the number
        of CPU threads of torch in training and use, 1 by default. More threads, at most those that
        the process may use, are faster on idle cores only, and results then depend on their number
        in the last bits. Parameters that the encoder sets itself raise an error.""",
        [dict, None],
    ),
    "random_state": Parameter(
        "int, RandomState instance or None",
        """Seed of initial weights, shuffling and noise. With an int, repeated fits
        on the CPU of one machine are identical to the bit. None: the seed comes from numpy's global
        random state.""",
        ["random_state"],
    ),
    "verbose": Parameter(
        "int",
        """Progress output, with epoch, loss terms and remaining seconds. 0: none. 1: one line that
        is updated in a terminal or notebook, or about ten lines in a file or pipe. 2: as 1, but
        one line per epoch in a file or pipe.""",
        ["verbose"],
    ),
}

ATTRIBUTES = """table_ : Table
    Schema of the table: columns, their kinds and encodings.
net_ : skorch.NeuralNet
    Trained net, with its history, callbacks and module.
n_iter_ : int
    Number of epochs trained, including earlier fits under `warm_start` and passes of
    `partial_fit`.
loss_curve_ : list of float
    Training loss of each epoch, the mean over rows, without the label term. In nats, except for
    VICReg, Barlow Twins and AMDIM, which have terms without a unit. Negative values are normal.
validation_scores_ : list of float or None
    Negative held-out loss of each epoch; None without held-out rows.
n_features_in_ : int
    Number of columns seen in fit.
feature_names_in_ : array of shape (n_features,)
    Names of the columns, if all are strings."""

LABEL_ATTRIBUTES = """
classes_ : array of shape (n_classes,)
    Classes of y, sorted. Exists after a classification with `label_weight` above 0.
target_mean_, target_scale_ : float
    Mean and standard deviation of the labels. Exist after a regression with `label_weight` above 0.
label_n_iter_ : int
    Number of epochs in which labels trained the network, without those that were given up when
    labels ended; early stopping may return to an earlier epoch. 0 if labels were not used: fewer
    than 300 training rows were labelled, fewer than 30 labels could be held back, or all were
    equal. Exists with `label_weight` above 0.
label_scores_ : list of float
    Negative mean loss of the validation labels at each check; larger is better. In nats for
    classes, half squared errors of standardised numbers in regression; the loss of a row is clipped
    at 10. Exists with `label_weight` above 0."""
