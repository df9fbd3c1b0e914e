"""Prior over latent codes, fitted after training: standard normal, or a Gaussian mixture.

Axes: n rows, d latent components, r directions in which codes vary, k mixture components.
"""

import numpy as np
import torch

from cmim_sklearn._utils.isolation import one_blas_thread
from cmim_sklearn.latents import LOG_2PI

MIXTURE_SIZE, ROWS_PER_COMPONENT = 400, 20
EM_STEPS, EM_STEPS_OF_MANY, MIXTURE_TOL = 15, 8, 0.02
"""Maximum number of steps of expectation maximisation, and with more than `MANY` codes; gain of a
step in log-likelihood, in nats, below which it is the last one."""
MIN_GAIN, NOISY_COPIES, GAIN_ROWS = 0.013, 4, 5000
"""Gain of a mixture over a single Gaussian, in nats per direction, on held-out codes, below which
the latter is used; number of codes with noise for each of these rows; maximum number of rows that
the two are compared on."""
MANY, PART = 5000, 256
"""Number of codes above which their densities are computed in parts, and size of a part. Parts suit
a processor's cache, but round differently."""

MIN_NOISE_SHARE = 1e-4
"""Lower bound of the noise variance as a share of the codes' largest variance.

It keeps covariances positive definite where codes have no noise.
"""
MIN_VARIANCE = 1e-12
"""Lower bound of the codes' largest variance in that share; codes of a constant table are equal."""

HALF_RANGE = 1e-4, 1e4
"""Range in which half precision holds a Cholesky factor to 1 part in 1,000.

Diagonal entries must be above the first number, absolute values of all entries below the second.
"""


class LatentPrior:
    """Distribution that codes are sampled from: z = centre + basis u, u from a Gaussian mixture.

    Parameters
    ----------
    weights : array of shape (k,)
        Weights of the mixture components; they sum to 1.
    means : array of shape (k, r)
    factors : array of shape (k, r, r) or (k, r (r + 1) / 2)
        Lower Cholesky factors of the covariances, or their lower triangles, row after row.
    centre : array of shape (d,)
    basis : array of shape (d, r)
        Orthonormal columns.

    Raises
    ------
    ValueError
        If the shape of `factors` does not fit the shape of `means`.
    """

    def __init__(self, weights, means, factors, centre, basis):
        self.weights = np.asarray(weights, float)
        # Contiguous, because products of the same arrays in another layout round differently.
        self.means, self.centre, self.basis = (
            np.ascontiguousarray(part, np.float32) for part in (means, centre, basis)
        )
        factors, (k, r) = np.asarray(factors), self.means.shape
        # With k = 0, a file of a few bytes could state any r, and r * r numbers are allocated.
        if not k or factors.shape not in ((k, r, r), (k, r * (r + 1) // 2)):
            raise ValueError(
                f"factors must have shape {(k, r, r)} or {(k, r * (r + 1) // 2)}, for means of "
                f"shape {(k, r)} and at least one component; got {factors.shape}."
            )
        lower = (slice(None), *np.tril_indices(r))
        self._triangles = factors if factors.ndim == 2 else factors[lower]
        self.factors = np.zeros((k, r, r), np.float32)
        self.factors[lower] = self._triangles

    def state(self):
        """Return the constructor's arguments; factors are triangles in their stored dtype."""
        return {
            "weights": self.weights,
            "means": self.means,
            "factors": self._triangles,
            "centre": self.centre,
            "basis": self.basis,
        }

    def sample(self, n_samples, rng):
        """Sample float32 codes (n_samples, d) with a numpy Generator."""
        u, _ = self.sample_directions(n_samples, rng)
        with one_blas_thread():
            return self.centre + u @ self.basis.T

    def sample_directions(self, n_samples, rng):
        """Sample u, float32 (n_samples, r), and the mixture component of each, (n_samples,)."""
        component = rng.choice(len(self.weights), size=n_samples, p=self.weights)
        u = rng.standard_normal((n_samples, self.means.shape[1])).astype(np.float32)
        with one_blas_thread():
            for k in np.unique(component):
                rows = component == k
                u[rows] = self.means[k] + u[rows] @ self.factors[k].T
        return u, component


class NoisyCodes:
    """Batches of codes of rows, with noise, only in the directions in which a prior varies.

    Parameters
    ----------
    prior : LatentPrior
    means : array of shape (n, d)
        Posterior means of the rows.
    noise : array of shape (d,)
        Variance of the noise.
    device : torch.device
    seed : int

    Attributes
    ----------
    generator : torch.Generator
        Generator of rows and noise.
    """

    def __init__(self, prior, means, noise, device, seed):
        self._means, noise, self._centre, self._basis = (
            torch.as_tensor(np.asarray(part), dtype=torch.float32, device=device)
            for part in (means, noise, prior.centre, prior.basis)
        )
        self._deviation = noise.sqrt()
        self.generator = torch.Generator(device).manual_seed(seed)

    def draw(self, n_rows):
        """Positions of random rows, (n_rows,), and their codes with noise, (n_rows, d)."""
        options = {"generator": self.generator, "device": self._means.device}
        rows = torch.randint(len(self._means), (n_rows,), **options)
        z = self._means[rows]
        z = z + self._deviation * torch.randn(z.shape, dtype=torch.float32, **options)
        return rows, self._centre + (z - self._centre) @ self._basis @ self._basis.T


def normal_prior(means, noise, seed, device="cpu"):
    """Return N(0, I), the anchor of the objective, for posterior means (n, d).

    It ignores the codes. It suits them only if training matched them to it: A-MIM leaves their
    scale free.
    """
    identity = np.eye(means.shape[1])
    factors = identity[None].astype(np.float16)
    return LatentPrior([1.0], np.zeros((1, len(identity))), factors, 0 * identity[0], identity)


def mixture_prior(means, noise, seed, device="cpu"):
    """Fit a Gaussian mixture to the codes of rows, N(mean, noise) for each row.

    - Directions: codes vary in fewer than d directions. Principal directions in which the means
      vary by less than the noise are left out.
    - Number of components: up to 400, with at least 20 codes each, and as many as there are
      directions, fitted by a few steps of expectation maximisation. It is one unless a mixture has
      a higher likelihood on a held-out fifth of the codes, with their noise, by `MIN_GAIN`: codes
      of training rows form tighter clusters than those of new rows.
    - Covariances: each is shrunk towards the mean covariance within components, as if r more codes
      had it. Components of a few dozen codes then follow the curved set on which codes lie, and
      none collapses.
    - Storage: factors are rounded to half precision, because they take most of the space in a file.
    - A single row has no spread: the prior is N(0, I).

    Parameters
    ----------
    means : array of shape (n, d)
        Posterior means in random order.
    noise : array of shape (d,)
        Posterior variance, averaged over rows.
    seed : int
        Seed of the initial centres and of the noise on held-out codes.
    device : torch.device or str, default="cpu"
        Device of the model. The mixture is fitted there if it is a GPU, else on the CPU.

    Returns
    -------
    LatentPrior
    """
    if len(means) == 1:
        return normal_prior(means, noise, seed)
    means = np.asarray(means, np.float32)
    with one_blas_thread():
        covariance = np.cov(means.T.astype(np.float64)).reshape(2 * means.shape[1:])
        values, vectors = np.linalg.eigh(covariance)
    noise = np.maximum(noise, MIN_NOISE_SHARE * max(values[-1], MIN_VARIANCE))
    kept = max(1, int((values > noise.mean()).sum()))
    device = torch.device(device if torch.device(device).type == "cuda" else "cpu")
    means = torch.from_numpy(means).to(device)
    centre = means.mean(0)
    basis = torch.from_numpy(vectors[:, ::-1][:, :kept].astype(np.float32)).to(device)
    noise = torch.diag(torch.from_numpy(np.asarray(noise, np.float32)).to(device))
    noise = basis.T @ noise @ basis
    u = (means - centre) @ basis
    size = _size(*u.shape)
    if size > 1 and not _is_mixture_better(u[:GAIN_ROWS], noise, seed):
        size = 1
    mixture = _fit_mixture(u, noise, size, seed)
    weights, centres, factors = (part.cpu().double().numpy() for part in mixture)
    low, high = HALF_RANGE
    diagonal = np.diagonal(factors, axis1=1, axis2=2)
    is_half = (diagonal > low).all() and (np.abs(factors) < high).all()
    factors = factors.astype(np.float16 if is_half else np.float32)
    plane = centre.cpu().numpy(), basis.cpu().numpy()
    return LatentPrior(weights / weights.sum(), centres, factors, *plane)


def _size(n_rows, n_directions):
    """Number of components of a mixture for a number of codes."""
    return int(np.clip(n_rows // max(n_directions, ROWS_PER_COMPONENT), 1, MIXTURE_SIZE))


def _is_mixture_better(u, noise, seed):
    """Whether a mixture explains held-out noisy codes better than a single Gaussian."""
    n_held_out, r, size = len(u) // 5, u.shape[1], _size(*u.shape)
    fitted, held_out = u[n_held_out:], u[:n_held_out].repeat(NOISY_COPIES, 1)
    draw = torch.Generator().manual_seed(seed)
    drawn = torch.randn(held_out.shape, generator=draw, dtype=u.dtype).to(u.device)
    held_out = held_out + drawn @ torch.linalg.cholesky(noise).T
    one, many = (
        float(_log_joint(held_out, mixture).logsumexp(1).mean())
        for mixture in (_fit_mixture(fitted, noise, k, seed) for k in (1, size))
    )
    return many - one >= MIN_GAIN * r


def _fit_mixture(u, noise, size, seed):
    """Fit weights (k,), means (k, r) and Cholesky factors (k, r, r) of a mixture to u (n, r)."""
    # Imported here because it takes half of the time of `import cmim_sklearn`.
    from sklearn.cluster import kmeans_plusplus

    n, r = u.shape
    with one_blas_thread():
        centres, _ = kmeans_plusplus(u.cpu().numpy(), size, random_state=seed)
    nearest = torch.cdist(u, torch.from_numpy(centres).to(u.device)).argmin(1)
    share = u.new_zeros(n, size)
    share[torch.arange(n, device=u.device), nearest] = 1.0
    bound = -np.inf
    for _ in range(EM_STEPS if n <= MANY else EM_STEPS_OF_MANY):
        counts = share.sum(0)
        weights = (counts + 1) / (n + size)
        means = (share.T @ u) / counts.clamp(min=1e-6)[:, None]
        squares = u.new_zeros(size, r, r)
        for k in range(size):
            own = share[:, k]
            rows = own > 1e-3
            if u.device.type != "cpu":  # which saves time; a GPU would wait for their number
                own, rows = own * rows, slice(None)
            offset = u[rows] - means[k]
            squares[k] = offset.T @ (offset * own[rows, None])
        within = squares.sum(0) / n
        covariances = (squares + r * within) / (counts + r)[:, None, None] + noise
        mixture = weights, means, torch.linalg.cholesky(covariances)
        log_joint = _log_joint(u, mixture)
        share = log_joint.softmax(1)
        new_bound = float(log_joint.logsumexp(1).mean())
        if new_bound - bound < MIXTURE_TOL:
            break
        bound = new_bound
    return mixture


def _log_joint(u, mixture):
    """`component_log_prob`, of more than `MANY` points in parts, which is faster there."""
    parts = [u] if len(u) <= MANY else u.split(PART)
    return torch.cat([component_log_prob(part, *mixture) for part in parts])


def component_log_prob(u, weights, means, factors):
    """Log of w_k N(u | mean_k, L_k L_k') at points u (n, r) for each component, in nats, (n, k)."""
    inverse = torch.linalg.solve_triangular(
        factors,
        torch.eye(u.shape[1], dtype=u.dtype, device=u.device).expand_as(factors),
        upper=False,
    )
    whitened = inverse @ u.T - inverse @ means.unsqueeze(-1)  # (k, r, n)
    log_det = torch.diagonal(factors, dim1=1, dim2=2).log().sum(1)
    constant = weights.log() - log_det - 0.5 * u.shape[1] * LOG_2PI
    return constant - 0.5 * whitened.square().sum(1).T


LATENT_PRIORS = {"normal": normal_prior, "mixture": mixture_prior}
"""Functions that return a `LatentPrior` for posterior means, their variance, a seed, a device."""
