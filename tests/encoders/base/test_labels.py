"""Encoders with labels."""

import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from cmim_sklearn import CMIMEncoder
from tests.helpers import GENERATIVE, assert_same, forge, small_encoder, state_of, weights

N = 320


def table(n_rows=N, seed=0):
    """Numbers, and a class that depends on two of them."""
    X = np.random.RandomState(seed).randn(n_rows, 4)
    return X, (X[:, 0] + X[:, 1] > 0).astype(int)


def encoder(name="CMIMEncoder", **parameters):
    own = {"label_weight": 10.0, "hidden_layer_sizes": (8,), "batch_size": 64, "device": "cpu"}
    return small_encoder(name, **own | parameters)


def test_without_weight_y_is_not_looked_at():
    X, _ = table()
    plain = encoder(label_weight=0.0).fit(X)
    for y in (np.arange(N), object(), "nonsense"):
        found = encoder(label_weight=0.0).fit(X, y)
        assert weights(found) == weights(plain)
        assert not hasattr(found, "classes_")
        assert not hasattr(found, "label_n_iter_")


@pytest.mark.parametrize("name", GENERATIVE)
def test_labels_reach_the_encoder(name):
    X, y = table()
    plain, labelled = encoder(name, label_weight=0.0).fit(X), encoder(name).fit(X, y)
    assert labelled.classes_.tolist() == [0, 1]
    assert labelled.label_n_iter_ == 2
    assert len(labelled.label_scores_) == 2
    assert "train_label" in labelled.net_.history[-1]
    for part in ("encoder.output.weight", "decoder.body.0.0.weight"):
        assert weights(plain)[part] != weights(labelled)[part]
    assert labelled.transform(X).shape == plain.transform(X).shape


@pytest.mark.parametrize(
    "y",
    [
        np.r_[np.arange(290) % 2, [-1] * 30],
        np.r_[np.arange(290.0) % 2, [np.nan] * 30],
        np.zeros(N),
        np.full(N, 0.5),
        ["a"] * N,
    ],
)
@pytest.mark.filterwarnings("ignore:30 of 320 rows have the label -1")
def test_labels_from_which_nothing_is_learnt_change_nothing(y):
    X, _ = table()
    found = encoder().fit(X, y)
    assert (found.label_n_iter_, found.label_scores_) == (0, [])
    assert weights(found) == weights(encoder(label_weight=0.0).fit(X))


def test_a_missing_target_raises():
    match = "CMIMEncoder has label_weight=10.0, and requires y to be passed, but the target y is No"
    with pytest.raises(ValueError, match=match):
        encoder().fit(table()[0])


def test_minus_one_is_unlabelled_with_a_warning():
    X, y = table()
    y[:5] = -1
    with pytest.warns(UserWarning, match="5 of 320 rows have the label -1, and count as unlabe"):
        found = encoder().fit(X, y)
    missing = y.astype(float)
    missing[:5] = np.nan
    assert weights(encoder().fit(X, missing)) == weights(found)
    assert encoder().fit(X, np.where(table()[1], 1, -1)).classes_.tolist() == [-1, 1]


def test_many_classes_of_few_rows_are_warned_of():
    X, _ = table(80)
    match = "y has 60 classes in 80 labelled rows, such as '0', '1', '10'"
    with pytest.warns(UserWarning, match=match):
        encoder(max_iter=1).fit(X, (np.arange(80) % 60).astype(str))
    encoder(max_iter=1).fit(X, (np.arange(80) % 40).astype(str))


@pytest.mark.parametrize(
    "convert",
    [
        lambda y: list(y),
        lambda y: np.array(["no", "yes"])[y],
        lambda y: y.astype(bool),
        lambda y: pd.Series(y, dtype="Int64"),
        lambda y: pd.Series(np.array(["no", "yes"])[y], dtype="category"),
        lambda y: pd.Series(y, dtype="boolean"),
    ],
)
def test_equal_classes_of_any_dtype_give_equal_weights(convert):
    X, y = table()
    assert weights(encoder(max_iter=1).fit(X, convert(y))) == weights(encoder(max_iter=1).fit(X, y))


def test_numbers_are_standardised():
    X, _ = table()
    y = X[:, 0] * 3 + 100.5
    found = encoder().fit(X, y)
    assert (found.target_mean_, found.target_scale_) == (pytest.approx(y.mean()), y.std())
    assert not hasattr(found, "classes_")
    other = encoder().fit(X, 1000 * y)
    np.testing.assert_allclose(other.transform(X), found.transform(X), rtol=1e-3, atol=1e-3)


def test_a_refit_forgets_the_labels():
    X, y = table()
    found = encoder().fit(X, y)
    found.set_params(label_weight=0.0).fit(X)
    assert not [name for name in vars(found) if name.startswith(("label_n", "classes", "target_m"))]
    assert weights(found) == weights(encoder(label_weight=0.0).fit(X))


def test_partial_fit_cannot_use_labels():
    X, y = table()
    with pytest.raises(ValueError, match=r"partial_fit cannot learn.*; got label_weight=10\.0"):
        encoder().partial_fit(X, y)


def test_permuted_labels_are_switched_off():
    X, y = table(600)
    y = np.random.RandomState(1).permutation(y)
    found = encoder(max_iter=30, batch_size=200).fit(X, y)
    assert found.label_n_iter_ < 20
    assert [row["uses_labels"] for row in found.net_.history][::29] == [True, False]


def test_a_warm_start_keeps_the_head_of_the_same_classes():
    X, y = table()
    found = encoder(max_iter=3, warm_start=True).fit(X, y)
    before = weights(found)
    found.set_params(learning_rate_init=1e-30).fit(X, y)
    assert weights(found)["labels.linear.weight"] == before["labels.linear.weight"]
    assert (found.n_iter_, found.label_n_iter_) == (6, 1)  # without gains labels end
    found.fit(X, y + 5)
    assert weights(found)["labels.linear.weight"] != before["labels.linear.weight"]
    assert weights(found)["encoder.output.weight"] == before["encoder.output.weight"]
    assert found.classes_.tolist() == [5, 6]


def test_given_held_out_rows_decide_when_labels_end():
    X, y = table(400)

    def fit(y_val):
        labelled = encoder(max_iter=4, learning_rate_init=0.03)
        return labelled.fit(X[60:], y[60:], X_val=X[:60], y_val=y_val)

    found, wrong = fit(y[:60]), fit(1 - y[:60])
    assert found.label_scores_[-1] > found.label_scores_[0]
    assert wrong.label_scores_[-1] < wrong.label_scores_[0]
    assert "valid_label" not in found.net_.history[-1]
    own, few = fit(None), fit([*y[:29], *[None] * 31])
    assert few.label_scores_ == own.label_scores_  # 29 are too few: those held back from y
    with pytest.raises(ValueError, match="y_val must be given with X_val"):
        encoder().fit(X, y, y_val=y)
    with pytest.raises(ValueError, match="y_val must have one label for each of 60 rows; got 9"):
        encoder().fit(X, y, X_val=X[:60], y_val=y[:9])


def test_the_loss_has_no_labels():
    X, y = table(400)
    found = encoder(early_stopping=True, max_iter=4).fit(X, y)
    row = found.net_.history[-1]
    for part in ("train", "valid"):
        terms = [row[f"{part}_{name}"] for name in ("distortion", "latent", "contrast")]
        assert row[f"{part}_loss"] == pytest.approx(sum(terms))
    assert row["train_label"] > 1
    assert "valid_label" not in row


@pytest.mark.parametrize("y", [["no", "yes"], [False, True], [3, 7], [0.25, 7.5]])
def test_files_and_pickles_keep_labels(y, tmp_path):
    X, code = table()
    found = encoder(warm_start=True).fit(X, np.array(y)[code])
    found.save(tmp_path / "file")
    for again in (CMIMEncoder.load(tmp_path / "file", "cpu"), pickle.loads(pickle.dumps(found))):
        assert_same(state_of(again), state_of(found))
        np.testing.assert_array_equal(again.transform(X), found.transform(X))
        again.fit(X, np.array(y)[code])
        assert again.n_iter_ == 4


@pytest.mark.parametrize("change", ["shape", "missing"])
def test_a_forged_head_raises(change, tmp_path):
    X, y = table()
    encoder().fit(X, y).save(tmp_path / "file")

    def edit(manifest, arrays):
        (name,) = (n for n in arrays if n.endswith("labels.linear.weight"))
        if change == "shape":
            arrays[name] = arrays[name][:, :3]
        else:
            (name,) = (n for n in arrays if n.endswith("labels.linear.bias"))
            weights = manifest["fitted"]["_net"]["weights"]
            del arrays[name], weights["labels.linear.bias"]

    forge(tmp_path / "file", tmp_path / "forged", edit)
    with pytest.raises(ValueError, match=r"weight 'labels\.linear\.(weight|bias)' is "):
        CMIMEncoder.load(tmp_path / "forged")


@pytest.mark.parametrize("decoder_width", [0, 8])
def test_the_head_takes_any_decoder(decoder_width):
    X, y = table()
    sizes = (decoder_width,) if decoder_width else ()
    found = encoder(hidden_layer_sizes=sizes).fit(X, y)
    assert found.net_.module.labels.linear.in_features == (decoder_width or 4)


class Normed(nn.Module):
    """Decoder with batch norm and a custom forward method."""

    def __init__(self, n_in, n_out, hidden_layer_sizes, activation):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_in, 6), nn.BatchNorm1d(6))
        self.output, self.scale = nn.Linear(6, n_out), nn.Parameter(torch.ones(()))

    def forward(self, z):
        return self.scale * self.output(self.body(z))


def test_a_decoder_with_batch_norm_and_an_own_forward_is_trained(tmp_path):
    X, y = table()
    found = encoder(decoder=Normed).fit(X, y)
    assert found.label_n_iter_ == 2
    assert found.net_.module.decoder.scale != 1
    found.save(tmp_path / "file")
    again = CMIMEncoder.load(tmp_path / "file", "cpu", decoder=Normed)
    np.testing.assert_array_equal(again.transform(X), found.transform(X))


# -- Parquet files ---------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    X, y = table(600)
    frame = pd.DataFrame(X, columns=list("abcd")).assign(target=np.array(["no", "yes"])[y])
    frame.loc[:9, "target"] = None
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "rows.parquet", row_group_size=100)
    return tmp_path / "rows.parquet"


def test_a_column_of_a_file_is_the_target(path):
    frame = pd.read_parquet(path)
    X = pa.Table.from_pandas(frame.drop(columns="target"), preserve_index=False)
    expected = encoder().fit(X, frame["target"])
    found = encoder().fit_parquet(path, target="target")
    assert weights(found) == weights(expected)
    assert list(found.feature_names_in_) == list("abcd")
    assert found.classes_.tolist() == ["no", "yes"]
    without = encoder(label_weight=0.0).fit_parquet(path, target="target")
    assert list(without.feature_names_in_) == list("abcd")
    assert not hasattr(without, "classes_")


@pytest.mark.parametrize("early_stopping", [True, False])
def test_labels_of_a_stream_stay_with_their_rows(early_stopping, path):
    found = encoder(early_stopping=early_stopping, max_iter=3).fit_parquet(
        path, target="target", buffer_rows=400, columns=["a", "b"]
    )
    assert found.label_n_iter_ == 3
    assert list(found.feature_names_in_) == ["a", "b"]
    seen = []
    start = encoder()
    put = start._put_head

    def note(model, rows):
        seen.append(torch.cat(list(rows.data.parts(3))))
        put(model, rows)

    start._put_head = note
    start.fit_parquet(path, target="target", buffer_rows=400)
    (rows,) = seen
    known = rows[~rows[:, 4].isnan()]
    assert len(rows) == 600
    assert len(known) == 590
    held_back = rows[:, 5] == 1
    assert (rows[~held_back, 5] == 0).all()
    assert 30 <= held_back.sum() <= 100
    assert not rows[held_back, 4].isnan().any()
    # Columns are scaled monotonically: rows far from the border have the label of their sum.
    total = known[:, 0] + known[:, 1]
    far = total.abs() > 1
    assert ((total > 0) == (known[:, 4] > 0))[far].float().mean() > 0.99


def test_sparse_labels_of_a_stream_are_held_back_from_all_rows(tmp_path):
    X, y = table(3000)
    frame = pd.DataFrame(X, columns=list("abcd")).assign(target=y.astype(float))
    frame.loc[np.arange(3000) % 10 > 0, "target"] = None
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "rows.parquet")
    seen = []
    found = encoder(max_iter=1, batch_size=1000)
    found._put_head = lambda model, rows: seen.append(rows.labels)
    with pytest.raises(AttributeError, match="set"):  # it has no head
        found.fit_parquet(tmp_path / "rows.parquet", target="target", buffer_rows=500)
    (labels,) = seen
    held_back = np.flatnonzero(labels.train[:, 1])
    assert len(held_back) == 30
    np.testing.assert_array_equal(labels.check_y, y[held_back])
    # Columns are scaled monotonically.
    np.testing.assert_array_equal(labels.check_x[:, 0].argsort(), X[held_back, 0].argsort())


def test_targets_of_files_that_do_not_fit_raise(path):
    with pytest.raises(ValueError, match=r"label_weight=10\.0 needs labels.*target=\.\.\."):
        encoder().fit_parquet(path)
    with pytest.raises(ValueError, match="columns must not contain the target; got 'target'"):
        encoder().fit_parquet(path, target="target", columns=["a", "target"])
    with pytest.raises(ValueError, match="has no column 'label'"):
        encoder().fit_parquet(path, target="label")
    with pytest.raises(TypeError, match=r"`target` must be the name .*; got \['target'\]"):
        encoder(label_weight=0.0).fit_parquet(path, target=["target"])
