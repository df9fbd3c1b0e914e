"""Proposal distributions: Gaussian mixtures that approximate the posterior p(z | x) of rows.

Each component k of the latent prior has coordinates t, in which it is standard normal: its codes
are u = mean_k + axes_k t. They are sorted by the Fisher information in a row's cells, averaged over
the component. The cells inform few of them, the first q. A Gaussian of a proposal is a component
with another mean and covariance in its informed coordinates. It is found in five steps:

1. Anchors. Searches start at fixed codes: the means of the components, or samples of a single
   component. Decoder outputs and Jacobians there are computed once.
2. Choice. A row's cells are likely at some anchors, or at many if few cells are observed. One step
   from each of these shows which ones lead to likely codes.
3. Search. From each of the latter, Gauss-Newton steps on log p(x, t) are taken, with the Jacobian
   of the anchor. The Gaussian has its mean at the last one, and the information of the anchor.
4. Weight. Gaussians are weighted by their evidence (a Laplace approximation), and negligible ones
   are dropped.
5. Refinement. Where the decoder is curved, the posterior is skewed, and its mean is far from its
   mode. For the Gaussians of largest weight, gradient and information are therefore averaged over
   the Gaussian, by a pair of its codes with opposite signs in each step. These are natural-gradient
   steps of Gaussian variational inference (M. Khan, H. Rue, "The Bayesian Learning Rule", 2023).

Axes: n rows, A anchors, K components, m pairs of a row and an anchor, G Gaussians of a row, s
points, r directions in which codes vary, q informed coordinates, P decoder outputs, L of their
local values, T of them that the trained decoder computes.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from cmim_sklearn._models.generator import Generator
from cmim_sklearn._models.inference import MIN_CHUNK_ROWS
from cmim_sklearn._models.latent_prior import LatentPrior
from cmim_sklearn._utils.device import cumulative_sum
from cmim_sklearn.latents import LOG_2PI

LEAST_INFORMATION, MIN_INFORMED = 0.3, 8
"""Information of an informed coordinate, of which the prior has 1; number of informed coordinates
in any case."""
N_ANCHORS, N_CHOSEN, N_KEPT, N_REFINED = 32, 16, 4, 2
"""Anchors of a single component; least number chosen for a row, and kept after the first step;
largest number refined."""
NEGLIGIBLE_WEIGHT, REFINED_WEIGHT = 1e-4, 0.2
"""Weight of all choices that are dropped, at most; weight of a Gaussian that is refined, at least.
"""
N_STEPS, REFINEMENT_RATES = 4, (1.0, 0.6, 0.6, 0.6, 0.6)
CLOSE = 1.5
"""Length of the step that ends a search or a refinement, in standard deviations."""
DIFFERENCE = 0.1
"""Length of finite differences, in standard deviations."""
MAX_NUMBERS = 2**25
"""Maximum number of elements in a tensor for a chunk of rows: a few hundred megabytes."""
DECODED_TOGETHER = 512
"""Number of codes decoded together: few enough for a processor's cache."""


class Gaussians(NamedTuple):
    """Mixture of Gaussians for each of n rows, sorted by weight.

    Attributes
    ----------
    component : Tensor of shape (n, G)
        Component of the latent prior in whose coordinates a Gaussian is given.
    log_weight : Tensor of shape (n, G)
        Normalised; -inf where a row has fewer than G Gaussians.
    mean : Tensor of shape (n, G, q)
        Mean of the informed coordinates.
    factor : Tensor of shape (n, G, q, q)
        Lower Cholesky factor of their information, the inverse covariance.
    """

    component: Tensor
    log_weight: Tensor
    mean: Tensor
    factor: Tensor

    def take(self, rows):
        """Mixtures of some rows."""
        n_kept = int(torch.isfinite(self.log_weight[rows]).sum(1).max())
        return Gaussians(*(part[rows, :n_kept] for part in self))


class Proposal:
    """Fits `Gaussians` to rows, given a fitted model and its latent prior.

    Decoder outputs and their derivatives have the decoder's single precision. What is compared, or
    added up to a density, has double precision.

    Parameters
    ----------
    model : Generator
    prior : LatentPrior

    Attributes
    ----------
    means : Tensor of shape (K, r)
    axes, inverse : Tensor of shape (K, r, r)
        Coordinates of each component: u = mean + axes t and t = inverse (u - mean).
    log_weights, log_peaks : Tensor of shape (K,)
        Log weight of each component, and log of its weighted density at its mean.
    n_informed : int
        Number q of informed coordinates.
    n_numbers : int
        Number of elements of all tensors that are held.
    numbers_per_row : int
        Number of elements per row in the largest tensor of `fit`.
    """

    def __init__(self, model: Generator, prior: LatentPrior):
        self.decoder, self._trained = model.decoder, model.trained
        self.likelihood, device = model.likelihood, model.device
        self.means, self.centre, self.basis, factors = (
            torch.as_tensor(part, dtype=torch.float32, device=device)
            for part in (prior.means, prior.centre, prior.basis, prior.factors)
        )
        k, r = self.means.shape
        weights = torch.as_tensor(prior.weights, dtype=torch.float64, device=device)
        log_det = torch.diagonal(factors, dim1=1, dim2=2).double().log().sum(1)
        self.log_weights = weights.log()
        self.log_peaks = self.log_weights - log_det - 0.5 * r * LOG_2PI
        # A single component is so wide that the decoder is not linear over it.
        n_anchors, n_pairs = (k, 1) if k > 1 else (N_ANCHORS, N_ANCHORS // 2)
        generator, options = torch.Generator().manual_seed(0), {"dtype": torch.float32}
        n_points = max(n_pairs, len(REFINEMENT_RATES))
        half = torch.randn(n_points, r, generator=generator, **options).to(device)
        self._points = torch.stack([half, -half], 1)  # (n_points, 2, r)
        self.axes = factors  # until the informed directions are known
        self.axes, self.inverse, information = self._coordinates(factors, n_pairs)
        n_informed = int((information > LEAST_INFORMATION).sum(1).max())
        q = self.n_informed = min(r, max(MIN_INFORMED, n_informed))
        self.identity = torch.eye(q, dtype=torch.float64, device=device)
        self._informed_axes = self.axes[:, :, :q].contiguous()
        self._components = torch.arange(n_anchors, device=device) % k
        starts = torch.randn(n_anchors, 1, q, generator=generator, **options).to(device)
        starts[:k] = 0
        self._starts = starts[:, 0].double()
        spread = (1 + information[self._components, :q]).rsqrt()
        params, jacobians = self._linearise(self._components, pad(starts, (0, r - q)), spread)
        self._params, self._jacobians = params[:, 0], jacobians[:, 0].contiguous()
        factors = self._factor(self._jacobians, self._params, self._complete(n_anchors))
        self._covariances = torch.cholesky_inverse(factors)
        self.n_numbers = sum(v.numel() for v in vars(self).values() if isinstance(v, Tensor))
        refined = 4 * N_REFINED * self._jacobians[0].numel()
        self.numbers_per_row = max(n_anchors * q * q, self._params.numel(), refined)

    def _coordinates(self, factors, n_pairs):
        """Axes and their inverse (K, r, r), and the mean information (K, r) in each coordinate."""
        (k, r), total = self.means.shape, 0
        together = max(1, MAX_NUMBERS // (r * self.likelihood.n_local))
        for point in self._points[:n_pairs].flatten(0, 1):
            parts = []
            for some in torch.arange(k, device=point.device).split(together):
                t, spread = point.expand(len(some), 1, r), point.new_ones(len(some), r)
                params, jacobian = self._linearise(some, t, spread)
                complete = self._complete(len(some))
                parts.append(self._information(jacobian[:, 0], params[:, 0], complete))
            total = total + torch.cat(parts)
        information, vectors = torch.linalg.eigh(total / (2 * n_pairs))
        factors, vectors = factors.double(), vectors.flip(2)
        axes = factors @ vectors
        identity = torch.eye(r, dtype=torch.float64, device=factors.device).expand_as(factors)
        inverse = torch.linalg.solve_triangular(factors, identity, upper=False)
        inverse = vectors.transpose(1, 2) @ inverse
        return axes.float(), inverse.float(), information.flip(1).float()

    def _complete(self, n):
        """Cells (n, n_cells) of rows without missing values; the values do not matter."""
        return self.means.new_zeros(n, self.likelihood.n_cells)

    def decode(self, u):
        """Decoder outputs (..., P) at codes u (..., r), float32."""
        return self.apply(self.decoder, u)

    def apply(self, decoder, u):
        """Outputs (..., k) of a decoder, (n, d) -> (n, k), at codes u (..., r)."""
        flat = u.flatten(0, -2)
        n = len(flat)
        # Products of a few rows are rounded differently; see `on_rows`.
        flat = pad(flat, (0, 0, 0, max(0, MIN_CHUNK_ROWS - n)))
        parts = flat.tensor_split(max(1, n // DECODED_TOGETHER))
        outputs = [decoder(torch.addmm(self.centre, part, self.basis.T)) for part in parts]
        return torch.cat(outputs)[:n].unflatten(0, u.shape[:-1])

    def to_codes(self, component, t):
        """Codes (..., r) at informed coordinates t (..., q) of components (...), others 0."""
        axes = self._informed_axes[component]
        return self.means[component] + (axes @ t.float().unsqueeze(-1)).squeeze(-1)

    def _linearise(self, component, t, spread):
        """Local values (m, s, L) at t (m, s, r), and Jacobians (m, s, T, q) in t.

        Jacobians are those of the trained decoder, by finite differences over a share of the spread
        (m, q). They work for any network and cost one pass per coordinate. Their error does not
        matter, because only proposals depend on it.
        """
        axes, step = self.axes[component], DIFFERENCE * spread
        u = self.means[component].unsqueeze(1) + t @ axes.transpose(1, 2)
        moves = (axes[:, :, : step.shape[1]] * step.unsqueeze(1)).transpose(1, 2)
        u = u.unsqueeze(2) + pad(moves, (0, 0, 1, 0)).unsqueeze(1)  # (m, s, 1 + q, r)
        outputs = self.apply(self._trained, u)
        rise = (outputs[:, :, 1:] - outputs[:, :, :1]) / step[:, None, :, None]
        return self.likelihood.local(self.decode(u[:, :, 0])), rise.transpose(2, 3)

    def _information(self, jacobian, params, cells):
        """Fisher information (m, q, q) of cells (m, n_cells), given Jacobians (m, P, q)."""
        root = self.likelihood.fisher_factor(jacobian, params, cells)
        return (root.transpose(1, 2) @ root).double()

    def _factor(self, jacobian, params, cells):
        """Cholesky factors (m, q, q) of the information of cells and prior."""
        return self._cholesky(self._information(jacobian, params, cells) + self.identity)

    def _cholesky(self, information):
        """Cholesky factors; those of the prior where the information is not finite."""
        factor, failed = torch.linalg.cholesky_ex(information)
        is_sound = (failed == 0) & factor.isfinite().flatten(1).all(1)
        return torch.where(is_sound[:, None, None], factor, self.identity)

    def _log_prior(self, component, t):
        """Log density of informed coordinates t (..., q), up to a constant, weighted."""
        return self.log_weights[component] - 0.5 * t.square().sum(-1)

    def fit(self, cells) -> Gaussians:
        """Fit Gaussians to measured cells (n, n_cells), float32."""
        value = self.likelihood.surrogate(self._params.unsqueeze(1), cells.unsqueeze(0)).T
        value = value.double() + self._log_prior(self._components, self._starts)
        row, anchor = _likely(value, N_CHOSEN).nonzero(as_tuple=True)
        at_start = value[row, anchor]
        found = _Searches(row, anchor, self._starts[anchor], at_start, self._params[anchor])
        self._start(found, cells)
        found = found.take(_likely(found.table(found.value, value.shape), N_KEPT)[row, anchor])
        factor = self._in_parts(
            lambda row, anchor: self._factor(
                self._jacobians[anchor], self._params[anchor], cells[row]
            ),
            found.row,
            found.anchor,
        )
        self._search(found, factor, cells)
        gaussians = self._weigh(found, factor, value.shape)
        self._refine(gaussians, cells)
        return gaussians

    def _in_parts(self, function, *pairs):
        """Apply a function to tensors of pairs (m, ...), not many of them at a time."""
        size = max(1, MAX_NUMBERS // self._jacobians[0].numel())
        parts = zip(*(part.split(size) for part in pairs), strict=True)
        return torch.cat([function(*part) for part in parts])

    def _slope(self, found, own):
        """Gradient (m, q) of log p(x, t) of cells (m, n_cells), with the Jacobians of anchors."""
        slope = self._in_parts(
            lambda anchor, gradient: (gradient.unsqueeze(1) @ self._jacobians[anchor])[:, 0],
            found.anchor,
            self.likelihood.surrogate_gradient(found.params, own),
        )
        return slope.double() - found.mean

    def _move(self, found, pairs, mean, own):
        """Move searches to means (m, q) where this raises log p(x, t), in place; whether it does.

        ``pairs`` (m,) are the searches.
        """
        component = self._components[found.anchor[pairs]]
        params = self.likelihood.local(self.decode(self.to_codes(component, mean)))
        value = self.likelihood.surrogate(params, own).double() + self._log_prior(component, mean)
        better = value > found.value[pairs]
        moved = pairs[better]
        found.mean[moved], found.value[moved] = mean[better], value[better]
        found.params[moved] = params[better]
        return better

    def _start(self, found, cells):
        """Take a Gauss-Newton step from each anchor, in place.

        It is as if no cell was missing: this needs no factorisation for each row and anchor.
        """
        own = cells[found.row]
        step = self._in_parts(
            lambda anchor, slope: (slope.unsqueeze(1) @ self._covariances[anchor])[:, 0],
            found.anchor,
            self._slope(found, own),
        )
        pairs = torch.arange(len(step), device=step.device)
        self._move(found, pairs, found.mean + step, own)

    def _search(self, found, factor, cells):
        """Take Gauss-Newton steps with the Jacobians of the anchors, in place."""
        share = torch.ones_like(found.value)
        active = torch.arange(len(share), device=share.device)
        for _ in range(N_STEPS):
            some = found.take(active)
            own = cells[some.row]
            step, length = _newton_step(self._slope(some, own), factor[active])
            better = self._move(found, active, some.mean + share[active, None] * step, own)
            # A step that lowers the value is rejected and retried at a quarter of its length.
            share[active] = torch.where(better, 1.0, share[active] / 4)
            active = active[~(better & (length < CLOSE))]
            if not len(active):
                break

    def _weigh(self, found, factor, shape):
        """Gaussians of rows, without negligible ones, weighted by their evidence."""
        log_det = torch.diagonal(factor, dim1=1, dim2=2).log().sum(1)
        log_weight = found.table(found.value - log_det, shape).log_softmax(1)
        log_weight, order = log_weight.sort(dim=1, descending=True, stable=True)
        is_kept = _covers(log_weight)
        n_kept = int(is_kept.sum(1).max())
        log_weight = log_weight.masked_fill(~is_kept, -torch.inf).log_softmax(1)[:, :n_kept]
        pairs = torch.arange(len(factor), device=factor.device)
        pairs = found.table(pairs, shape, 0).gather(1, order[:, :n_kept])
        component = self._components[order[:, :n_kept]]
        return Gaussians(component, log_weight, found.mean[pairs], factor[pairs])

    def _refine(self, gaussians, cells):
        """Fit the Gaussians of largest weight to the posterior around them, in place."""
        is_large = gaussians.log_weight > np.log(REFINED_WEIGHT)
        is_large[:, 0], is_large[:, N_REFINED:] = True, False
        row, g = is_large.nonzero(as_tuple=True)
        for points, rate in zip(self._points, REFINEMENT_RATES, strict=False):
            component, _, mean, factor = (part[row, g] for part in gaussians)
            slope, information = self._mean_slope(component, mean, factor, points, cells[row])
            before = factor @ factor.transpose(1, 2)
            factor = self._cholesky(rate * information + (1 - rate) * before)
            step, length = _newton_step(slope, factor)
            mean = mean + rate * step
            is_fine = torch.isfinite(mean).all(1)
            row, g, length = row[is_fine], g[is_fine], length[is_fine]
            gaussians.mean[row, g], gaussians.factor[row, g] = mean[is_fine], factor[is_fine]
            if rate < 1:  # the first step moves too far to tell
                row, g = row[length > CLOSE], g[length > CLOSE]
            if not len(row):
                break

    def _mean_slope(self, component, mean, factor, points, cells):
        """Gradient (m, q) of log p(x, t) and information (m, q, q), averaged over Gaussians.

        The points (s, r) are standard normal; the Gaussians' factors map them.
        """
        (s, _), q, m = points.shape, self.n_informed, len(mean)
        informed = points[:, :q].T.double().expand(m, -1, -1)
        away = torch.linalg.solve_triangular(factor.transpose(1, 2), informed, upper=True)
        informed = (mean.unsqueeze(2) + away).transpose(1, 2).float()
        t = torch.cat([informed, points[:, q:].expand(m, -1, -1)], 2)
        spread = 1 / torch.diagonal(factor, dim1=1, dim2=2).float()
        params, jacobian = self._linearise(component, t, spread)
        gradient = self.likelihood.surrogate_gradient(params, cells.unsqueeze(1))
        slope = (gradient.unsqueeze(2) @ jacobian).mean((1, 2)).double() - mean
        information = self._information(
            jacobian.flatten(0, 1), params.flatten(0, 1), cells.repeat_interleave(s, 0)
        )
        return slope, information.unflatten(0, (m, s)).mean(1) + self.identity


class _Searches(NamedTuple):
    """Searches for modes of log p(x, t), one for each of m pairs of a row and an anchor.

    Attributes
    ----------
    row, anchor : Tensor of shape (m,)
    mean : Tensor of shape (m, q)
        Informed coordinates reached.
    value : Tensor of shape (m,)
        log p(x, t) there, up to a constant.
    params : Tensor of shape (m, P)
        Decoder outputs there.
    """

    row: Tensor
    anchor: Tensor
    mean: Tensor
    value: Tensor
    params: Tensor

    def take(self, pairs):
        """Searches of some pairs."""
        return _Searches(*(part[pairs] for part in self))

    def table(self, values, shape, fill=-torch.inf):
        """Table (n, A) of values (m,) of the pairs."""
        table = values.new_full(shape, fill)
        table[self.row, self.anchor] = values
        return table


def _newton_step(slope, factor):
    """Step (m, q) to the maximum, and its length (m,) in standard deviations.

    It takes the gradient (m, q) and the Cholesky factor (m, q, q) of the information.
    """
    step = torch.cholesky_solve(slope.unsqueeze(2), factor).squeeze(2)
    return step, (slope * step).sum(1).sqrt()


def _likely(log_p, at_least):
    """Whether each of A choices is likely, at least some in each row, given log p (n, A)."""
    log_p, order = log_p.log_softmax(1).sort(dim=1, descending=True, stable=True)
    is_likely = _covers(log_p)
    is_likely[:, :at_least] = True
    return torch.zeros_like(is_likely).scatter_(1, order, is_likely)


def _covers(log_p):
    """Whether sorted choices (n, A) are among the likeliest, which cover nearly all."""
    p = log_p.exp()
    return cumulative_sum(p, 1) - p < 1 - NEGLIGIBLE_WEIGHT
