"""The kinds of column: p(x | z) of a block of columns, and how a raw column becomes a number.

Axes: n rows, C columns of the block, P decoder outputs, W encoder inputs.

A kind is one class of short methods and one line in `LIKELIHOODS` at the foot. It serves *all* its
columns at once: 79 Gaussian columns are one tensor operation. Training needs the first group of
methods; the second, from `measure` on, is what `cmim_sklearn.density` needs to weigh codes by rows.
"""

import warnings
from collections import defaultdict

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from cmim_sklearn.callers import users_level
from cmim_sklearn.gaussian import Gaussian
from cmim_sklearn.kinds import Likelihood
from cmim_sklearn.summaries import summarise

MAX_LOG_RATE = 20.0
MANY_LEVELS = 100
"""Fewer may well be levels, though each is there once or twice."""


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
    n_seen : array of shape (C,)
        Observed training rows.
    """

    takes = "category"
    has_indicator = False
    has_levels = True

    def __init__(self, levels, n_classes, rare_shares, n_seen):
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
        self.n_seen = np.asarray(n_seen, float)
        n_levels = np.array([len(column) for column in self.levels])
        self.register_buffer("_log_unknown", _log_unknown(self.n_seen, n_levels), persistent=False)

    @classmethod
    def fit(cls, columns, names, *, summaries=None, max_categories=256, **options):
        """See `Likelihood.fit`; each column is an object array with None where unobserved."""
        levels, n_classes, shares, n_seen = [], [], [], []
        for summary, name in zip(summaries or summarise(columns, True), names, strict=True):
            counts = summary.counts
            n_seen.append(summary.n_seen)
            ordered = sorted(counts, key=lambda level: (type(level).__name__, level))
            share = np.ones(1)
            if len(ordered) > max_categories:
                by_count = sorted(ordered, key=lambda level: -counts[level])
                rare = by_count[max_categories - 1 :]
                common = set(by_count[: max_categories - 1])
                ordered = [level for level in ordered if level in common] + rare
                share = np.array([counts[level] for level in rare], float)
                if len(ordered) > MANY_LEVELS and max(len(ordered), share.sum()) > n_seen[-1] / 2:
                    _warn_of_names(name, len(ordered), n_seen[-1])
                share /= share.sum()
            levels.append(ordered or [None])
            n_classes.append(len(levels[-1]) - len(share) + 1)
            shares.append(share)
        return cls(levels, n_classes, shares, n_seen)

    def state(self):
        """See `Likelihood.state`."""
        return {
            "levels": self.levels,
            "n_classes": self.n_classes,
            "rare_shares": self.rare_shares,
            "n_seen": self.n_seen,
        }

    def encode(self, columns):
        """See `Likelihood.encode`."""
        out = np.empty((len(columns[0]), self.n_columns), dtype=np.float32)
        for c, (column, codes) in enumerate(zip(columns, self._codes, strict=True)):
            lookup = defaultdict(lambda: -1.0, {**codes, None: np.nan})
            out[:, c] = list(map(lookup.__getitem__, column.tolist()))
        return out

    def decode(self, encoded, *, drawn=False):
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

    def log_density(self, params, cells):
        """See `Likelihood.log_density`; a rare level has its share of the bin.

        A level never seen has 1 / (n + K + 1), beside n training values of K levels; the levels
        seen keep the probabilities that `sample` draws them by.
        """
        x = cells[:, :, 0]
        log_p = self.log_prob(params, x, self.observed(x))
        for c, share in enumerate(self.rare_shares):
            if len(share) > 1:
                member = (x[:, c].nan_to_num(0.0) - self._last[c]).long()
                log_share = torch.as_tensor(np.log(share), dtype=x.dtype, device=x.device)
                log_p[:, c] += torch.where(member >= 0, log_share[member.clamp(min=0)], 0.0)
        return torch.where(x == -1, self._log_unknown, log_p)

    def local(self, params, cells):
        """See `Likelihood.local`."""
        x = cells[:, :, 0]
        observed = self.observed(x)
        hot = self.inputs(x, observed)
        p = torch.cat([part.softmax(-1).flatten(1) for part in self._by_size(params)], 1)
        return self.log_prob(params, x, observed), hot - p * self._per_class(observed)

    def whiten(self, jacobian, params, cells):
        """See `Likelihood.whiten`."""
        n, _, r = jacobian.shape
        parts = jacobian.split([columns * size for columns, size in self._groups], 1)
        out = []
        for part, scores, (columns, size) in zip(
            parts, self._by_size(params), self._groups, strict=True
        ):
            p, part = scores.softmax(-1).unsqueeze(-1), part.reshape(n, columns, size, r)
            apart = part - (p * part).sum(2, keepdim=True)
            out.append((apart * p.sqrt()).reshape(n, -1, r))
        observed = self._per_class(self.observed(cells[:, :, 0]))
        return torch.cat(out, 1) * observed.unsqueeze(-1)

    def _per_class(self, values):
        """Repeat values (n, C) of the columns for each of their classes, (n, P)."""
        by_size = values.float()[:, torch.argsort(self._place)]
        parts = by_size.split([columns for columns, _ in self._groups], 1)
        sizes = [size for _, size in self._groups]
        return torch.cat(
            [p.repeat_interleave(size, 1) for p, size in zip(parts, sizes, strict=True)], 1
        )

    def guess(self, params, weights):
        """See `Likelihood.guess`: the level with the highest probability."""
        n, draws, _ = params.shape
        p = [part.softmax(-1).flatten(1) for part in self._by_size(params.flatten(0, 1))]
        p = (torch.cat(p, 1).view(n, draws, -1) * weights.unsqueeze(-1)).sum(1)
        return self.decode(self._best(p).cpu().numpy())


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


def _log_unknown(n_seen, n_levels):
    """Log probability of a level never seen, (C,): one part in n + K + 1."""
    return torch.as_tensor(-np.log(n_seen + n_levels + 1), dtype=torch.float32)


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
        self._cells = [b.n_columns * b.cell_width for b in blocks]
        self.n_cells = sum(self._cells)
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

    def rsample(self, params, generator) -> Tensor:
        """One draw of every cell with gradients through it, (n, C); of Gaussian columns alone."""
        parts = zip(self.blocks, params.split(self._params, 1), strict=True)
        return torch.cat([block.rsample(p, generator) for block, p in parts], 1)

    def _with_cells(self, params, cells):
        """Each block with its params (n, P) and its cells (n, C, cell_width)."""
        parts = zip(
            self.blocks, params.split(self._params, 1), cells.split(self._cells, 1), strict=True
        )
        for block, own_params, own_cells in parts:
            yield block, own_params, own_cells.unflatten(1, (block.n_columns, block.cell_width))

    def log_density(self, params, cells) -> Tensor:
        """Log p(cell | z) in the columns' own units, (n, C), of measured cells (n, n_cells)."""
        parts = self._with_cells(params, cells)
        return torch.cat([b.log_density(p, own) for b, p, own in parts], 1)

    def local(self, params, cells) -> tuple[Tensor, Tensor]:
        """A stand-in for a row's log density, (n,), and its gradient in params, (n, P)."""
        parts = [b.local(p, own) for b, p, own in self._with_cells(params, cells)]
        return sum(value.sum(1) for value, _ in parts), torch.cat([g for _, g in parts], 1)

    def whiten(self, jacobian, params, cells) -> Tensor:
        """Scale a Jacobian (n, P, r) so that its square is the information on the code."""
        jacobians = jacobian.split(self._params, 1)
        parts = zip(jacobians, self._with_cells(params, cells), strict=True)
        return torch.cat([b.whiten(j, p, own) for j, (b, p, own) in parts], 1)

    def refit_noise(self, params, variance, cells, prior_share):
        """Fit the noise left; see `Likelihood.refit_noise`."""
        variances = variance.split(self._params, 1)
        for own_variance, (block, p, own) in zip(
            variances, self._with_cells(params, cells), strict=True
        ):
            block.refit_noise(p, own_variance, own, prior_share)

    def guess(self, params, weights):
        """All columns' means or likeliest levels, raw, in block order; see `Likelihood.guess`."""
        parts = zip(self.blocks, params.split(self._params, -1), strict=True)
        return [column for block, p in parts for column in block.guess(p, weights)]


def _warn_of_names(name, n_levels, n_seen):
    """Warn of ids, dates or text that came as levels: more than fit, most of them in the bin."""
    warnings.warn(
        f"Column {name!r} has {n_levels:,} different values in {n_seen:,} cells, too many to learn "
        "much of each. Drop it if it names the rows, turn dates and free text into numbers first "
        "(as skrub's TableVectorizer does), or raise max_categories.",
        UserWarning,
        stacklevel=users_level(),
    )


LIKELIHOODS = {
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "poisson": Poisson,
}
