"""Joint likelihood of a table: blocks of column kinds, independent given the latent code."""

import torch
from torch import Tensor, nn


class JointDensity(nn.Module):
    """p(cells | params) of all columns of a table: one block per kind, independent given params.

    Methods call those of `Density` for each block. In (n, C), (n, P) and (n, L), C, P and L count
    all columns.

    Parameters
    ----------
    blocks : list of Density
        Blocks in the order of the columns of the encoded table.
    """

    def __init__(self, blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self._columns = [b.n_columns for b in blocks]
        self._params = [b.n_params for b in blocks]
        self._local = [b.n_local for b in blocks]
        self._trained = [b.n_trained for b in blocks]
        self.n_columns, self.n_params = sum(self._columns), sum(self._params)
        self.n_local = sum(self._local)
        self._cells = [b.n_columns * b.cell_width for b in blocks]
        self.n_cells = sum(self._cells)

    def sample(self, params, generator) -> Tensor:
        """Sample of every cell, encoded, (n, C)."""
        parts = zip(self.blocks, params.split(self._params, 1), strict=True)
        return torch.cat([block.sample(p, generator) for block, p in parts], 1)

    def _with_cells(self, params, sizes, cells):
        """Yield each block with its params (..., P) and cells (..., C, cell_width)."""
        parts = zip(self.blocks, params.split(sizes, -1), cells.split(self._cells, -1), strict=True)
        for block, p, part in parts:
            yield block, p, part.unflatten(-1, (block.n_columns, block.cell_width))

    def log_density(self, params, cells) -> Tensor:
        """Log p(cell | z) in nats, in raw units, (..., C), for measured cells (..., n_cells)."""
        parts = self._with_cells(params, self._params, cells)
        return torch.cat([b.log_density(p, part) for b, p, part in parts], -1)

    def local(self, params) -> Tensor:
        """Numbers (..., L) that the surrogate needs of params (..., P)."""
        parts = zip(self.blocks, params.split(self._params, -1), strict=True)
        return torch.cat([block.local(p) for block, p in parts], -1)

    def surrogate(self, local, cells) -> Tensor:
        """Smooth surrogate of a row's log density, (...)."""
        parts = self._with_cells(local, self._local, cells)
        return sum(b.surrogate(p, x).sum(-1) for b, p, x in parts)

    def surrogate_gradient(self, local, cells) -> Tensor:
        """Gradient (..., T) of `surrogate` in the trained outputs."""
        parts = self._with_cells(local, self._local, cells)
        return torch.cat([b.surrogate_gradient(p, part) for b, p, part in parts], -1)

    def fisher_factor(self, jacobian, local, cells) -> Tensor:
        """Factor A (n, m, r) of the Fisher information A'A of a row on the code."""
        jacobians = jacobian.split(self._trained, 1)
        parts = zip(jacobians, self._with_cells(local, self._local, cells), strict=True)
        return torch.cat([b.fisher_factor(j, p, part) for j, (b, p, part) in parts], 1)

    def moved(self, params, weights, trained, trust) -> Tensor:
        """Params (n, S, P) with a mean nearer to that of training; see `Density.moved`."""
        parts = zip(
            self.blocks,
            params.split(self._params, -1),
            trained.split(self._trained, 1),
            strict=True,
        )
        return torch.cat([block.moved(p, weights, own, trust) for block, p, own in parts], -1)

    def expected(self, params, weights, columns=None, needed=None):
        """Raw columns of means or most likely levels; see `Likelihood.expected`.

        ``columns`` are positions among all columns in block order, ascending; so are those of
        ``needed`` (n, C).
        """
        columns = range(self.n_columns) if columns is None else columns
        out, start = [], 0
        for block, p in zip(self.blocks, params.split(self._params, -1), strict=True):
            stop = start + block.n_columns
            own = [c - start for c in columns if start <= c < stop]
            if own:
                cells = None if needed is None else needed[:, start:stop]
                out += block.expected(p, weights, own, cells)
            start = stop
        return out


class Joint(JointDensity):
    """p(x | z) of all columns of a table, given the decoder's outputs.

    Methods call those of `Likelihood` for each block.

    Parameters
    ----------
    blocks : list of Likelihood
        Blocks in the order of the columns of the encoded table.
    """

    def __init__(self, blocks):
        super().__init__(blocks)
        indicators = sum(b.n_columns for b in blocks if b.has_indicator)
        self.n_inputs = sum(b.n_inputs for b in blocks) + indicators

    def structure(self):
        """Structures of the blocks, see `Likelihood.structure`."""
        return tuple(block.structure() for block in self.blocks)

    def inputs(self, x):
        """Encoder inputs (n, n_inputs) of an encoded table x (n, C).

        Order: values of columns with an indicator, their indicators, one-hot vectors.
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
        """Point estimate of every cell, encoded, (n, C)."""
        parts = zip(self.blocks, params.split(self._params, 1), strict=True)
        return torch.cat([block.point(p) for block, p in parts], 1)

    def rsample(self, params, generator) -> Tensor:
        """Sample of every cell with gradients, (n, C); only if all columns are Gaussian."""
        parts = zip(self.blocks, params.split(self._params, 1), strict=True)
        return torch.cat([block.rsample(p, generator) for block, p in parts], 1)

    def refit_noise(self, params, variance, cells, prior_share):
        """Refit the noise of each block; see `Likelihood.refit_noise`."""
        variances = variance.split(self._params, 1)
        parts = zip(variances, self._with_cells(params, self._params, cells), strict=True)
        for block_variance, (block, p, part) in parts:
            block.refit_noise(p, block_variance, part, prior_share)
