"""Prior over latent codes after training: standard normal, or a fitted Gaussian mixture."""

import numpy as np
import torch

from cmim_sklearn.latents import LOG_2PI

MIXTURE_SIZES = (1, 10, 30, 100)


MIXTURE_ROWS = 5000


MIXTURE_EM_STEPS, MIXTURE_TOL = 15, 0.02


LEAST_NOISE = 1e-4
"""As a share of the codes' largest variance: enough for a covariance where codes have no noise."""


HALF_RANGE = 1e-4, 1e4
"""Bounds of a factor that half precision holds to 1 part in 1,000: its diagonal is above the first,
and all of it below the second."""


class Latents:
    """What codes are drawn from to sample: z = centre + basis u, with u from a Gaussian mixture.

    Parameters
    ----------
    weights : array of shape (k,)
    means : array of shape (k, r)
    factors : array of shape (k, r, r) or (k, r (r + 1) / 2)
        Lower Cholesky factors of the covariances, or their lower triangles row after row.
    centre : array of shape (d,)
    basis : array of shape (d, r)
        Orthonormal columns.
    """

    def __init__(self, weights, means, factors, centre, basis):
        self.weights = np.asarray(weights, float)
        # Contiguous, since products of the same arrays in another layout round otherwise.
        self.means, self.centre, self.basis = (
            np.ascontiguousarray(part, np.float32) for part in (means, centre, basis)
        )
        factors, (k, r) = np.asarray(factors), self.means.shape
        # Without a component r may be anything in a file of a few bytes, and r x r places are made.
        if not k or factors.shape not in ((k, r, r), (k, r * (r + 1) // 2)):
            raise ValueError(f"factors have shape {factors.shape}, for means of shape {(k, r)}.")
        lower = (slice(None), *np.tril_indices(r))
        self._triangles = factors if factors.ndim == 2 else factors[lower]
        self.factors = np.zeros((k, r, r), np.float32)
        self.factors[lower] = self._triangles

    def state(self):
        """Return the constructor's arguments, the factors as triangles of their own dtype."""
        return {
            "weights": self.weights,
            "means": self.means,
            "factors": self._triangles,
            "centre": self.centre,
            "basis": self.basis,
        }

    def sample(self, n_samples, rng):
        """Draw float32 codes (n_samples, d) from a numpy Generator."""
        u, _ = self.draw(n_samples, rng)
        return self.centre + u @ self.basis.T

    def draw(self, n_samples, rng):
        """Draw u, float32 (n_samples, r), and the component that each came from, (n_samples,)."""
        component = rng.choice(len(self.weights), size=n_samples, p=self.weights)
        u = rng.standard_normal((n_samples, self.means.shape[1])).astype(np.float32)
        for k in np.unique(component):
            rows = component == k
            u[rows] = self.means[k] + u[rows] @ self.factors[k].T
        return u, component


def normal_latents(means, noise, seed):
    """N(0, I), the anchor of the objective, whatever the posterior means (n, d).

    Right only where codes came to match it: A-MIM leaves their scale free.
    """
    identity = np.eye(means.shape[1])
    factors = identity[None].astype(np.float16)
    return Latents([1.0], np.zeros((1, len(identity))), factors, 0 * identity[0], identity)


def mixture_latents(means, noise, seed):
    """A Gaussian mixture fitted to codes as at inference: N(mean, noise) for each row.

    Codes vary in fewer directions than they have components. Those in which the means vary by less
    than the noise are left out. Sizes of `MIXTURE_SIZES` are tried upwards until one does worse on
    a fifth of the codes, each by a few steps of expectation maximisation. A component's covariance
    is shrunk to the mean covariance within components, as if r codes more had it: components of a
    few dozen codes then follow the curved set on which codes lie, and none collapses. Factors are
    rounded to half precision: they are most of what the mixture takes in a file.

    Parameters
    ----------
    means : array of shape (n, d)
        Posterior means; the first 5,000 are used, in random order.
    noise : array of shape (d,)
        Variance of the posterior, the mean over rows.
    seed : int

    Returns
    -------
    Latents
    """
    means = torch.from_numpy(np.asarray(means[:MIXTURE_ROWS], np.float32))
    centre = means.mean(0)
    values, vectors = np.linalg.eigh(
        np.cov(means.numpy().T.astype(np.float64)).reshape(2 * means.shape[1:])
    )
    noise = np.maximum(noise, LEAST_NOISE * values[-1])
    kept = max(1, int((values > noise.mean()).sum()))
    basis = torch.from_numpy(vectors[:, ::-1][:, :kept].astype(np.float32))
    noise = torch.diag(torch.from_numpy(np.asarray(noise, np.float32)))
    noise = basis.T @ noise @ basis
    u = (means - centre) @ basis
    n_held_out = len(u) // 5
    held_out, fitted = u[:n_held_out], u[n_held_out:]
    best, best_score = None, -np.inf
    for size in MIXTURE_SIZES:
        if size > 1 and len(fitted) < 10 * size:
            break
        mixture = _fit_mixture(fitted, noise, size, seed)
        score = float(mixture_log_prob(held_out, *mixture).mean()) if n_held_out else 0.0
        if score < best_score:
            break
        best, best_score = mixture, score
    weights, centres, factors = (part.double().numpy() for part in best)
    low, high = HALF_RANGE
    diagonal = np.diagonal(factors, axis1=1, axis2=2)
    is_half = (diagonal > low).all() and (np.abs(factors) < high).all()
    factors = factors.astype(np.float16 if is_half else np.float32)
    return Latents(weights / weights.sum(), centres, factors, centre.numpy(), basis.numpy())


def _fit_mixture(u, noise, size, seed):
    """Weights (k,), means (k, r) and Cholesky factors (k, r, r) of a mixture for u (n, r)."""
    # Half of the time that importing this library takes would go into it.
    from sklearn.cluster import kmeans_plusplus

    n, r = u.shape
    centres, _ = kmeans_plusplus(u.numpy(), size, random_state=seed)
    share = torch.zeros(n, size)
    share[torch.arange(n), torch.cdist(u, torch.from_numpy(centres)).argmin(1)] = 1.0
    bound = -np.inf
    for _ in range(MIXTURE_EM_STEPS):
        counts = share.sum(0)
        weights = (counts + 1) / (n + size)
        means = (share.T @ u) / counts.clamp(min=1e-6)[:, None]
        squares = torch.zeros(size, r, r)
        for k in range(size):
            rows = share[:, k] > 1e-3
            apart = u[rows] - means[k]
            squares[k] = apart.T @ (apart * share[rows, k, None])
        within = squares.sum(0) / n
        covariances = (squares + r * within) / (counts + r)[:, None, None] + noise
        mixture = weights, means, torch.linalg.cholesky(covariances)
        log_joint = component_log_prob(u, *mixture)
        share = log_joint.softmax(1)
        new_bound = float(log_joint.logsumexp(1).mean())
        if new_bound - bound < MIXTURE_TOL:
            break
        bound = new_bound
    return mixture


def component_log_prob(u, weights, means, factors):
    """Log of w_k N(u | mean_k, L_k L_k') of points u (n, r) under each component, (n, k)."""
    inverse = torch.linalg.solve_triangular(
        factors,
        torch.eye(u.shape[1], dtype=u.dtype, device=u.device).expand_as(factors),
        upper=False,
    )
    apart = inverse @ u.T - inverse @ means.unsqueeze(-1)  # (k, r, n)
    log_det = torch.diagonal(factors, dim1=1, dim2=2).log().sum(1)
    constant = weights.log() - log_det - 0.5 * u.shape[1] * LOG_2PI
    return constant - 0.5 * apart.square().sum(1).T


def mixture_log_prob(u, weights, means, factors):
    """Log density of points u (n, r) under a Gaussian mixture, (n,)."""
    return component_log_prob(u, weights, means, factors).logsumexp(1)


LATENT_PRIORS = {"normal": normal_latents, "mixture": mixture_latents}
