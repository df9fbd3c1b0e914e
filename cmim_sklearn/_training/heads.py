"""Training of heads, by one loop for all kinds of heads, and for one model or several at once.

All heads of a model see the same batches of noisy codes, so that the decoder computes its last
hidden layer once. Heads of several models are the rows of one tensor; a step is then one forward
and backward pass by `torch.vmap`. On a GPU, steps are captured as CUDA graphs, see `TensorStep`.

Axes: k models, S steps, P weights of all heads of a model, B rows of a batch.
"""

from collections import defaultdict
from itertools import groupby
from typing import NamedTuple

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from cmim_sklearn._models.heads import WithHidden
from cmim_sklearn._models.latent_prior import NoisyCodes
from cmim_sklearn._training.batchable import memory_for
from cmim_sklearn._training.capture import TensorStep
from cmim_sklearn._training.cuda_graph import MIN_CAPTURED_STEPS

BATCH_ROWS = 256
BETAS, EPS = (0.9, 0.999), 1e-8
"""Options of AdamW, which are torch's defaults."""
CPU_MEMORY = 2**26
"""Memory on a CPU for the cells of heads that train at once. With more cells, nothing is gained."""


class HeadFit(NamedTuple):
    """Heads of a model, to be trained.

    Attributes
    ----------
    decoder : nn.Module
        In evaluation mode; it is not changed.
    codes : NoisyCodes
        Codes of the rows of the heads' cells.
    heads : dict of str to Heads
        At least one, by the name of the fitted attribute that they become.
    """

    decoder: nn.Module
    codes: NoisyCodes
    heads: dict


class Summary(NamedTuple):
    """Fitted attributes that are read from a trained net.

    Attributes
    ----------
    values : dict
        By name.
    heads : HeadFit or None
        Heads, which are trained to get the other fitted attributes.
    """

    values: dict
    heads: HeadFit | None = None


def fill_memory(summaries, net) -> bool:
    """Whether the heads of some summaries take the memory for heads that train at once.

    Parameters
    ----------
    summaries : iterable of Summary
    net : LatentNet
        One of the nets.
    """
    fits = [summary.heads for summary in summaries if summary.heads is not None]
    n_cells = sum(heads.cells.numel() for fit in fits for heads in fit.heads.values())
    # 4 bytes, and twice: cells of several models are copied into one tensor.
    return 2 * 4 * n_cells >= memory_for(net.device, CPU_MEMORY)


def completed(summaries, net) -> list[dict]:
    """Train the heads of summaries; returns all fitted attributes of each, by name.

    Parameters
    ----------
    summaries : list of Summary
        Of models of one structure. Those with the same kinds of heads are trained at once. Their
        cells are freed.
    net : LatentNet
        One of the nets, whose options hold for all.
    """
    values, by_kinds = [dict(summary.values) for summary in summaries], defaultdict(list)
    for i, summary in enumerate(summaries):
        if summary.heads is not None:
            by_kinds[tuple(summary.heads.heads)].append(i)
    for members in by_kinds.values():
        training = HeadTraining([summaries[i].heads for i in members], has_graphs=net.cuda_graph)
        for i, results in zip(members, training.run(), strict=True):
            values[i] |= results
        if net.verbose and training.take_step.reason:
            reason = training.take_step.reason
            print(f"[{net.title}] trains heads without a CUDA graph: {reason}", flush=True)
    return values


class HeadTraining:
    """Training of the heads of k models of one structure, with the same kinds of heads.

    Parameters
    ----------
    fits : list of HeadFit
    has_graphs : bool, default=True
        Whether steps may be captured as CUDA graphs.

    Attributes
    ----------
    tensors : dict of str to Tensor
        State that `step` reads and changes in place: ``weights``, ``mean`` and ``square`` of AdamW,
        each (k, P); numbers of AdamW in each step, ``rates`` (S, kinds, 3, k, 1, 1), and position
        ``at`` (1,) in these; ``sums`` (k, kinds) of losses, by which `TensorStep` checks a graph.
        For one model there is no axis k.
    take_step : TensorStep
        `step`, as CUDA graphs on a GPU.
    """

    def __init__(self, fits, *, has_graphs=True):
        self.fits, self.has_graphs = fits, has_graphs
        self.names, self.is_one = list(fits[0].heads), len(fits) == 1
        # Columns with missing cells may differ: heads are filled up with some that do not count.
        self.kinds = [[fit.heads[name] for fit in fits] for name in self.names]
        self.shapes = [_common_shape([h.start for h in kind]) for kind in self.kinds]
        self.cells = [self._taken_cells(kind) for kind in self.kinds]
        self.heads = [k[0] if self.is_one else k[0].together(k) for k in self.kinds]
        self.decoder = WithHidden(fits[0].decoder)
        self.device = self.cells[0].device
        if not self.is_one:
            self.state = stack_module_state([WithHidden(fit.decoder) for fit in fits])
            self.members = torch.arange(len(fits), device=self.device).unsqueeze(1)
        starts = [self._stacked([h.start for h in kind]).flatten(-2) for kind in self.kinds]
        weights = torch.cat(starts, -1)
        self.n_steps = max(h.n_steps for kind in self.kinds for h in kind)
        self.tensors = {
            "weights": weights,
            "mean": torch.zeros_like(weights),
            "square": torch.zeros_like(weights),
            "rates": self._rates(),
            "at": torch.zeros(1, dtype=torch.int64, device=self.device),
            "sums": weights.new_zeros(*weights.shape[:-1], len(self.kinds)),
        }
        self.take_step = TensorStep(self.device)

    def _stacked(self, parts):
        """Tensors (a, b) in one (k, a, b), filled up with zeros; or the only one."""
        if self.is_one:
            return parts[0]
        stacked = parts[0].new_zeros(len(parts), *_common_shape(parts))
        for whole, x in zip(stacked, parts, strict=True):
            whole[: x.shape[0], : x.shape[1]] = x
        return stacked

    def _taken_cells(self, kind):
        """Cells of one kind of heads, which no longer hold them: they may take much memory."""
        cells = self._stacked([heads.cells for heads in kind])
        for heads in kind:
            heads.cells = None
        return cells

    def _rates(self):
        """Numbers of AdamW for each step: factor of decay, step size, correction of the scale.

        A step size of 0 marks heads whose training has ended.
        """

        def of_step(heads, step):
            if step >= heads.n_steps:
                return 1.0, 0.0, 1.0
            rate, (first, second) = heads.rate(step), (1 - beta ** (step + 1) for beta in BETAS)
            return 1 - rate * heads.weight_decay, rate / first, second**0.5

        rates = [
            [[of_step(heads, step) for heads in kind] for kind in self.kinds]
            for step in range(self.n_steps)
        ]
        shape = self.n_steps, len(self.kinds), len(self.fits), 3
        rates = torch.tensor(rates, dtype=torch.float32, device=self.device)
        rates = rates.reshape(shape).transpose(-1, -2)
        return rates[..., 0] if self.is_one else rates[..., None, None]

    def run(self):
        """Train; returns the fitted attributes of each model, by name."""
        generators = [fit.codes.generator for fit in self.fits]
        try:
            for kinds, steps in groupby(range(self.n_steps), self._kinds_in):
                n_steps = len(list(steps))
                for _ in range(n_steps):
                    if self.has_graphs and n_steps >= MIN_CAPTURED_STEPS:
                        self.take_step(self.step, kinds, self.tensors, generators)
                    else:
                        self.step(kinds)
        finally:
            self.take_step.drop()
        trained = [[part] if self.is_one else part for part in self._parts("weights")]
        return [
            {
                name: fit.heads[name].result(part[i][: len(fit.heads[name].start)])
                for name, part in zip(self.names, trained, strict=True)
            }
            for i, fit in enumerate(self.fits)
        ]

    def _kinds_in(self, step):
        """Positions of the kinds of heads that a step trains in some model."""
        return tuple(i for i, kind in enumerate(self.kinds) if any(step < h.n_steps for h in kind))

    def _parts(self, name):
        """Views (k, H, w + 1) of a tensor, one for each kind of heads."""
        parts = self.tensors[name].split([h * w for h, w in self.shapes], -1)
        return [part.unflatten(-1, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def step(self, kinds):
        """Make an update of some kinds of heads, by their positions; the others have ended.

        There are only operations on tensors of fixed shapes.
        """
        t = self.tensors
        rows, z = self._draw()
        weights = [self._parts("weights")[i].detach().requires_grad_() for i in kinds]
        losses = [
            self.heads[i].losses(params, self._cells_of(i, rows))
            for i, params in zip(kinds, self._params(kinds, z, weights), strict=True)
        ]
        gradients = torch.autograd.grad(sum(losses).sum(), weights)
        with torch.no_grad():
            rates = t["rates"][t["at"]].squeeze(0)
            for i, loss, gradient in zip(kinds, losses, gradients, strict=True):
                self._update(i, gradient, *rates[i].unbind(0))
                t["sums"][..., i] += loss
            t["at"] += 1

    def _draw(self):
        """Rows (k, B) of a batch of each model, and their codes with noise (k, B, d)."""
        drawn = [fit.codes.draw(BATCH_ROWS) for fit in self.fits]
        if self.is_one:
            return drawn[0]
        return [torch.stack(parts) for parts in zip(*drawn, strict=True)]

    def _cells_of(self, kind, rows):
        return self.cells[kind][rows if self.is_one else (self.members, rows)]

    def _params(self, kinds, z, weights):
        """Params (k, B, p) of each kind of heads, at codes (k, B, d)."""
        heads = [self.heads[i] for i in kinds]
        has_outputs = any(each.needs_outputs for each in heads)

        def of_model(decode, z, weights):
            with torch.no_grad():
                outputs, h = decode(z, has_outputs)
            parts = zip(heads, weights, strict=True)
            return [each.params(part, outputs, h) for each, part in parts]

        def of_member(state, z, weights):
            return of_model(lambda *args: functional_call(self.decoder, state, args), z, weights)

        if self.is_one:
            return of_model(self.decoder, z, weights)
        return vmap(of_member)(self.state, z, weights)

    def _update(self, kind, gradient, decay, step_size, correction):
        """AdamW with numbers () or (k, 1, 1); the order of operations is torch's."""
        weights, mean, square = (self._parts(n)[kind] for n in ("weights", "mean", "square"))
        max_norm = self.heads[kind].max_norm
        if max_norm is not None:
            norm = torch.linalg.vector_norm(gradient, dim=(-2, -1), keepdim=True)
            gradient = gradient * (max_norm / (norm + 1e-6)).clamp(max=1.0)
        if not self.is_one:
            gradient = torch.where(step_size > 0, gradient, 0.0)
        weights *= decay
        mean.lerp_(gradient, 1 - BETAS[0])
        square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        weights -= step_size * mean / (square.sqrt() / correction + EPS)


def _common_shape(parts):
    return max(len(x) for x in parts), max(x.shape[1] for x in parts)
