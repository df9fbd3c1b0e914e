"""State of a fitted encoder: pickle, joblib, skops, copies and clones."""

import copy
import gc
import io
import pickle
import weakref

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from skorch.callbacks import LRScheduler

from cmim_sklearn import Checkpoint, CMIMEncoder
from tests.helpers import ENCODERS, make_mixed


def through_pickle(encoder):
    return pickle.loads(pickle.dumps(encoder))


def through_joblib(encoder):
    buffer = io.BytesIO()
    joblib.dump(encoder, buffer)
    buffer.seek(0)
    return joblib.load(buffer)


def through_skops(encoder):
    import skops.io

    data = skops.io.dumps(encoder)
    ours = [t for t in skops.io.get_untrusted_types(data=data) if t.startswith("cmim_sklearn.")]
    return skops.io.loads(data, trusted=ours)


def arrays_in(value):
    """All arrays in nested dicts, lists and tuples."""
    if isinstance(value, np.ndarray):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    inside = isinstance(value, dict | list | tuple)
    return [array for part in parts for array in arrays_in(part)] if inside else []


@pytest.mark.parametrize("name", ENCODERS)
def test_a_memory_mapped_encoder_has_writable_arrays(name, mixed, fitted, tmp_path):
    """torch warns of read-only memory, but only once in a process."""
    joblib.dump(fitted(name), tmp_path / "model")
    again = joblib.load(tmp_path / "model", mmap_mode="r")
    arrays = arrays_in(again.__getstate__())
    assert len(arrays) > 5
    assert all(array.flags.writeable for array in arrays)
    np.testing.assert_array_equal(again.transform(mixed), fitted(name).transform(mixed))


@pytest.mark.parametrize("through", [through_pickle, through_joblib, through_skops, copy.deepcopy])
@pytest.mark.parametrize("latent_prior", ["mixture", "normal"])
def test_a_copy_of_a_fitted_encoder_gives_the_same_results(mixed, quick, through, latent_prior):
    encoder = CMIMEncoder(**quick, early_stopping=True, latent_prior=latent_prior).fit(mixed)
    again = through(encoder)
    np.testing.assert_array_equal(again.transform(mixed), encoder.transform(mixed))
    pd.testing.assert_frame_equal(
        again.sample(5, random_state=0), encoder.sample(5, random_state=0), check_exact=True
    )
    assert again.get_params() == encoder.get_params()
    assert again.loss_curve_ == encoder.loss_curve_
    assert [row["valid_loss"] for row in again.net_.history] == [
        row["valid_loss"] for row in encoder.net_.history
    ]
    # A copy of a copy that was never used: its network has not been rebuilt.
    np.testing.assert_array_equal(
        through(through(encoder)).transform(mixed), encoder.transform(mixed)
    )


def is_plain(value):
    """Whether a state holds only JSON values and numpy arrays."""
    if isinstance(value, dict):
        return all(isinstance(k, str) and is_plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(is_plain(v) for v in value)
    return value is None or isinstance(value, str | int | float | bool | np.ndarray | np.generic)


def test_state_is_json_and_arrays(saved):
    assert is_plain(saved[0].__getstate__())


def test_no_row_is_kept_in_memory(mixed, quick):
    X, X_val = (mixed[["age", "score"]].to_numpy()[:n] + 0 for n in (177, 33))
    references = [weakref.ref(X), weakref.ref(X_val)]
    encoder = CMIMEncoder(**quick).fit(X, X_val=X_val)
    del X, X_val
    gc.collect()
    assert all(reference() is None for reference in references)
    tensors = [o for o in gc.get_objects() if type(o) is torch.Tensor and o.ndim == 2]
    assert [o.shape for o in tensors if len(o) in (177, 33)] == []
    assert encoder.transform(mixed[["age", "score"]].to_numpy()).shape == (200, 32)


def test_state_does_not_grow_with_the_number_of_rows(quick):
    quick = quick | {"max_iter": 1}
    sizes = [len(pickle.dumps(CMIMEncoder(**quick).fit(make_mixed(n)))) for n in (8000, 12_000)]
    assert abs(sizes[1] - sizes[0]) < 4000  # less than a byte for each row more


def test_a_fitted_pipeline_can_be_saved_with_skops(mixed, quick):
    y = (mixed["age"] > 40).to_numpy()
    pipe = Pipeline([("cmim", CMIMEncoder(**quick)), ("clf", LogisticRegression())]).fit(mixed, y)
    np.testing.assert_array_equal(through_skops(pipe).predict(mixed), pipe.predict(mixed))


def test_pickles_hold_unfitted_callbacks_and_no_optimizer(mixed, quick, tmp_path):
    sizes = {}
    for name, callbacks in {
        "none": [],
        "schedule": [LRScheduler("StepLR", step_size=2)],
        "checkpoint": [("kept", Checkpoint(tmp_path))],
    }.items():
        encoder = CMIMEncoder(**quick, net_params={"callbacks": callbacks}).fit(mixed)
        data = pickle.dumps(encoder)
        sizes[name] = len(data)
        again = pickle.loads(data)
        np.testing.assert_array_equal(again.transform(mixed), encoder.transform(mixed))
        assert [type(c) for c in again.net_params["callbacks"]] == [type(c) for c in callbacks]
        np.testing.assert_array_equal(again.fit(mixed).transform(mixed), encoder.transform(mixed))
    assert max(sizes.values()) - sizes["none"] < 1000


def test_clones_are_unfitted_and_pipelines_can_cache(mixed, quick, tmp_path):
    y = (mixed["age"] > 40).to_numpy()
    steps = [("cmim", CMIMEncoder(**quick)), ("clf", LogisticRegression())]
    pipe = Pipeline(steps, memory=str(tmp_path)).fit(mixed, y)
    again = Pipeline(steps, memory=str(tmp_path)).fit(mixed, y)
    np.testing.assert_array_equal(again.predict_proba(mixed), pipe.predict_proba(mixed))
    fresh = clone(pipe.named_steps["cmim"])
    assert not hasattr(fresh, "net_")
    assert not hasattr(fresh, "table_")


def test_names_with_nan_in_tuples_are_known_after_a_copy(mixed, quick):
    X = pd.DataFrame({"a": range(20), "b": ["x", "y"] * 10})
    X.columns = pd.MultiIndex.from_tuples([("a", np.nan), ("a", 2)])
    encoder = CMIMEncoder(**quick).fit(X)
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(again.transform(X), encoder.transform(X))
    again.transform(again.sample(3))
    name = ("a", float("nan"))
    assert again.sample(2, conditions={name: 7}).iloc[:, 0].tolist() == [7, 7]
