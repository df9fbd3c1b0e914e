"""Two-view model: corruption of rows, encoding of both views."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from cmim_sklearn._models.two_view import Corruption, TwoViewModel, two_views
from cmim_sklearn.latents import LearnedPosterior
from tests.helpers import seeded


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_corruption_takes_cells_from_other_rows_of_the_same_column(rate):
    n = 3000
    x = torch.arange(n).float()[:, None] + n * torch.arange(4)  # a cell's value gives its column
    first, second = Corruption(rate)(x, seeded())
    assert first is x
    column = torch.div(second, n, rounding_mode="floor")
    assert torch.equal(column, torch.arange(4).expand(n, 4).float())
    assert (second != x).float().mean().item() == pytest.approx(rate, abs=0.02)
    both = Corruption(rate, both=True)(x, seeded())
    assert (both[0] != x).float().mean().item() == pytest.approx(rate, abs=0.02)
    if rate == 0.3:
        changed = [view != x for view in both]
        overlap = (changed[0] & changed[1]).float().mean().item()
        assert overlap == pytest.approx(rate**2, abs=0.02)  # the views are independent
    assert torch.equal(Corruption(rate)(x, seeded())[1], second)
    if rate == 1:  # each cell has its random row, and every row is drawn
        rows = second - n * torch.arange(4)
        assert (rows[:, 0] == rows[:, 1]).float().mean().item() < 0.01
        assert rows.unique().numel() > 0.9 * n


@pytest.mark.parametrize("rate", [-0.1, 2.0, "a"])
def test_rate_outside_its_range_raises(rate):
    with pytest.raises(ValueError, match=rf"in \[0, 1\]; got {rate!r}"):
        Corruption(rate)


def test_missing_cells_are_swapped_like_any_cell():
    x = torch.tensor([[1.0], [torch.nan]]).repeat(500, 1)
    _, second = Corruption(1.0)(x, seeded())
    assert torch.isnan(second).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_views_on_another_device_raise():
    x = torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"on cpu, the device of its input; got one on meta"):
        two_views(lambda x, generator: (x, x.to("meta")), x, seeded())


class Inputs(nn.Module):
    def inputs(self, x):
        return x


def test_model_encodes_both_views_in_training_and_the_row_itself_at_inference():
    torch.manual_seed(0)
    model = TwoViewModel(
        nn.Linear(4, 6), LearnedPosterior(3), nn.Linear(3, 2), Inputs(), Corruption()
    )
    x = torch.randn(8, 4, generator=seeded())
    noise = model.draw_noise(x, seeded(1))
    views = model(x, noise)
    for view, rows, code in zip(views, noise.rows, noise.codes, strict=True):
        posterior = model.posterior(model.encoder(rows))
        assert_close(view.z, posterior.rsample(code))
        assert_close(view.projected, model.projector(view.z))
    assert_close(model.posterior_mean(x), model.encoder(x)[:, :3])
    assert_close(model(x, noise).first.z, views.first.z)
