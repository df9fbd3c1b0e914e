"""Two-valued columns: a probability through a logit."""

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from cmim_sklearn._likelihoods.base import Likelihood, _log_unknown
from cmim_sklearn._likelihoods.summary import summarise


class Bernoulli(Likelihood):
    """Columns of exactly two values, encoded 0 and 1: a probability, through a logit."""

    has_levels = True

    def __init__(self, values, n_seen):
        super().__init__(len(values), len(values), len(values))
        self.values = [tuple(float(v) for v in pair) for pair in values]
        self.n_seen = np.asarray(n_seen, float)
        self.register_buffer("_log_unknown", _log_unknown(self.n_seen, 2), persistent=False)

    @classmethod
    def fit(cls, columns, names, *, summaries=None, **options):
        """See `Likelihood.fit`; a column with fewer than two values is read as 0 and 1."""
        values, summaries = [], summaries or summarise(columns)
        for summary, name in zip(summaries, names, strict=True):
            seen = sorted(summary.distinct)
            if len(seen) == 2:
                values.append(seen)
            elif set(seen) <= {0.0, 1.0}:
                values.append((0.0, 1.0))
            else:
                found = f"only {seen[0]:g}" if len(seen) == 1 else f"more, as {seen}"
                raise ValueError(
                    f"Column {name!r} was asked to be 'bernoulli', which takes two distinct "
                    f"values; it has {found}. Leave it out of `likelihoods`, or name another kind."
                )
        return cls(values, [summary.n_seen for summary in summaries])

    def state(self):
        """See `Likelihood.state`."""
        return {"values": [list(pair) for pair in self.values], "n_seen": self.n_seen}

    def encode(self, columns):
        """See `Likelihood.encode`."""
        out = np.empty((len(columns[0]), self.n_columns), dtype=np.float32)
        for c, (column, pair) in enumerate(zip(columns, self.values, strict=True)):
            # What was fitted as float64 may come as float32: 0.1 is then another number.
            with np.errstate(over="ignore"):
                single = np.array(pair, np.float32)
                kind = np.float32 if single[0] != single[1] else np.float64
                (zero, one), values = np.array(pair, kind), column.astype(kind)
            codes = np.where(values == one, 1.0, np.where(values == zero, 0.0, -1.0))
            out[:, c] = np.where(np.isnan(column), np.nan, codes)
        return out

    def decode(self, encoded, *, drawn=False):
        """See `Likelihood.decode`."""
        return [
            np.where(np.isnan(code) | (n == 0), np.nan, np.where(code > 0.5, one, zero))
            for code, (zero, one), n in zip(encoded.T, self.values, self.n_seen, strict=True)
        ]

    def inputs(self, x, observed):
        """See `Likelihood.inputs`: -1 and 1."""
        return torch.where(observed, 2 * x - 1, 0.0)

    def log_prob(self, params, x, observed):
        """See `Likelihood.log_prob`."""
        target = torch.where(observed, x, 0.0)
        loss = binary_cross_entropy_with_logits(params, target, reduction="none")
        return torch.where(observed, -loss, 0.0)

    def point(self, params):
        """See `Likelihood.point`: the likelier value."""
        return (params > 0).to(params.dtype)

    def sample(self, params, generator):
        """See `Likelihood.sample`."""
        uniform = torch.rand(params.shape, generator=generator, device=params.device)
        return (uniform < torch.sigmoid(params)).to(params.dtype)

    def log_density(self, params, cells):
        """See `Likelihood.log_density`; 1 / (n + 3) for a value that is neither of the two."""
        x = cells[:, :, 0]
        return torch.where(x == -1, self._log_unknown, self.log_prob(params, x, self.observed(x)))

    def local(self, params, cells):
        """See `Likelihood.local`."""
        x = cells[:, :, 0]
        observed = self.observed(x)
        gradient = torch.where(observed, x - torch.sigmoid(params), 0.0)
        return self.log_prob(params, x, observed), gradient

    def whiten(self, jacobian, params, cells):
        """See `Likelihood.whiten`."""
        p = torch.sigmoid(params)
        return jacobian * (p * (1 - p) * self.observed(cells[:, :, 0])).sqrt().unsqueeze(-1)

    def guess(self, params, weights):
        """See `Likelihood.guess`: the likelier value."""
        p = (torch.sigmoid(params) * weights.unsqueeze(-1)).sum(1)
        return self.decode(p.cpu().numpy())
