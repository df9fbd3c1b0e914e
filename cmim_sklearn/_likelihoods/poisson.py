"""Count columns: a Poisson rate through a log link."""

import numpy as np
import torch

from cmim_sklearn._likelihoods.base import Likelihood
from cmim_sklearn._likelihoods.summary import summarise

MAX_LOG_RATE = 20.0


class Poisson(Likelihood):
    """Counts: Poisson(rate(z)), with the column's mean count as the unit of the rate."""

    def __init__(self, mean, high, n_seen):
        super().__init__(len(mean), len(mean), len(mean))
        self.mean, self.high = np.asarray(mean, float), np.asarray(high, float)
        self.n_seen = np.asarray(n_seen, float)
        leak = torch.as_tensor(1 / (self.n_seen + 1), dtype=torch.float32)
        self.register_buffer("_leak", leak, persistent=False)
        high = torch.as_tensor(self.high, dtype=torch.float32)
        self.register_buffer("_high", high, persistent=False)
        log_mean = torch.as_tensor(np.log(self.mean), dtype=torch.float32)
        self.register_buffer("_log_mean", log_mean, persistent=False)

    @classmethod
    def fit(cls, columns, names, *, summaries=None, **options):
        """See `Likelihood.fit`; every observed value must be a whole number, 0 or more."""
        summaries = summaries or summarise(columns)
        for summary, name in zip(summaries, names, strict=True):
            if summary.not_a_count is not None:
                row, value = summary.not_a_count
                raise ValueError(
                    f"Column {name!r} was asked to be 'poisson', which takes whole numbers from "
                    f"0; row {row} holds {value}. Leave it out of `likelihoods`."
                )
        return cls(
            [max(summary.mean, 1e-3) if summary.n_seen else 1.0 for summary in summaries],
            [summary.high for summary in summaries],
            [summary.n_seen for summary in summaries],
        )

    def state(self):
        """See `Likelihood.state`."""
        return {"mean": self.mean, "high": self.high, "n_seen": self.n_seen}

    def encode(self, columns):
        """See `Likelihood.encode`."""
        return np.stack(columns, axis=1).astype(np.float32)

    def decode(self, encoded, *, drawn=False):
        """See `Likelihood.decode`."""
        return list(np.clip(np.round(encoded.astype(np.float64)), 0, self.high).T)

    def inputs(self, x, observed):
        """See `Likelihood.inputs`: log(1 + count / mean)."""
        return torch.where(observed, torch.log1p(x.clamp(min=0) * torch.exp(-self._log_mean)), 0.0)

    def _log_rate(self, params):
        return (params + self._log_mean).clamp(max=MAX_LOG_RATE)

    def log_prob(self, params, x, observed):
        """See `Likelihood.log_prob`; in the column's own unit, which is a count."""
        count, log_rate = torch.where(observed, x, 0.0), self._log_rate(params)
        log_prob = count * log_rate - log_rate.exp() - torch.lgamma(count + 1)
        return torch.where(observed, log_prob, 0.0)

    def point(self, params):
        """See `Likelihood.point`: the mean, rounded when decoded."""
        return self._log_rate(params).exp()

    def sample(self, params, generator):
        """See `Likelihood.sample`."""
        return torch.poisson(self._log_rate(params).exp(), generator=generator)

    def log_density(self, params, cells):
        """See `Likelihood.log_density`.

        The highest count seen stands for all from there on, since draws are cut to it; 1 part in
        n + 1 is not cut, so that higher counts are unlikely, not impossible.
        """
        x = cells[:, :, 0]
        observed = self.observed(x)
        plain = self.log_prob(params, x, observed)
        rate = self._log_rate(params).exp()
        beyond = torch.special.gammainc(self._high.clamp(min=1e-6).expand_as(rate), rate)
        own = torch.where(x == self._high, beyond.clamp(min=1e-38).log(), plain)
        own = torch.where(x > self._high, -torch.inf, own)
        log_p = torch.logaddexp(torch.log1p(-self._leak) + own, self._leak.log() + plain)
        # What no count can be: negative, or broken.
        log_p = torch.where((x < 0) | (x != x.round()), self._leak.log(), log_p)
        return torch.where(torch.isnan(x), 0.0, log_p)

    def local(self, params, cells):
        """See `Likelihood.local`."""
        x = cells[:, :, 0]
        observed = self.observed(x)
        gradient = torch.where(observed, x - self._log_rate(params).exp(), 0.0)
        return self.log_prob(params, x, observed), gradient

    def whiten(self, jacobian, params, cells):
        """See `Likelihood.whiten`."""
        rate = self._log_rate(params).exp() * self.observed(cells[:, :, 0])
        return jacobian * rate.sqrt().unsqueeze(-1)

    def guess(self, params, weights):
        """See `Likelihood.guess`: the mean, of counts cut to the training range as draws are."""
        rate, high = self._log_rate(params).exp(), self._high.clamp(min=1.0)
        below, at_top = (
            torch.special.gammainc(end.expand_as(rate), rate) for end in (high - 1, high)
        )
        mean = rate * (1 - below) + self._high * at_top
        return list((mean * weights.unsqueeze(-1)).sum(1).double().cpu().numpy().T)
