"""Surveys: extremes of all rows next to a sample."""

from decimal import Decimal

import numpy as np
import pytest

from cmim_sklearn._likelihoods.summary import ColumnSummary
from cmim_sklearn._tables.dtypes import Layout
from cmim_sklearn._tables.read import NUMBER, Frame
from cmim_sklearn._tables.survey import with_extremes
from tests.helpers import objects


@pytest.mark.parametrize(
    ("sample", "others", "ends"),
    [
        (np.full(3, 5.0), objects(2**60 + 1, 2), [2, 2**60 + 1]),
        (objects(Decimal("0.1")), objects(Decimal("0.12345678901234567")), None),
        (np.full(3, 5.0), np.array([1.5, 7.0]), [1.5, 7.0]),
    ],
)
def test_a_constant_sample_gets_the_exact_extremes_of_all_rows(sample, others, ends):
    summary = ColumnSummary().add(sample).add(others)
    frame = Frame(Layout("numpy", None, [{"dtype": "|O"}]), [sample], [NUMBER], None)
    (column,) = with_extremes(frame, [summary]).columns
    ends = ends or [sample[0], others[0]]
    assert column.tolist() == [*sample.tolist(), *ends]
    varied = np.array([1.0, 2.0])
    frame = Frame(frame.layout, [varied], [NUMBER], None)
    assert with_extremes(frame, [summary]).columns[0] is varied
    empty = np.full(3, np.nan)
    frame = Frame(frame.layout, [empty], [NUMBER], None)
    assert with_extremes(frame, [ColumnSummary().add(empty)]).columns[0] is empty
