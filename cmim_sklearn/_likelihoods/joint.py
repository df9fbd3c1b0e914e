"""The kinds of column: p(x | z) of a block of columns, and how a raw column becomes a number.

Axes: n rows, C columns of the block, P decoder outputs, W encoder inputs.

A kind is one class of short methods and one line in `LIKELIHOODS` at the foot. It serves *all* its
columns at once: 79 Gaussian columns are one tensor operation. Training needs the first group of
methods; the second, from `measure` on, is what `RowPosterior` needs to weigh codes by rows.
"""

import torch
from torch import Tensor, nn

from cmim_sklearn._likelihoods.bernoulli import Bernoulli
from cmim_sklearn._likelihoods.categorical import Categorical
from cmim_sklearn._likelihoods.gaussian import Gaussian
from cmim_sklearn._likelihoods.poisson import Poisson


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


LIKELIHOODS = {
    "gaussian": Gaussian,
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "poisson": Poisson,
}
