"""Pooling of hidden states."""

from types import SimpleNamespace

import torch
from torch import nn
from torch.testing import assert_close

from cmim_sklearn._encoders.pooling import (
    align_mask,
    padding_mask,
    pool,
    pooled_features,
    positions_first,
)


def test_positions_of_an_image_are_concatenated_for_any_layer():
    image = torch.randn(2, 3, 4, 5)
    for layer in (nn.Conv2d(3, 1, 1), nn.Linear(5, 1), None):
        reader = SimpleNamespace(layer=layer, module_names={})
        assert_close(pooled_features(image, image, "mean", reader), image.flatten(1))


def test_pooling_without_padding():
    hidden = torch.tensor([[[1.0, -1], [3, -5], [9, 9]], [[2, 2], [0, 0], [0, 0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert pool(hidden, "mean", mask).tolist() == [[2, -3], [0, 0]]
    assert pool(hidden, "max", mask).tolist() == [[3, -1], [0, 0]]
    assert pool(hidden, "last", mask).tolist() == [[3, -5], [0, 0]]
    assert pool(hidden, "last").tolist() == [[9, 9], [0, 0]]
    assert pool(hidden, None, mask).tolist() == hidden.flatten(1).tolist()
    broken = hidden.masked_fill(~mask.unsqueeze(-1), torch.nan)  # values at padding may be NaN
    for pooling in ("mean", "max", "last"):
        assert_close(pool(broken, pooling, mask), pool(hidden, pooling, mask))
    left = mask.flip(1)  # padding may come first
    assert pool(hidden, "last", left).tolist() == [[9, 9], [0, 0]]


def test_positions_come_before_features():
    sequence = torch.randn(2, 5, 3)
    for layer in (nn.Linear(3, 1), nn.ReLU(), None):
        assert_close(positions_first(sequence, layer), sequence)
    assert_close(positions_first(sequence, nn.Conv1d(5, 1, 1)), sequence.transpose(1, 2))


def test_masks_are_aligned_at_the_end_or_padded_at_the_start():
    mask = torch.tensor([[True, True, False, False]])
    assert align_mask(mask, 4).tolist() == mask.tolist()
    assert align_mask(mask, 3).tolist() == [[True, False, False]]
    assert align_mask(mask, 5).tolist() == [[True, True, True, False, False]]
    assert align_mask(mask, 9) is None
    assert align_mask(None, 4) is None


def test_padding_is_known_from_a_mask_or_the_first_embedding_that_has_some():
    modules = [nn.Embedding(5, 2), nn.Embedding(5, 2, padding_idx=3), nn.Embedding(5, 2, 0)]
    tokens = torch.tensor([[3, 0, 1]])
    assert padding_mask(tokens, modules).tolist() == [[False, True, True]]
    assert padding_mask({"input_ids": tokens}, modules).tolist() == [[False, True, True]]
    mask = torch.tensor([[1, 1, 0]])
    given = {"input_ids": tokens, "attention_mask": mask}
    assert padding_mask(given, modules).tolist() == [[True, True, False]]
    for batch in (tokens.float(), tokens[0], {"image": tokens}):
        assert padding_mask(batch, modules) is None
    assert padding_mask(tokens, modules[:1]) is None
