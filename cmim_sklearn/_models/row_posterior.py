"""Density p(x) of a row and posterior p(z | x) of its code, by importance sampling.

The model is the one that `sample` uses: a code z from the latent prior, then each column from
p(x | z). The encoder's q(z | x) is far narrower than the posterior of that model and cannot be the
proposal distribution. Instead, a mixture of Gaussians q(z) is fitted to each row, see `Proposal`.
Codes sampled from q get the weight p(x, z) / q(z). The mean weight estimates p(x); weighted codes
represent p(z | x).

Missing cells add nothing to p(x, z), so all densities are those of the observed cells.

Axes: n rows, S codes sampled per row, G Gaussians, K components of the prior, R of them near a row,
r directions in which codes vary, q informed coordinates, P decoder outputs, C columns.
"""

import copy
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from cmim_sklearn._models.encoding_model import exact_model
from cmim_sklearn._models.generator import Generator
from cmim_sklearn._models.latent_model import LatentModel
from cmim_sklearn._models.latent_prior import LatentPrior, component_log_prob
from cmim_sklearn._models.proposal import MAX_NUMBERS, Proposal
from cmim_sklearn._utils.device import cumulative_sum

N_DRAWS = 128
"""Number of codes for each row."""
N_USUAL = 1024
"""Number of codes that represent the prior in `RowPosterior.log_marginals`."""
LEAST = torch.finfo(torch.float64).min / 1e3
"""Least log probability, in nats, so that a row that no code explains is not impossible."""
NEAR = 9.0
"""Nats below the most likely component of the prior at which another one is left out of its sum."""
FITTED_TOGETHER, DRAWN_TOGETHER = 256, 32
"""Maximum number of rows in a chunk."""
CALIBRATION_ROWS, CALIBRATION_STEPS = 300, 20
CALIBRATION_PRIOR_ROWS = 1000
MAX_KEPT = 2**24
"""Maximum number of elements of a `RowPosterior` that is kept: about 100 MB."""
_KEPT = WeakKeyDictionary()
"""`RowPosterior` by latent prior, or by `MissingCells` if it has these, until the next fit or the
end of the encoder frees the key."""


class Draws(NamedTuple):
    """Codes sampled for n rows, as decoder outputs, with their importance weights.

    Attributes
    ----------
    params : Tensor of shape (n, S, P)
        Decoder outputs at the codes.
    codes : Tensor of shape (n, S, r)
        In the directions in which codes vary.
    log_weights : Tensor of shape (n, S)
        log p(observed cells, z) - log q(z), in nats.
    """

    params: Tensor
    codes: Tensor
    log_weights: Tensor

    def log_density(self):
        """Estimate log p of the observed cells, in nats, (n,)."""
        return self.log_weights.logsumexp(1) - np.log(self.log_weights.shape[1])

    def error(self):
        """Estimate the Monte-Carlo standard error of `log_density`, in nats, (n,)."""
        share = self.shares() * self.log_weights.shape[1]
        return share.var(1).div(self.log_weights.shape[1]).sqrt()

    def shares(self):
        """Normalise the importance weights to sum to one in each row, (n, S)."""
        return self.log_weights.softmax(1)

    def resample(self, n_draws, generator):
        """Sample decoder outputs (n, n_draws, P) and their codes (n, n_draws, r).

        It is with replacement, by the importance weights.
        """
        chosen = torch.multinomial(self.shares(), n_draws, True, generator=generator).unsqueeze(-1)
        return [
            part.gather(1, chosen.expand(-1, -1, part.shape[2]))
            for part in (self.params, self.codes)
        ]


class RowPosterior:
    """Posterior p(z | observed cells) of rows under a fitted model and its latent prior.

    Parameters
    ----------
    model : LatentModel
        Its weights and its device must not change. A copy on the CPU is used if its device has no
        float64, see `exact_model`.
    prior : LatentPrior
    heads, missing : default=None
        See `Generator`. With `missing`, cells have more columns: whether these cells are missing.
    """

    def __init__(self, model: LatentModel, prior: LatentPrior, heads=None, missing=None):
        self._built_for = model, model.device
        self.model = exact_model(model)
        generator = Generator(self.model, heads, missing)
        self.device, self.likelihood = generator.device, generator.likelihood
        with torch.no_grad():
            self.proposal = Proposal(generator, prior)
        # Codes, not the prior: `_KEPT` would never free a prior that its value refers to.
        usual, _ = prior.sample_directions(N_USUAL, np.random.default_rng(0))
        self._usual = torch.as_tensor(usual, device=self.device)

    def is_for(self, model):
        """Whether it was built for this model, on its current device."""
        built_for, device = self._built_for
        return built_for is model and device == model.device

    def _near(self, gaussians):
        """Whether each component of the prior matters near a row's Gaussians, (n, K)."""
        p, component = self.proposal, gaussians.component
        row, g = torch.isfinite(gaussians.log_weight).nonzero(as_tuple=True)
        centres = p.to_codes(component[row, g], gaussians.mean[row, g])
        origin = (p.inverse @ p.means.unsqueeze(2)).squeeze(2)
        is_near = []
        for some in centres.split(max(1, MAX_NUMBERS // p.means.numel())):
            t = (some @ p.inverse.flatten(0, 1).T).unflatten(1, p.means.shape) - origin
            log_prior = p.log_peaks - 0.5 * t.square().sum(2)
            is_near.append(log_prior > log_prior.max(1, keepdim=True).values - NEAR)
        is_near = torch.cat(is_near).scatter_(1, component[row, g].unsqueeze(1), True)
        n_near = torch.zeros(len(component), len(p.means), dtype=torch.int32, device=self.device)
        return n_near.index_add_(0, row, is_near.int()) > 0

    def _sample(self, gaussians, centres, noise, places):
        """Sample codes (n, r, S), less the first centre of each row; see `draw`."""
        p, (n, g), q = self.proposal, gaussians.component.shape, self.proposal.n_informed
        # L is the factor of the information, so L'^-1 times noise has the right covariance.
        spread = torch.linalg.solve_triangular(
            gaussians.factor.transpose(2, 3), p.identity.expand_as(gaussians.factor), upper=True
        )
        axes = p.axes[gaussians.component]
        axes = torch.cat([axes[..., :q] @ spread.float(), axes[..., q:]], 3).flatten(1, 2)
        # The same noise for all Gaussians, of which one is chosen for each code.
        codes = (axes @ noise).unflatten(1, (g, -1)) + (centres - centres[:, :1]).unsqueeze(3)
        sums = cumulative_sum(gaussians.log_weight.exp(), 1)
        chosen = torch.searchsorted(sums, places.to(sums).expand(n, -1).contiguous())
        chosen = chosen.clamp(max=g - 1)[:, None, None].expand(-1, -1, codes.shape[2], -1)
        return codes.gather(1, chosen).squeeze(1)

    def _log_ratio(self, gaussians, near, centre, away):
        """Log p(z) - log q(z), (n, S), of codes (n, r, S) that are given less a centre (n, r)."""
        p, q = self.proposal, self.proposal.n_informed
        component, log_weight, mean, factor = gaussians
        is_near, k = near.to(torch.uint8).topk(int(near.sum(1).max()), dim=1)  # (n, R)
        inverse = p.inverse[k]
        origin = inverse @ (centre.unsqueeze(1) - p.means[k]).unsqueeze(3)
        t = torch.baddbmm(origin.flatten(1, 2), inverse.flatten(1, 2), away)
        t = t.unflatten(1, (k.shape[1], -1))  # (n, R, r, S)
        log_p = p.log_peaks[k].unsqueeze(2) - 0.5 * t.square().sum(2)
        log_p = log_p.masked_fill((is_near == 0).unsqueeze(2), -torch.inf)
        # A Gaussian differs from its component in the informed coordinates.
        row = torch.arange(len(k), device=self.device)[:, None]
        place = (k.unsqueeze(1) == component.unsqueeze(2)).to(torch.uint8).argmax(2)  # (n, G)
        informed = t[:, :, :q][row, place]
        whitened = factor.float().transpose(2, 3) @ (informed - mean.float().unsqueeze(3))
        change = 0.5 * (informed.square().sum(2) - whitened.square().sum(2))
        log_det = torch.diagonal(factor, dim1=2, dim2=3).log().sum(2)
        log_scale = log_weight - p.log_weights[component] + log_det
        log_q = log_p[row, place] + change + log_scale.unsqueeze(2)
        return log_p.logsumexp(1) - log_q.logsumexp(1)

    def draw(self, cells, gaussians, near, noise, places) -> Draws:
        """Sample S codes for each row from its proposal and weight them.

        Parameters
        ----------
        cells : Tensor of shape (n, n_cells)
            Cells as `Table.measure` returns them.
        gaussians : Gaussians
            Proposals of the rows.
        near : Tensor of shape (n, K)
            Whether each component of the prior matters near the row.
        noise : Tensor of shape (r, S) or (n, r, S)
            Standard normal.
        places : Tensor of shape (S,) or (n, S)
            Uniform numbers in [0, 1) that choose the Gaussian of each code.
        """
        centres = self.proposal.to_codes(gaussians.component, gaussians.mean)
        away = self._sample(gaussians, centres, noise, places)
        log_ratio = self._log_ratio(gaussians, near, centres[:, 0], away)
        # Codes first: arithmetic with the cells of a row then runs over long contiguous parts.
        codes = (centres[:, 0].unsqueeze(2) + away).permute(2, 0, 1)
        params = self.proposal.decode(codes)  # (S, n, P)
        log_px = self.likelihood.log_density(params, cells.unsqueeze(0))
        log_weights = log_px.sum(2, dtype=log_ratio.dtype).T + log_ratio
        log_weights = log_weights.clamp(min=LEAST)
        return Draws(params.transpose(0, 1), codes.transpose(0, 1), log_weights)

    def log_marginals(self, cells):
        """Log p of each cell alone, in nats, (n, C); 0 in missing cells.

        It is a mean over the same codes from the prior for all rows.
        """
        found, options = [], {"dtype": torch.float32, "device": self.device}
        largest = max(self.likelihood.n_params, self.likelihood.n_cells)
        together = int(np.clip(MAX_NUMBERS // (N_USUAL * largest), 1, DRAWN_TOGETHER))
        with torch.no_grad():
            params = self.proposal.decode(self._usual)
            for own in torch.as_tensor(cells).split(together):
                log_p = self.likelihood.log_density(
                    params.unsqueeze(1), own.to(**options).unsqueeze(0)
                )
                log_p = log_p.double().clamp(min=LEAST)
                found.append((log_p.logsumexp(0) - np.log(N_USUAL)).cpu())
        return torch.cat(found).numpy()

    def map(self, function, cells, n_draws=N_DRAWS, generator=None):
        """Apply a function of `Draws` to all rows, in chunks.

        Parameters
        ----------
        function : callable
            ``(Draws, positions of rows) -> dict`` of tensors (chunk, ...), or of arrays.
        cells : array of shape (n, n_cells)
            Cells as `Table.measure` returns them.
        n_draws : int, default=128
            Number of codes for each row; even.
        generator : torch.Generator, default=None
            Generator on the model's device. None: every row of every call uses the same noise.

        Returns
        -------
        dict of arrays of shape (n, ...)
        """
        p, outputs, order = self.proposal, {}, []
        r, n_params = p.means.shape[1], self.likelihood.n_params
        options = {"dtype": torch.float32, "device": self.device}
        # Pairs of opposite signs: odd parts cancel, so means are exact where the decoder is linear.
        fixed = torch.Generator().manual_seed(0)
        half = torch.randn(n_draws // 2, r, generator=fixed, dtype=torch.float32)
        noise = torch.stack([half, -half], 1).view(-1, r).T.to(self.device)
        steps = torch.arange(n_draws, **options)
        places = (steps + 0.5) / n_draws
        fitted_together = int(np.clip(MAX_NUMBERS // p.numbers_per_row, 1, FITTED_TOGETHER))
        with torch.no_grad():
            for here in torch.arange(len(cells)).split(fitted_together):
                own = torch.as_tensor(cells[here.numpy()]).to(**options)
                if generator is not None:
                    noise = torch.randn(len(own), r, n_draws, generator=generator, **options)
                    shift = torch.rand(len(own), 1, generator=generator, **options)
                    places = (steps + shift) / n_draws
                gaussians = p.fit(own)
                near = self._near(gaussians)
                # Rows are padded to the largest number of near components in a part.
                rows = near.sum(1).argsort(descending=True, stable=True)
                while len(rows):
                    largest = max(n_params, r * int(near[rows[0]].sum()))
                    together = int(np.clip(MAX_NUMBERS // (n_draws * largest), 1, DRAWN_TOGETHER))
                    some, rows = rows[:together], rows[together:]
                    draws = self.draw(
                        own[some],
                        gaussians.take(some),
                        near[some],
                        noise if generator is None else noise[some],
                        places if generator is None else places[some],
                    )
                    order.append(here[some.cpu()])
                    for name, values in function(draws, order[-1]).items():
                        values = values.cpu().numpy() if isinstance(values, Tensor) else values
                        outputs.setdefault(name, []).append(values)
        back = np.argsort(torch.cat(order).numpy())
        return {name: np.concatenate(parts)[back] for name, parts in outputs.items()}


def row_posterior(model: LatentModel, prior: LatentPrior, heads=None, missing=None) -> RowPosterior:
    """`RowPosterior` of a fitted model, which is built at the first call and kept if not large.

    It is not an attribute of the encoder: pickles, copies and saved files do not hold it.
    """
    key = prior if missing is None else missing
    kept = _KEPT.get(key)
    if kept is None or not kept.is_for(model):
        kept = RowPosterior(model, prior, heads, missing)
        if kept.proposal.n_numbers <= MAX_KEPT:
            _KEPT[key] = kept
    return kept


def _widest_dtype(decoder, n_components, device):
    """Double precision if the decoder supports it; a custom decoder may not."""
    try:
        code = torch.zeros(1, n_components, dtype=torch.float64, device=device)
        with torch.no_grad():
            is_double = copy.deepcopy(decoder).double()(code).dtype == torch.float64
    except RuntimeError:
        return torch.float32
    return torch.float64 if is_double else torch.float32


def calibrate(model: LatentModel, prior: LatentPrior, means, cells, n_rows):
    """Refit the noise of p(x | z) to codes from the latent prior, with fixed networks.

    In training, codes carry noise of all sizes and the noise of a column averages over them, which
    would blur samples. This runs expectation maximisation on some training rows, with the decoder
    linear around each row's code. A small table's training rows are reconstructed too well, so the
    noise learned in training counts as 1,000 more rows, on a logarithmic scale.

    Parameters
    ----------
    model : LatentModel
        Its likelihood is changed in place.
    prior : LatentPrior
    means : array of shape (n, d)
        Posterior means of the rows. The first 300 are used, fewer in very wide tables.
    cells : array of shape (n, n_cells)
        The same rows, as `Table.measure` returns them.
    n_rows : int
        Number of rows of the training table.
    """
    exact = exact_model(model)
    dtype = _widest_dtype(exact.decoder, prior.basis.shape[0], exact.device)
    decoder, likelihood = (copy.deepcopy(p).to(dtype) for p in (exact.decoder, exact.likelihood))

    def as_tensor(part):
        return torch.as_tensor(np.asarray(part), dtype=dtype, device=exact.device)

    mixture = tuple(as_tensor(part) for part in (prior.weights, prior.means, prior.factors))
    centre, basis = as_tensor(prior.centre), as_tensor(prior.basis)

    def decode(u):
        return decoder(centre + u.flatten(0, -2) @ basis.T).unflatten(0, u.shape[:-1])

    prior_share = CALIBRATION_PRIOR_ROWS / (n_rows + CALIBRATION_PRIOR_ROWS)
    numbers_per_row = prior.basis.shape[1] * likelihood.n_params
    n_used = min(CALIBRATION_ROWS, max(10, MAX_NUMBERS // 16 // numbers_per_row))
    cells, means = as_tensor(cells[:n_used]), as_tensor(means[:n_used])
    with torch.no_grad():
        u = (means - centre) @ basis
        component = component_log_prob(u, *mixture).argmax(1)
        precision = torch.cholesky_inverse(mixture[2])[component]
        pull = (precision @ (u - mixture[1][component]).unsqueeze(-1)).squeeze(-1)
        params, step = decode(u), 1e-3 if dtype == torch.float32 else 1e-6
        moved = u.unsqueeze(1) + step * torch.eye(u.shape[1], dtype=dtype, device=u.device)
        jacobian = ((decode(moved) - params.unsqueeze(1)) / step).transpose(1, 2)
        likelihood.refit_noise(params, torch.zeros_like(params), cells, 1.0)
        for _ in range(CALIBRATION_STEPS):
            gradient = likelihood.surrogate_gradient(params, cells)
            gradient = (gradient.unsqueeze(1) @ jacobian).squeeze(1) - pull
            root = likelihood.fisher_factor(jacobian, params, cells)
            factor = torch.linalg.cholesky(root.transpose(1, 2) @ root + precision)
            to_mode = torch.cholesky_solve(gradient.unsqueeze(-1), factor)
            at_mode = params + (jacobian @ to_mode).squeeze(-1)
            spread = torch.linalg.solve_triangular(factor, jacobian.transpose(1, 2), upper=False)
            likelihood.refit_noise(at_mode, spread.square().sum(1), cells, prior_share)
        model.likelihood.load_state_dict(likelihood.state_dict())
