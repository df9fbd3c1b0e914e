"""How likely a row is, and which codes it may come from: p(x) and p(z | x) of the fitted model.

The model is that of `sample`: a code z from the latents, then each column from p(x | z). The
encoder's q(z | x) is no help in weighing codes: it is far narrower than the model's own posterior.
Here codes are drawn from Gaussians fitted to that posterior row by row, one for each component of
the latents, by Gauss-Newton steps, and weighed by how much too often they are drawn (importance
sampling).

Axes: n rows, S draws, K components, r directions in which codes vary, d latent components, P
decoder outputs, C columns.
"""

import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cmim_sklearn._models.latent_model import LatentModel
from cmim_sklearn._models.latent_prior import Latents, component_log_prob
from cmim_sklearn.latents import LOG_2PI

SCORE_DRAWS, CHOICE_DRAWS = 256, 128
N_ANCHORS, N_REFINED, N_STEPS = 32, 3, 3
NEGLECTED = 1e-3
CALIBRATION_ROWS, CALIBRATION_STEPS = 300, 20
CALIBRATION_PRIOR_ROWS = 1000
MAX_NUMBERS = 2**25


class Draws(NamedTuple):
    """Codes drawn for n rows, with their importance weights.

    Attributes
    ----------
    params : Tensor of shape (n, S, P)
        Decoder outputs at the codes.
    log_weights : Tensor of shape (n, S)
        log p(observed cells, z) - log q(z): their mean in the linear scale estimates p(x).
    """

    params: Tensor
    log_weights: Tensor

    def log_density(self):
        """Estimate log p of the observed cells, in nats, (n,)."""
        return self.log_weights.logsumexp(1) - np.log(self.log_weights.shape[1])

    def error(self):
        """Monte-Carlo standard error of `log_density`, (n,)."""
        share = self.shares() * self.log_weights.shape[1]
        return share.var(1).div(self.log_weights.shape[1]).sqrt()

    def shares(self):
        """Weights that sum to one in each row, (n, S)."""
        return self.log_weights.softmax(1)

    def moved_towards(self, params, trust):
        """Draws moved alike: their mean goes a share `trust` (n,) of the way to params (n, P)."""
        mean = (self.params * self.shares().unsqueeze(-1)).sum(1)
        shift = trust.unsqueeze(-1) * (params - mean)
        return self._replace(params=self.params + shift.unsqueeze(1))

    def resample(self, n_draws, generator):
        """Decoder outputs (n, n_draws, P) of codes drawn anew by their weights."""
        chosen = torch.multinomial(self.shares(), n_draws, True, generator=generator)
        return self.params.gather(1, chosen.unsqueeze(-1).expand(-1, -1, self.params.shape[2]))


class RowPosterior:
    """p(z | observed cells) of rows, under a fitted model and its latents.

    Parameters
    ----------
    model : LatentModel
    latents : Latents
    """

    def __init__(self, model: LatentModel, latents: Latents):
        # Double precision where there is any: rounding then never decides between two steps or two
        # components, which would make a row's score depend on where in a chunk it stands.
        self.device = model.device
        self.dtype = _widest_dtype(model.decoder, latents.basis.shape[0], model.device)
        self.decoder = copy.deepcopy(model.decoder).to(self.dtype)
        self.likelihood = copy.deepcopy(model.likelihood).to(self.dtype)
        as_tensor = {"dtype": self.dtype, "device": self.device}
        self.mixture = tuple(
            torch.as_tensor(part, **as_tensor)
            for part in (latents.weights, latents.means, latents.factors)
        )
        self.centre = torch.as_tensor(latents.centre, **as_tensor)
        self.basis = torch.as_tensor(latents.basis, **as_tensor)
        weights, means, factors = self.mixture
        self.n_directions = means.shape[1]
        self.precision = torch.cholesky_inverse(factors)
        log_det = torch.diagonal(factors, dim1=1, dim2=2).log().sum(1)
        self.log_peak = weights.log() - log_det - 0.5 * self.n_directions * LOG_2PI
        # Where a search for the posterior starts: the components' means; where there is one alone,
        # draws from it too, since over so wide a component the decoder is not linear.
        n_more = N_ANCHORS - 1 if len(means) == 1 else 0
        drawn, component = latents.draw(n_more, np.random.default_rng(0))
        component = np.concatenate([np.arange(len(means)), component])
        self.component = torch.as_tensor(component, device=self.device)
        self.anchors = torch.cat([means, torch.as_tensor(drawn, **as_tensor)])
        self.n_anchors = len(self.anchors)
        with torch.no_grad():
            self.params_at_anchors = self._decode(self.anchors)
            self.jacobian_at_anchors = self._jacobian(self.anchors)
        # Rows handled together, within some hundred megabytes.
        k, r, n_params = self.n_anchors, self.n_directions, self.likelihood.n_params
        row = max(k * r * (n_params + r), SCORE_DRAWS * max(n_params, 256, r * r))
        self.chunk = int(np.clip(MAX_NUMBERS // row, 1, 256))

    def _decode(self, u):
        """Decoder outputs (..., P) at u (..., r)."""
        flat = u.reshape(-1, u.shape[-1])
        return self.decoder(self.centre + flat @ self.basis.T).unflatten(0, u.shape[:-1])

    def _jacobian(self, u):
        """D decoder outputs / d u, (n, P, r), at u (n, r), by finite differences.

        Any network has them, at one pass for each direction; it is for proposals alone.
        """
        step = 1e-3 if self.dtype == torch.float32 else 1e-6
        moved = u.unsqueeze(1) + step * torch.eye(u.shape[1], dtype=u.dtype, device=u.device)
        rise = self._decode(moved) - self._decode(u).unsqueeze(1)
        return (rise / step).transpose(1, 2)

    def _log_prior(self, u):
        """Log density of the latents at u (n, r), (n,): one matrix product for all components."""
        _, means, _ = self.mixture
        squares = (u.unsqueeze(2) * u.unsqueeze(1)).flatten(1)
        pull = (self.precision @ means.unsqueeze(-1)).squeeze(-1)
        log_joint = self.log_peak - 0.5 * (pull * means).sum(1) + u @ pull.T
        return (log_joint - 0.5 * squares @ self.precision.flatten(1).T).logsumexp(1)

    def _expand(self, u, component, cells, params=None, jacobian=None):
        """The joint log density around u (n, r), by a component of the prior (n,) alone.

        Returns its value (n,), the Gauss-Newton step (n, r) and the Cholesky factor of the
        information (n, r, r).
        """
        params = self._decode(u) if params is None else params
        jacobian = self._jacobian(u) if jacobian is None else jacobian
        fit, gradient = self.likelihood.surrogate(params, cells)
        scaled = self.likelihood.fisher_factor(jacobian, params, cells)
        precision, apart = self.precision[component], u - self.mixture[1][component]
        pull = (precision @ apart.unsqueeze(-1)).squeeze(-1)
        gradient = (gradient.unsqueeze(1) @ jacobian).squeeze(1) - pull
        factor = torch.linalg.cholesky(scaled.transpose(1, 2) @ scaled + precision)
        step = torch.cholesky_solve(gradient.unsqueeze(-1), factor).squeeze(-1)
        prior = self.log_peak[component] - 0.5 * (pull * apart).sum(1)
        return fit + prior, step, factor

    def _approximate(self, cells):
        """Gaussians for every row: log weight (n, K), mean, Cholesky factor of the information.

        All anchors take one step; the most promising some more.
        """
        n, k = len(cells), self.n_anchors
        component, start = self.component.repeat(n), self.anchors.repeat(n, 1)
        repeated = cells.repeat_interleave(k, 0)
        at_start = self.params_at_anchors.repeat(n, 1), self.jacobian_at_anchors.repeat(n, 1, 1)
        _, step, factor = self._expand(start, component, repeated, *at_start)
        mean = start + step
        # How good the place is that the step led to; where the decoder bends, not as promised.
        fit, _ = self.likelihood.surrogate(self._decode(mean), repeated)
        apart = mean - self.mixture[1][component]
        apart = (self.precision[component] @ apart.unsqueeze(-1)).squeeze(-1) * apart
        value = fit + self.log_peak[component] - 0.5 * apart.sum(1)
        log_weight = _evidence(value, factor).view(n, k)
        mean, factor = mean.view(n, k, -1), factor.view(n, k, *factor.shape[1:])

        best = log_weight.topk(min(N_REFINED, k), dim=1).indices  # (n, T)
        rows = torch.arange(n, device=cells.device)[:, None].expand_as(best)
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
            step = torch.where(better[:, None], new_step, step / 4)
            local_factor = torch.where(better[:, None, None], new_factor, local_factor)
        mean[rows, best] = u.view(*best.shape, -1)
        factor[rows, best] = local_factor.view(*best.shape, *local_factor.shape[1:])
        log_weight[rows, best] = _evidence(value, local_factor).view_as(best)
        # Gaussians that nobody will draw from need not be weighed either: the least likely are
        # dropped, as far as they hold a thousandth together.
        log_weight, order = log_weight.log_softmax(1).sort(1, descending=True)
        is_kept = log_weight.exp().cumsum(1) - log_weight.exp() < 1 - NEGLECTED
        n_kept = int(is_kept.sum(1).max())
        log_weight = log_weight.masked_fill(~is_kept, -torch.inf).log_softmax(1)[:, :n_kept]
        rows, order = torch.arange(n, device=cells.device)[:, None], order[:, :n_kept]
        return log_weight, mean[rows, order], factor[rows, order]

    def draw(self, cells, noise, places) -> Draws:
        """Draw S codes for each row and weigh them.

        Parameters
        ----------
        cells : Tensor of shape (n, n_cells)
            As `Table.measure` gives them.
        noise : Tensor of shape (n or 1, S, r)
            Standard normal.
        places : Tensor of shape (n or 1, S)
            In [0, 1): which Gaussian a draw comes from.
        """
        n, n_draws = len(cells), noise.shape[1]
        log_weight, mean, factor = self._approximate(cells)
        sums = log_weight.exp().cumsum(1)
        chosen = torch.searchsorted(sums, places.expand(n, -1).contiguous())
        chosen = chosen.clamp(max=log_weight.shape[1] - 1)
        noise = noise.expand(n, -1, -1).transpose(1, 2)
        u = noise.new_empty(n, n_draws, self.n_directions)
        for k in range(log_weight.shape[1]):
            # Cholesky factors of the information: their inverse transposed colours the noise.
            upper = factor[:, k].transpose(1, 2)
            spread = torch.linalg.solve_triangular(upper, noise, upper=True).transpose(1, 2)
            u = torch.where((chosen == k).unsqueeze(-1), mean[:, None, k] + spread, u)
        log_q = u.new_full((n, n_draws), -torch.inf)
        for k in range(log_weight.shape[1]):
            apart = (u - mean[:, None, k]) @ factor[:, k]
            log_det = torch.diagonal(factor[:, k], dim1=1, dim2=2).log().sum(1, keepdim=True)
            log_k = log_weight[:, k, None] + log_det - 0.5 * apart.square().sum(-1)
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
        n_draws : int
            Even; the default is enough to choose from, or to take means over.
        generator : torch.Generator, default=None
            On the model's device. Without one, the same noise serves every row of every call.

        Returns
        -------
        dict of arrays of shape (n, ...)
        """
        device, outputs, r = self.device, {}, self.n_directions
        fixed = torch.Generator().manual_seed(0)
        options = {"dtype": self.dtype, "device": device}
        # In pairs of opposite signs, so that what is odd in it cancels: means are then exact where
        # the decoder is linear.
        half = torch.randn(n_draws // 2, r, generator=fixed).to(**options)
        noise = torch.stack([half, -half], 1).view(1, -1, r)
        steps = torch.arange(n_draws, **options)
        places = (steps + 0.5).unsqueeze(0) / n_draws
        with torch.no_grad():
            for start in range(0, len(cells), self.chunk):
                some = torch.as_tensor(cells[start : start + self.chunk]).to(**options)
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


def _widest_dtype(decoder, n_components, device):
    """Double precision where the device has it and the decoder, maybe a user's own, can take it."""
    if device.type == "mps":
        return torch.float32
    try:
        code = torch.zeros(1, n_components, dtype=torch.float64, device=device)
        with torch.no_grad():
            is_double = copy.deepcopy(decoder).double()(code).dtype == torch.float64
    except RuntimeError:
        return torch.float32
    return torch.float64 if is_double else torch.float32


def _evidence(value, factor):
    """Laplace's log integral from the value (n,) at a mode and the information's factor."""
    return value - torch.diagonal(factor, dim1=1, dim2=2).log().sum(1)


def calibrate(model: LatentModel, latents: Latents, means, cells, n_rows):
    """Fit the noise of p(x | z) at codes as the latents give them, the network held still.

    In training codes carry all amounts of noise, and a column's noise is learnt as a mean over
    them: samples would be blurred by it. This is expectation maximisation on some training rows,
    with the decoder linear around each row's code. Training rows are rebuilt too well in a small
    table: what was learnt counts as 1,000 rows more, on a logarithmic scale.

    Parameters
    ----------
    model : LatentModel
        Its likelihood is changed in place.
    latents : Latents
    means : array of shape (n, d)
        Posterior means of the rows; the first 300 are used, fewer in very wide tables.
    cells : array of shape (n, n_cells)
        The same rows, measured.
    n_rows : int
        Of the training table.
    """
    posterior = RowPosterior(model, latents)
    prior_share = CALIBRATION_PRIOR_ROWS / (n_rows + CALIBRATION_PRIOR_ROWS)
    as_tensor = {"dtype": posterior.dtype, "device": model.device}
    numbers = latents.basis.shape[1] * model.likelihood.n_params
    n_used = min(CALIBRATION_ROWS, max(10, MAX_NUMBERS // 16 // numbers))
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
