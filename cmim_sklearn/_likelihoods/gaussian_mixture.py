"""Mixture of Gaussians in numeric columns, with weights, means and deviations that depend on z.

Axes: n rows, C columns of the block, K = 3 Gaussians of a column.
"""

import numpy as np
import torch
from torch.nn.functional import softplus

from cmim_sklearn._likelihoods.base import Density, normal_noise, uniform_noise
from cmim_sklearn._likelihoods.gaussian import LOG_2PI, NARROW, Gaussian, log_normal_mass, residuals

OFFSETS = (-0.75, 0.0, 0.75)
"""Means of the Gaussians for params of 0, in deviations from the trained mean."""
WIDTH = (1 - np.mean(np.square(OFFSETS))) ** 0.5
"""Their standard deviation, in deviations; the whole mixture then has the trained deviation."""
MIN_DEVIATION = 0.01
"""Lower bound of the standard deviations, in standardised units; it is soft."""
FAR_END = 100.0
"""Distance of the nearer end of an interval, in standard deviations, from which the gradient of its
probability is that of the tail beyond that end."""
LEAST, LARGEST = 1e-30, 1e30
"""Range in which sums of densities or probabilities are accurate in single precision."""


class GaussianMixture(Density):
    """Numbers, whole or real: three Gaussians per column, all of whose parameters depend on z.

    Params are, C numbers each: the trained mean, then for each Gaussian its score (softmax gives
    the weights), the shift of its mean, and that of its log deviation, both relative to the
    ``deviation`` of the trained block.

    Parameters
    ----------
    block : Gaussian
        Trained likelihood of the same columns, which maps them to standardised units.
    """

    def __init__(self, block: Gaussian):
        c = block.n_columns
        super().__init__(c, (1 + 3 * len(OFFSETS)) * c, 2 * c, c)
        self.block, self.cell_width = block, block.cell_width
        offsets = torch.tensor(OFFSETS, dtype=torch.float32, device=block.deviation.device)
        self.register_buffer("_offsets", offsets.unsqueeze(1), persistent=False)

    def gaussians(self, params):
        """Log weights, means and standard deviations, (..., K, C) each."""
        return self._gaussians(params.unflatten(-1, (-1, self.n_columns)), self.block.deviation)

    def _gaussians(self, params, deviation):
        """As `gaussians`, of params (..., 10, m) of cells whose columns have a deviation (m,)."""
        centre, score, shift, log_ratio = params.split(
            [1, len(OFFSETS), len(OFFSETS), len(OFFSETS)], -2
        )
        floor = float(np.log(MIN_DEVIATION))
        mean = centre + deviation * (self._offsets + shift)
        log_deviation = floor + softplus((WIDTH * deviation).log() + log_ratio - floor)
        return score.log_softmax(-2), mean, log_deviation.exp()

    def sample(self, params, generator):
        log_weight, mean, deviation = self.gaussians(params)
        first, second, _ = log_weight.exp().split(1, -2)
        uniform = uniform_noise(first, generator)
        chosen = (uniform > first).long() + (uniform > first + second)
        mean, deviation = (part.gather(-2, chosen).squeeze(-2) for part in (mean, deviation))
        return mean + deviation * normal_noise(mean, generator)

    def log_density(self, params, cells):
        """Log density or probability of each cell.

        As in `Gaussian`, values outside the range have the density of a model without range and
        atoms, with weight 1 / (n + 1): here a Gaussian of the same mean and variance.
        """
        *lead, rows, _, _ = cells.shape
        if params.requires_grad or any(n > 1 for n in lead):
            observed = ~torch.isnan(cells[..., 0])
            cells = torch.where(observed.unsqueeze(-1), cells, 0.0)
            gaussians = self.gaussians(params)
            return torch.where(observed, _log_mixture(gaussians, cells, self.block.leak), 0.0)
        # Cells that need the same arithmetic together, in long contiguous parts.
        shape = torch.broadcast_shapes(params.shape[:-1], cells.shape[:-2])
        params = params.reshape(-1, params.shape[-2] if rows > 1 else 1, self.n_params)
        flat = cells.reshape(-1, self.cell_width)
        out = params.new_zeros(len(params), len(flat))
        observed, is_outside = ~torch.isnan(flat[:, 0]), flat[:, 3].isneginf()
        is_point = flat[:, 2] - flat[:, 1] < NARROW * MIN_DEVIATION
        is_tail = flat[:, 1].isneginf() & ~flat[:, 2].isposinf()
        for is_here, mass in (
            (is_point, _density_at_points),
            (is_tail, _probability_below),
            (~is_point & ~is_tail, _probability),
            (is_outside, None),
        ):
            (some,) = (is_here & observed & (is_outside == (mass is None))).nonzero(as_tuple=True)
            if len(some):
                out[:, some] = self._log_density_of(params, flat, some, mass)
        return out.view(*shape, self.n_columns)

    def _log_density_of(self, params, flat, some, mass):
        """Log density (S, m) of m of the observed cells, ``flat[some]``, by a sum of masses.

        It is computed by logarithms where that sum is too small or too large, or mass is None.
        """
        row, column = some // self.n_columns, some % self.n_columns
        blocks = torch.arange(0, self.n_params, self.n_columns, device=flat.device)
        place = blocks[:, None] + column + (self.n_params * row if params.shape[1] > 1 else 0)
        own = params.flatten(1).index_select(1, place.flatten()).unflatten(1, place.shape)
        cells, leak = flat[some], self.block.leak[column]
        gaussians = self._gaussians(own, self.block.deviation[column])
        if mass is None:
            return _log_mixture(gaussians, cells, leak)
        log_weight, mean, deviation = gaussians
        unit = cells[:, 3] if mass is _density_at_points else 0.0
        main = (log_weight.exp() * mass(mean, deviation, *cells[:, 1:4].T, unit)).sum(-2)
        total = (1 - leak) * main
        if (cells[:, 6] > -torch.inf).any():  # an atom has none
            centre, variance = _moments(*gaussians)
            mass = _density_at_points if mass is _density_at_points else _probability
            total = total + leak * mass(centre, variance.sqrt(), *cells[:, 4:7].T, unit)
        log_p = total.log() + unit
        is_poor = ~((total > LEAST) & (total < LARGEST)).all(0)
        if is_poor.any():
            (poor,) = is_poor.nonzero(as_tuple=True)
            parts = (part[..., poor] for part in gaussians)
            log_p[:, poor] = _log_mixture(tuple(parts), cells[poor], leak[poor])
        return log_p

    def local(self, params):
        """Mean and log variance of each cell."""
        mean, variance = _moments(*self.gaussians(params))
        return torch.cat([mean, variance.log()], -1)

    def surrogate(self, local, cells):
        variance, residual, observed, rounding = self._parts(local, cells)
        total = variance + rounding
        return -0.5 * (residual.square() / total + total.log() * observed)

    def surrogate_gradient(self, local, cells):
        """Gradient in the trained means, which move all Gaussians; the variance is constant."""
        variance, residual, _, rounding = self._parts(local, cells)
        return residual / (variance + rounding)

    def fisher_factor(self, jacobian, local, cells):
        variance, _, observed, rounding = self._parts(local, cells)
        return jacobian * (observed / (variance + rounding)).sqrt().unsqueeze(-1)

    def _parts(self, local, cells):
        """Variance, residual, whether observed, and variance of rounding of each cell."""
        mean, log_variance = local.chunk(2, -1)
        variance = log_variance.exp()
        return variance, *residuals(mean, variance.sqrt(), cells)

    def moved(self, params, weights, trained, trust):
        """All Gaussians of a column move with its mean."""
        mean, _ = _moments(*self.gaussians(params))
        shift = trust.unsqueeze(-1) * (trained - (mean * weights.unsqueeze(-1)).sum(1))
        centre, others = params.split([self.n_columns, self.n_params - self.n_columns], -1)
        return torch.cat([centre + shift.unsqueeze(1), others], -1)

    def expected(self, params, weights, columns=None, needed=None):
        """Mean of each cell in the raw unit, through the scaling map."""
        columns = list(range(self.n_columns) if columns is None else columns)
        log_weight, mean, deviation = self.gaussians(params)
        share = weights.unsqueeze(-1).unsqueeze(-1) * log_weight.exp()
        parts = [part.flatten(1, 2).cpu().numpy() for part in (mean, deviation, share)]
        out = []
        for c in columns:
            rows = np.arange(len(params)) if needed is None else np.flatnonzero(needed[:, c])
            rows = rows if len(rows) else np.arange(1)  # the form of values comes from one of them
            own = (part[rows, :, c].astype(np.float64) for part in parts)
            values = self.block.expected_of_normals(c, *own)
            places = np.zeros(len(params), int)
            places[rows] = np.arange(len(rows))
            out.append(values[places])
        return out


def _moments(log_weight, mean, deviation):
    """Mean and variance (..., C) of mixtures (..., K, C)."""
    weight = log_weight.exp()
    centre = (weight * mean).sum(-2, keepdim=True)
    variance = (weight * (deviation.square() + (mean - centre).square())).sum(-2)
    return centre.squeeze(-2), variance


def _log_mixture(gaussians, cells, leak):
    """Log density (..., C) of observed cells (..., C, 7) under mixtures (..., K, C)."""
    log_weight, mean, deviation = gaussians
    interval = (part.unsqueeze(-2) for part in cells[..., 1:4].unbind(-1))
    parts = log_weight + _LogMass.apply(mean, deviation, *interval)
    is_outside = parts.isneginf().all(-2, keepdim=True)  # where logsumexp has no gradient
    main = parts.masked_fill(is_outside, 0.0).logsumexp(-2)
    main = main.masked_fill(is_outside.squeeze(-2), -torch.inf)
    centre, variance = (part.detach() for part in _moments(*gaussians))
    spare = log_normal_mass(centre, variance.sqrt(), *cells[..., 4:7].unbind(-1))
    return torch.logaddexp(torch.log1p(-leak) + main, leak.log() + spare)


def _density_at_points(mean, deviation, low, high, log_width, unit):
    """Density times width of narrow intervals under N(mean, deviation), divided by e^unit."""
    r = ((low + high) / 2 - mean) / deviation
    return torch.exp((log_width - unit - 0.5 * LOG_2PI) - 0.5 * r.square()) / deviation


def _probability_below(mean, deviation, low, high, log_width, unit):
    """Probability of values up to high under N(mean, deviation)."""
    return 0.5 * torch.special.erfc((mean - high) * (0.5**0.5 / deviation))


def _probability(mean, deviation, low, high, log_width, unit):
    """Probability of [low, high] under N(mean, deviation), divided by e^unit."""
    a, b = ((end - mean) * (0.5**0.5 / deviation) for end in (low, high))
    # In the upper tail, where differences of the distribution function are accurate.
    is_lower = a + b < 0
    a, b = torch.where(is_lower, -b, a), torch.where(is_lower, -a, b)
    mass = 0.5 * (torch.special.erfc(a) - torch.special.erfc(b))
    is_narrow = high - low < NARROW * deviation
    if is_narrow.any():
        narrow = _density_at_points(mean, deviation, low, high, log_width, unit)
        mass = torch.where(is_narrow, narrow, mass)
    return mass


class _LogMass(torch.autograd.Function):
    """`log_normal_mass` with a gradient in mean and deviation that is finite in both tails."""

    @staticmethod
    def forward(ctx, mean, deviation, low, high, log_width):
        log_mass = log_normal_mass(mean, deviation, low, high, log_width)
        ctx.save_for_backward(mean, deviation, low, high, log_mass)
        return log_mass

    @staticmethod
    def backward(ctx, gradient):
        mean, deviation, low, high, log_mass = ctx.saved_tensors
        a, b = (low - mean) / deviation, (high - mean) / deviation
        # Density over probability at both ends, which is 0 at an infinite end.
        at_a, at_b = (torch.exp(-0.5 * end.square() - 0.5 * LOG_2PI - log_mass) for end in (a, b))
        by_mean = at_a - at_b
        by_log_deviation = torch.where(at_a > 0, a * at_a, 0) - torch.where(at_b > 0, b * at_b, 0)
        middle = (a + b) / 2
        near = torch.where(middle < 0, b, a)
        for is_here, r, curvature in (
            ((a * b > 0) & (near.abs() > FAR_END), near, 0.0),
            (b - a < NARROW, middle, 1.0),
        ):
            by_mean = torch.where(is_here, r, by_mean)
            by_log_deviation = torch.where(is_here, r.square() - curvature, by_log_deviation)
        gradient = torch.where(torch.isneginf(log_mass), 0.0, gradient) / deviation
        return (
            torch.where(gradient == 0, 0.0, gradient * by_mean),
            torch.where(gradient == 0, 0.0, gradient * by_log_deviation),
            None,
            None,
            None,
        )
