"""Poisson likelihood of count columns, with a log link."""

import numpy as np
import torch

from cmim_sklearn._likelihoods.base import Likelihood, only
from cmim_sklearn._likelihoods.summary import summarise

MAX_LOG_RATE = 20.0
MAX_COUNT = int(np.exp(MAX_LOG_RATE))
"""Largest count that a column may have in fit; no larger one could be generated."""
MAX_ENCODED = 1e15
"""Largest encoded count; the logarithm of its factorial still fits a float32."""


class Poisson(Likelihood):
    """Counts: Poisson(rate(z)); the rate is relative to the column's mean count.

    Parameters
    ----------
    mean, high : array of shape (C,)
        Mean and largest training count.
    n_seen : array of shape (C,)
        Number of observed training values.
    """

    is_count = True

    def __init__(self, mean, high, n_seen):
        super().__init__(len(mean), len(mean), len(mean))
        self.mean, self.high = np.asarray(mean, float), np.asarray(high, float)
        self.n_seen = np.asarray(n_seen, float)
        leak = torch.as_tensor(1 / (self.n_seen + 1), dtype=torch.float32)
        self.register_buffer("_leak", leak, persistent=False)
        high = torch.as_tensor(self.high, dtype=torch.float32)
        self.register_buffer("_high", high, persistent=False)
        log_mean = torch.as_tensor(np.log(self.mean), dtype=torch.float32)
        self.register_buffer("log_mean", log_mean, persistent=False)

    @classmethod
    def fit(cls, columns, names, *, summaries=None, **options):
        """Learn mean and range; every observed value must be a whole number up to `MAX_COUNT`."""
        summaries = summaries or summarise(columns)
        for summary, name in zip(summaries, names, strict=True):
            if summary.not_a_count is not None:
                row, value = summary.not_a_count
                raise ValueError(
                    f"`likelihoods`: 'poisson' needs whole numbers from 0 upward; column {name!r} "
                    f"has {value} in row {row}. Remove it from `likelihoods` or choose another "
                    "kind."
                )
            if summary.high > MAX_COUNT:
                raise ValueError(
                    f"`likelihoods`: 'poisson' needs counts of at most {MAX_COUNT}; column "
                    f"{name!r} has {summary.high:.10g}. Remove it from `likelihoods` or choose "
                    "another kind."
                )
        return cls(
            [max(summary.mean, 1e-3) if summary.n_seen else 1.0 for summary in summaries],
            [summary.high for summary in summaries],
            [summary.n_seen for summary in summaries],
        )

    def state(self):
        return {"mean": self.mean, "high": self.high, "n_seen": self.n_seen}

    def encode(self, columns):
        return np.stack(columns, axis=1).clip(-MAX_ENCODED, MAX_ENCODED).astype(np.float32)

    def decode(self, encoded, *, drawn=False):
        return list(np.clip(np.round(encoded.astype(np.float64)), 0, self.high).T)

    def inputs(self, x, observed):
        """Encoder inputs: log(1 + count / mean)."""
        return torch.where(observed, torch.log1p(x.clamp(min=0) * torch.exp(-self.log_mean)), 0.0)

    def _log_rate(self, params):
        return (params + self.log_mean).clamp(max=MAX_LOG_RATE)

    def log_prob(self, params, x, observed):
        """Log probability of each count; the standardised unit is the raw one."""
        count, log_rate = torch.where(observed, x, 0.0), self._log_rate(params)
        log_prob = count * log_rate - log_rate.exp() - torch.lgamma(count + 1)
        return torch.where(observed, log_prob, 0.0)

    def point(self, params):
        """Mean of each cell, which `decode` rounds."""
        return self._log_rate(params).exp()

    def sample(self, params, generator):
        return torch.poisson(self._log_rate(params).exp(), generator=generator)

    def log_density(self, params, cells):
        """Log probability of each cell.

        Samples are clipped to the largest training count, so that count has the probability of
        itself and all larger counts. A share of 1 / (n + 1) is not clipped, so that larger counts
        are unlikely, not impossible.
        """
        x = cells[..., 0]
        observed = self.observed(x)
        plain = self.log_prob(params, x, observed)
        rate = self._log_rate(params).exp()
        above = torch.special.gammainc(self._high.clamp(min=1e-6).expand_as(rate), rate)
        clipped = torch.where(x == self._high, above.clamp(min=1e-38).log(), plain)
        clipped = torch.where(x > self._high, -torch.inf, clipped)
        log_p = torch.logaddexp(torch.log1p(-self._leak) + clipped, self._leak.log() + plain)
        # Values that are not counts: negative, or not whole.
        log_p = torch.where((x < 0) | (x != x.round()), self._leak.log(), log_p)
        return torch.where(torch.isnan(x), 0.0, log_p)

    def surrogate(self, params, cells):
        x = cells[..., 0]
        return self.log_prob(params, x, self.observed(x))

    def surrogate_gradient(self, params, cells):
        x = cells[..., 0]
        return torch.where(self.observed(x), x - self._log_rate(params).exp(), 0.0)

    def fisher_factor(self, jacobian, params, cells):
        rate = self._log_rate(params).exp() * self.observed(cells[..., 0])
        return jacobian * rate.sqrt().unsqueeze(-1)

    def expected(self, params, weights, columns=None, needed=None):
        """Mean of each count, clipped to the training range as samples are."""
        rate, high = self._log_rate(params).exp(), self._high.clamp(min=1.0)
        below, at_top = (
            torch.special.gammainc(end.expand_as(rate), rate) for end in (high - 1, high)
        )
        mean = rate * (1 - below) + self._high * at_top
        mean = (mean * weights.unsqueeze(-1)).sum(1).double().cpu().numpy()
        return only(mean.clip(0, self.high).T, columns)  # weights sum to 1 up to rounding
