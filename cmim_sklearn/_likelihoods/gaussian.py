"""Numbers: a Gaussian through a monotone map, with the intervals that rounded values stand for."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import softplus

from cmim_sklearn._likelihoods.base import Likelihood
from cmim_sklearn._likelihoods.scaling import SCALINGS, ScalingMap
from cmim_sklearn._likelihoods.summary import summarise

LOG_2PI = float(np.log(2 * np.pi))
MIN_SCALE = 0.05
"""Floor of a Gaussian column's standard deviation, in standardised units.

Without one, the likelihood of a constant, rounded or repeated column is unbounded, and its
gradient drowns every other column: at 0.05 a column can weigh at most 400 times a fresh one.
"""
SCALE_GAIN = 10.0
"""Factor of a Gaussian column's raw scale: Adam moves a lone parameter by its rate a step, whatever
the gradient, and at 1e-3 a scale would need the whole fit to come down to its floor."""
MAX_SCALED = 1e15
"""Bound of an encoded number, whose square still fits a float32."""
MAX_DEVIATIONS = 1e4


class Gaussian(Likelihood):
    """Numbers, integer or not: N(mean(z), scale), a standard deviation per column for all rows.

    There are two standard deviations. The one learnt with the network is a mean over all the noise
    that training adds to codes; its floor is `MIN_SCALE`, soft, so that it never stops learning.
    ``deviation`` is what is left at codes as `sample` draws them, fitted after training by
    `refit_noise`; draws and densities go by it.

    Parameters
    ----------
    maps : list of C dicts
        The arguments of each column's `ScalingMap`.
    low, high : array of shape (C,)
        The training range, in the column's own unit.
    decimals : list of C (int or None)
        Decimals that all values have at most: 0 for whole numbers, None for full precision.
    n_seen : array of shape (C,)
        Observed training rows.
    """

    cell_width = 7

    def __init__(self, maps, low, high, decimals, n_seen):
        super().__init__(len(maps), len(maps), len(maps))
        self.maps = [ScalingMap(**parts) for parts in maps]
        self.low, self.high = np.asarray(low, float), np.asarray(high, float)
        self.decimals = [None if d is None else int(d) for d in decimals]
        self.n_seen = np.asarray(n_seen, float)
        self.raw_scale = nn.Parameter(torch.zeros(self.n_columns))
        self.register_buffer("deviation", self.log_scale().exp().detach())
        leak = torch.as_tensor(1 / (self.n_seen + 1), dtype=torch.float32)
        self.register_buffer("_leak", leak, persistent=False)

    @classmethod
    def fit(cls, columns, names, *, summaries=None, numeric_scaling="quantile", **options):
        """See `Likelihood.fit`; ``numeric_scaling`` is a key of `SCALINGS`."""
        summaries = summaries or summarise(columns)
        maps = [SCALINGS[numeric_scaling](column[~np.isnan(column)]) for column in columns]
        return cls(
            [m.state() for m in maps],
            [summary.low for summary in summaries],
            [summary.high for summary in summaries],
            [summary.decimals for summary in summaries],
            [summary.n_seen for summary in summaries],
        )

    def state(self):
        """See `Likelihood.state`."""
        return {
            "maps": [m.state() for m in self.maps],
            "low": self.low,
            "high": self.high,
            "decimals": self.decimals,
            "n_seen": self.n_seen,
        }

    def encode(self, columns):
        """See `Likelihood.encode`."""
        out = np.empty((len(columns[0]), self.n_columns), dtype=np.float32)
        with np.errstate(over="ignore"):  # what is infinite as float32 is cut like what is not
            for c, (m, column) in enumerate(zip(self.maps, columns, strict=True)):
                out[:, c] = m.forward(column)
        return out.clip(-MAX_SCALED, MAX_SCALED, out=out)

    def decode(self, encoded, *, drawn=False):
        """See `Likelihood.decode`; numbers get the decimals that the training values had."""
        out = []
        for c, m in enumerate(self.maps):
            values = m.inverse(encoded[:, c].astype(np.float64))
            if self.decimals[c] is not None:
                values = np.round(values, self.decimals[c])
            # Beyond the outermost of many knots a map only guesses: one draw in n or so is cut.
            is_linear = len(m.x) == 2
            ends = self._ends(c) if drawn and is_linear else (self.low[c], self.high[c])
            out.append(np.clip(values, *ends))
        return out

    def _ends(self, c):
        """What densities are cut to: the ends of the range where they are whole, or atoms."""
        m, ends = self.maps[c], (self.low[c], self.high[c])
        is_cut = [
            self.decimals[c] == 0 or m.above[end] > m.below[end] or ends[0] == ends[1]
            for end in (0, -1)
        ]
        free = np.array([-np.inf, np.inf])
        return np.where(is_cut, ends, np.where(np.isnan(ends), np.nan, free))

    def log_scale(self):
        """Log standard deviation of each column, (C,), in standardised units."""
        floor = float(np.log(MIN_SCALE))
        return floor + softplus(SCALE_GAIN * self.raw_scale - floor)

    def observed(self, x):
        """See `Likelihood.observed`."""
        return ~torch.isnan(x)

    def inputs(self, x, observed):
        """See `Likelihood.inputs`."""
        return torch.where(observed, x, 0.0)

    def log_prob(self, params, x, observed):
        """See `Likelihood.log_prob`."""
        log_scale = self.log_scale()
        residual = torch.where(observed, x - params, 0.0) * torch.exp(-log_scale)
        return -0.5 * residual.square() - (log_scale + 0.5 * LOG_2PI) * observed

    def point(self, params):
        """See `Likelihood.point`: the mean."""
        return params

    def sample(self, params, generator):
        """See `Likelihood.sample`."""
        noise = torch.randn(params.shape, generator=generator, device=params.device)
        return params + self.deviation * noise

    def rsample(self, params, generator):
        """One draw of each cell (n, C) as training has it, with gradients to params and scale."""
        noise = torch.randn(params.shape, generator=generator, device=params.device)
        return params + self.log_scale().exp() * noise

    def measure(self, columns):
        """See `Likelihood.measure`.

        Of each cell: its encoded value y; then, twice, the ends of the standardised interval that
        decodes to it and the logarithm of the interval's width (of the slope, where it is a point).
        First of the model as it is: values beyond the training range, and those that atoms swallow,
        have a width of 0. Then of the model without range and atoms, which gives them something.
        """
        cells = np.empty((len(columns[0]), self.n_columns, self.cell_width), np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            for c, (m, values) in enumerate(zip(self.maps, columns, strict=True)):
                lowest, highest = self._ends(c)
                plain, outside = m.without_atoms(), (values < lowest) | (values > highest)
                if self.decimals[c] == 0:
                    ends = np.round(values) - 0.5, np.round(values) + 0.5
                    low, high = m.forward(ends[0]), m.forward(ends[1])
                    spare_low, spare_high = plain.forward(ends[0]), plain.forward(ends[1])
                    width, spare_width = high - low, spare_high - spare_low
                    # Far out the ends of a bin are one number in double precision.
                    spare_width = np.where(spare_width > 0, spare_width, plain.slope(values))
                    is_mass = ~outside
                else:
                    low, high = m.interval(values)
                    is_mass = (high > low) | ((lowest == highest) & ~outside)
                    width = np.where(is_mass, high - low, m.slope(values))
                    spare_low = spare_high = plain.forward(values)
                    # A probability and a density do not add up: an atom has the one alone.
                    spare_width = np.where(is_mass, 0.0, plain.slope(values))
                low = np.where(is_mass & (values <= lowest), -np.inf, low)
                high = np.where(is_mass & (values >= highest), np.inf, high)
                width = np.where(outside, 0.0, np.where(lowest == highest, np.inf, width))
                own = (low, high, np.log(width))
                spare = spare_low, spare_high, np.log(spare_width)
                inner = [v.clip(-MAX_SCALED, MAX_SCALED) for v in (m.forward(values), *spare[:2])]
                ends = [np.where(np.isinf(v), v, v.clip(-MAX_SCALED, MAX_SCALED)) for v in own[:2]]
                cells[:, c] = np.stack([inner[0], *ends, own[2], *inner[1:], spare[2]], axis=1)
        return cells

    def log_density(self, params, cells):
        """See `Likelihood.log_density`.

        Of the model without range and atoms there is 1 part in n + 1, for n training values: a
        value between 0 and the first amount of a mostly-zero column is unlikely, not impossible.
        """
        observed = ~torch.isnan(cells[:, :, 0])
        cells = torch.where(observed.unsqueeze(-1), cells, 0.0)
        own = _log_normal_mass(params, self.deviation, *cells[:, :, 1:4].unbind(-1))
        spare = _log_normal_mass(params, self.deviation, *cells[:, :, 4:7].unbind(-1))
        log_p = torch.logaddexp(torch.log1p(-self._leak) + own, self._leak.log() + spare)
        return torch.where(observed, log_p, 0.0)

    def _stand_in(self, params, cells):
        """Residual, whether observed, and variance of rounding of each cell, all (n, C).

        A cell's interval counts as noise of a twelfth of its square.
        """
        y, low, high = cells[:, :, 0], cells[:, :, 1], cells[:, :, 2]
        observed = ~torch.isnan(y)
        # An interval without end is as wide as its nearer half says.
        width = torch.minimum(high - low, 2 * torch.minimum(high - y, y - low).abs())
        width = torch.where(torch.isfinite(width), width, 1e3).where(observed, 0.0)
        # What is absurdly far off pulls no harder than what is very far off.
        residual = torch.where(observed, y - params, 0.0)
        far = MAX_DEVIATIONS * self.deviation
        return residual.clamp(-far, far), observed, width.square() / 12

    def local(self, params, cells):
        """See `Likelihood.local`."""
        residual, _, rounding = self._stand_in(params, cells)
        precision = 1 / (self.deviation.square() + rounding)
        return -0.5 * residual.square() * precision, residual * precision

    def whiten(self, jacobian, params, cells):
        """See `Likelihood.whiten`."""
        _, observed, rounding = self._stand_in(params, cells)
        precision = observed / (self.deviation.square() + rounding)
        return jacobian * precision.sqrt().unsqueeze(-1)

    def refit_noise(self, params, variance, cells, prior_share):
        """See `Likelihood.refit_noise`; not below `MIN_SCALE`."""
        residual, _, rounding = self._stand_in(params, cells)
        # The value behind a rounded one is known no better than its interval says.
        share = self.deviation.square() / (self.deviation.square() + rounding)
        squares = share.square() * (residual.square() + variance) + share * rounding
        squares = torch.where(torch.isnan(cells[:, :, 0]), torch.nan, squares)
        fitted, learnt = 0.5 * torch.nanmean(squares, 0).log(), self.log_scale()
        fitted = prior_share * learnt + (1 - prior_share) * fitted.clamp(
            min=float(np.log(MIN_SCALE))
        )
        self.deviation.copy_(torch.where(torch.isfinite(fitted), fitted, learnt).exp())

    def guess(self, params, weights):
        """See `Likelihood.guess`: the mean, through the map."""
        means, shares = params.double().cpu().numpy(), weights.double().cpu().numpy()
        noise = np.linspace(-5, 5, 401)
        density = np.exp(-0.5 * noise**2) / np.exp(-0.5 * noise**2).sum()
        out = []
        for c, m in enumerate(self.maps):
            # E[raw | mean of the standardised value] is one smooth function for the whole column.
            deviation = float(self.deviation[c])
            first, last = m.below[0] - 8 * deviation, m.above[-1] + 8 * deviation
            grid = np.linspace(first, last, 2000)
            values = m.inverse(grid[:, None] + deviation * noise)
            table = values.clip(*self._ends(c)) @ density
            inner = means[:, :, c].clip(-MAX_SCALED, MAX_SCALED)
            beyond = m.inverse(inner).clip(*self._ends(c))  # where the map is linear
            is_beyond = (inner < first) | (inner > last)
            raw = np.where(is_beyond, beyond, np.interp(inner, grid, table))
            out.append((raw * shares).sum(1))
        return out


def _log_normal_mass(mean, deviation, low, high, log_width):
    """Log probability of [low, high] under N(mean, deviation); of a narrow one, by its width."""
    middle = ((low + high) / 2 - mean) / deviation
    density = -0.5 * middle.square() - deviation.log() - 0.5 * LOG_2PI + log_width
    a, b = (low - mean) / deviation, (high - mean) / deviation
    # In the lower tail, where differences of the distribution function keep their digits.
    a, b = torch.where(a + b > 0, -b, a), torch.where(a + b > 0, -a, b)
    log_b = torch.special.log_ndtr(b)
    inside = log_b + torch.log1p(-torch.exp(torch.special.log_ndtr(a) - log_b))
    inside = torch.where(torch.isneginf(log_width), log_width, inside)
    return torch.where(high - low < 0.02 * deviation, density, inside)
