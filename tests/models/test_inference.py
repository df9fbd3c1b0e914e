"""Inference in chunks."""

import numpy as np
import pytest
import torch

from cmim_sklearn._models.inference import CHUNK_ROWS, MAX_CUDA_NUMBERS, chunk_rows, on_rows
from tests.helpers import make_latent_model


def test_on_rows_takes_parts_and_concatenates_layers():
    model, _ = make_latent_model()
    rows = np.random.RandomState(0).randn(9000, 3).astype(np.float32)

    def function(x):
        return {"both": [x, 2 * x[:, :2]], "one": x[:, 0], "square": x[:, :, None] * x[:, None]}

    whole = on_rows(model, function, rows)
    np.testing.assert_array_equal(whole["both"], np.hstack([rows, 2 * rows[:, :2]]))
    np.testing.assert_array_equal(whole["one"], rows[:, 0])
    assert whole["square"].shape == (9000, 3, 3)
    parts = on_rows(model, function, (part for part in np.split(rows, [3, 7000])), 9000)
    for name, values in whole.items():
        np.testing.assert_array_equal(parts[name], values)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_a_table_of_usual_size_is_one_chunk():
    model, _ = make_latent_model()
    model, sizes = model.cuda(), []

    def function(x):
        sizes.append(len(x))
        return {"both": [x, 2 * x[:, :2]]}

    rows = np.random.RandomState(0).randn(2**16 + 1, 3).astype(np.float32)
    both = on_rows(model, function, rows)["both"]
    assert sizes == [2**16, 32]
    np.testing.assert_array_equal(both, np.hstack([rows, 2 * rows[:, :2]]))


def test_chunks_of_a_gpu_depend_on_the_width_of_the_network():
    model, _ = make_latent_model()
    assert chunk_rows(model) == CHUNK_ROWS

    class OnGPU:
        device, likelihood = torch.device("cuda"), model.likelihood

        def __init__(self, width):
            self.weights = [torch.empty(width, 1), torch.empty(5)]

        def parameters(self):
            return self.weights

    assert chunk_rows(OnGPU(100)) == 2**16
    assert CHUNK_ROWS < chunk_rows(OnGPU(2**11)) <= MAX_CUDA_NUMBERS // (4 * 2**11)
    assert chunk_rows(OnGPU(2**20)) == CHUNK_ROWS


def test_a_row_does_not_depend_on_the_rows_beside_it():
    model, x = make_latent_model()

    def function(x):
        return {"mean": model.posterior_mean(x)}

    whole = on_rows(model, function, x.numpy())["mean"]
    for n in (1, 2, 31):
        np.testing.assert_array_equal(on_rows(model, function, x[:n].numpy())["mean"], whole[:n])


def test_rows_are_padded_and_need_no_gradient():
    model, x = make_latent_model()
    seen = []

    def function(x):
        seen.append((len(x), torch.is_grad_enabled()))
        return {"x": x}

    assert on_rows(model, function, x[:5].numpy())["x"].shape == (5, x.shape[1])
    assert seen == [(32, False)]
