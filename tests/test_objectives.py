"""Objectives: closed forms, limits, dependence on the batch size."""

import math

import pytest
import torch
from torch.testing import assert_close

from cmim_sklearn._models.latent_model import Pass
from cmim_sklearn.latents import DiagonalNormal, standard_normal
from cmim_sklearn.objectives import OBJECTIVES, cmim, contrast, mim
from tests.helpers import make_pass, seeded

# Limits of the term for directions uniform on the sphere in d dimensions (population values of
# log(1 + E exp((cos - 1) / tau)), from the modified Bessel function).
UNIFORM = [
    (2, 0.1, 0.12030), (2, 0.5, 0.26889), (2, 1.0, 0.38237),
    (4, 0.1, 0.02396), (4, 0.5, 0.19497), (4, 1.0, 0.34771),
    (8, 0.1, 0.003825), (8, 0.5, 0.15934), (8, 1.0, 0.33035),
    (16, 0.1, 0.000697), (16, 0.5, 0.14256), (16, 1.0, 0.32175),
    (32, 0.1, 0.000203), (32, 0.5, 0.13457), (32, 1.0, 0.31749),
    (128, 0.1, 0.000067), (128, 0.5, 0.12880), (128, 1.0, 0.31431),
]  # fmt: skip


def directions(n, d, seed=0):
    return torch.randn(n, d, generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize(("d", "temperature", "limit"), UNIFORM)
def test_contrast_of_uniform_directions(d, temperature, limit):
    from scipy.special import gammaln, ive

    kappa = 1 / temperature
    log_mean = gammaln(d / 2) + (d / 2 - 1) * math.log(2 / kappa) + math.log(ive(d / 2 - 1, kappa))
    assert math.log1p(math.exp(log_mean)) == pytest.approx(limit, rel=0.01, abs=5e-7)
    term = contrast(directions(4000, d), temperature).mean().item()
    # The tolerance covers the sampling noise of 4,000 directions, mostly of the few close pairs.
    assert term == pytest.approx(limit, rel=0.05)


def info_nce(z, temperature):
    """InfoNCE term: a sum over negatives, where cMIM has a mean."""
    z = torch.nn.functional.normalize(z, dim=1)
    similarity = z @ z.T / temperature
    return torch.logsumexp(similarity, 1) - 1 / temperature


def test_contrast_hardly_depends_on_the_batch_size_unlike_a_sum():
    means = {}
    for size in (8, 512):
        batches = directions(512 * 40, 8).split(size)
        values = torch.stack([contrast(b, 0.1).mean() for b in batches])
        sums = torch.stack([info_nce(b, 0.1).mean() for b in batches])
        error = (values.std() / math.sqrt(len(values))).item()
        means[size] = values.mean().item(), error, sums.mean().item()
    noise = 4 * math.hypot(means[8][1], means[512][1])
    bias = 0.5 * torch.stack([contrast(b, 0.1).var() for b in directions(4096, 8).split(8)]).mean()
    assert abs(means[8][0] - means[512][0]) < noise + bias.item()
    assert means[512][2] > 10 * means[8][2]


def test_contrast_lies_between_zero_and_log_two():
    same = torch.ones(5, 3)
    assert_close(contrast(same, 0.1), torch.full((5,), math.log(2)))
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert_close(contrast(opposite, 0.1), torch.full((2,), math.log1p(math.exp(-20))))


def test_contrast_of_one_row_or_of_zero_codes_is_finite():
    assert contrast(torch.randn(1, 4), 0.1).tolist() == [0.0]
    z = torch.zeros(3, 4, requires_grad=True)
    contrast(z, 0.1).sum().backward()
    assert torch.isfinite(z.grad).all()


def test_contrast_follows_its_formula():
    z = directions(7, 3)
    unit = z / z.norm(dim=1, keepdim=True)
    cosine = unit @ unit.T
    expected = []
    for i in range(7):
        others = [math.exp((cosine[i, j].item() - 1) / 0.3) for j in range(7) if j != i]
        expected.append(math.log1p(sum(others) / 6))
    assert_close(contrast(z, 0.3), torch.tensor(expected, dtype=torch.float64))


def test_contrast_has_the_gradient_of_its_formula():
    z = directions(5, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda codes: contrast(codes, 0.3), z)


@pytest.mark.parametrize("within", [True, False])
def test_contrast_and_its_gradient_are_accurate_under_autocast(within):
    z, plain = directions(6, 3).float().requires_grad_(), directions(6, 3).float().requires_grad_()
    contrast(plain, 0.1).sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        term = contrast(z, 0.1).sum()
        if within:
            term.backward()
    if not within:
        term.backward()
    assert_close(z.grad, plain.grad)


def test_contrast_of_half_precision_codes_is_computed_in_float32():
    z = directions(6, 3).bfloat16()
    assert_close(contrast(z, 0.1), contrast(z.float(), 0.1))


def test_contrast_of_distant_codes_is_accurate():
    """A sum that includes the similarity 1 of each row with itself would lose all digits."""
    angle = torch.tensor([0.0, 2.5], requires_grad=True)
    z = torch.stack([angle.cos(), angle.sin()], 1)
    term = contrast(z, 0.05)
    expected = math.exp((math.cos(2.5) - 1) / 0.05)
    assert term[0].item() == pytest.approx(expected, rel=1e-3, abs=0)
    (gradient,) = torch.autograd.grad(term[0], angle)
    assert gradient[0].item() == pytest.approx(expected * math.sin(2.5) / 0.05, rel=1e-3, abs=0)


def test_contrast_has_no_gradient_for_one_component():
    z = torch.randn(6, 1, generator=seeded()).requires_grad_()
    contrast(z, 0.1).sum().backward()
    assert_close(z.grad, torch.zeros(6, 1))


def test_mim_and_vae_add_up_to_the_prior():
    """(L_AMIM + lx) + (L_VAE + lx) / 2 = -log P(z), at the same code."""
    batch = make_pass()
    log_qz, log_pz = batch.posterior.log_prob(batch.z), batch.prior.log_prob(batch.z)
    kl = log_qz - log_pz
    assert_close(mim(batch)["latent"] + 0.5 * kl, -log_pz)


def test_expected_latent_term_has_its_closed_form():
    mean, log_variance = torch.tensor([[0.5, -1.0]]), torch.tensor([[-2.0]])
    noise = torch.randn(200_000, 2, generator=seeded())
    posterior = DiagonalNormal(mean, log_variance)
    z = posterior.rsample(noise)
    term = mim(Pass(z, posterior, standard_normal(z), torch.zeros(1, 1)))["latent"]
    variance = math.exp(-2.0)
    per_dim = [math.log(2 * math.pi) + 0.5 - 1.0 + 0.5 * (m**2 + variance) for m in (0.5, -1.0)]
    assert term.mean().item() == pytest.approx(0.5 * sum(per_dim), abs=0.01)


def test_contrastive_weight_zero_is_mim_to_the_bit():
    batch = make_pass()
    ours, plain = cmim(batch, contrastive_weight=0), mim(batch)
    assert ours.keys() == plain.keys()
    for name in plain:
        assert torch.equal(ours[name], plain[name])


def test_defaults_are_those_of_the_encoder():
    batch = make_pass()
    expected = cmim(batch, contrastive_weight=1.0, temperature=0.1)
    for name, term in cmim(batch).items():
        assert torch.equal(term, expected[name])


def test_contrastive_weight_scales_its_term_alone():
    batch = make_pass()
    one, three = cmim(batch), cmim(batch, contrastive_weight=3.0)
    assert_close(three["contrast"], 3 * one["contrast"])
    assert torch.equal(three["distortion"], one["distortion"])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective_has_one_value_per_row_in_their_order(name):
    batch = make_pass()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = Pass(
        batch.z[order],
        DiagonalNormal(batch.posterior.mean[order], batch.posterior.log_variance[order]),
        batch.prior,
        batch.log_px[order],
    )
    terms, moved = OBJECTIVES[name](batch), OBJECTIVES[name](shuffled)
    for term, values in terms.items():
        assert values.shape == (6,)
        assert_close(moved[term], values[order])


@pytest.mark.parametrize("n_rows", [5, 2, 1])
def test_rows_that_do_not_count_change_no_term_and_no_gradient(n_rows):
    z = directions(7, 3).requires_grad_()
    padded = contrast(z, 0.2, torch.arange(7) < n_rows)[:n_rows]
    alone = contrast(z[:n_rows], 0.2)
    assert_close(padded, alone)
    (ours,) = torch.autograd.grad(padded.sum(), z)
    assert not ours[n_rows:].any()
    if n_rows > 1:
        (theirs,) = torch.autograd.grad(alone.sum(), z)
        assert_close(ours, theirs)


def test_batches_of_several_encoders_by_vmap():
    z = directions(12, 3).view(2, 6, 3)
    temperatures, sizes = torch.tensor([0.1, 0.7]), torch.tensor([6, 4])
    rows = torch.arange(6) < sizes[:, None]
    together = torch.vmap(contrast)(z, temperatures, rows)
    for i in range(2):
        n = int(sizes[i])
        assert_close(together[i, :n], contrast(z[i, :n], float(temperatures[i])))


def test_weights_that_are_tensors_keep_their_term():
    """Encoders with the weight 0 are trained beside others."""
    batch = make_pass()
    terms = cmim(batch, contrastive_weight=torch.tensor(0.0))
    assert terms["contrast"].tolist() == [0] * len(batch.z)
    rows = torch.ones(len(batch.z), dtype=torch.bool)
    assert_close(cmim(batch._replace(rows=rows)), cmim(batch))
