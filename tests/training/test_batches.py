"""Batches: near-equal sizes, every row once, shuffled in each epoch."""

import pytest
import torch

from cmim_sklearn._training.batches import WholeBatches, count_batches


def batches(n, batch_size, seed=0):
    x = torch.arange(n, dtype=torch.float32)[:, None]
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return list(WholeBatches(x, batch_size, generator, "cpu"))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 17, 100, 257, 1000])
@pytest.mark.parametrize("batch_size", [2, 3, 16, 256])
def test_batches_are_near_equal_and_hold_every_row_once(n, batch_size):
    parts = batches(n, batch_size)
    assert len(parts) == count_batches(n, batch_size)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= max(batch_size, 3 if n % 2 else 2)
    assert min(sizes) > 1 or n == 1
    assert sorted(torch.cat(parts).flatten().tolist()) == list(range(n))


def test_batches_are_shuffled_in_each_epoch_and_in_order_without_a_generator():
    x = torch.arange(50.0)[:, None]
    loader = WholeBatches(x, 10, torch.Generator().manual_seed(0), "cpu")
    first, second = torch.cat(list(loader)), torch.cat(list(loader))
    assert not torch.equal(first, second)
    assert torch.equal(torch.cat(batches(50, 10, seed=None)), x)
