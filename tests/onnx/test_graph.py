"""Graphs: piecewise linear maps in segments."""

import numpy as np
import pytest

from cmim_sklearn._likelihoods.scaling import ScalingMap, quantile_map
from cmim_sklearn.onnx._graph import Graph, add_piecewise, forward_segments, inverse_segments
from tests.onnx.conftest import run

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("seed", range(5))
def test_segments_equal_the_scaling_map(seed):
    rng = np.random.RandomState(seed)
    values = [rng.randn(400), rng.poisson(2, 400), 1e7 + rng.poisson(9, 400)][seed % 3]
    if seed > 2:
        values = np.where(rng.rand(400) < 0.4, [0, 0.1, -7][seed - 2], values)
    m = quantile_map(np.asarray(values, float))
    reach = m.reach.clip(0)
    around = [m.x + share * reach for share in (-1.01, -0.99, 0, 0.99, 1.01)]
    around += [np.nextafter(m.x, -np.inf), np.nextafter(m.x, np.inf)]
    points = np.concatenate([*around, rng.uniform(m.x[0] - 3, m.x[-1] + 3, 2000)])
    points = points[(points == 0) | (np.abs(points) > np.finfo(float).tiny)]  # 5e-324 counts as 0
    np.testing.assert_allclose(evaluate(forward_segments(m), points), m.forward(points), atol=1e-9)
    ends = np.concatenate([m.below, m.above, m.y])
    points = np.concatenate([ends, rng.uniform(ends.min() - 3, ends.max() + 3, 2000)])
    np.testing.assert_allclose(evaluate(inverse_segments(m), points), m.inverse(points), rtol=1e-9)


def evaluate(segments, points):
    assert (np.diff(segments.start) >= 0).all()
    s = np.searchsorted(segments.start, points, side="right") - 1
    return segments.base[s] + (points - segments.origin[s]) * segments.slope[s]


def test_segments_invert_jumps_between_atoms():
    m = ScalingMap([0, 1, 2], [-1, 0, 1], [-1, -0.5, 0.5], [-0.5, 0.5, 1])
    points = np.array([-3, -1, -0.5, 0, 0.5, 1, 3.0])
    np.testing.assert_array_equal(evaluate(inverse_segments(m), points), m.inverse(points))


def test_each_column_has_a_piecewise_map():
    maps = [
        ScalingMap([0, 1, 2], [-1, 0, 1], [-1, -0.5, 0.5], [-0.5, 0.5, 1]),
        ScalingMap([0, 2], [-1, 1], [-1, 1], [-1, 1]),
    ]
    graph = Graph("_")
    out = add_piecewise(graph, "x", [inverse_segments(m) for m in maps])
    infos = [graph.value_info(name, float, 2) for name in ("x", out)]
    points = np.linspace(-3, 3, 25)
    got = run(graph.model(infos[:1], infos[1:]), {"x": np.stack([points, points], axis=1)})[out]
    expected = np.stack([m.inverse(points) for m in maps], axis=1)
    np.testing.assert_allclose(got, expected, atol=1e-12)
