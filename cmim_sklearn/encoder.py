"""`CMIMEncoder`: its parameters, and the loss that they name."""

from numbers import Integral, Real
from typing import ClassVar

from sklearn.utils._param_validation import Interval, StrOptions

from cmim_sklearn.base import _LatentEncoder
from cmim_sklearn.embedding import EMBEDDINGS
from cmim_sklearn.latents import LATENT_PRIORS, POSTERIORS
from cmim_sklearn.net import ObjectiveLoss
from cmim_sklearn.networks import ACTIVATIONS, NETWORKS
from cmim_sklearn.objectives import OBJECTIVES
from cmim_sklearn.scaling import SCALINGS


class CMIMEncoder(_LatentEncoder):
    """Embed mixed tables by cMIM: `n_components` is the latent width, `embedding` the output's.

    cMIM is the contrastive Mutual Information Machine. By default `transform` returns the decoder's
    hidden layers side by side, 512 features; `n_components` is the width of the code behind them.

    A probabilistic auto-encoder for tables of any column types, with holes, trained without labels
    on the A-MIM loss plus a contrastive term that needs no augmented views. Being generative, it
    also decodes (`inverse_transform`), draws new rows (`sample`), fills holes (`impute`) and tells
    how likely a row is (`score_samples`).

    Parameters
    ----------
    n_components : int, default=64
        Width d of the latent code. For a map, take ``n_components=2, embedding="mean"``.
    contrastive_weight : float, default=1.0
        Factor of the contrastive term, which spreads the directions of codes; 0 gives A-MIM. The
        term is at most 0.69 nats a row.
    temperature : float, default=0.1
        Of the cosine similarity in the contrastive term. Fixed, not learnt.
    embedding : {"informative", "hidden", "mean"}, default="hidden"
        What `transform` returns. "informative" is the decoder's last hidden activation at the
        posterior mean, before the map to the parameters of p(x | z); "hidden" is all its hidden
        activations side by side; "mean" is the posterior mean itself, `n_components` wide. All
        three have an `inverse_transform`. Takes effect at once when set after fit.
    posterior : {"sampled", "learned", "fixed"}, default="sampled"
        The variance of q(z | x): drawn per row in training, log-variance uniform on [-6, 0];
        learnt, above a soft floor of -6 for the log-variance; or a fixed log-variance of -2.
        Nothing in the loss keeps a learnt variance from running to its floor.
    latent_prior : {"mixture", "normal"}, default="mixture"
        Where codes are drawn from to sample, and what `impute` and `score_samples` integrate over:
        a Gaussian mixture fitted after training to the codes of the rows, its size chosen by
        held-out likelihood; or N(0, I), which A-MIM does not make the codes match. Takes effect
        in fit.
    hidden_layer_sizes : int or sequence of int, default=(256, 256)
        Widths of the hidden layers, in this order in both encoder and decoder. With ``()`` both
        are linear and the hidden activation is the code itself.
    activation : {"silu", "relu", "gelu", "elu", "tanh", "identity"}, default="silu"
        Of the hidden layers.
    encoder, decoder : {"mlp"} or callable, default="mlp"
        A callable ``(n_in, n_out, hidden_layer_sizes, activation) -> nn.Module`` that maps
        (n, n_in) to (n, n_out). A decoder's module has two submodules: ``body``, up to its last
        hidden activation, and ``output``, the map from there. A function at a module's top level
        can be pickled. Dropout and the like draw from torch's global random state in training:
        with them fits no longer leave it alone, and repeat only if you seed it.
    categorical_features : "from_dtype" or array-like of {str, int, bool}, default="from_dtype"
        Columns to treat as categories besides those whose dtype or values say so (category, enum,
        string, and object columns that are not all numbers or all booleans).
    numeric_scaling : {"quantile", "standard"} or None, default="quantile"
        How numbers become inputs: through a monotone map to normal scores, by mean and standard
        deviation, or as they are.
    max_categories : int, default=256
        The most classes of a categorical column. Rarer levels share one of them, which decodes to
        the most frequent of them and samples them by frequency.
    likelihoods : dict, default=None
        Kinds to impose, as ``{"visits": "poisson"}``; by name, or by position in an array. Kinds
        are "gaussian", "bernoulli", "categorical" and "poisson".
    input_masking : float, default=0.1
        Share of the observed cells hidden from the encoder, not from the likelihood, at each step.
    batch_size : int, default=256
        The most rows of a training batch; all have nearly the same size, and 2 rows at least.
    learning_rate_init : float, default=3e-3
        Peak learning rate of AdamW; the rate rises to it and falls to 0 over the fit.
    alpha : float, default=1e-4
        Weight decay, decoupled from the gradient.
    max_iter : int or "auto", default="auto"
        Epochs. "auto" makes about 3,000 updates, in 10 to 400 epochs.
    early_stopping : bool, default=False
        Hold out `validation_fraction` of the rows and stop when their loss no longer falls; the
        best weights are kept. ``fit(X, X_val=...)`` does the same with rows of your own.
    validation_fraction : float, default=0.1
        Share of rows held out by `early_stopping`. Columns are learnt from all rows.
    n_iter_no_change : int, default=10
        Epochs without improvement before stopping early.
    tol : float, default=1e-4
        Improvement that counts, in nats a row.
    warm_start : bool, default=False
        Go on from the last fit's columns and weights; the schedule of the learning rate restarts.
    device : str, default="auto"
        "auto" is a CUDA GPU where there is one, else the CPU; or "cpu", "cuda", "cuda:1", "mps".
        Resolved when used: a fitted encoder moves to where it is set, and a file made on a GPU
        opens without.
    net_params : dict, default=None
        More parameters of the skorch net: ``callbacks``, ``compile``, ``optimizer``,
        ``autocast="bfloat16"`` for mixed precision. What this class has a parameter for is
        refused.
    random_state : int, RandomState instance or None, default=None
        Seeds initial weights, shuffling and noise. With an int, fits on one machine's CPU are
        identical to the bit. No global random state is touched.
    verbose : int, default=0
        1 shows epoch, loss terms and seconds left, in place in a terminal and in a notebook; 2
        prints every epoch where lines cannot be rewritten.

    Attributes
    ----------
    table_ : Table
        The columns, their kinds and encodings.
    net_ : skorch.NeuralNet
        The net, with its history, callbacks and module.
    n_iter_ : int
        Epochs trained, with `warm_start` those of earlier fits included.
    loss_curve_ : list of float
        Training loss of each epoch, in nats a row. Negative values are normal.
    validation_scores_ : list of float or None
        Minus the held-out loss of each epoch.
    n_features_in_ : int
        Columns seen in fit.
    feature_names_in_ : array of shape (n_features_in_,)
        Their names, where all are strings.

    See Also
    --------
    sklearn.decomposition.PCA : Linear, for complete numeric tables.

    Notes
    -----
    There is no ``sample_weight``: in mini-batch training a weight is not the same as a repetition.

    References
    ----------
    M. Livne, "cMIM: A Contrastive Mutual Information Framework for Unified Generative and
    Discriminative Representation Learning" (2025), arXiv 2502.19642 and 2509.21511.

    Examples
    --------
    >>> from cmim_sklearn import CMIMEncoder
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> encoder = CMIMEncoder(max_iter=5, random_state=0).fit(X)
    >>> encoder.transform(X).shape
    (150, 512)
    >>> list(encoder.sample(3, random_state=0).columns) == list(X.columns)
    True
    """

    _parameter_constraints: ClassVar[dict] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "contrastive_weight": [Interval(Real, 0, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "embedding": [StrOptions(set(EMBEDDINGS))],
        "posterior": [StrOptions(set(POSTERIORS))],
        "latent_prior": [StrOptions(set(LATENT_PRIORS))],
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "encoder": [StrOptions(set(NETWORKS)), callable],
        "decoder": [StrOptions(set(NETWORKS)), callable],
        "categorical_features": [StrOptions({"from_dtype"}), "array-like", None],
        "numeric_scaling": [StrOptions({name for name in SCALINGS if name}), None],
        "max_categories": [Interval(Integral, 2, None, closed="left")],
        "likelihoods": [dict, None],
        "input_masking": [Interval(Real, 0, 1, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "device": [str],
        "net_params": [dict, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components=64,
        *,
        contrastive_weight=1.0,
        temperature=0.1,
        embedding="hidden",
        posterior="sampled",
        latent_prior="mixture",
        hidden_layer_sizes=(256, 256),
        activation="silu",
        encoder="mlp",
        decoder="mlp",
        categorical_features="from_dtype",
        numeric_scaling="quantile",
        max_categories=256,
        likelihoods=None,
        input_masking=0.1,
        batch_size=256,
        learning_rate_init=3e-3,
        alpha=1e-4,
        max_iter="auto",
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        warm_start=False,
        device="auto",
        net_params=None,
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.contrastive_weight = contrastive_weight
        self.temperature = temperature
        self.embedding = embedding
        self.posterior = posterior
        self.latent_prior = latent_prior
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.encoder = encoder
        self.decoder = decoder
        self.categorical_features = categorical_features
        self.numeric_scaling = numeric_scaling
        self.max_categories = max_categories
        self.likelihoods = likelihoods
        self.input_masking = input_masking
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.alpha = alpha
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.device = device
        self.net_params = net_params
        self.random_state = random_state
        self.verbose = verbose

    def _objective(self):
        return ObjectiveLoss(
            OBJECTIVES["cmim"],
            contrastive_weight=self.contrastive_weight,
            temperature=self.temperature,
        )
