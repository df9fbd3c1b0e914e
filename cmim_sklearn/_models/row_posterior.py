"""Density p(x) of a row and posterior p(z | x) of its code, by importance sampling.

The model is the one that `sample` uses: a code z from the latent prior, then each column from
p(x | z). The encoder's q(z | x) is far narrower than the posterior of that model and cannot be the
proposal distribution. Instead a proposal is fitted to each row:

1. Anchors. Searches start at fixed codes: the means of the prior's mixture components, or the mean
   and samples of a single component. Decoder outputs and Jacobians there are computed once.
2. Step. From each anchor one Gauss-Newton step on log p(x, z), with the decoder linearised, gives
   the mean and covariance of a Gaussian (a Laplace approximation of the posterior near there).
3. Refinement. The few Gaussians with the largest evidence take some more steps.
4. Proposal. The Gaussians, weighted by their evidence, form a mixture q(z). Gaussians with
   negligible weight are dropped.
5. Importance weights. Codes sampled from q get the weight p(x, z) / q(z). The mean weight estimates
   p(x); weighted codes represent p(z | x).

Missing cells add nothing to p(x, z), so all densities are those of the observed cells.

Axes: n rows, S codes sampled per row, K Gaussians, r directions in which codes vary, d latent
components, P decoder outputs, C columns.
"""

import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cmim_sklearn._models.latent_model import LatentModel
from cmim_sklearn._models.latent_prior import LatentPrior, component_log_prob
from cmim_sklearn._utils.device import exact_device
from cmim_sklearn.latents import LOG_2PI

SCORE_DRAWS, CHOICE_DRAWS = 256, 128
N_ANCHORS, N_REFINED, N_STEPS = 32, 3, 3
NEGLIGIBLE_WEIGHT = 1e-3
CALIBRATION_ROWS, CALIBRATION_STEPS = 300, 20
CALIBRATION_PRIOR_ROWS = 1000
MAX_NUMBERS = 2**25
"""Maximum number of elements in a tensor for a chunk of rows: a few hundred megabytes."""


class Draws(NamedTuple):
    """Codes sampled for n rows, as decoder outputs, with their importance weights.

    Attributes
    ----------
    params : Tensor of shape (n, S, P)
        Decoder outputs at the codes.
    log_weights : Tensor of shape (n, S)
        log p(observed cells, z) - log q(z), in nats.
    """

    params: Tensor
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

    def moved_towards(self, params, trust):
        """Shift all draws of a row so that their mean moves a share of the way to params (n, P).

        The share is `trust` (n,): 0 leaves the draws where they are.
        """
        mean = (self.params * self.shares().unsqueeze(-1)).sum(1)
        shift = trust.unsqueeze(-1) * (params - mean)
        return self._replace(params=self.params + shift.unsqueeze(1))

    def resample(self, n_draws, generator):
        """Sample decoder outputs (n, n_draws, P) with replacement, by the importance weights."""
        chosen = torch.multinomial(self.shares(), n_draws, True, generator=generator)
        return self.params.gather(1, chosen.unsqueeze(-1).expand(-1, -1, self.params.shape[2]))


class RowPosterior:
    """Posterior p(z | observed cells) of rows under a fitted model and its latent prior.

    Parameters
    ----------
    model : LatentModel
        A copy on the CPU is used if its device has no float64, see `exact_model`.
    prior : LatentPrior
    """

    def __init__(self, model: LatentModel, prior: LatentPrior):
        # Double precision where possible. Rounding would otherwise decide between two nearly equal
        # steps or components, and a row's score would depend on its position in a chunk.
        model = exact_model(model)
        self.device = model.device
        self.dtype = _widest_dtype(model.decoder, prior.basis.shape[0], model.device)
        self.decoder = copy.deepcopy(model.decoder).to(self.dtype)
        self.likelihood = copy.deepcopy(model.likelihood).to(self.dtype)
        as_tensor = {"dtype": self.dtype, "device": self.device}
        self.mixture = tuple(
            torch.as_tensor(part, **as_tensor)
            for part in (prior.weights, prior.means, prior.factors)
        )
        self.centre = torch.as_tensor(prior.centre, **as_tensor)
        self.basis = torch.as_tensor(prior.basis, **as_tensor)
        weights, means, factors = self.mixture
        self.n_directions = means.shape[1]
        self.precision = torch.cholesky_inverse(factors)
        log_det = torch.diagonal(factors, dim1=1, dim2=2).log().sum(1)
        # Log of each weighted component at its mean.
        self.log_peak = weights.log() - log_det - 0.5 * self.n_directions * LOG_2PI
        # A single component is so wide that the decoder is not linear over it: its samples are
        # anchors too.
        n_more = N_ANCHORS - 1 if len(means) == 1 else 0
        sampled, component = prior.sample_directions(n_more, np.random.default_rng(0))
        component = np.concatenate([np.arange(len(means)), component])
        self.component = torch.as_tensor(component, device=self.device)
        self.anchors = torch.cat([means, torch.as_tensor(sampled, **as_tensor)])
        self.n_anchors = len(self.anchors)
        with torch.no_grad():
            self.params_at_anchors = self._decode(self.anchors)
            self.jacobian_at_anchors = self._jacobian(self.anchors)
        k, r, n_params = self.n_anchors, self.n_directions, self.likelihood.n_params
        numbers_per_row = max(k * r * (n_params + r), SCORE_DRAWS * max(n_params, 256, r * r))
        self.chunk_rows = int(np.clip(MAX_NUMBERS // numbers_per_row, 1, 256))

    def _decode(self, u):
        """Decoder outputs (..., P) at u (..., r)."""
        flat = u.reshape(-1, u.shape[-1])
        return self.decoder(self.centre + flat @ self.basis.T).unflatten(0, u.shape[:-1])

    def _jacobian(self, u):
        """Jacobian (n, P, r) of the decoder outputs at u (n, r), by finite differences.

        They work for any network and cost one pass per direction. Their error does not matter,
        because only proposals depend on it.
        """
        step = 1e-3 if self.dtype == torch.float32 else 1e-6
        moved = u.unsqueeze(1) + step * torch.eye(u.shape[1], dtype=u.dtype, device=u.device)
        rise = self._decode(moved) - self._decode(u).unsqueeze(1)
        return (rise / step).transpose(1, 2)

    def _log_prior(self, u):
        """Log density (n,) of the latent prior at u (n, r)."""
        # One matrix product for all components: u' A u is the product of u u' and A, flattened.
        _, means, _ = self.mixture
        squares = (u.unsqueeze(2) * u.unsqueeze(1)).flatten(1)
        pull = (self.precision @ means.unsqueeze(-1)).squeeze(-1)
        log_joint = self.log_peak - 0.5 * (pull * means).sum(1) + u @ pull.T
        return (log_joint - 0.5 * squares @ self.precision.flatten(1).T).logsumexp(1)

    def _expand(self, u, component, cells, params=None, jacobian=None):
        """Expand log p(cells, u) to second order around u (n, r), with the decoder linearised.

        Only one component of the prior (n,) counts for each row.

        Returns
        -------
        value : Tensor of shape (n,)
            The log joint density at u.
        step : Tensor of shape (n, r)
            Gauss-Newton step to the maximum of the expansion.
        factor : Tensor of shape (n, r, r)
            Cholesky factor of the information, the negative Hessian.
        """
        params = self._decode(u) if params is None else params
        jacobian = self._jacobian(u) if jacobian is None else jacobian
        fit, gradient = self.likelihood.surrogate(params, cells)
        scaled = self.likelihood.fisher_factor(jacobian, params, cells)
        precision, offset = self.precision[component], u - self.mixture[1][component]
        pull = (precision @ offset.unsqueeze(-1)).squeeze(-1)
        gradient = (gradient.unsqueeze(1) @ jacobian).squeeze(1) - pull
        factor = torch.linalg.cholesky(scaled.transpose(1, 2) @ scaled + precision)
        step = torch.cholesky_solve(gradient.unsqueeze(-1), factor).squeeze(-1)
        prior = self.log_peak[component] - 0.5 * (pull * offset).sum(1)
        return fit + prior, step, factor

    def _propose(self, cells):
        """Fit the proposal of each row, a mixture of Gaussians.

        Returns
        -------
        log_weight : Tensor of shape (n, K)
            Normalised; -inf for Gaussians that are dropped.
        mean : Tensor of shape (n, K, r)
        factor : Tensor of shape (n, K, r, r)
            Cholesky factors of the information, the inverse covariance.
        """
        log_weight, mean, factor = self._step_from_anchors(cells)
        self._refine(cells, log_weight, mean, factor)
        return _without_negligible(log_weight, mean, factor)

    def _step_from_anchors(self, cells):
        """Take one step from each anchor: log evidence (n, K), means and factors of Gaussians."""
        n, k = len(cells), self.n_anchors
        component, start = self.component.repeat(n), self.anchors.repeat(n, 1)
        repeated = cells.repeat_interleave(k, 0)
        at_start = self.params_at_anchors.repeat(n, 1), self.jacobian_at_anchors.repeat(n, 1, 1)
        _, step, factor = self._expand(start, component, repeated, *at_start)
        mean = start + step
        # The value is computed at the new mean, because the expansion is inaccurate where the
        # decoder is curved.
        fit, _ = self.likelihood.surrogate(self._decode(mean), repeated)
        offset = mean - self.mixture[1][component]
        squares = (self.precision[component] @ offset.unsqueeze(-1)).squeeze(-1) * offset
        value = fit + self.log_peak[component] - 0.5 * squares.sum(1)
        log_weight = _log_evidence(value, factor).view(n, k)
        return log_weight, mean.view(n, k, -1), factor.view(n, k, *factor.shape[1:])

    def _refine(self, cells, log_weight, mean, factor):
        """Take more steps with the Gaussians of largest evidence, in place."""
        best = log_weight.topk(min(N_REFINED, self.n_anchors), dim=1).indices  # (n, T)
        rows = torch.arange(len(cells), device=cells.device)[:, None].expand_as(best)
        component = self.component[best.flatten()]
        repeated = cells.repeat_interleave(best.shape[1], 0)
        u = mean[rows, best].flatten(0, 1)
        value, step, local_factor = self._expand(u, component, repeated)
        for _ in range(N_STEPS):
            new = u + step
            new_value, new_step, new_factor = self._expand(new, component, repeated)
            better = new_value > value
            u = torch.where(better[:, None], new, u)
            value = torch.where(better, new_value, value)
            # A step that lowers the value is rejected and retried at a quarter of its length.
            step = torch.where(better[:, None], new_step, step / 4)
            local_factor = torch.where(better[:, None, None], new_factor, local_factor)
        mean[rows, best] = u.view(*best.shape, -1)
        factor[rows, best] = local_factor.view(*best.shape, *local_factor.shape[1:])
        log_weight[rows, best] = _log_evidence(value, local_factor).view_as(best)

    def draw(self, cells, noise, places) -> Draws:
        """Sample S codes for each row from its proposal and weight them.

        Parameters
        ----------
        cells : Tensor of shape (n, n_cells)
            Cells as `Table.measure` returns them.
        noise : Tensor of shape (n or 1, S, r)
            Standard normal.
        places : Tensor of shape (n or 1, S)
            Uniform numbers in [0, 1) that choose the Gaussian of each code.
        """
        n, n_draws = len(cells), noise.shape[1]
        log_weight, mean, factor = self._propose(cells)
        sums = log_weight.exp().cumsum(1)
        chosen = torch.searchsorted(sums, places.expand(n, -1).contiguous())
        chosen = chosen.clamp(max=log_weight.shape[1] - 1)
        noise = noise.expand(n, -1, -1).transpose(1, 2)
        u = noise.new_empty(n, n_draws, self.n_directions)
        for k in range(log_weight.shape[1]):
            # L is the factor of the information, so noise times L'^-1 has the right covariance.
            upper = factor[:, k].transpose(1, 2)
            spread = torch.linalg.solve_triangular(upper, noise, upper=True).transpose(1, 2)
            u = torch.where((chosen == k).unsqueeze(-1), mean[:, None, k] + spread, u)
        log_q = u.new_full((n, n_draws), -torch.inf)
        for k in range(log_weight.shape[1]):
            whitened = (u - mean[:, None, k]) @ factor[:, k]
            log_det = torch.diagonal(factor[:, k], dim1=1, dim2=2).log().sum(1, keepdim=True)
            log_k = log_weight[:, k, None] + log_det - 0.5 * whitened.square().sum(-1)
            log_q = torch.logaddexp(log_q, log_k - 0.5 * self.n_directions * LOG_2PI)
        log_prior = self._log_prior(u.flatten(0, 1)).view(n, n_draws)
        params = self._decode(u)
        repeated = cells.repeat_interleave(n_draws, 0)
        log_px = self.likelihood.log_density(params.flatten(0, 1), repeated).sum(1)
        log_weights = log_px.view(n, n_draws) + log_prior - log_q
        # A row that no code explains is very unlikely, not impossible.
        return Draws(params, log_weights.clamp(min=torch.finfo(self.dtype).min / 1e3))

    def map(self, function, cells, n_draws=CHOICE_DRAWS, generator=None):
        """Apply a function of `Draws` to all rows, in chunks.

        Parameters
        ----------
        function : callable
            ``(Draws, slice of rows) -> dict`` of tensors or arrays (chunk, ...).
        cells : array of shape (n, n_cells)
            Cells as `Table.measure` returns them.
        n_draws : int, default=128
            Number of codes per row; even. The default is enough for resampling and for averages.
        generator : torch.Generator, default=None
            Generator on the model's device. None: every row of every call uses the same noise.

        Returns
        -------
        dict of arrays of shape (n, ...)
        """
        device, outputs, r = self.device, {}, self.n_directions
        fixed = torch.Generator().manual_seed(0)
        options = {"dtype": self.dtype, "device": device}
        # Pairs of opposite signs: odd parts cancel, so means are exact where the decoder is linear.
        half = torch.randn(n_draws // 2, r, generator=fixed, dtype=torch.float32).to(**options)
        noise = torch.stack([half, -half], 1).view(1, -1, r)
        steps = torch.arange(n_draws, **options)
        places = (steps + 0.5).unsqueeze(0) / n_draws
        with torch.no_grad():
            for start in range(0, len(cells), self.chunk_rows):
                some = torch.as_tensor(cells[start : start + self.chunk_rows]).to(**options)
                if generator is not None:
                    noise = torch.randn(len(some), n_draws, r, generator=generator, **options)
                    shift = torch.rand(len(some), 1, generator=generator, **options)
                    places = (steps + shift) / n_draws
                draws = self.draw(some, noise, places)
                here = slice(start, start + len(some))
                for name, values in function(draws, here).items():
                    values = values.cpu().numpy() if isinstance(values, Tensor) else values
                    outputs.setdefault(name, []).append(values)
        return {name: np.concatenate(parts) for name, parts in outputs.items()}


def exact_model(model: LatentModel) -> LatentModel:
    """Return the model if its device has float64, else a copy on the CPU.

    Apple's mps has none, and lacks functions that densities and samples of counts need.
    """
    device = exact_device(model.device)
    return model if device == model.device else copy.deepcopy(model).to(device)


def _widest_dtype(decoder, n_components, device):
    """Double precision if the decoder supports it; a custom decoder may not."""
    try:
        code = torch.zeros(1, n_components, dtype=torch.float64, device=device)
        with torch.no_grad():
            is_double = copy.deepcopy(decoder).double()(code).dtype == torch.float64
    except RuntimeError:
        return torch.float32
    return torch.float64 if is_double else torch.float32


def _log_evidence(value, factor):
    """Laplace approximation of a log integral, up to a constant.

    It takes the value (n,) at the mode and the Cholesky factor (n, r, r) of the information.
    """
    return value - torch.diagonal(factor, dim1=1, dim2=2).log().sum(1)


def _without_negligible(log_weight, mean, factor):
    """Normalise the weights and drop the least likely Gaussians, a thousandth of the weight in all.

    Gaussians are sorted by weight. Their number is that of the row that keeps the largest number.
    """
    log_weight, order = log_weight.log_softmax(1).sort(1, descending=True)
    is_kept = log_weight.exp().cumsum(1) - log_weight.exp() < 1 - NEGLIGIBLE_WEIGHT
    n_kept = int(is_kept.sum(1).max())
    log_weight = log_weight.masked_fill(~is_kept, -torch.inf).log_softmax(1)[:, :n_kept]
    rows = torch.arange(len(order), device=order.device)[:, None]
    order = order[:, :n_kept]
    return log_weight, mean[rows, order], factor[rows, order]


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
    posterior = RowPosterior(model, prior)
    prior_share = CALIBRATION_PRIOR_ROWS / (n_rows + CALIBRATION_PRIOR_ROWS)
    as_tensor = {"dtype": posterior.dtype, "device": posterior.device}
    numbers_per_row = prior.basis.shape[1] * model.likelihood.n_params
    n_used = min(CALIBRATION_ROWS, max(10, MAX_NUMBERS // 16 // numbers_per_row))
    cells = torch.as_tensor(np.asarray(cells[:n_used]), **as_tensor)
    means = torch.as_tensor(np.asarray(means[:n_used]), **as_tensor)
    with torch.no_grad():
        u = (means - posterior.centre) @ posterior.basis
        component = component_log_prob(u, *posterior.mixture).argmax(1)
        params, jacobian = posterior._decode(u), posterior._jacobian(u)
        posterior.likelihood.refit_noise(params, torch.zeros_like(params), cells, 1.0)
        for _ in range(CALIBRATION_STEPS):
            _, step, factor = posterior._expand(u, component, cells, params, jacobian)
            at_mode = params + (jacobian @ step.unsqueeze(-1)).squeeze(-1)
            spread = torch.linalg.solve_triangular(factor, jacobian.transpose(1, 2), upper=False)
            variance = spread.square().sum(1)
            posterior.likelihood.refit_noise(at_mode, variance, cells, prior_share)
        model.likelihood.load_state_dict(posterior.likelihood.state_dict())
