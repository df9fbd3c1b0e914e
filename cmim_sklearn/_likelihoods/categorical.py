"""Categorical likelihood: probabilities of levels by one segmented softmax."""

import warnings
from collections import Counter, defaultdict

import numpy as np
import torch

from cmim_sklearn._likelihoods.base import Likelihood, log_unknown, only, uniform_noise
from cmim_sklearn._likelihoods.summary import summarise
from cmim_sklearn._utils.levels import level_of, plain_level, twin_of
from cmim_sklearn._utils.stacklevel import user_stacklevel

MANY_LEVELS = 100
"""Number of levels above which a column may cause the warning about identifiers."""


class Categorical(Likelihood):
    """Columns of levels: a softmax over the classes of each column.

    With more than ``max_categories`` levels, the rarest share the last class, the rare bin. The
    encoded value is the index of the *level*. Rare levels come last, by decreasing frequency, so
    that the bin decodes to its most frequent level; samples of the bin follow the frequencies.

    Parameters
    ----------
    levels : list of C lists
        Levels of each column in the order of their codes.
    n_classes : list of C int
        Number of classes of each column: its number of levels, or fewer with a rare bin.
    rare_shares : list of C arrays
        Relative frequency of each level in the rare bin; [1.0] without one.
    n_seen : array of shape (C,)
        Number of observed training values.

    Raises
    ------
    ValueError
        If a column has more classes than levels, or none.
    """

    takes = "category"
    has_indicator = False
    has_levels = True

    def __init__(self, levels, n_classes, rare_shares, n_seen):
        for column, k in zip(levels, n_classes, strict=True):
            if not 1 <= k <= len(column):  # of a file: the sizes of tensors follow from it
                raise ValueError(
                    f"n_classes must be 1 to {len(column)} for as many levels; got {k}."
                )
        super().__init__(len(levels), sum(n_classes), sum(n_classes))
        self.levels = [[level_of(level) for level in column] for column in levels]
        self.n_classes = [int(k) for k in n_classes]
        self.rare_shares = [np.asarray(share, float) for share in rare_shares]
        self._codes = [{level: i for i, level in enumerate(column)} for column in self.levels]
        # Classes are sorted by column size, so that columns of one size are one softmax.
        sizes = torch.tensor(self.n_classes)
        order = torch.argsort(sizes, stable=True)
        start = torch.empty_like(sizes)
        start[order] = torch.cumsum(sizes[order], 0) - sizes[order]
        unique, counts = torch.unique(sizes, return_counts=True)
        self._groups = list(zip(counts.tolist(), unique.tolist(), strict=True))
        self.register_buffer("_place", torch.argsort(order), persistent=False)
        column = torch.repeat_interleave(order, sizes[order])  # of each class
        self.register_buffer("_column", column, persistent=False)
        self.register_buffer("class_starts", start, persistent=False)
        self.register_buffer("_last", (sizes - 1).float(), persistent=False)
        self.n_seen = np.asarray(n_seen, float)
        n_levels = np.array([len(column) for column in self.levels])
        self.register_buffer("_log_unknown", log_unknown(self.n_seen, n_levels), persistent=False)

    @classmethod
    def fit(cls, columns, names, *, summaries=None, max_categories=256, known=(), **options):
        """Learn the levels of each column, with at most ``max_categories`` classes.

        No warning says that a column may hold IDs or dates, if ``known`` has its name.
        """
        levels, n_classes, shares, n_seen = [], [], [], []
        for column, name in zip(columns, names, strict=True):
            _warn_of_booleans(column, name)
        for summary, name in zip(summaries or summarise(columns, True), names, strict=True):
            counts = _of_one_type(summary.counts)
            n_seen.append(summary.n_seen)
            ordered = sorted(counts, key=lambda level: (type(level).__name__, level))
            share = np.ones(1)
            if len(ordered) > max_categories:
                by_count = sorted(ordered, key=lambda level: -counts[level])
                rare = by_count[max_categories - 1 :]
                common = set(by_count[: max_categories - 1])
                ordered = [level for level in ordered if level in common] + rare
                share = np.array([counts[level] for level in rare], float)
                is_rare = max(len(ordered), share.sum()) > n_seen[-1] / 2
                if len(ordered) > MANY_LEVELS and is_rare and name not in known:
                    _warn_of_identifiers(name, len(ordered), n_seen[-1])
                share /= share.sum()
            levels.append(ordered or [None])
            n_classes.append(len(levels[-1]) - len(share) + 1)
            shares.append(share)
        return cls(levels, n_classes, shares, n_seen)

    def state(self):
        return {
            "levels": [[plain_level(level) for level in column] for column in self.levels],
            "n_classes": self.n_classes,
            "rare_shares": self.rare_shares,
            "n_seen": self.n_seen,
        }

    def structure(self):
        return (*super().structure(), *self.n_classes)

    def encode(self, columns):
        out = np.empty((len(columns[0]), self.n_columns), dtype=np.float32)
        for c, (column, codes) in enumerate(zip(columns, self._codes, strict=True)):
            lookup = defaultdict(lambda: -1.0, {**codes, None: np.nan})
            out[:, c] = list(map(lookup.__getitem__, column.tolist()))
            for row in np.flatnonzero(out[:, c] == -1):
                out[row, c] = codes.get(twin_of(column[row]), -1.0)
        return out

    def decode(self, encoded, *, drawn=False):
        out = []
        for c, levels in enumerate(self.levels):
            codes = np.nan_to_num(encoded[:, c], nan=0.0).astype(int).clip(0, len(levels) - 1)
            table = np.empty(len(levels), dtype=object)
            table[:] = levels
            column = table[codes]
            column[np.isnan(encoded[:, c])] = None
            out.append(column)
        return out

    def levels_of(self, column):
        return self.levels[column]

    def _index(self, x, observed):
        """Index of each cell's class among all classes of the block, int64 (n, C)."""
        return torch.where(observed, torch.minimum(x, self._last), 0.0).long() + self.class_starts

    def inputs(self, x, observed):
        """One-hot encoder inputs, all zeros where unobserved or unknown."""
        shape = *x.shape[:-1], self.n_inputs
        hot = torch.zeros(shape, dtype=torch.float32, device=x.device)
        # Not in place: `torch.vmap` has no rule for that.
        return hot.scatter(-1, self._index(x, observed), observed.float())

    def _by_size(self, params):
        """Split params (..., P) into (..., columns, classes) for each group of equal size."""
        parts = params.split([columns * size for columns, size in self._groups], -1)
        return [part.unflatten(-1, group) for part, group in zip(parts, self._groups, strict=True)]

    def log_prob(self, params, x, observed):
        """Log probability of each cell's class; a rare level has that of its bin."""
        log_p = torch.cat([p.log_softmax(-1).flatten(-2) for p in self._by_size(params)], -1)
        of_cells = torch.take_along_dim(log_p, self._index(x, observed), -1)
        return torch.where(observed, of_cells, 0.0)

    def _best(self, scores):
        """Index within its column of the class with the highest of scores (n, P), (n, C)."""
        best = torch.cat([part.argmax(-1) for part in self._by_size(scores)], 1)
        return best[:, self._place].float()

    def point(self, params):
        """Most likely class of each cell."""
        return self._best(params)

    def sample(self, params, generator):
        """Sample by Gumbel noise, then by frequency within the rare bin."""
        uniform = uniform_noise(params, generator)
        codes = self._best(params - torch.log(-torch.log(uniform.clamp(1e-12, 1 - 1e-7))))
        for c, share in enumerate(self.rare_shares):
            if len(share) > 1:
                weights = torch.as_tensor(share, dtype=torch.float32, device=params.device)
                member = torch.multinomial(weights, len(codes), True, generator=generator)
                is_rare = codes[:, c] == self._last[c]
                codes[:, c] += torch.where(is_rare, member, 0).float()
        return codes

    def log_density(self, params, cells):
        """Log probability of each cell's level; a rare level has its share of the bin.

        A level not seen in fit has 1 / (n + K + 1), for n training values of K levels. Levels seen
        in fit keep the probabilities that `sample` uses.
        """
        x = cells[..., 0]
        log_p = self.log_prob(params, x, self.observed(x))
        for c, share in enumerate(self.rare_shares):
            if len(share) > 1:
                member = (x[..., c].nan_to_num(0.0) - self._last[c]).long()
                log_share = torch.as_tensor(np.log(share), dtype=x.dtype, device=x.device)
                log_p[..., c] += torch.where(member >= 0, log_share[member.clamp(min=0)], 0.0)
        return torch.where(x == -1, self._log_unknown, log_p)

    def surrogate(self, params, cells):
        x = cells[..., 0]
        return self.log_prob(params, x, self.observed(x))

    def surrogate_gradient(self, params, cells):
        x = cells[..., 0]
        observed = self.observed(x)
        p = torch.cat([part.softmax(-1).flatten(-2) for part in self._by_size(params)], -1)
        return self.inputs(x, observed) - p * observed[..., self._column].to(p.dtype)

    def fisher_factor(self, jacobian, params, cells):
        n, _, r = jacobian.shape
        parts = jacobian.split([columns * size for columns, size in self._groups], 1)
        out = []
        for part, scores, (columns, size) in zip(
            parts, self._by_size(params), self._groups, strict=True
        ):
            p, part = scores.softmax(-1).unsqueeze(-1), part.reshape(n, columns, size, r)
            centred = part - (p * part).sum(2, keepdim=True)
            out.append((centred * p.sqrt()).reshape(n, -1, r))
        observed = self.observed(cells[..., 0])[..., self._column]
        return torch.cat(out, 1) * observed.to(jacobian.dtype).unsqueeze(-1)

    def expected(self, params, weights, columns=None, needed=None):
        """Most likely level of each cell."""
        n, draws, _ = params.shape
        p = [part.softmax(-1).flatten(1) for part in self._by_size(params.flatten(0, 1))]
        p = (torch.cat(p, 1).view(n, draws, -1) * weights.unsqueeze(-1)).sum(1)
        return only(self.decode(self._best(p).cpu().numpy()), columns)


def _of_one_type(counts):
    """Counts with whole floats as ints if there are ints: a level may come in both forms."""
    if not any(type(level) is int and abs(level) >= 2**53 for level in counts):
        return counts
    return Counter(
        {int(v) if isinstance(v, float) and v.is_integer() else v: n for v, n in counts.items()}
    )


def _warn_of_booleans(column, name):
    """Warn if a boolean and a number are equal, which makes them one level."""
    if not {bool} < set(map(type, column)):
        return
    booleans = {level for level in column if type(level) is bool}
    equal = {level for level in column if type(level) is not bool and level in booleans}
    if equal:
        number = min(equal)
        warnings.warn(
            f"Column {name!r} has the levels {bool(number)} and {number!r}, which are equal and "
            "count as one level. Convert the column to strings to keep them apart.",
            UserWarning,
            stacklevel=user_stacklevel(),
        )


def _warn_of_identifiers(name, n_levels, n_seen):
    """Warn that the levels may be IDs, dates or texts, most of which are in the rare bin."""
    warnings.warn(
        f"Column {name!r} has {n_levels:,} distinct levels in {n_seen:,} values, too many to learn "
        "from. Drop the column if it identifies rows, convert dates and free text to numbers "
        "(for example with skrub's TableVectorizer), or increase max_categories.",
        UserWarning,
        stacklevel=user_stacklevel(),
    )
