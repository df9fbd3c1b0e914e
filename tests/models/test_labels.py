"""Label head of a model."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from cmim_sklearn._models.labels import LabelHead, label_losses, make_head
from cmim_sklearn._training.state import copy_tensors
from tests.helpers import make_latent_model, randn, seeded

NAN = float("nan")


def columns_of(labels, held_back=()):
    columns = torch.zeros(len(labels), 2)
    columns[:, 0] = torch.tensor(labels)
    columns[list(held_back), 1] = 1.0
    return columns


def test_losses_are_those_of_torch():
    h, labels = randn(4, 5), torch.tensor([2.0, 0.0, NAN, 1.0])
    head = LabelHead(5, 3, seeded())
    known = ~labels.isnan()
    expected = functional.cross_entropy(
        head.linear(h)[known], labels[known].long(), reduction="none"
    )
    torch.testing.assert_close(head.losses(h, labels)[known], expected)
    assert head.losses(h, labels)[2] == 0
    number = LabelHead(5, 0, seeded())
    error = number.linear(h)[:, 0] - labels
    torch.testing.assert_close(number.losses(h, labels)[known], 0.5 * error[known] ** 2)


@pytest.mark.parametrize("n_classes", [0, 3])
def test_only_labels_that_count_have_a_gradient(n_classes):
    head, h = LabelHead(5, n_classes, seeded()), randn(4, 5).requires_grad_()
    head.set(weight=10.0)
    columns = columns_of([1.0, NAN, 2.0, 0.0], held_back=[2])
    for is_on, uses_all, rows in ((1, 0, [0, 3]), (1, 1, [0, 2, 3]), (0, 1, [])):
        head.set(is_on=is_on, uses_all=uses_all)
        term = head(h, columns)
        (gradient,) = torch.autograd.grad(term.sum(), h, retain_graph=True)
        assert gradient.abs().sum(1).nonzero().flatten().tolist() == rows
        own = torch.autograd.grad(term.sum(), head.linear.weight)[0]
        assert own.isfinite().all()
        assert own.abs().sum() > 0  # the head learns in any case


def test_the_weight_multiplies_the_term():
    head, h = LabelHead(5, 3, seeded()), randn(2, 5)
    columns = columns_of([1.0, 2.0])
    head.set(weight=2.5)
    torch.testing.assert_close(head(h, columns), 2.5 * head.losses(h, columns[:, 0]))


def test_labels_train_encoder_and_decoder_and_nothing_else_sees_them():
    model, x = make_latent_model(masking=0.3)
    noise = model.draw_noise(x, seeded())
    plain = model(x, noise)
    assert plain.label is None
    model.labels = make_head(model, 3, seeded())
    model.labels.set(weight=10.0)
    labels = torch.arange(len(x)) % 3 * 1.0
    labelled = torch.cat([x, columns_of(labels.tolist())], 1)
    again = model.draw_noise(labelled, seeded())
    batch = model(labelled, again)
    for name in ("z", "log_px", "inputs"):
        torch.testing.assert_close(getattr(batch, name), getattr(plain, name), rtol=0, atol=0)
    batch.label.sum().backward()
    for network, has_gradient in ((model.encoder, True), (model.decoder.body, True)):
        assert all((w.grad.abs().sum() > 0) == has_gradient for w in network.parameters())
    assert model.decoder.output.weight.grad is None


def test_generated_rows_have_no_label():
    from cmim_sklearn._models.latent_model import concatenate

    model, x = make_latent_model()
    batch = model(x, model.draw_noise(x, seeded()))
    both = concatenate(batch._replace(label=torch.ones(len(x))), batch)
    assert both.label.tolist() == [1.0] * len(x) + [0.0] * len(x)


class Own(nn.Module):
    """Decoder with batch norm, dropout and a forward method that is not output(body(z))."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_in, 5), nn.BatchNorm1d(5), nn.Dropout(0.5))
        self.output, self.skip = nn.Linear(5, n_out), nn.Linear(n_in, n_out)

    def forward(self, z):
        return self.output(self.body(2 * z)) + self.skip(z)


def with_decoder(kind):
    model, x = make_latent_model()
    model.decoder = kind(model.posterior.n_components, model.likelihood.n_params)
    return model, x


def test_a_head_reads_the_own_forward_of_a_decoder():
    model, x = with_decoder(Own)
    model.decoder.body[1].eval()  # as its owner may have set it
    modes = [module.training for module in model.modules()]
    weights, state = copy_tensors(model.decoder.state_dict()), torch.get_rng_state()
    head = make_head(model, 3, seeded())
    assert head.linear.in_features == 5
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.decoder.state_dict().items():
        assert torch.equal(value, weights[name]), name
    model.eval()
    noise = model.draw_noise(x, seeded())
    plain = model(x, noise).log_px
    labels = torch.arange(len(x)) % 3 * 1.0
    z = model.posterior_mean(x)
    model.labels = head
    columns = columns_of(labels.tolist())
    torch.testing.assert_close(
        model(torch.cat([x, columns], 1), noise).log_px, plain, rtol=0, atol=0
    )
    expected = head.losses(model.decoder.body(2 * z), labels)
    torch.testing.assert_close(label_losses(model, x, labels), expected)
    assert not model.decoder.body._forward_hooks


class Unused(Own):
    def forward(self, z):
        return self.skip(z)


class Method(Own):
    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out)
        del self.body

    def body(self, z):
        return z


@pytest.mark.parametrize("kind", [Unused, Method])
def test_a_decoder_without_a_body_that_is_called_raises(kind):
    model, _ = with_decoder(kind)
    with pytest.raises(ValueError, match=f"`decoder` must build .* got {kind.__name__}, which"):
        make_head(model, 3)
