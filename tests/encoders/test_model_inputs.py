"""Inputs of custom models: texts."""

import pytest
import torch

from cmim_sklearn import InformativeEmbedding
from cmim_sklearn._encoders import model_inputs
from cmim_sklearn._encoders.model_inputs import as_texts, make_to_batch


def test_bad_texts_raise():
    embedding = InformativeEmbedding(torch.nn.Identity(), tokenizer=len)
    with pytest.raises(TypeError, match=r"must hold strings.*; got None in row 1\. Replace"):
        embedding.fit(["a", None])
    with pytest.raises(ValueError, match=r"one column of strings.*; got shape \(2, 2\)"):
        embedding.fit([["a", "b"], ["a", "b"]])
    with pytest.raises(ValueError, match="at least one text; got 0"):
        embedding.fit([])


def test_rows_get_the_dtype_of_the_model():
    rows = torch.arange(3).numpy()
    assert make_to_batch([torch.nn.Linear(1, 1).double()])(rows).dtype == torch.float64
    assert make_to_batch([torch.nn.Linear(1, 1)])(rows).dtype == torch.float32
    assert make_to_batch([torch.nn.Embedding(3, 1)])(rows).dtype == torch.int64
    assert make_to_batch([])(rows).dtype == torch.float32


def test_float64_weights_on_a_device_without_float64_raise(monkeypatch):
    models = [torch.nn.Linear(1, 1), torch.nn.Linear(1, 1).double()]
    monkeypatch.setattr(model_inputs, "resolve_device", torch.device)
    monkeypatch.setattr(model_inputs, "exact_device", lambda device: torch.device("cpu"))
    with pytest.raises(ValueError, match=r"device='meta' has no float64, .*model.float\(\)"):
        make_to_batch(models, "meta")
    assert {model.weight.device.type for model in models} == {"cpu"}
    make_to_batch(models[:1], "meta")
    assert models[0].weight.device.type == "meta"


def test_a_tokenizer_may_return_a_mapping():
    to_batch = make_to_batch([], tokenizer=lambda texts: {"input_ids": [[len(t)] for t in texts]})
    batch = to_batch(as_texts(["a", "bb"]))
    assert batch["input_ids"].tolist() == [[1], [2]]
