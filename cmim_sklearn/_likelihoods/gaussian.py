"""Gaussian likelihood of numeric columns, after a monotone scaling map."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import softplus

from cmim_sklearn._likelihoods.base import Likelihood, normal_noise
from cmim_sklearn._likelihoods.grid import Grid
from cmim_sklearn._likelihoods.scaling import MAX_SIZE, SCALINGS, ScalingMap
from cmim_sklearn._likelihoods.summary import summarise
from cmim_sklearn._utils.isolation import one_blas_thread

LOG_2PI = float(np.log(2 * np.pi))
MIN_SCALE = 0.05
"""Lower bound of a column's standard deviation, in standardised units.

Without it, the likelihood of a constant, rounded or repeated column is unbounded, and its gradient
dominates every other column. At 0.05 a column weighs at most 400 times as much as at the start.
"""
SCALE_GAIN = 10.0
"""Factor of a column's raw scale. Adam moves a parameter by its learning rate per step, independent
of the gradient; at a rate of 1e-3 a scale would need the whole fit to reach its lower bound."""
MAX_SCALED = 1e15
"""Largest absolute encoded value; its square still fits a float32."""
MIN_SCALED_RANGE = 1e-6
"""Width of a column's range, in standardised units, below which samples are noise alone."""
MAX_DEVIATIONS = 1e4
"""Largest residual, in standard deviations, that `surrogate` distinguishes."""
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
"""Nodes and weights of the quadrature in `Gaussian.expected_of_normals`."""
NARROW, FAR = 0.02, 7.0
"""Width of an interval, in standard deviations, below which its probability is density times width;
argument of erfc from which it is computed by logarithms."""


class Gaussian(Likelihood):
    """Numbers, whole or real: N(mean(z), scale) with one standard deviation per column.

    There are two standard deviations. The one trained with the network averages over the noise
    that training adds to codes; its lower bound `MIN_SCALE` is soft, so that its gradient never
    vanishes. ``deviation`` is the noise at codes as `sample` draws them; `refit_noise` fits it
    after training. Samples and densities use ``deviation``.

    Parameters
    ----------
    maps : list of C dicts
        Arguments of each column's `ScalingMap`.
    low, high : array of shape (C,)
        Training range, in the raw unit.
    decimals : list of C (int or None)
        Largest number of decimals of a column's values: 0 for whole numbers, None for full
        precision.
    n_seen : array of shape (C,)
        Number of observed training values.
    grids : list of C (dict or None), default=None
        Arguments of each column's `Grid`, to which samples are rounded; None for the decimals.
    """

    cell_width = 7

    def __init__(self, maps, low, high, decimals, n_seen, grids=None):
        super().__init__(len(maps), len(maps), len(maps))
        self.maps = [ScalingMap(**parts) for parts in maps]
        self.low, self.high = np.asarray(low, float), np.asarray(high, float)
        self.decimals = [None if d is None else int(d) for d in decimals]
        self.n_seen = np.asarray(n_seen, float)
        grids = [None] * self.n_columns if grids is None else grids
        if len(grids) != self.n_columns:
            raise ValueError(f"grids must be one for each column; got {len(grids)}.")
        self.grids = [None if grid is None else Grid(**grid) for grid in grids]
        self.raw_scale = nn.Parameter(torch.zeros(self.n_columns, dtype=torch.float32))
        self.register_buffer("deviation", self.log_scale().exp().detach())
        leak = torch.as_tensor(1 / (self.n_seen + 1), dtype=torch.float32)
        self.register_buffer("leak", leak, persistent=False)
        self._tables = {}

    @classmethod
    def fit(cls, columns, names, *, summaries=None, numeric_scaling="quantile", **options):
        """Fit scaling maps and grids; ``numeric_scaling`` is a key of `SCALINGS`."""
        summaries = summaries or summarise(columns)
        observed = [column[~np.isnan(column)] for column in columns]
        maps = [SCALINGS[numeric_scaling](values) for values in observed]
        pairs = zip(observed, summaries, strict=True)
        grids = [Grid.fit(seen, of.decimals, of.multiple) for seen, of in pairs]
        return cls(
            [m.state() for m in maps],
            [summary.low for summary in summaries],
            [summary.high for summary in summaries],
            [summary.decimals for summary in summaries],
            [summary.n_seen for summary in summaries],
            _states(grids),
        )

    def state(self):
        return {
            "maps": [m.state() for m in self.maps],
            "low": self.low,
            "high": self.high,
            "decimals": self.decimals,
            "n_seen": self.n_seen,
            "grids": _states(self.grids),
        }

    def encode(self, columns):
        out = np.empty((len(columns[0]), self.n_columns), dtype=np.float32)
        with np.errstate(over="ignore"):  # infinite float32 values are clipped like finite ones
            for c, (m, column) in enumerate(zip(self.maps, columns, strict=True)):
                out[:, c] = m.forward(column)
        return out.clip(-MAX_SCALED, MAX_SCALED, out=out)

    def decode(self, encoded, *, drawn=False):
        """Decode to raw numbers with the decimals of the training values.

        With ``drawn=True`` they are values of the column's `Grid`.
        """
        out = []
        for c, m in enumerate(self.maps):
            values = m.inverse(encoded[:, c].astype(np.float64))
            with np.errstate(over="ignore", invalid="ignore"):  # before they are clipped
                if drawn and self.grids[c] is not None:
                    values = self.grids[c].nearest(values)
                elif self.decimals[c] is not None:
                    values = np.round(values, self.decimals[c])
            out.append(self._clipped(c, values) if drawn else self._in_range(c, values))
        return out

    def _in_range(self, c, values):
        """Clip values of a column to the training range."""
        if self.low[c] == self.high[c]:  # also for the sign of zero
            return np.where(np.isnan(values), np.nan, self.low[c])
        return np.clip(values, self.low[c], self.high[c])

    def _clipped(self, c, values):
        """Clip generated or expected values of a column."""
        return np.clip(values, *self._ends(c)) if self._is_free(c) else self._in_range(c, values)

    def _is_free(self, c):
        """Whether samples of a column may leave the training range."""
        # With many knots the map extrapolates only outside the training range, which about 1 sample
        # in n leaves: clip it. A linear map has no such range, unless encoded values do not resolve
        # or do not reach it.
        if not self.maps[c].is_linear:
            return False
        low, high = self.maps[c].forward([self.low[c], self.high[c]])
        return high - low > MIN_SCALED_RANGE and -MAX_SCALED < low < high < MAX_SCALED

    def _ends(self, c):
        """Range that densities are clipped to; `MAX_SIZE` where an end has no probability mass."""
        m, ends = self.maps[c], (self.low[c], self.high[c])
        is_clipped = [
            self.decimals[c] == 0 or m.above[end] > m.below[end] or ends[0] == ends[1]
            for end in (0, -1)
        ]
        free = np.array([-MAX_SIZE, MAX_SIZE])
        return np.where(is_clipped, ends, np.where(np.isnan(ends), np.nan, free))

    def constant_of(self, column):
        return float(self.low[column]) if self.low[column] == self.high[column] else None

    def log_scale(self):
        """Log standard deviation of each column, (C,), in standardised units."""
        floor = float(np.log(MIN_SCALE))
        return floor + softplus(SCALE_GAIN * self.raw_scale - floor)

    def observed(self, x):
        return ~torch.isnan(x)

    def inputs(self, x, observed):
        return torch.where(observed, x, 0.0)

    def log_prob(self, params, x, observed):
        log_scale = self.log_scale()
        residual = torch.where(observed, x - params, 0.0) * torch.exp(-log_scale)
        return -0.5 * residual.square() - (log_scale + 0.5 * LOG_2PI) * observed

    def point(self, params):
        """Mean of each cell."""
        return params

    def sample(self, params, generator):
        noise = normal_noise(params, generator)
        return params + self.deviation * noise

    def rsample(self, params, generator):
        """Sample of each cell (n, C) with the trained scale, with gradients in params and scale."""
        noise = normal_noise(params, generator)
        return params + self.log_scale().exp() * noise

    def measure(self, columns):
        """Encode raw columns for `log_density`, 7 numbers per cell.

        Number 1 is the encoded value. Numbers 2 to 4 are the low end, high end and log width of the
        standardised interval that decodes to the cell (for a single point, the log slope of the
        map). Values outside the training range, or between adjacent atoms, have width 0. Numbers
        5 to 7 are the same for a model without range and atoms, in which these have a positive
        width.
        """
        cells = np.empty((len(columns[0]), self.n_columns, self.cell_width), np.float32)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for c, (m, values) in enumerate(zip(self.maps, columns, strict=True)):
                lowest, highest = self._ends(c)
                plain, outside = m.without_atoms(), (values < lowest) | (values > highest)
                y, slope = m.forward(values), m.slope(values)
                plain_slope = slope if plain is m else plain.slope(values)
                if self.decimals[c] == 0:
                    ends = np.round(values) - 0.5, np.round(values) + 0.5
                    on_step, reach = self._steps(c, values)
                    outside |= np.abs(values - on_step) >= 0.5
                    low, high = m.forward(on_step - reach), m.forward(on_step + reach)
                    # Above 2**52 the ends of a bin are not float64 numbers.
                    spacing = np.spacing(np.abs(values))
                    is_coarse = spacing > reach
                    low, high = np.where(is_coarse, m.interval(values), (low, high))
                    spare_low, spare_high = plain.forward(ends[0]), plain.forward(ends[1])
                    width, spare_width = high - low, spare_high - spare_low
                    width = np.where(is_coarse & (width <= 0), slope * spacing, width)
                    # Far from 0 both ends of a bin round to one number in double precision.
                    spare_width = np.where(spare_width > 0, spare_width, plain_slope)
                    is_mass = ~outside
                else:
                    low, high = m.interval(values)
                    is_mass = (high > low) | ((lowest == highest) & ~outside)
                    width = np.where(is_mass, high - low, slope)
                    spare_low = spare_high = y if plain is m else plain.forward(values)
                    # A probability and a density cannot be added: an atom has only a probability.
                    spare_width = np.where(is_mass, 0.0, plain_slope)
                low = np.where(is_mass & (values <= lowest), -np.inf, low)
                high = np.where(is_mass & (values >= highest), np.inf, high)
                width = np.where(outside, 0.0, np.where(lowest == highest, np.inf, width))
                inner = np.array([y, spare_low, spare_high]).clip(-MAX_SCALED, MAX_SCALED)
                ends = np.array([low, high])
                ends = np.where(np.isinf(ends), ends, ends.clip(-MAX_SCALED, MAX_SCALED))
                log_width, log_spare_width = np.log([width, spare_width])
                parts = inner[0], *ends, log_width, *inner[1:], log_spare_width
                cells[:, c] = np.array(parts).T
        return cells

    def _steps(self, c, values):
        """Whole numbers of a column nearest to values (n,), and half the distance of two."""
        grid = self.grids[c]
        return (np.round(values), 0.5) if grid is None else (grid.on_step(values), grid.step / 2)

    def log_density(self, params, cells):
        """Log density or probability of each cell.

        A mixture with weight 1 / (n + 1), for n training values, of the model without range and
        atoms: a value between 0 and the smallest amount of a mostly-zero column is unlikely, not
        impossible.
        """
        observed = ~torch.isnan(cells[..., 0])
        cells = torch.where(observed.unsqueeze(-1), cells, 0.0)
        main = log_normal_mass(params, self.deviation, *cells[..., 1:4].unbind(-1))
        spare = log_normal_mass(params, self.deviation, *cells[..., 4:7].unbind(-1))
        log_p = torch.logaddexp(torch.log1p(-self.leak) + main, self.leak.log() + spare)
        return torch.where(observed, log_p, 0.0)

    def surrogate(self, params, cells):
        residual, _, rounding = residuals(params, self.deviation, cells)
        return -0.5 * residual.square() / (self.deviation.square() + rounding)

    def surrogate_gradient(self, params, cells):
        residual, _, rounding = residuals(params, self.deviation, cells)
        return residual * (1 / (self.deviation.square() + rounding))

    def fisher_factor(self, jacobian, params, cells):
        _, observed, rounding = residuals(params, self.deviation, cells)
        precision = observed / (self.deviation.square() + rounding)
        return jacobian * precision.sqrt().unsqueeze(-1)

    def refit_noise(self, params, variance, cells, prior_share):
        """Refit ``deviation``, not below `MIN_SCALE`."""
        residual, _, rounding = residuals(params, self.deviation, cells)
        # The exact value behind a rounded one is only known up to its interval.
        share = self.deviation.square() / (self.deviation.square() + rounding)
        squares = share.square() * (residual.square() + variance) + share * rounding
        squares = torch.where(torch.isnan(cells[:, :, 0]), torch.nan, squares)
        fitted, trained = 0.5 * torch.nanmean(squares, 0).log(), self.log_scale()
        fitted = prior_share * trained + (1 - prior_share) * fitted.clamp(
            min=float(np.log(MIN_SCALE))
        )
        self.deviation.copy_(torch.where(torch.isfinite(fitted), fitted, trained).exp())

    def expected(self, params, weights, columns=None, needed=None):
        """Mean of each cell in the raw unit, through the scaling map."""
        columns = range(self.n_columns) if columns is None else columns
        means, shares = params[..., columns].double().cpu().numpy(), weights.double().cpu().numpy()
        out = []
        for c, mean in zip(columns, np.moveaxis(means, -1, 0), strict=True):
            grid, table = self._expected_table(c)
            inner = mean.clip(-MAX_SCALED, MAX_SCALED)
            outer = self.maps[c].inverse(inner).clip(*self._ends(c))  # where the map is linear
            is_outer = (inner < grid[0]) | (inner > grid[-1])
            raw = np.where(is_outer, outer, np.interp(inner, grid, table))
            out.append(self._clipped(c, (raw * shares).sum(1)))  # shares sum to 1 up to rounding
        return out

    def expected_of_normals(self, c, means, deviations, weights):
        """Raw column (n,): mean of mixtures of K normals (n, K) each, through the map of column c.

        Integrals are those of Gauss-Hermite quadrature, which is exact where the map is linear.
        """
        inner = means[..., None] + deviations[..., None] * NODES
        values = self.maps[c].inverse(inner.clip(-MAX_SCALED, MAX_SCALED)).clip(*self._ends(c))
        raw = (values * NODE_WEIGHTS).sum(2) / NODE_WEIGHTS.sum()
        return self._clipped(c, (raw * weights).sum(1))

    def _expected_table(self, c):
        """E[raw value | mean in standardised units] of a column, tabulated: grid and values.

        It is one smooth function per column, and is computed at the first use.
        """
        deviation = float(self.deviation[c])
        if self._tables.get(c, (None,))[0] != deviation:
            m, noise = self.maps[c], np.linspace(-5, 5, 401)
            density = np.exp(-0.5 * noise**2) / np.exp(-0.5 * noise**2).sum()
            grid = np.linspace(m.below[0] - 8 * deviation, m.above[-1] + 8 * deviation, 2000)
            values = m.inverse(grid[:, None] + deviation * noise).clip(*self._ends(c))
            with one_blas_thread():
                self._tables[c] = deviation, grid, values @ density
        return self._tables[c][1:]


def _states(grids):
    return [None if grid is None else grid.state() for grid in grids]


def residuals(mean, deviation, cells):
    """Residual, whether observed, and variance of rounding of each cell, all (..., C).

    The variance of rounding to an interval is its squared width / 12.
    """
    y, low, high = cells[..., :3].unbind(-1)
    observed = ~torch.isnan(y)
    # The width of an unbounded interval is twice its bounded half.
    width = torch.minimum(high - low, 2 * torch.minimum(high - y, y - low).abs())
    width = torch.where(torch.isfinite(width), width, 1e3).where(observed, 0.0)
    # Bounds the pull of extreme outliers.
    residual = torch.where(observed, y - mean, 0.0)
    far = MAX_DEVIATIONS * deviation
    return residual.clamp(-far, far), observed, width.square() / 12


def log_normal_mass(mean, deviation, low, high, log_width):
    """Log probability of [low, high] under N(mean, deviation); density times width if narrow."""
    is_narrow = high - low < NARROW * deviation
    out = mean.new_empty(torch.broadcast_shapes(mean.shape, low.shape))
    for is_here, log_mass in ((is_narrow, _log_density_times_width), (~is_narrow, _log_interval)):
        columns = _positions(is_here.flatten(0, -2).any(0))
        if len(columns):  # often only one of the two is needed
            parts = (x.index_select(-1, columns) for x in (mean, deviation, low, high, log_width))
            mass, here = log_mass(*parts), is_here.index_select(-1, columns)
            out[..., columns] = torch.where(here, mass, out[..., columns])
    return out


def leaves_out(x):
    """Whether to find the cells that need an operation, and to leave out the others.

    A GPU would wait for their number, and a CUDA graph could not hold the operation.
    """
    return x.device.type == "cpu"


def _positions(chosen):
    """Positions of at least the chosen columns, for whether each is chosen, (C,)."""
    if leaves_out(chosen):
        return chosen.nonzero().squeeze(1)
    return torch.arange(len(chosen), device=chosen.device)


def _log_density_times_width(mean, deviation, low, high, log_width):
    residual = ((low + high) / 2 - mean) / deviation
    return (log_width - deviation.log() - 0.5 * LOG_2PI) - 0.5 * residual.square()


def _log_interval(mean, deviation, low, high, log_width):
    """Log probability of [low, high] under N(mean, deviation)."""
    a, b = ((end - mean) * (0.5**0.5 / deviation) for end in (low, high))
    # Mirror to the upper tail, where differences of the distribution function are accurate.
    is_lower = a + b < 0
    a, b = torch.where(is_lower, -b, a), torch.where(is_lower, -a, b)
    inside = (0.5 * (torch.special.erfc(a) - torch.special.erfc(b))).log()
    is_far = a > FAR  # erfc is 0 there; its logarithm takes ten times as long
    parts = mean, deviation, low, high, log_width
    if not leaves_out(mean):
        far = _log_far_interval(*(x.double() for x in parts)).to(inside.dtype)
        inside = torch.where(is_far, far, inside)
    elif is_far.any():
        parts = (x[is_far].double() for x in torch.broadcast_tensors(*parts))
        inside[is_far] = _log_far_interval(*parts).to(inside.dtype)
    return torch.where(torch.isneginf(log_width), log_width, inside)


def _log_far_interval(mean, deviation, low, high, log_width):
    """As `_log_interval`, in double precision, for both ends in one tail."""
    ends = [((end - mean) / deviation).abs() for end in (low, high)]
    log_near = torch.special.log_ndtr(-torch.minimum(*ends))
    log_far = torch.special.log_ndtr(-torch.maximum(*ends))
    inside = log_near + torch.log1p(-torch.exp(log_far - log_near))
    narrow = _log_density_times_width(mean, deviation, low, high, log_width)
    return torch.where(log_far < log_near, inside, narrow)
