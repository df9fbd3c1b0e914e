"""Training of heads: AdamW of torch, several kinds and models at once, captured steps."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.testing import assert_close

from cmim_sklearn import CMIMEncoder, fit_together
from cmim_sklearn._likelihoods import gaussian
from cmim_sklearn._models import generator
from cmim_sklearn._models.generator import MixtureHeads
from cmim_sklearn._models.heads import Heads
from cmim_sklearn._models.latent_prior import NoisyCodes, normal_prior
from cmim_sklearn._models.missing import MissingHeads, sometimes_missing
from cmim_sklearn._training import capture, heads
from cmim_sklearn._training.heads import BATCH_ROWS, HeadFit, HeadTraining
from cmim_sklearn._utils.device import exact_device, resolve_device
from tests.helpers import LIKELIHOODS, columns_of, make_latent_model, make_mixed, measured, randn
from tests.training.recorder import Recorder

DEVICE = "cpu" if torch.cuda.is_available() else "auto"
"""Device of the tests with a stand-in for capture: the CPU, or that of ``pytest --device``."""
SHARES = np.array([0.3, 0.0, 1.0, 0.6])


def head_fit(seed=0, n_rows=60, n_steps=16, n_updates=10, shares=SHARES, device=DEVICE):
    """Heads of mixtures and missing cells, for a model whose weights depend on the seed."""
    torch.manual_seed(seed)
    model = make_latent_model()[0].eval()
    with torch.no_grad():
        for weight in model.decoder.parameters():
            weight += 0.3 * torch.randn(weight.shape)
        for block in model.likelihood.blocks:
            if isinstance(block, gaussian.Gaussian):
                block.deviation *= 1 + 0.2 * seed
    parts = zip(LIKELIHOODS, model.likelihood.blocks, strict=True)
    cells = torch.cat([measured(b, columns_of(name)).flatten(1) for name, b in parts], 1)
    model.to(exact_device(resolve_device(device)))
    codes, noise = randn(60, 3, seed=seed).numpy()[:n_rows], np.full(3, 0.1)
    prior, columns = normal_prior(codes, noise, seed), sometimes_missing(shares)
    is_missing = np.random.RandomState(seed).rand(n_rows, len(shares)) < shares
    parts = {"mixtures": MixtureHeads(model, cells[:n_rows], n_steps)}
    if len(columns):
        parts["missing"] = MissingHeads(model, prior, columns, is_missing, shares, n_updates, seed)
    return HeadFit(model.decoder, NoisyCodes(prior, codes, noise, model.device, seed), parts)


def numbers(results):
    """Trained weights by kind."""
    missing = results.get("missing")
    return [results["mixtures"], *([] if missing is None else [missing.weights])]


def trained(*fits, **options):
    """Weights of each kind of heads of each model, trained at once."""
    return [numbers(results) for results in HeadTraining(list(fits), **options).run()]


# -- one model -------------------------------------------------------------------------------------


class Quadratic(Heads):
    """Heads with a loss that is known in closed form, and with gradients that are bounded."""

    weight_decay, max_norm = 0.1, 0.5

    def rate(self, step):
        return 0.1 / (1 + step)

    def losses(self, params, cells):
        return (params - cells).square().sum(-1).mean(-1)

    def result(self, weights):
        return weights


def test_updates_are_those_of_torch_to_the_bit():
    model = make_latent_model()[0].eval()
    codes, cells, start = randn(60, 3).numpy(), randn(60, 4), randn(4, 7, seed=1)

    def batches():
        return NoisyCodes(normal_prior(codes, None, 0), codes, np.ones(3), torch.device("cpu"), 0)

    quadratic = Quadratic(start.clone(), cells, 30)
    (results,) = HeadTraining([HeadFit(model.decoder, batches(), {"heads": quadratic})]).run()
    weights, drawn = start.clone().requires_grad_(), batches()
    optimizer = torch.optim.AdamW([weights], weight_decay=0.1)
    norms = []
    for step in range(30):
        rows, z = drawn.draw(BATCH_ROWS)
        h = model.decoder.body(z).detach()
        params = nn.functional.linear(h, weights[:, :-1], weights[:, -1])
        weights.grad = None
        (params - cells[rows]).square().sum(1).mean().backward()
        norms.append(float(nn.utils.clip_grad_norm_([weights], 0.5)))
        optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
        optimizer.step()
    assert max(norms) > 0.5
    assert torch.equal(results["heads"], weights)


def test_kinds_of_heads_that_train_at_once_do_not_affect_each_other():
    fit = head_fit()
    (together,) = trained(fit)
    for name, expected in zip(fit.heads, together, strict=True):
        again = head_fit()
        (results,) = HeadTraining([again._replace(heads={name: again.heads[name]})]).run()
        found = results[name] if name == "mixtures" else results[name].weights
        assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("n_steps", "n_updates"), [(12, 8), (0, 8), (12, 0)])
def test_the_decoder_computes_its_hidden_layer_once_in_a_step(n_steps, n_updates):
    fit, calls = head_fit(n_steps=n_steps, n_updates=n_updates), []
    fit.decoder.body.register_forward_hook(lambda *args: calls.append(len(args[1][0])))
    trained(fit)
    assert calls == [BATCH_ROWS] * max(n_steps, n_updates)


def test_the_output_layer_is_used_only_where_heads_need_it():
    fit, calls = head_fit(n_steps=10, n_updates=25), []
    fit.decoder.output.register_forward_hook(lambda *args: calls.append(1))
    trained(fit)
    assert len(calls) == 10


# -- several models --------------------------------------------------------------------------------


def members():
    """Fits that differ in everything in which members of a group may differ."""
    options = [
        {},
        {"n_rows": 31, "n_steps": 7},
        {"n_updates": 24, "shares": np.array([0.3, 0.2, 0.1, 0.9])},
    ]
    return [head_fit(seed, **own) for seed, own in enumerate(options)]


def assert_equal_heads(found, expected, **tolerance):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert_close(torch.from_numpy(ours), torch.from_numpy(theirs), **tolerance)


def test_heads_of_models_that_train_at_once_are_those_of_each_alone():
    alone = [trained(fit)[0] for fit in members()]
    for found, expected in zip(trained(*members()), alone, strict=True):
        assert_equal_heads(found, expected, atol=1e-3, rtol=1e-3)


def test_heads_of_low_rank_train_at_once_too(monkeypatch):
    monkeypatch.setattr(generator, "FULL_RANK_COLUMNS", 0)
    monkeypatch.setattr(generator, "RANK", 2)

    def fits():  # with enough steps to see a wrong gradient, which at first moves weights by little
        return [head_fit(seed, n_rows=60 - 29 * seed, n_steps=90 - 20 * seed) for seed in range(2)]

    starts = [fit.heads["mixtures"].start.numpy() for fit in fits()]
    alone = [trained(fit)[0] for fit in fits()]
    for found, expected, start in zip(trained(*fits()), alone, starts, strict=True):
        assert_equal_heads(found, expected, atol=1e-3, rtol=1e-3)
        n_inputs = alone[0][1].shape[1]
        for factor in (slice(-n_inputs), slice(-n_inputs, None)):
            moved = np.abs(expected[0][factor].astype(float) - start[factor])
            assert np.median(moved) > 0.02


def test_heads_that_have_ended_stay_as_they_are():
    fits = [head_fit(0, n_steps=5, shares=SHARES[1:3]), head_fit(1, shares=SHARES[1:3])]
    (expected,) = trained(head_fit(0, n_steps=5, shares=SHARES[1:3]))
    draw, steps = fits[0].codes.draw, itertools.count()

    def broken(n_rows):
        rows, z = draw(n_rows)
        return rows, z if next(steps) < 5 else torch.full_like(z, torch.nan)

    fits[0].codes.draw = broken
    found, other = trained(*fits)
    assert_equal_heads(found, expected, atol=1e-3, rtol=1e-3)
    assert np.isfinite(other[0]).all()


def test_a_model_that_diverges_leaves_the_others_alone():
    fits, shares = [head_fit(i, shares=SHARES[1:3]) for i in range(3)], {"shares": SHARES[1:3]}
    with torch.no_grad():
        fits[1].decoder.output.bias.fill_(torch.inf)
    first, broken, last = trained(*fits)
    assert broken == [None]
    for found, seed in ((first, 0), (last, 2)):
        assert_equal_heads(found, trained(head_fit(seed, **shares))[0], atol=1e-3, rtol=1e-3)


def test_fits_together_have_the_heads_of_fits_alone(monkeypatch, short_calibration):
    sizes, run = [], HeadTraining.run
    monkeypatch.setattr(HeadTraining, "run", lambda self: sizes.append(len(self.fits)) or run(self))
    table = make_mixed(120)
    complete = table.dropna()
    tables = [table, table[:90], complete, complete]
    small = {"max_iter": 5, "hidden_layer_sizes": (8,), "n_components": 3, "device": DEVICE}
    encoders = [CMIMEncoder(**small, batch_size=40, random_state=i) for i in range(4)]
    own = [clone(e).fit(X) for e, X in zip(encoders, tables, strict=True)]
    del sizes[:]
    fit_together(encoders, tables, batched=True)
    assert sum(sizes) == 4
    assert max(sizes) > 1, "some have the same structure"
    for encoder, other in zip(encoders, own, strict=True):
        assert_close(
            torch.from_numpy(encoder._heads), torch.from_numpy(other._heads), atol=1e-3, rtol=1e-2
        )
        assert (encoder._missing is None) == (other._missing is None)
        if other._missing is not None:
            assert encoder._missing.columns == other._missing.columns
            np.testing.assert_allclose(
                encoder._missing.weights, other._missing.weights, atol=1e-3, rtol=1e-2
            )


@pytest.mark.parametrize("is_full", [True, False])
def test_cells_are_kept_only_until_heads_train_that_fill_the_memory(
    is_full, monkeypatch, short_calibration
):
    events, kept, init, run = [], [], MixtureHeads.__init__, HeadTraining.run

    def noted(self, *args):
        events.append("cells")
        init(self, *args)
        kept.append(self)

    def noted_run(self):
        assert all(each.cells is None for each in kept)
        events.append(len(self.fits))
        return run(self)

    monkeypatch.setattr(MixtureHeads, "__init__", noted)
    monkeypatch.setattr(HeadTraining, "run", noted_run)

    def full(*args):  # with two heads, or with one
        return 2 * 4 * kept[-1].cells.numel() + (not is_full)

    monkeypatch.setattr(heads, "memory_for", full)
    X = np.random.RandomState(0).randn(60, 2)
    small = {"max_iter": 1, "hidden_layer_sizes": (8,), "n_components": 3, "device": DEVICE}
    fit_together([CMIMEncoder(**small, random_state=i) for i in range(3)], X, batched=True)
    assert events == (["cells", 1] * 3 if is_full else ["cells", "cells", 2, "cells", 1])


# -- captured steps --------------------------------------------------------------------------------


@pytest.fixture
def recorder(monkeypatch):
    """Class that captures steps without CUDA; densities then do not wait for numbers of cells."""

    class Counting(Recorder):
        pass

    monkeypatch.setattr(gaussian, "leaves_out", lambda x: False)
    monkeypatch.setattr(heads, "MIN_CAPTURED_STEPS", 5)
    monkeypatch.setitem(capture.CAPTURES, head_fit().codes.generator.device.type, Counting)
    return Counting


@pytest.mark.parametrize("fits", [lambda: [head_fit()], members], ids=["one", "several"])
def test_replays_train_as_plain_steps_do(fits, recorder):
    found = trained(*fits())
    n_steps = [max(fit.heads[name].n_steps for fit in fits()) for name in ("mixtures", "missing")]
    assert (recorder.n_records, recorder.n_replays) == (2, max(n_steps))
    expected = trained(*fits(), has_graphs=False)
    assert recorder.n_replays == max(n_steps)
    for ours, theirs in zip(found, expected, strict=True):
        assert [x.tobytes() for x in ours] == [x.tobytes() for x in theirs]


def test_a_few_steps_are_not_captured(recorder):
    trained(head_fit(n_steps=8, n_updates=4))
    assert (recorder.n_records, recorder.n_replays) == (0, 0)
    trained(head_fit(n_steps=8, n_updates=3))
    assert (recorder.n_records, recorder.n_replays) == (1, 5)


def test_a_failed_capture_trains_by_plain_steps(recorder, monkeypatch):
    expected = trained(head_fit(), has_graphs=False)
    monkeypatch.setattr(Recorder, "record", lambda self, function: 1 / 0)
    training = HeadTraining([head_fit()])
    (found,) = training.run()
    assert training.take_step.reason.startswith("the capture failed, ZeroDivisionError: ")
    assert [x.tobytes() for x in numbers(found)] == [x.tobytes() for x in expected[0]]


def test_a_fit_says_why_its_heads_have_no_graph(recorder, monkeypatch, capsys, short_calibration):
    monkeypatch.setattr(Recorder, "record", lambda self, function: 1 / 0)
    options = {"max_iter": 25, "hidden_layer_sizes": (8,), "n_components": 3, "device": DEVICE}
    encoder = CMIMEncoder(**options, random_state=0, verbose=1).fit(make_mixed(60))
    expected = "[CMIMEncoder] trains heads without a CUDA graph: the capture failed, ZeroDivision"
    assert capsys.readouterr().out.count(expected) == 1
    assert encoder._heads is not None
    encoder.set_params(net_params={"cuda_graph": False}).fit(make_mixed(60))
    assert "heads without" not in capsys.readouterr().out


# -- on a GPU --------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_replays_train_as_plain_steps_do():
    training = HeadTraining([head_fit(device="cuda")])
    (found,) = training.run()
    assert training.take_step.reason is None
    (expected,) = trained(head_fit(device="cuda"), has_graphs=False)
    assert_equal_heads(numbers(found), expected, atol=1e-3, rtol=1e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_heads_of_models_that_train_at_once_are_those_of_each_alone():
    fits = [[head_fit(seed, device="cuda") for seed in range(3)] for _ in range(2)]
    training = HeadTraining(fits[0])
    found = training.run()
    assert training.take_step.reason is None
    for ours, fit in zip(found, fits[1], strict=True):
        (theirs,) = trained(fit, has_graphs=False)
        assert_equal_heads(numbers(ours), theirs, atol=1e-3, rtol=1e-2)
