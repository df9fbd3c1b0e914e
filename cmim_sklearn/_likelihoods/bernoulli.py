"""Bernoulli likelihood of columns with two values, parametrised by the logit."""

from decimal import Decimal

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from cmim_sklearn._likelihoods.base import Likelihood, log_unknown, only, uniform_noise
from cmim_sklearn._likelihoods.scaling import SINGLE_PRECISION
from cmim_sklearn._likelihoods.summary import summarise
from cmim_sklearn._utils.levels import level_of, plain_level, twin_of


class Bernoulli(Likelihood):
    """Columns with exactly two values, encoded as 0 and 1, with one logit each.

    Parameters
    ----------
    values : list of C pairs of float, int or Decimal
        Raw values that encode to 0 and 1; ints and Decimals where float64 may not be exact.
    n_seen : array of shape (C,)
        Number of observed training values.

    Attributes
    ----------
    in_single : array of shape (C,)
        Whether values are compared in single precision: float64 in fit may be float32 in use, in
        which 0.1 is another number. False if the two values are whole, or equal or inexact there,
        or if one is a whole number beyond 2**24.
    """

    has_levels = True

    def __init__(self, values, n_seen):
        super().__init__(len(values), len(values), len(values))
        self.values = [(_number(zero), _number(one)) for zero, one in values]
        self._are_exact = [any(not isinstance(v, float) for v in pair) for pair in self.values]
        self.n_seen = np.asarray(n_seen, float)
        pairs = np.array([(float(a), float(b)) for a, b in self.values]).reshape(-1, 2)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            single = pairs.astype(np.float32)
            is_exact = np.abs(single - pairs) <= SINGLE_PRECISION * np.abs(pairs)
        is_whole = (pairs == np.round(pairs)) & (np.abs(pairs) < 2**53)
        has_large = (is_whole & (np.abs(pairs) >= 2**24)).any(1)  # its neighbours are equal
        differ = (single[:, 0] != single[:, 1]) & ~is_whole.all(1) & ~has_large
        self.in_single = is_exact.all(1) & differ
        self.register_buffer("_log_unknown", log_unknown(self.n_seen, 2), persistent=False)

    @classmethod
    def fit(cls, columns, names, *, summaries=None, **options):
        """Learn the two values of each column; 0 and 1 for a column with fewer than two."""
        values, summaries = [], summaries or summarise(columns)
        for column, summary, name in zip(columns, summaries, names, strict=True):
            # Objects are numbers that float64 may not hold.
            number = _exact if column.dtype == object else float
            seen = list(map(number, sorted(summary.distinct)))
            if len(seen) == 2:
                values.append(seen)
            elif set(seen) <= {0.0, 1.0}:
                values.append((0.0, 1.0))
            else:
                found = f"only {seen[0]:g}" if len(seen) == 1 else f"more, for example {seen}"
                raise ValueError(
                    f"`likelihoods`: 'bernoulli' needs a column with two distinct values; column "
                    f"{name!r} has {found}. Remove it from `likelihoods` or choose another kind."
                )
        return cls(values, [summary.n_seen for summary in summaries])

    def state(self):
        pairs = [[plain_level(value) for value in pair] for pair in self.values]
        return {"values": pairs, "n_seen": self.n_seen}

    def encode(self, columns):
        out = np.empty((len(columns[0]), self.n_columns), dtype=np.float32)
        for c, (column, pair) in enumerate(zip(columns, self.values, strict=True)):
            if self._are_exact[c]:
                code = {pair[0]: 0.0, pair[1]: 1.0, None: np.nan}
                seen = [None if v != v else v for v in column.tolist()]
                out[:, c] = [code.get(v, code.get(twin_of(v), -1.0)) for v in seen]
                continue
            kind = np.float32 if self.in_single[c] else np.float64
            with np.errstate(over="ignore", under="ignore"):
                (zero, one), values = np.array(pair, kind), column.astype(kind)
            codes = np.where(values == one, 1.0, np.where(values == zero, 0.0, -1.0))
            out[:, c] = np.where(np.isnan(column), np.nan, codes)
        return out

    def decode(self, encoded, *, drawn=False):
        out = []
        for c, (zero, one) in enumerate(self.values):
            code = encoded[:, c]
            missing = np.isnan(code) | (self.n_seen[c] == 0)
            if self._are_exact[c]:
                table = np.array([zero, one, None], dtype=object)
                out.append(table[np.where(missing, 2, code > 0.5).astype(int)])
            else:
                out.append(np.where(missing, np.nan, np.where(code > 0.5, one, zero)))
        return out

    def levels_of(self, column):
        return self.values[column]

    def inputs(self, x, observed):
        """Encoder inputs: -1 and 1, and 0 where unobserved."""
        return torch.where(observed, 2 * x - 1, 0.0)

    def log_prob(self, params, x, observed):
        target = torch.where(observed, x, 0.0)
        loss = binary_cross_entropy_with_logits(params, target, reduction="none")
        return torch.where(observed, -loss, 0.0)

    def point(self, params):
        """More likely value of each cell."""
        return (params > 0).to(params.dtype)

    def sample(self, params, generator):
        uniform = uniform_noise(params, generator)
        return (uniform < torch.sigmoid(params)).to(params.dtype)

    def log_density(self, params, cells):
        """Log probability of each cell; 1 / (n + 3) for a value that is neither of the two."""
        params, x = torch.broadcast_tensors(params, cells[..., 0])
        return torch.where(x == -1, self._log_unknown, self.log_prob(params, x, self.observed(x)))

    def surrogate(self, params, cells):
        params, x = torch.broadcast_tensors(params, cells[..., 0])
        return self.log_prob(params, x, self.observed(x))

    def surrogate_gradient(self, params, cells):
        x = cells[..., 0]
        return torch.where(self.observed(x), x - torch.sigmoid(params), 0.0)

    def fisher_factor(self, jacobian, params, cells):
        p = torch.sigmoid(params)
        return jacobian * (p * (1 - p) * self.observed(cells[..., 0])).sqrt().unsqueeze(-1)

    def expected(self, params, weights, columns=None, needed=None):
        """More likely raw value of each cell."""
        p = (torch.sigmoid(params) * weights.unsqueeze(-1)).sum(1)
        return only(self.decode(p.cpu().numpy()), columns)


def _exact(value):
    return int(value) if isinstance(value, float) else value


def _number(value):
    """A value as it is in a state, as a float, an int or a Decimal."""
    value = level_of(value)
    return value if isinstance(value, int | Decimal) else float(value)
