"""The kinds of column: p(x | z) of a block of columns, and how a raw column becomes a number.

Axes: n rows, C columns of the block, P decoder outputs, W encoder inputs.

A kind is one class with eight short methods and one line in `LIKELIHOODS` at the foot. It serves
*all* its columns at once: 79 Gaussian columns are one tensor operation.
"""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from cmim_sklearn.scaling import SCALINGS, ScalingMap

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
MAX_LOG_RATE = 20.0


class Likelihood(nn.Module, ABC):
    """p(x | z) of all the columns of one kind, given the decoder's outputs.

    A subclass is final. Its constructor takes what `state` returns: plain lists and arrays, so that
    a fitted kind can be written as JSON and numpy arrays. What is learnt by gradient (a Gaussian's
    standard deviation) is an ordinary module parameter and belongs to the network's weights.

    Encoded values are float32, one a cell; NaN is unobserved, and -1 a level never seen in fit (for
    the kinds that have levels).

    Attributes
    ----------
    n_columns, n_params, n_inputs : int
        Columns of the block, decoder outputs they need, encoder inputs they make.
    takes : {"number", "category"}
        Whether raw columns come as float64 with NaN or as objects with None.
    has_indicator : bool
        Whether the encoder gets, beside `inputs`, one observed-indicator a column.
    has_levels : bool
        Whether -1 stands for a value never seen in fit.
    """

    takes = "number"
    has_indicator = True
    has_levels = False

    def __init__(self, n_columns, n_params, n_inputs):
        super().__init__()
        self.n_columns, self.n_params, self.n_inputs = n_columns, n_params, n_inputs

    @classmethod
    @abstractmethod
    def fit(cls, columns, names, **options):
        """Learn encodings from raw columns, as `takes` says.

        Parameters
        ----------
        columns : list of C arrays of shape (n,)
            NaN or None where unobserved.
        names : list of C str
            For messages.
        **options : dict
            ``numeric_scaling`` and ``max_categories``; a kind ignores what it does not need.
        """

    @abstractmethod
    def state(self):
        """Return the constructor's arguments as a dict of JSON values and arrays."""

    @abstractmethod
    def encode(self, columns):
        """Turn C raw columns of shape (n,) into float32 (n, C)."""

    @abstractmethod
    def decode(self, encoded):
        """Turn encoded (n, C) into C raw columns of shape (n,), inside the training range."""

    def observed(self, x):
        """Which cells of x (n, C) are observed, bool (n, C)."""
        return x >= 0

    @abstractmethod
    def inputs(self, x, observed):
        """Encoder inputs (n, W) of encoded values x (n, C): zeros where unobserved."""

    @abstractmethod
    def log_prob(self, params, x, observed):
        """Log p(x | params) in nats of standardised units, (n, C); 0 where unobserved."""

    @abstractmethod
    def point(self, params):
        """The best single guess, encoded, (n, C): a mean or a mode."""

    @abstractmethod
    def sample(self, params, generator):
        """One draw, encoded, (n, C)."""


class Gaussian(Likelihood):
    """Numbers, integer or not: N(mean(z), scale), a standard deviation per column for all rows.

    The floor of the standard deviation is `MIN_SCALE`, soft, so that it never stops learning.

    Parameters
    ----------
    knots, images, atoms : list of C arrays
        ``x``, ``y`` and ``atoms`` of each column's `ScalingMap`.
    low, high : array of shape (C,)
        The training range, in the column's own unit.
    whole : list of C bool
        Whether all values are whole numbers.
    """

    def __init__(self, knots, images, low, high, whole, atoms):
        super().__init__(len(knots), len(knots), len(knots))
        self.maps = [ScalingMap(*parts) for parts in zip(knots, images, atoms, strict=True)]
        self.low, self.high = np.asarray(low, float), np.asarray(high, float)
        self.whole = [bool(w) for w in whole]
        self.raw_scale = nn.Parameter(torch.zeros(self.n_columns))

    @classmethod
    def fit(cls, columns, names, *, numeric_scaling="quantile", **options):
        """See `Likelihood.fit`; ``numeric_scaling`` is a key of `SCALINGS`."""
        seen = [column[~np.isnan(column)] for column in columns]
        maps = [SCALINGS[numeric_scaling](values) for values in seen]
        return cls(
            [m.x for m in maps],
            [m.y for m in maps],
            [values.min() if len(values) else np.nan for values in seen],
            [values.max() if len(values) else np.nan for values in seen],
            [bool(len(v)) and bool(np.all(v == np.round(v))) for v in seen],
            [m.atoms for m in maps],
        )

    def state(self):
        """See `Likelihood.state`."""
        return {
            "knots": [m.x for m in self.maps],
            "images": [m.y for m in self.maps],
            "low": self.low,
            "high": self.high,
            "whole": self.whole,
            "atoms": [m.atoms for m in self.maps],
        }

    def encode(self, columns):
        """See `Likelihood.encode`."""
        scaled = [m.forward(column) for m, column in zip(self.maps, columns, strict=True)]
        return np.stack(scaled, axis=1).clip(-MAX_SCALED, MAX_SCALED).astype(np.float32)

    def decode(self, encoded):
        """See `Likelihood.decode`; whole columns are rounded."""
        out = []
        for c, m in enumerate(self.maps):
            values = m.inverse(m.snap(encoded[:, c].astype(np.float64)))
            values = np.round(values) if self.whole[c] else values
            out.append(np.clip(values, self.low[c], self.high[c]))
        return out

    def slope(self, columns):
        """D encoded / d raw at C raw columns of shape (n,): float64 (n, C), for densities."""
        return np.stack([m.slope(v) for m, v in zip(self.maps, columns, strict=True)], axis=1)

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
        return params + torch.exp(self.log_scale()) * noise


class Bernoulli(Likelihood):
    """Columns of exactly two values, encoded 0 and 1: a probability, through a logit."""

    has_levels = True

    def __init__(self, values):
        super().__init__(len(values), len(values), len(values))
        self.values = [tuple(float(v) for v in pair) for pair in values]

    @classmethod
    def fit(cls, columns, names, **options):
        """See `Likelihood.fit`; a column with fewer than two values is read as 0 and 1."""
        values = []
        for column, name in zip(columns, names, strict=True):
            seen = np.unique(column[~np.isnan(column)])
            if len(seen) == 2:
                values.append(seen)
            elif np.isin(seen, [0.0, 1.0]).all():
                values.append((0.0, 1.0))
            else:
                raise ValueError(
                    f"Column {name!r} was asked to be 'bernoulli', which takes two distinct "
                    f"values; it has {len(seen)}: {seen[:5].tolist()}. Leave it out of "
                    "`likelihoods`, or name another kind."
                )
        return cls(values)

    def state(self):
        """See `Likelihood.state`."""
        return {"values": [list(pair) for pair in self.values]}

    def encode(self, columns):
        """See `Likelihood.encode`."""
        out = np.empty((len(columns[0]), self.n_columns), dtype=np.float32)
        for c, (column, pair) in enumerate(zip(columns, self.values, strict=True)):
            # What was fitted as float64 may come as float32: 0.1 is then another number.
            kind = np.float32 if np.float32(pair[0]) != np.float32(pair[1]) else np.float64
            (zero, one), values = np.array(pair, kind), column.astype(kind)
            codes = np.where(values == one, 1.0, np.where(values == zero, 0.0, -1.0))
            out[:, c] = np.where(np.isnan(column), np.nan, codes)
        return out

    def decode(self, encoded):
        """See `Likelihood.decode`."""
        return [
            np.where(np.isnan(code), np.nan, np.where(code > 0.5, one, zero))
            for code, (zero, one) in zip(encoded.T, self.values, strict=True)
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


class Categorical(Likelihood):
    """Columns of named levels: a softmax over each column's classes.

    Levels beyond ``max_categories`` share the last class, the rare bin. The encoded value is the
    index of the *level*, rare ones after the others by falling frequency, so that the bin decodes
    to its most frequent member and samples its members by frequency.

    Parameters
    ----------
    levels : list of C lists
        The levels of each column in the order of their codes.
    n_classes : list of C int
        Classes of each column: the length of its levels, or less where there is a rare bin.
    rare_shares : list of C arrays
        Frequency of each member of the rare bin, summing to one; [1.0] where there is none.
    """

    takes = "category"
    has_indicator = False
    has_levels = True

    def __init__(self, levels, n_classes, rare_shares):
        super().__init__(len(levels), sum(n_classes), sum(n_classes))
        self.levels = [list(column) for column in levels]
        self.n_classes = [int(k) for k in n_classes]
        self.rare_shares = [np.asarray(share, float) for share in rare_shares]
        self._codes = [{level: i for i, level in enumerate(column)} for column in self.levels]
        # Classes stand sorted by column size, so that columns of one size are one softmax.
        sizes = torch.tensor(self.n_classes)
        order = torch.argsort(sizes, stable=True)
        start = torch.empty_like(sizes)
        start[order] = torch.cumsum(sizes[order], 0) - sizes[order]
        unique, counts = torch.unique(sizes, return_counts=True)
        self._groups = list(zip(counts.tolist(), unique.tolist(), strict=True))
        self.register_buffer("_place", torch.argsort(order), persistent=False)
        self.register_buffer("_start", start, persistent=False)
        self.register_buffer("_last", (sizes - 1).float(), persistent=False)

    @classmethod
    def fit(cls, columns, names, *, max_categories=256, **options):
        """See `Likelihood.fit`; each column is an object array with None where unobserved."""
        levels, n_classes, shares = [], [], []
        for column in columns:
            counts = {}
            for value in column:
                value = value.item() if isinstance(value, np.generic) else value
                counts[value] = counts.get(value, 0) + 1
            counts.pop(None, None)
            ordered = sorted(counts, key=lambda level: (type(level).__name__, level))
            share = np.ones(1)
            if len(ordered) > max_categories:
                by_count = sorted(ordered, key=lambda level: -counts[level])
                rare = by_count[max_categories - 1 :]
                common = set(by_count[: max_categories - 1])
                ordered = [level for level in ordered if level in common] + rare
                share = np.array([counts[level] for level in rare], float)
                share /= share.sum()
            levels.append(ordered or [None])
            n_classes.append(len(levels[-1]) - len(share) + 1)
            shares.append(share)
        return cls(levels, n_classes, shares)

    def state(self):
        """See `Likelihood.state`."""
        return {
            "levels": self.levels,
            "n_classes": self.n_classes,
            "rare_shares": self.rare_shares,
        }

    def encode(self, columns):
        """See `Likelihood.encode`."""
        out = np.empty((len(columns[0]), self.n_columns), dtype=np.float32)
        for c, (column, codes) in enumerate(zip(columns, self._codes, strict=True)):
            lookup = {**codes, None: np.nan}
            out[:, c] = [lookup.get(value, -1.0) for value in column]
        return out

    def decode(self, encoded):
        """See `Likelihood.decode`."""
        out = []
        for c, levels in enumerate(self.levels):
            codes = np.nan_to_num(encoded[:, c], nan=0.0).astype(int).clip(0, len(levels) - 1)
            table = np.empty(len(levels), dtype=object)
            table[:] = levels
            column = table[codes]
            column[np.isnan(encoded[:, c])] = None
            out.append(column)
        return out

    def _index(self, x, observed):
        """Position of each cell's class among all classes of the block, int64 (n, C)."""
        return torch.where(observed, torch.minimum(x, self._last), 0.0).long() + self._start

    def inputs(self, x, observed):
        """See `Likelihood.inputs`: one-hot, all zeros where unobserved or unknown."""
        hot = torch.zeros(len(x), self.n_inputs, device=x.device)
        return hot.scatter_(1, self._index(x, observed), observed.float())

    def _by_size(self, params):
        """Split params (n, P) into (n, columns, classes) for each group of equal size."""
        parts = params.split([columns * size for columns, size in self._groups], 1)
        return [
            part.view(len(part), *group) for part, group in zip(parts, self._groups, strict=True)
        ]

    def log_prob(self, params, x, observed):
        """See `Likelihood.log_prob`; a rare level has its bin's probability."""
        log_p = torch.cat([p.log_softmax(-1).flatten(1) for p in self._by_size(params)], 1)
        return torch.where(observed, log_p.gather(1, self._index(x, observed)), 0.0)

    def _best(self, scores):
        """Index within its column of the class with the highest score (n, P): (n, C)."""
        best = torch.cat([part.argmax(-1) for part in self._by_size(scores)], 1)
        return best[:, self._place].float()

    def point(self, params):
        """See `Likelihood.point`: the likeliest class."""
        return self._best(params)

    def sample(self, params, generator):
        """See `Likelihood.sample`, by Gumbel noise; the rare bin's members by their shares."""
        uniform = torch.rand(params.shape, generator=generator, device=params.device)
        codes = self._best(params - torch.log(-torch.log(uniform.clamp(1e-12, 1 - 1e-7))))
        for c, share in enumerate(self.rare_shares):
            if len(share) > 1:
                weights = torch.as_tensor(share, dtype=torch.float32, device=params.device)
                member = torch.multinomial(weights, len(codes), True, generator=generator)
                is_rare = codes[:, c] == self._last[c]
                codes[:, c] += torch.where(is_rare, member, 0).float()
        return codes


class Poisson(Likelihood):
    """Counts: Poisson(rate(z)), with the column's mean count as the unit of the rate."""

    def __init__(self, mean, high):
        super().__init__(len(mean), len(mean), len(mean))
        self.mean, self.high = np.asarray(mean, float), np.asarray(high, float)
        log_mean = torch.as_tensor(np.log(self.mean), dtype=torch.float32)
        self.register_buffer("_log_mean", log_mean, persistent=False)

    @classmethod
    def fit(cls, columns, names, **options):
        """See `Likelihood.fit`; every observed value must be a whole number, 0 or more."""
        for column, name in zip(columns, names, strict=True):
            bad = np.flatnonzero((column < 0) | (column != np.round(column)) & ~np.isnan(column))
            if len(bad):
                raise ValueError(
                    f"Column {name!r} was asked to be 'poisson', which takes whole numbers from "
                    f"0; row {bad[0]} holds {column[bad[0]]}. Leave it out of `likelihoods`."
                )
        seen = [column[~np.isnan(column)] for column in columns]
        return cls(
            [max(values.mean(), 1e-3) if len(values) else 1.0 for values in seen],
            [values.max() if len(values) else np.nan for values in seen],
        )

    def state(self):
        """See `Likelihood.state`."""
        return {"mean": self.mean, "high": self.high}

    def encode(self, columns):
        """See `Likelihood.encode`."""
        return np.stack(columns, axis=1).astype(np.float32)

    def decode(self, encoded):
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


class Joint(nn.Module):
    """All the columns of a table, independent given z: blocks of kinds side by side.

    Parameters
    ----------
    blocks : list of Likelihood
        In the order of the encoded table's columns.
    """

    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self._columns = [b.n_columns for b in blocks]
        self._params = [b.n_params for b in blocks]
        self.n_columns, self.n_params = sum(self._columns), sum(self._params)
        indicators = sum(b.n_columns for b in blocks if b.has_indicator)
        self.n_inputs = sum(b.n_inputs for b in blocks) + indicators

    def inputs(self, x):
        """Encoder inputs (n, n_inputs) of an encoded table x (n, C).

        In this order: values of the columns with an indicator, their indicators, the one-hots.
        """
        values, indicators, others = [], [], []
        for block, part in zip(self.blocks, x.split(self._columns, 1), strict=True):
            observed = block.observed(part)
            if block.has_indicator:
                values.append(block.inputs(part, observed))
                indicators.append(observed.float())
            else:
                others.append(block.inputs(part, observed))
        return torch.cat(values + indicators + others, 1)

    def log_prob(self, params, x) -> Tensor:
        """Log p(x_c | z) of every cell, (n, C), from decoder outputs (n, P); 0 if unobserved."""
        parts = zip(
            self.blocks, params.split(self._params, 1), x.split(self._columns, 1), strict=True
        )
        return torch.cat([b.log_prob(p, part, b.observed(part)) for b, p, part in parts], 1)

    def point(self, params) -> Tensor:
        """Best guess of every cell, encoded, (n, C)."""
        parts = zip(self.blocks, params.split(self._params, 1), strict=True)
        return torch.cat([block.point(p) for block, p in parts], 1)

    def sample(self, params, generator) -> Tensor:
        """One draw of every cell, encoded, (n, C)."""
        parts = zip(self.blocks, params.split(self._params, 1), strict=True)
        return torch.cat([block.sample(p, generator) for block, p in parts], 1)


LIKELIHOODS = {
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "poisson": Poisson,
}
