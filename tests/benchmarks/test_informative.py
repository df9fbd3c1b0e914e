"""Informative embeddings of a text decoder, by `benchmarks.informative`."""

import pandas as pd
import pytest

from benchmarks.informative import probe


def test_a_trained_text_decoder_tells_more_than_its_code_and_than_a_random_one():
    pytest.importorskip("transformers")
    scores = pd.DataFrame(probe("T5", seed=0))
    accuracy = scores.groupby(["labels", "features"])["accuracy"].first()
    for labels, margin in (("all", 0.05), (100, 0.0)):
        assert accuracy[labels, "informative"] > accuracy[labels, "code"] + 0.1
        assert accuracy[labels, "informative"] > accuracy[labels, "random decoder"] + margin
