"""Batched training: nets of one structure, trained at once.

The weights of k nets are the rows of one tensor (k, P), so that a training step is one forward and
backward pass by `torch.vmap` and one update. Each member sees the batches, the noise and the
learning rates that it would see alone: indices and noise come from its generator, in the same
order. Members may have different numbers of rows, batches and epochs. Batches are filled up to
equal sizes with rows that do not count. A member that ends leaves the others.

Axes: k members, P weights of a member, B rows of a batch, C columns, S batches of an epoch.
"""

import torch
from torch.func import functional_call, vmap

from cmim_sklearn._models.latent_model import Noise
from cmim_sklearn._training.batches import count_batches
from cmim_sklearn._training.callbacks import OneCycle, StopTraining
from cmim_sklearn._training.capture import TensorStep
from cmim_sklearn._training.net import VALIDATION_SEED, NotFinite
from cmim_sklearn._training.state import MAX_GRADIENT, callback_states, restore_callbacks
from cmim_sklearn._utils.hashing import hash_of


def train_batched(nets, tables):
    """Train initialised nets of one `structure` at once, each as `LatentNet.partial_fit` does.

    Parameters
    ----------
    nets : list of LatentNet
        Without `obstacle`, see `batchable`. Each ends with the weights, the optimizer, the history
        and the callbacks that it would have alone, up to rounding.
    tables : list of EncodedTable
        Rows of each net.

    Returns
    -------
    list of NotFinite, KeyboardInterrupt or None
        Error that ended the training of each net.
    """
    members = [_Member(net, table) for net, table in zip(nets, tables, strict=True)]
    _Group(members).train()
    return [member.error for member in members]


class _Member:
    """A net in training, and the place that its training has reached.

    Attributes
    ----------
    end : int
        Number of epochs in the history when training is complete.
    step : Tensor of shape ()
        Number of updates so far, as the optimizer of the net holds it.
    batch, n_batches : int
        Position in the epoch, and number of batches of an epoch.
    """

    def __init__(self, net, table):
        self.net, self.table, self.error = net, table, None
        train, held_out = net.get_split_datasets(table, None)
        self.train = train.x
        self.held_out = None if held_out is None else held_out.x
        self.n_batches = count_batches(len(self.train), net.batch_size)
        self.end = len(net.history) + net.max_epochs
        self.batch, self.step = 0, torch.zeros((), dtype=torch.float32)
        net.begin_training(table)
        (self.schedule,) = (c for _, c in net.callbacks_ if isinstance(c, OneCycle))

    @property
    def n_updates(self):
        """Number of updates so far."""
        return int(self.step)

    def begin_epoch(self):
        """Begin an epoch; return the order of its rows, and its rates (S, 3) for `_Group.step`."""
        net, self.batch = self.net, 0
        self.before = callback_states(net), self.n_updates
        net.add_record()
        net.notify_callbacks("on_epoch_begin")
        generator = net.generator_
        order = torch.randperm(len(self.train), generator=generator, device=generator.device)
        return order, [self._rates() for _ in range(self.n_batches)]

    def _rates(self):
        """Numbers of the next update: weight decay, step size, and correction of the scale."""
        (group,) = self.net.optimizer_.param_groups
        beta1, beta2 = group["betas"]
        self.step += 1
        rate = self.schedule.set_rates(self.net)
        return (
            rate * group["weight_decay"],
            rate / (1 - beta1**self.n_updates),
            (1 - beta2**self.n_updates) ** 0.5,
        )

    def back_off(self, error):
        """Return to the beginning of the epoch, at half the rate; raises after three times."""
        states, n_updates = self.before
        self.step.fill_(n_updates)
        restore_callbacks(self.net, states)
        self.net.halve_rate(error)


class _Group:
    """Members in training, with one row of each tensor per member.

    Attributes
    ----------
    tensors : dict of str to Tensor
        State that `step` reads and changes in place: ``weights``, ``mean`` and ``square`` of AdamW,
        each (k, P); ``index`` (k, S, B) of the epoch's batches in ``x``, their ``sizes`` (k, S) and
        ``rates`` (k, S, 3); position ``at`` (k,) in these; ``sums`` (k, T) of T loss terms.
    take_step : TensorStep
        `step`, as CUDA graphs on a GPU.
    buffers : dict of str to Tensor
        Buffers of the models, one row per member.
    good : dict of str to Tensor
        Weights and moments before the current epoch of each member.
    """

    def __init__(self, members):
        self.members = members
        first = members[0].net
        self.net, self.model, self.device = first, first.module_, torch.device(first.device)
        self.terms_of = first.criterion_.terms
        self.names = [name for name, _ in self.model.named_parameters()]
        self.shapes = [p.shape for _, p in self.model.named_parameters()]
        (group,) = first.optimizer_.param_groups
        self.betas, self.eps = group["betas"], group["eps"]
        self.width = max(_largest_batch(len(m.train), m.net) for m in members)
        self.x, starts = _joined([m.train for m in members], self.device)
        for member, start in zip(members, starts, strict=True):
            places, sizes = _places(len(member.train), member.n_batches, self.width)
            member.start, member.sizes = start, sizes
            member.places = places.to(self.device)
        self.good, self.take_step = {}, TensorStep(self.device)
        self._find_terms()
        self._stack()

    def _stack(self):
        members, device = self.members, self.device
        k, s = len(members), max(member.n_batches for member in members)
        flat = [torch.cat([p.detach().flatten() for p in m.net.module_.parameters()])
                for m in members]  # fmt: skip
        weights = torch.stack(flat)
        sizes = torch.ones(k, s, dtype=torch.int64)
        for i, member in enumerate(members):
            sizes[i, : member.n_batches] = torch.tensor(member.sizes)
        self.tensors = {
            "weights": weights,
            "mean": torch.zeros_like(weights),
            "square": torch.zeros_like(weights),
            "index": torch.zeros(k, s, self.width, dtype=torch.int64, device=device),
            "sizes": sizes.to(device),
            "rates": torch.zeros(k, s, 3, dtype=torch.float32, device=device),
            "at": torch.zeros(k, dtype=torch.int64, device=device),
            "sums": torch.zeros(k, len(self.terms), dtype=torch.float32, device=device),
        }
        buffers = [dict(m.net.module_.named_buffers()) for m in members]
        self.buffers = {n: torch.stack([of[n] for of in buffers]) for n in buffers[0]}
        options = [m.net.criterion_.options for m in members]
        self.shared = {n: v for n, v in options[0].items() if all(o[n] == v for o in options)}
        self.options = {
            n: torch.tensor([float(o[n]) for o in options], dtype=torch.float32, device=device)
            for n in options[0]
            if n not in self.shared
        }
        self._point_modules()

    def _point_modules(self):
        """Make weights, buffers and moments of each net views of its row.

        Its callbacks then see the current ones, and may change them in place.
        """
        sizes = [shape.numel() for shape in self.shapes]
        kept = [self.tensors[name] for name in ("weights", "mean", "square")]
        for i, (member, *rows) in enumerate(zip(self.members, *kept, strict=True)):
            model, optimizer = member.net.module_, member.net.optimizer_
            for name, buffer in model.named_buffers():
                buffer.data = self.buffers[name][i]
            parts = zip(*(row.split(sizes) for row in rows), strict=True)
            for weight, (value, mean, square) in zip(model.parameters(), parts, strict=True):
                weight.data = value.view(weight.shape)
                optimizer.state[weight] = {
                    "step": member.step,
                    "exp_avg": mean.view(weight.shape),
                    "exp_avg_sq": square.view(weight.shape),
                }

    def _find_terms(self):
        """Names of the loss terms, of the group and of each member.

        A weight of 0 in some members is a number of the group: they have the term, but not alone.
        """
        self.model.train()
        for member in self.members:
            net, x = member.net, member.train[:2].to(self.device)
            noise = member.net.module_.draw_noise(x, torch.Generator(self.device))
            with torch.no_grad():
                member.names = tuple(net.criterion_(net.module_(x, noise)))
        self.terms = list(dict.fromkeys(n for m in self.members for n in m.names))

    # -- one step ----------------------------------------------------------------------------------

    def step(self, sizes):
        """Make an update of all members, with batches of these sizes.

        There are only operations on tensors of fixed shapes. Each member draws its own noise.
        """
        noise = self._draw(self.members, self._generators(), sizes, self.width)
        t = self.tensors
        k = torch.arange(len(t["at"]), device=self.device)
        x, sizes = self.x[t["index"][k, t["at"]]], t["sizes"][k, t["at"]]
        weights = t["weights"].detach().requires_grad_()
        sums = self._sums(weights, self.buffers, self.options, x, sizes, noise)
        (gradient,) = torch.autograd.grad((sums.sum(1) / sizes).sum(), weights)
        with torch.no_grad():
            self._update(gradient, *t["rates"][k, t["at"]].split(1, 1))
            t["sums"] += sums
            t["at"] += 1

    def _sums(self, weights, buffers, options, x, sizes, noise):
        """Sums (k, T) of the loss terms over the rows of one batch of each member."""
        parts = weights.split([shape.numel() for shape in self.shapes], 1)
        named = {
            name: part.unflatten(1, shape) if shape else part.squeeze(1)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

        def of_member(named, buffers, options, x, size, noise):
            noise = Noise(noise["code"], noise["variance"], noise.get("mask"))
            rows = torch.arange(len(x), device=x.device) < size
            batch = functional_call(self.model, (named, buffers), (x, noise))
            terms = self.terms_of(batch._replace(rows=rows), **self.shared, **options)
            values = torch.stack([terms[name] for name in self.terms])
            return torch.where(rows, values, 0.0).sum(1)

        return vmap(of_member)(named, buffers, options, x, sizes, noise)

    def _update(self, gradient, decay, step_size, correction):
        """AdamW with numbers (k, 1) of each member; the order of operations is torch's."""
        weights, mean, square = (self.tensors[name] for name in ("weights", "mean", "square"))
        gradient.clamp_(-MAX_GRADIENT, MAX_GRADIENT)
        weights -= decay * weights
        mean.lerp_(gradient, 1 - self.betas[0])
        square.mul_(self.betas[1]).addcmul_(gradient, gradient, value=1 - self.betas[1])
        weights -= step_size * mean / (square.sqrt() / correction + self.eps)

    def _generators(self):
        return [member.net.generator_ for member in self.members]

    def _draw(self, members, generators, sizes, width):
        """Noise of one batch of each member; padding repeats the first row."""
        drawn = []
        for member, generator, size in zip(members, generators, sizes, strict=True):
            like = self.x[:1].expand(max(1, size), -1)
            drawn.append(member.net.module_.draw_noise(like, generator))
        noise = {name: [getattr(n, name) for n in drawn] for name in ("code", "variance")}
        if any(n.mask is not None for n in drawn):
            none = self.x.new_zeros(1, self.model.likelihood.n_columns, dtype=torch.bool)
            noise["mask"] = [none if n.mask is None else n.mask for n in drawn]
        return {
            name: torch.stack([torch.cat([v, v[:1].expand(width - len(v), -1)]) for v in values])
            for name, values in noise.items()
        }

    # -- epochs ------------------------------------------------------------------------------------

    def train(self):
        """Train until all members have ended; each then has its error or interruption."""
        try:
            self._begin_epochs(range(len(self.members)))
            while self.members:
                for _ in range(min(m.n_batches - m.batch for m in self.members)):
                    sizes = tuple(m.sizes[m.batch] for m in self.members)
                    self.take_step(self.step, sizes, self.tensors, self._generators())
                    for member in self.members:
                        member.batch += 1
                self._end_epochs([i for i, m in enumerate(self.members) if m.batch == m.n_batches])
        except KeyboardInterrupt as interruption:
            finite = self._finite().tolist()
            self._return([i for i, is_finite in enumerate(finite) if not is_finite])
            for member in self.members:
                member.error = interruption
        finally:
            self._leave(range(len(self.members)))
            if self.net.verbose and self.take_step.reason:
                reason = self.take_step.reason
                print(f"[{self.net.title}] trains without a CUDA graph: {reason}", flush=True)

    def _finite(self):
        """Whether all weights of each member are finite, (k,)."""
        return self.tensors["weights"].isfinite().all(1)

    def _begin_epochs(self, rows):
        """Begin an epoch of the members in some rows: their batches, and the state to return to."""
        if not rows:
            return
        t, all_rows = self.tensors, torch.tensor(list(rows), device=self.device)
        kept = ("weights", "mean", "square")
        if len(rows) == len(self.members):
            self.good = {name: t[name].clone() for name in kept}
        else:
            for name in kept:
                self.good[name][all_rows] = t[name][all_rows]
        for i in rows:
            member = self.members[i]
            order, rates = member.begin_epoch()
            t["index"][i, : member.n_batches] = order.to(self.device)[member.places] + member.start
            t["rates"][i, : member.n_batches] = torch.tensor(rates, dtype=torch.float32).to(
                self.device
            )
        t["at"][all_rows] = 0
        t["sums"][all_rows] = 0.0

    def _end_epochs(self, rows):
        """Record the losses of the members in some rows; those that have ended leave."""
        sums = torch.where(self._finite()[:, None], self.tensors["sums"], torch.nan)[rows].tolist()
        held_out = dict(zip(rows, self._held_out_sums(rows), strict=True))
        ended, returned = [], []
        for i, of_terms in zip(rows, sums, strict=True):
            member = self.members[i]
            net = member.net
            try:
                net.record_losses("train", *self._losses(member, of_terms, member.train))
                if member.held_out is not None:
                    net.record_losses("valid", *self._losses(member, held_out[i], member.held_out))
                net.notify_callbacks("on_epoch_end")
                net.has_ended_ = len(net.history) == member.end
            except NotFinite as error:
                returned.append(i)
                try:
                    member.back_off(error)
                except NotFinite as last:
                    member.error = last
            except StopTraining:
                net.has_ended_ = True
            if net.has_ended_ or member.error is not None:
                ended.append(i)
        self._return(returned)
        going_on = [self.members[i] for i in rows if i not in ended]
        self._leave(ended)
        self._begin_epochs([i for i, m in enumerate(self.members) if m in going_on])

    def _losses(self, member, sums, x):
        """Sums of the terms of a member by name, its number of rows and of batches."""
        named = {n: v for n, v in zip(self.terms, sums, strict=True) if n in member.names}
        return named, len(x), count_batches(len(x), member.net.batch_size)

    def _held_out_sums(self, rows):
        """Sums of the loss terms over the held-out rows of the members in some rows, or None."""
        found = [i for i in rows if self.members[i].held_out is not None]
        if not found:
            return [None] * len(rows)
        members = [self.members[i] for i in found]
        width = max(_largest_batch(len(m.held_out), m.net) for m in members)
        x, starts = _joined([m.held_out for m in members], self.device)
        batches = []
        for member, start in zip(members, starts, strict=True):
            n = len(member.held_out)
            places, sizes = _places(n, count_batches(n, member.net.batch_size), width)
            batches.append((places.to(self.device) + start, sizes))
        generators = [torch.Generator(self.device).manual_seed(VALIDATION_SEED) for _ in members]
        state = self.tensors["weights"][found]
        buffers = {name: values[found] for name, values in self.buffers.items()}
        options = {name: values[found] for name, values in self.options.items()}
        total = 0
        for s in range(max(len(sizes) for _, sizes in batches)):
            # A member without further batches has one without rows.
            index = [places[min(s, len(places) - 1)] for places, _ in batches]
            sizes = [sizes[s] if s < len(sizes) else 0 for _, sizes in batches]
            noise = self._draw(members, generators, sizes, width)
            with torch.no_grad():
                total = total + self._sums(
                    state, buffers, options, x[torch.stack(index)],
                    torch.tensor(sizes, device=self.device), noise,
                )  # fmt: skip
        of = dict(zip(found, total.tolist(), strict=True))
        return [of.get(i) for i in rows]

    def _return(self, rows):
        """Return to the weights and moments that the members in some rows had before the epoch."""
        for name, values in self.good.items() if rows else ():
            self.tensors[name][rows] = values[rows]

    def _leave(self, rows):
        """End the training of the members in some rows, and keep the tensors of the others."""
        rows = list(rows)
        if not rows:
            return
        leaving = [self.members[i] for i in rows]
        for member in leaving:
            self._hand_over(member)
        stay = [i for i in range(len(self.members)) if i not in rows]
        self.take_step.drop()
        self.members = [self.members[i] for i in stay]
        for group in (self.tensors, self.buffers, self.options, self.good):
            group.update({name: values[stay] for name, values in group.items()})
        self._point_modules()
        for member in leaving:
            member.net.end_training(member.table)

    def _hand_over(self, member):
        """Give a net its own weights and buffers, and its optimizer the moments."""
        model, optimizer = member.net.module_, member.net.optimizer_
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
        if not member.n_updates:
            optimizer.state.clear()
        for state in optimizer.state.values():
            state["step"] = member.step.to(self.device, copy=True)
            state["exp_avg"], state["exp_avg_sq"] = (
                state[name].clone() for name in ("exp_avg", "exp_avg_sq")
            )


def _largest_batch(n_rows, net):
    return -(-n_rows // count_batches(n_rows, net.batch_size))


def _places(n_rows, n_batches, width):
    """Positions (S, B) of the rows of each batch in the order of an epoch, and its size.

    Batches are those of `WholeBatches`; padding repeats the first row.
    """
    parts = torch.arange(n_rows).tensor_split(n_batches)
    places = [torch.cat([part, part[:1].expand(width - len(part))]) for part in parts]
    return torch.stack(places), [len(part) for part in parts]


def _joined(tables, device):
    """Rows of tables in one tensor on a device, equal tables once, and the start of each table."""
    starts, parts, n_rows = {}, [], 0
    places = [(x.data_ptr(), x.shape, x.stride()) for x in tables]
    hashes = {
        place: hash_of({"x": x}) for place, x in dict(zip(places, tables, strict=True)).items()
    }
    keys = [hashes[place] for place in places]
    for key, x in zip(keys, tables, strict=True):
        if key not in starts:
            starts[key] = n_rows
            parts.append(x.to(device))
            n_rows += len(x)
    return torch.cat(parts), [starts[key] for key in keys]
