"""Local-view model: codes of groups of columns, and cells that a view replaced."""

import torch
from torch import nn
from torch.testing import assert_close

from cmim_sklearn._models.local_view import LocalModel
from cmim_sklearn.networks import MLP
from tests.helpers import seeded

GROUPS = torch.tensor([[True, True, False], [False, False, True]])


class ZeroMissing(nn.Module):
    def inputs(self, x):
        return x.nan_to_num()


def make_model():
    encoder, local = (MLP(3, 2, (), "relu", seeded(k)) for k in range(2))
    source = MLP(2, 2, (), "relu", seeded(2))
    return LocalModel(encoder, local, source, ZeroMissing(), lambda x, rng: (x, x), GROUPS)


def test_each_group_is_encoded_alone_from_cells_that_the_view_kept():
    model, x = make_model(), torch.arange(1.0, 7).view(2, 3)
    view = x.clone()
    view[0, 1:] = -1.0  # a cell of the first group, and all of the second
    passed = model(x, (x, view))
    kept = torch.tensor([[1.0, 0, 0], [4, 5, 0]]), torch.tensor([[0.0, 0, 0], [0, 0, 6]])
    assert_close(passed.targets[1], torch.stack([model.local(rows) for rows in kept], 1))
    assert_close(passed.sources[1], model.source(model.encoder(view)))
    assert passed.are_own[0].all()
    assert passed.are_own[1].tolist() == [[True, False], [True, True]]


def test_missing_cells_count_as_kept():
    model, x = make_model(), torch.full((2, 3), torch.nan)
    assert model(x, (x, x)).are_own[0].all()


def test_code_is_the_output_of_the_encoder():
    model, x = make_model(), torch.randn(4, 3, generator=seeded())
    assert_close(model.posterior_mean(x), model.encoder(x))
    assert list(model.state_dict()) == [
        f"{part}.output.{name}"
        for part in ("encoder", "local", "source")
        for name in ("weight", "bias")
    ]
