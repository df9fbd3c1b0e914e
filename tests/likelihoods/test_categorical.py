"""Categorical columns: levels, the rare bin, warnings of identifiers."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from cmim_sklearn import CMIMEncoder
from cmim_sklearn._likelihoods.categorical import Categorical
from cmim_sklearn._likelihoods.summary import ColumnSummary
from cmim_sklearn._utils.archive import from_json, to_json
from tests.helpers import measured, objects, random_params


@pytest.mark.parametrize(("levels", "repeats"), [(300, 1), (500, 1), (1500, 2)])
def test_identifier_columns_emit_a_warning(levels, repeats):
    column = objects(*(f"C{i}" for i in range(levels)), *(f"C{i}" for i in range(levels)))
    column = column[: levels * repeats]
    match = f"Column 'id' has {levels:,} distinct levels in {levels * repeats:,} values"
    with pytest.warns(UserWarning, match=match):
        Categorical.fit([column], ["id"])


@pytest.mark.parametrize("method", ["fit", "fit_schema", "partial_fit"])
def test_the_identifier_warning_points_to_the_calling_line(method):
    X = pd.DataFrame({"id": [f"C{i}" for i in range(300)]})
    encoder = CMIMEncoder(max_iter=1, hidden_layer_sizes=(4,), random_state=0)
    with pytest.warns(UserWarning, match="Column 'id'") as caught:
        getattr(encoder, method)(X)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(("levels", "common"), [(90, 0), (250, 0), (500, 600)])
def test_columns_with_a_long_tail_emit_no_warning(levels, common):
    cells = objects(*(f"C{i}" for i in range(levels)), *["x"] * common)
    likelihood = Categorical.fit([cells], ["tail"])  # a warning would be an error
    assert likelihood.n_classes == [min(levels + (common > 0), 256)]


def test_max_categories_avoids_the_identifier_warning():
    column = objects(*(f"C{i}" for i in range(500)))
    likelihood = Categorical.fit([column], ["zip"], max_categories=500)
    assert likelihood.n_classes == [500]


def test_the_rare_bin_decodes_to_its_most_frequent_level_and_samples_by_frequency():
    column = objects(*["a"] * 50, *["b"] * 40, *["r"] * 6, *["s"] * 3, "t")
    likelihood = Categorical.fit([column], ["c"], max_categories=3)
    assert likelihood.n_classes == [3]
    assert likelihood.decode(likelihood.encode([column]))[0].tolist() == column.tolist()
    rare = torch.tensor([[-50.0, -50.0, 50.0]])
    assert likelihood.decode(likelihood.point(rare).numpy())[0].tolist() == ["r"]
    drawn = likelihood.sample(rare.expand(20_000, -1), torch.Generator().manual_seed(0))
    names, counts = np.unique(likelihood.decode(drawn.numpy())[0].astype(str), return_counts=True)
    assert names.tolist() == ["r", "s", "t"]
    np.testing.assert_allclose(counts / 20_000, [0.6, 0.3, 0.1], atol=0.02)
    x = torch.from_numpy(likelihood.encode([objects("r", "s", "t")]))
    log_prob = likelihood.log_prob(torch.zeros(3, 3), x, likelihood.observed(x))
    assert_close(log_prob.exp(), torch.full((3, 1), 1 / 3))


def test_log_density_of_rare_and_unknown_levels():
    """A rare level has its share of the bin; an unknown one has 1 / (n + K + 1)."""
    column = objects(*["a"] * 50, *["b"] * 40, *["r"] * 6, *["s"] * 3, "t")
    likelihood = Categorical.fit([column], ["c"], max_categories=3)
    cells = measured(likelihood, [objects("a", "r", "s", "t", "unknown", None)])
    p = likelihood.log_density(torch.zeros(6, 3), cells)[:, 0].exp()
    assert_close(p, torch.tensor([1 / 3, 0.6 / 3, 0.3 / 3, 0.1 / 3, 1 / 106, 1.0]))


def test_unknown_levels_are_encoded_as_minus_one_and_unobserved():
    likelihood = Categorical.fit([objects("a", "b")], ["c"])
    encoded = likelihood.encode([objects("b", "zebra", None)])
    np.testing.assert_array_equal(encoded[:, 0], [1.0, -1.0, np.nan])
    assert likelihood.observed(torch.from_numpy(encoded)).flatten().tolist() == [True, False, False]


def test_columns_of_many_sizes_are_each_normalised():
    columns = [objects(*(f"{c}{i % size}" for i in range(60))) for c, size in enumerate((5, 2, 5))]
    likelihood = Categorical.fit(columns, "abc")
    params = random_params(likelihood, 1)
    x = torch.zeros(5, 3)
    x[:, 0] = torch.arange(5)
    total = likelihood.log_prob(params.expand(5, -1), x, torch.ones(5, 3, dtype=bool))
    assert total[:, 0].exp().sum().item() == pytest.approx(1)
    best = likelihood.point(params)
    scores = [
        likelihood.log_prob(params, best.index_fill(1, torch.tensor([0]), k), torch.ones(1, 3) > 0)
        for k in range(5)
    ]
    assert int(torch.stack(scores)[:, 0, 0].argmax()) == int(best[0, 0])


def test_one_hot_inputs_align_with_decoder_outputs():
    columns = [objects("a", "b", "c", "a"), objects("u", "v", "u", "v")]
    likelihood = Categorical.fit(columns, "ab")
    x = torch.from_numpy(likelihood.encode(columns))
    observed = likelihood.observed(x)
    hot = likelihood.inputs(x, observed)
    assert_close(hot.sum(1), torch.full((4,), 2.0))
    # Large logits at the one-hot positions predict the same cells with certainty.
    assert_close(likelihood.log_prob(50 * hot, x, observed), torch.zeros(4, 2))


def test_levels_are_exact_numbers_of_one_type():
    summary = ColumnSummary(has_levels=True)
    for part in (np.array([5.0, np.nan]), objects(2**60 + 1, 5), objects(2**60, None)):
        summary.add(part)
    likelihood = Categorical.fit([objects(5)], ["c"], summaries=[summary])
    assert likelihood.levels == [[5, 2**60, 2**60 + 1]]
    assert {type(level) for level in likelihood.levels[0]} == {int}
    column = objects(2**60, 2**60 + 1, 2**60 + 2, 5.0)
    assert likelihood.encode([column])[:, 0].tolist() == [1, 2, -1, 0]


def test_levels_may_be_decimals():
    column = objects(Decimal("1.50"), "a", Decimal("0.12345678901234567890"))
    arrays = {}
    state = to_json(Categorical.fit([column], ["c"]).state(), "state", arrays)
    likelihood = Categorical(**from_json(state, arrays))
    assert likelihood.decode(likelihood.encode([column]))[0].tolist() == column.tolist()


@pytest.mark.parametrize(
    ("seen", "later"), [(Decimal("0.10"), 0.1), (0.1, Decimal("0.10")), (2.0, Decimal(2)), (2, 2.0)]
)
def test_numbers_of_another_type_are_the_same_level(seen, later):
    likelihood = Categorical.fit([objects(seen, "a")], ["c"])
    assert likelihood.encode([objects(later)]) == likelihood.encode([objects(seen)]) != -1


@pytest.mark.parametrize(
    ("levels", "named"), [((True, 1, "a"), "True and 1"), ((0.0, False), "0.0")]
)
def test_booleans_that_equal_numbers_emit_a_warning(levels, named):
    with pytest.warns(UserWarning, match=rf"Column 'c' has the levels .*{named}, which are equal"):
        assert len(Categorical.fit([objects(*levels)], ["c"]).levels[0]) == len(set(levels))
    Categorical.fit([objects(True, False, "a"), objects(True, 2, 0.5)], "ab")  # no warning
