"""Training and features out of core: Parquet files and Dask partitions."""

import json
import os
import pickle
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from skorch.callbacks import Callback

import cmim_sklearn
from cmim_sklearn import Checkpoint
from cmim_sklearn._encoders.base import out_of_core
from cmim_sklearn._tables import feature_files, survey
from cmim_sklearn._tables.parquet import ParquetTable
from cmim_sklearn._tables.schema import Block
from cmim_sklearn._training.batches import ShuffledBatches, StreamedTable, WholeBatches
from cmim_sklearn._utils import archive
from tests.helpers import ENCODERS, make_mixed

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

SMALL = {
    "hidden_layer_sizes": (16,), "n_components": 4, "batch_size": 25, "max_iter": 2,
    "random_state": 0, "device": "cpu",
}  # fmt: skip
COLUMNS = list(make_mixed(2).columns)
FEW = {"columns": COLUMNS, "buffer_rows": 60}
"""A buffer for two of the row groups of 30 rows."""


def small(name="CMIMEncoder", **parameters):
    cls = getattr(cmim_sklearn, name)
    own = {"projector_layer_sizes": (8, 8), "critic_hidden_layer_sizes": (7,)}
    own = {k: v for k, v in own.items() if k in cls._get_param_names()}
    return cls(**SMALL | own | parameters)


def weights(encoder):
    return {k: v.numpy().tobytes() for k, v in encoder.net_.module.state_dict().items()}


@pytest.fixture
def table(mixed):
    return pa.Table.from_pandas(mixed.assign(id=np.arange(len(mixed))))


@pytest.fixture
def path(table, tmp_path):
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=30)
    return tmp_path / "rows.parquet"


@pytest.fixture(scope="module")
def fitted():
    return small().fit(make_mixed())


# -- fit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CMIMEncoder", "BarlowTwinsEncoder"])
def test_a_table_that_fits_in_the_buffer_is_trained_as_by_fit(name, table, path):
    fitted = small(name, early_stopping=True).fit(table.select(COLUMNS))
    encoder = small(name, early_stopping=True)
    assert encoder.fit_parquet(path, columns=COLUMNS) is encoder
    assert weights(encoder) == weights(fitted)
    assert encoder.loss_curve_ == fitted.loss_curve_


@pytest.mark.parametrize("name", ENCODERS)
def test_larger_tables_are_trained_and_transformed(name, table, path, tmp_path):
    encoder = small(name).fit_parquet(path, **FEW)
    assert [row["train_batch_count"] for row in encoder.net_.history] == [8, 8]
    assert encoder.n_iter_ == len(encoder.loss_curve_) == 2
    assert list(encoder.feature_names_in_) == COLUMNS
    Z = encoder.transform(table.select(COLUMNS))
    assert np.isfinite(Z).all()
    written = pq.read_table(encoder.transform_parquet(path, tmp_path / "features"))
    assert written.column_names == encoder.get_feature_names_out().tolist()
    # Matrix products of another number of rows are rounded differently.
    np.testing.assert_allclose(np.stack([c.to_numpy() for c in written.columns], 1), Z, atol=1e-5)


def test_weights_do_not_depend_on_the_division_into_files(table, path, tmp_path):
    (tmp_path / "files" / "below").mkdir(parents=True)
    pq.write_table(table[:90], tmp_path / "files" / "a.parquet", row_group_size=30)
    pq.write_table(table[90:150], tmp_path / "files" / "b.parquet", row_group_size=30)
    pq.write_table(table[150:150], tmp_path / "files" / "below" / "none.parquet")
    pq.write_table(table[150:], tmp_path / "files" / "below" / "of.parquet", row_group_size=30)
    (tmp_path / "files" / "_not.parquet").write_text("read")
    listed = [tmp_path / "files" / name for name in ("a.parquet", "b.parquet", "below")]
    one, other, third, in_turn = (
        small().fit_parquet(source, **FEW)
        for source in (path, tmp_path / "files", [str(file) for file in listed], listed[::-1])
    )
    assert weights(one) == weights(other) == weights(third)
    assert weights(one) != weights(in_turn)
    assert pickle.dumps(one.table_.state()) == pickle.dumps(other.table_.state())
    assert weights(small(random_state=1).fit_parquet(path, **FEW)) != weights(one)


def test_row_groups_of_one_row_and_of_none_are_read(tmp_path):
    n = 30
    table = pa.table({"v": np.random.RandomState(0).randn(n), "c": list("abc") * 10})
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as writer:
        for start in range(n):
            writer.write_table(table[start : start + 1])
            writer.write_table(table[:0])
    fitted = small().fit_parquet(tmp_path, buffer_rows=100)
    assert weights(fitted) == weights(small().fit(table))
    encoder = small(batch_size=7).fit_parquet(tmp_path, buffer_rows=10)
    assert np.isfinite(encoder.transform(table)).all()
    to = encoder.transform_parquet(tmp_path / "a.parquet", tmp_path / "_to")
    assert pq.read_table(to).num_rows == n


@pytest.mark.parametrize("n", [0, 1])
def test_files_of_one_row_or_none_raise(n, tmp_path):
    pq.write_table(pa.table({"v": np.zeros(n)}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=rf"Found array with {n} sample\(s\).*minimum of 2"):
        small().fit_parquet(tmp_path)


def test_the_index_of_a_pandas_frame_is_not_a_column(mixed, tmp_path):
    mixed.set_index(np.arange(200) % 7).to_parquet(tmp_path / "x")
    assert list(small().fit_parquet(tmp_path / "x", buffer_rows=50).feature_names_in_) == COLUMNS


def test_column_kinds_and_ranges_come_from_all_rows(tmp_path):
    rng = np.random.RandomState(0)
    X = pd.DataFrame(
        {
            "number": rng.randn(500).astype("float32"),
            "flag": rng.randint(2, size=500),
            "three": rng.randint(2, size=500),
            "word": rng.choice(["x", "yy"], 500),
            "code": rng.randint(3, size=500),
            "count": rng.poisson(2, 500),
        }
    )
    X.loc[77, :] = [1e3, 1, 2, "once", 9, 50]
    X.loc[78:99, ["number", "word"]] = None
    pq.write_table(pa.Table.from_pandas(X), tmp_path / "x", row_group_size=90)
    options = {
        "categorical_features": ["code"], "likelihoods": {"count": "poisson"}, "max_categories": 3,
    }  # fmt: skip
    encoder = small(**options).fit_parquet(tmp_path / "x", buffer_rows=20)
    whole = small(**options).fit(X)
    assert encoder.table_.blocks == whole.table_.blocks
    for part, other in zip(
        encoder.table_.likelihood.blocks, whole.table_.likelihood.blocks, strict=True
    ):
        for name in ("low", "high", "values"):
            np.testing.assert_array_equal(getattr(part, name, 0), getattr(other, name, 0))
        for levels, others in zip(
            getattr(part, "levels", []), getattr(other, "levels", []), strict=True
        ):
            assert set(levels) == set(others)
    encoder.transform(X)  # no warning about unseen levels


def test_statistics_are_those_of_all_rows_or_of_a_uniform_sample(tmp_path):
    """Rows that were added for their extremes, levels or decimals do not bias them."""
    rng = np.random.RandomState(0)
    n = 20_000
    X = pd.DataFrame(
        {
            "normal": rng.randn(n),
            "count": rng.poisson(2, n).astype(float),
            "word": rng.choice(["a", "b"], n).astype(object),
            "price": rng.randint(100, size=n) / 4,
            "nearly": np.zeros(n),
        }
    )
    X.loc[77, ["normal", "count", "price", "nearly"]] = [1e5, 200_000, 0.125, 3.0]
    X.loc[100:399, "word"] = [f"name {i}" for i in range(300)]
    pq.write_table(pa.Table.from_pandas(X), tmp_path / "x", row_group_size=5000)
    options = {
        "likelihoods": {"count": "poisson"}, "numeric_scaling": "standard", "max_categories": 4,
        "max_iter": 1, "batch_size": 5000,
    }  # fmt: skip
    encoder = small(**options).fit_parquet(tmp_path / "x", buffer_rows=1000)
    whole = small(**options).fit(X)
    parts, others = (
        dict(zip([b.kind for b in e.table_.blocks], e.table_.likelihood.blocks, strict=True))
        for e in (encoder, whole)
    )
    gaussian = parts["gaussian"]
    np.testing.assert_array_equal(gaussian.high, others["gaussian"].high)
    assert gaussian.decimals == others["gaussian"].decimals == [None, 3]
    scale = np.diff(gaussian.maps[0].x)[0] / 2
    assert 0.9 < scale < 1.1  # the sample does not have the outlier; with it: 707
    np.testing.assert_allclose(parts["poisson"].mean, others["poisson"].mean, rtol=1e-12)
    words, other_words = parts["categorical"], others["categorical"]
    assert words.levels == other_words.levels
    np.testing.assert_array_equal(words.n_seen, [n])
    np.testing.assert_array_equal(words.rare_shares[0], other_words.rare_shares[0])
    assert parts["bernoulli"].values == others["bernoulli"].values


def test_a_single_value_that_is_not_a_count_raises(tmp_path):
    x = np.ones(5000)
    x[4321] = 2.5
    pq.write_table(pa.table({"x": x}), tmp_path / "x", row_group_size=500)
    encoder = small(likelihoods={"x": "poisson"})
    with pytest.raises(ValueError, match=r"'poisson' needs.*'x' has 2\.5 in row 4321"):
        encoder.fit_parquet(tmp_path / "x", buffer_rows=20)


def test_scaling_from_a_sample_is_close_to_that_of_all_rows(tmp_path):
    x = np.random.RandomState(0).lognormal(size=20_000)
    pq.write_table(pa.table({"x": np.sort(x)}), tmp_path / "x", row_group_size=500)
    encoder = small(max_iter=1, batch_size=5000).fit_parquet(tmp_path / "x", buffer_rows=4000)
    (part,) = encoder.table_.likelihood.blocks
    scores = part.encode([x])
    assert abs(scores.mean()) < 0.05
    assert abs(scores.std() - 1) < 0.05
    assert len(part.maps[0].x) == 100


def test_held_out_rows_are_never_trained_on(table, path, monkeypatch):
    seen = {True: [], False: []}

    class Watch(Callback):
        def on_batch_end(self, net, batch=None, training=False, **kwargs):
            seen[training].append(batch[0])

    ids = pa.table({"id": table["id"].cast("float64"), "age": table["age"]})
    pq.write_table(ids, path, row_group_size=30)
    options = {"early_stopping": True, "numeric_scaling": None, "n_iter_no_change": 1, "tol": 1e9}
    encoder = small(net_params={"callbacks": [Watch()]}, max_iter=9, **options)
    encoder.fit_parquet(path, buffer_rows=90)
    assert encoder.n_iter_ == 2  # early stopping
    assert len(encoder.validation_scores_) == 2
    trained, held_out = (torch.cat(seen[part])[:, 0].int().tolist() for part in (True, False))
    assert len(held_out) == 2 * 20
    assert sorted(trained + held_out) == sorted([*range(200), *range(200)])
    assert not set(trained) & set(held_out)
    again = small(max_iter=3).fit_parquet(path, buffer_rows=90, X_val=ids[:7])
    assert len(again.validation_scores_) == 3


class Stops(Callback):
    """Raise at the end of an epoch; epoch and error are globals, so that fits count as equal."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == STOP.epoch:
            raise STOP.error


def changed_a_little(table):
    """Change one cell of one column."""
    i = table.column_names.index("income")
    values = table["income"].to_numpy().copy()
    row = np.argsort(values)[len(values) // 2]
    values[row] *= 1.001
    return table.set_column(i, "income", pa.array(values, from_pandas=True))


STOP = SimpleNamespace(epoch=None, error=RuntimeError)


def test_a_fit_resumes_from_its_checkpoint(path, tmp_path, monkeypatch):
    whole = small(max_iter=4).fit_parquet(path, **FEW)

    def begin(source=path, **options):
        callbacks = [Checkpoint(tmp_path / "there", every_epochs=1), Stops()]
        encoder = small(max_iter=4, net_params={"callbacks": callbacks})
        return encoder.fit_parquet(source, **FEW | options)

    monkeypatch.setattr(STOP, "epoch", 3)
    with pytest.raises(RuntimeError):
        begin()
    monkeypatch.undo()
    pq.write_table(pq.read_table(path)[::-1], tmp_path / "other", row_group_size=30)
    other = begin(source=tmp_path / "other")  # other rows start a new fit
    assert other.net_.n_resumed_ == 0
    pq.write_table(changed_a_little(pq.read_table(path)), tmp_path / "other", row_group_size=30)
    assert begin(source=tmp_path / "other").net_.n_resumed_ == 0
    other = begin(buffer_rows=70)
    assert other.net_.n_resumed_ == 0
    resumed = begin()
    assert resumed.net_.n_resumed_ == 2
    assert weights(resumed) == weights(whole)


def test_interruptions_and_warm_starts_work_as_in_fit(path, monkeypatch):
    monkeypatch.setattr(STOP, "epoch", 2)
    monkeypatch.setattr(STOP, "error", KeyboardInterrupt)
    stopped = small(max_iter=4, net_params={"callbacks": [Stops()]})
    with (
        pytest.warns(UserWarning, match="interrupted after 2 epochs") as caught,
        pytest.raises(KeyboardInterrupt),
    ):
        stopped.fit_parquet(path, **FEW)
    assert caught[0].filename == __file__
    stopped.set_params(warm_start=True, net_params=None, max_iter=3).fit_parquet(path, **FEW)
    assert stopped.n_iter_ == 5
    with pytest.raises(ValueError, match=r"warm_start=True continues .* n_components"):
        stopped.set_params(n_components=5).fit_parquet(path, **FEW)


def test_invalid_arguments_raise_before_all_rows_are_read(path, mixed, monkeypatch):
    def survey(*args, **kwargs):
        raise AssertionError("all rows were read")

    monkeypatch.setattr(out_of_core, "survey", survey)
    with pytest.raises(ValueError, match=r"^X_val: .*feature names"):
        small().fit_parquet(path, X_val=mixed.rename(columns={"age": "years"}), **FEW)
    with pytest.raises(ValueError, match=r"n_samples|sample"):
        small().fit_parquet(path, X_val=mixed[:0], **FEW)


def test_a_non_finite_loss_restores_the_last_epoch(path):
    class Breaks(Callback):
        has_broken = False

        def on_batch_end(self, net, training=False, **kwargs):
            if training and len(net.history) == 2 and not self.has_broken:
                self.has_broken = True
                with torch.no_grad():
                    next(net.module_.parameters()).fill_(torch.nan)

    encoder = small(net_params={"callbacks": [Breaks()]})
    with pytest.warns(UserWarning, match="not finite in epoch 2") as caught:
        encoder.fit_parquet(path, **FEW)
    assert caught[0].filename == __file__
    assert encoder.n_iter_ == 2


def test_automatic_epochs_are_those_of_fit(table, path):
    encoder, epochs = small(max_iter="auto", batch_size=128), []

    class Stop(Callback):
        def on_train_begin(self, net, **kwargs):
            epochs.append(net.max_epochs)
            raise RuntimeError

    encoder.set_params(net_params={"callbacks": [Stop()]})
    for fit in (
        lambda: encoder.fit(table.select(COLUMNS)),
        lambda: encoder.fit_parquet(path, **FEW),
    ):
        with pytest.raises(RuntimeError):
            fit()
    assert epochs == [400, 400]


def test_each_pass_has_every_row_once_in_a_new_order():
    x = torch.arange(103.0)[:, None]

    def parts(seed):
        for i in np.random.default_rng(seed).permutation(11):
            yield x[i * 10 : (i + 1) * 10]

    whole = WholeBatches(x, 8, None, "cpu")
    for buffer_rows in (1, 8, 40, 1000):
        stream = StreamedTable(103, parts, buffer_rows, {})
        batches = ShuffledBatches(stream, 8, torch.Generator().manual_seed(0), "cpu")
        assert len(batches) == len(whole)
        passes = [list(batches) for _ in range(2)]
        for one in passes:
            assert [len(b) for b in one] == [len(b) for b in whole]
            assert torch.equal(torch.cat(one).sort(0).values, x)
        assert not torch.equal(torch.cat(passes[0]), torch.cat(passes[1]))


def test_rows_of_a_sorted_file_are_shuffled(tmp_path):
    pq.write_table(pa.table({"x": np.arange(2000)}), tmp_path / "x", row_group_size=50)
    source = ParquetTable(tmp_path / "x")

    def parts(seed):
        for _, part in source.shuffled_parts(np.random.default_rng(seed)):
            yield torch.tensor(part["x"].to_numpy())

    stream = StreamedTable(2000, parts, 400, {})
    batches = list(ShuffledBatches(stream, 100, torch.Generator().manual_seed(0), "cpu"))
    assert torch.equal(torch.cat(batches).sort().values, torch.arange(2000))
    # Row groups per batch: one or two without a buffer, 37 of the 40 at random.
    assert np.mean([len(set((b // 50).tolist())) for b in batches]) > 8


# -- transform -------------------------------------------------------------------------------------


def test_kept_columns_come_first_and_rows_stay_in_order(fitted, table, path, mixed, tmp_path):
    encoder = pickle.loads(pickle.dumps(fitted)).set_output(transform="pandas")
    destination = encoder.transform_parquet(path, tmp_path / "to", keep=["id", "city"])
    assert destination == tmp_path / "to"
    written = pq.read_table(destination)
    assert written.column_names == ["id", "city", *encoder.get_feature_names_out()]
    for name in ("id", "city"):
        assert written[name].to_pylist() == table[name].to_pylist()
    assert set(written.schema.types[2:]) == {pa.float32()}
    expected = encoder.transform(mixed)
    np.testing.assert_allclose(written.to_pandas().iloc[:, 2:], expected, atol=1e-5)
    assert [len(pq.read_table(part)) for part in sorted(destination.glob("*.parquet"))] == (
        [30] * 6 + [20]
    )
    one = pq.read_table(encoder.transform_parquet(path, tmp_path / "other", keep="id"))
    assert one.column_names[0] == "id"


def test_only_the_needed_columns_are_read(fitted, table, tmp_path):
    odd = table.append_column("odd", pa.array([[1]] * 200))
    odd = odd.append_column("date", pa.array(range(200), pa.timestamp("s")))
    path = tmp_path / "x.parquet"
    pq.write_table(odd, path, row_group_size=30)
    chunks = [pq.read_metadata(path).row_group(g).column(odd.num_columns - 1) for g in range(7)]
    content = bytearray(path.read_bytes())
    for chunk in chunks:  # corrupt this column
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.parquet cannot be read as Parquet: ."):
        small().fit_parquet(path, **FEW | {"columns": ["age", "date"]})
    small().fit_parquet(path, **FEW)
    fitted.transform_parquet(path, tmp_path / "to", keep="id")


def test_an_interrupted_call_resumes(fitted, path, tmp_path, monkeypatch):
    replace, n_left = archive.os.replace, 3  # one for the manifest

    def stops(*paths):
        nonlocal n_left
        n_left -= 1
        if n_left < 0:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(archive.os, "replace", stops)
    with pytest.raises(KeyboardInterrupt):
        fitted.transform_parquet(path, tmp_path / "to")
    monkeypatch.undo()
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "to").iterdir()}
    assert sorted(before) == ["_features.json", "part-000000.parquet", "part-000001.parquet"]
    again = pickle.loads(pickle.dumps(fitted))
    again.transform_parquet(path, tmp_path / "to")
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "to").iterdir()}
    assert after.items() >= before.items()
    assert len(after) == 9
    assert "_SUCCESS" in after
    fitted.transform_parquet(path, tmp_path / "at once")
    assert pq.read_table(tmp_path / "to").equals(pq.read_table(tmp_path / "at once"))


@pytest.mark.slow
def test_a_kill_loses_only_the_part_being_written(fitted, path, tmp_path):
    fitted.save(tmp_path / "encoder")
    program = """
import os, signal, sys
from cmim_sklearn import CMIMEncoder
from cmim_sklearn._utils import archive
archive.PART_SECONDS = 0
n_left, replace = int(sys.argv[1]), os.replace
def kills(*paths):
    global n_left
    n_left -= 1
    if n_left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
archive.os.replace = kills
CMIMEncoder.load("encoder").transform_parquet("rows.parquet", "to")
"""
    codes = []
    for n_left in (0, 2, 1, 3, 9):
        arguments = [sys.executable, "-c", program, str(n_left)]
        codes.append(subprocess.run(arguments, cwd=tmp_path, check=False).returncode)
        for part in (tmp_path / "to").glob("*.parquet"):
            pq.read_table(part)
    assert codes == [-signal.SIGKILL] * 4 + [0]
    assert not list((tmp_path / "to").glob(".*"))
    fitted.transform_parquet(path, tmp_path / "at once")
    assert pq.read_table(tmp_path / "to").equals(pq.read_table(tmp_path / "at once"))


def test_features_of_another_call_raise(fitted, table, path, tmp_path, monkeypatch):
    there = fitted.transform_parquet(path, tmp_path / "to")
    for part in [*there.glob("*.parquet"), there / "_SUCCESS"]:
        part.unlink()
    other = small(random_state=1).fit_parquet(path, columns=COLUMNS)
    embedded = pickle.loads(pickle.dumps(fitted)).set_params(embedding="mean")
    for encoder in (other, embedded):
        with pytest.raises(ValueError, match="different encoder"):
            encoder.transform_parquet(path, there)
    with pytest.raises(ValueError, match="different keep"):
        fitted.transform_parquet(path, there, keep=["id"])
    monkeypatch.setattr(feature_files, "__version__", "999")
    with pytest.raises(ValueError, match="different version"):
        fitted.transform_parquet(path, there)
    monkeypatch.undo()
    pq.write_table(table, path, row_group_size=40)
    with pytest.raises(ValueError, match="different source, parts"):
        fitted.transform_parquet(path, there)
    assert [p.name for p in there.iterdir()] == ["_features.json"]
    assert "encoder" in json.loads((there / "_features.json").read_text())
    with pytest.raises(ValueError, match=r"holds 'rows.parquet', but no features"):
        fitted.transform_parquet(path, tmp_path)


def test_one_partition_has_the_same_features_as_within_all(tmp_path):
    rows = pa.table({"x": np.arange(30) / 7})
    for code in ("12", "13", "A7"):
        (tmp_path / "rows" / f"code={code}").mkdir(parents=True)
        pq.write_table(rows, tmp_path / "rows" / f"code={code}" / "a.parquet")
    encoder = small().fit_parquet(tmp_path / "rows")
    assert Block("categorical", [1]) in encoder.table_.blocks
    whole = pq.read_table(encoder.transform_parquet(tmp_path / "rows", tmp_path / "all"))
    alone = encoder.transform_parquet(tmp_path / "rows" / "code=12", tmp_path / "one")
    assert pq.read_table(alone).equals(whole[:30])


def test_files_of_other_programs_are_not_deleted(fitted, path, tmp_path):
    (tmp_path / "to").mkdir()
    foreign, own = (
        tmp_path / "to" / f"{name}.part" for name in (".film", f".{16 * '0'}.{8 * '0'}")
    )
    for file in (foreign, own):
        file.write_bytes(b"")
        os.utime(file, (0, 0))
    with pytest.raises(ValueError, match=r"to holds '\.film\.part', but no features"):
        fitted.transform_parquet(path, tmp_path / "to")
    foreign.rename(tmp_path / "film")
    fitted.transform_parquet(path, tmp_path / "to")
    assert not own.exists()
    (tmp_path / "film").rename(foreign)
    fitted.transform_parquet(path, tmp_path / "to")
    assert foreign.exists()


def test_features_of_an_empty_table_have_all_columns(fitted, table, path, tmp_path):
    pq.write_table(table[:0], path)
    to = fitted.transform_parquet(path, tmp_path / "to", keep="id")
    written = pq.read_table(to)
    assert written.column_names == ["id", *fitted.get_feature_names_out()]
    assert len(written) == 0


def test_features_cannot_be_written_into_the_source(fitted, table, tmp_path):
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=r"to is in .*, where all \.parquet files are read"):
        fitted.transform_parquet(tmp_path, tmp_path / "to")
    assert not (tmp_path / "to").exists()
    for _ in range(2):
        to = fitted.transform_parquet([tmp_path], tmp_path / "_to")
    assert len(pq.read_table(to)) == len(table)


def test_unseen_levels_warn_once(fitted, mixed, tmp_path):
    mixed.loc[[5, 100], "word"] = "never seen"
    pq.write_table(pa.Table.from_pandas(mixed), tmp_path / "x", row_group_size=30)
    with pytest.warns(UserWarning, match=r"'word' \('never seen'\)") as caught:
        fitted.transform_parquet(tmp_path / "x", tmp_path / "to")
    assert len(caught) == 1
    assert caught[0].filename == __file__


# -- invalid files ---------------------------------------------------------------------------------


def test_invalid_files_raise_and_change_nothing(table, path, tmp_path, monkeypatch):
    encoder = small().fit_parquet(path, **FEW)
    before = dict(vars(encoder))
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no Parquet")
    pq.write_table(pa.table({"age": ["old"] * 9}), tmp_path / "words")
    pq.write_table(pa.table({"age": [*range(98), np.inf, 1.5]}), tmp_path / "infinite")
    for source, columns, error, message in (
        (tmp_path / "not there", None, FileNotFoundError, "not there"),
        (
            pd.DataFrame({"x": [1]}),
            None,
            TypeError,
            "paths of Parquet files; got DataFrame",
        ),
        (tmp_path / "empty", None, FileNotFoundError, r"contains no file that ends in \.parquet"),
        (tmp_path / "text", None, ValueError, "text cannot be read as Parquet"),
        (path, ["age", "height"], ValueError, r"has no column 'height'\. Its columns: \['income'"),
        ([path, tmp_path / "words"], ["age"], ValueError, "must have compatible types.*age"),
        (tmp_path / "infinite", None, ValueError, "'age' must .*; got inf in row 98"),
    ):
        with pytest.raises(error, match=message):
            encoder.fit_parquet(source, columns=columns, buffer_rows=20)
    monkeypatch.setattr(survey, "MAX_LEVELS", 3)
    with pytest.raises(ValueError, match=r"'word' has more than 3 levels.*columns="):
        encoder.fit_parquet(path, columns="word", buffer_rows=20)
    with pytest.raises(ValueError, match="buffer_rows must be an int of at least 10"):
        encoder.fit_parquet(path, buffer_rows=0)
    feature = encoder.get_feature_names_out()[0]
    pq.write_table(table.append_column(feature, table["id"]), path)
    with pytest.raises(ValueError, match=f"the name of a feature; got '{feature}'"):
        encoder.transform_parquet(path, tmp_path / "to", keep=feature)
    with pytest.raises(ValueError, match="fitted to an array, or to columns whose names"):
        small().fit(np.eye(9)).transform_parquet(path, tmp_path / "to")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"cmim-sklearn\[parquet\]"):
        encoder.fit_parquet(path)
    assert vars(encoder).keys() == before.keys()
    assert all(value is before[name] for name, value in vars(encoder).items())


def test_columns_of_several_widths_are_read_as_the_widest(tmp_path):
    n = np.arange(40)
    pq.write_table(pa.table({"n": n, "f": n.astype("float32")}), tmp_path / "a.parquet")
    other = pa.table({"f": pa.nulls(40, pa.float32()), "n": np.where(n % 2, n, np.nan)})
    pq.write_table(other, tmp_path / "b.parquet")
    source = ParquetTable(tmp_path)
    assert source.read().schema == pa.schema([("n", pa.float64()), ("f", pa.float32())])
    encoder = small().fit_parquet(tmp_path, buffer_rows=30)
    assert encoder.transform(source.read()).shape[0] == 80


# -- memory ----------------------------------------------------------------------------------------

PEAK = """
import resource, sys
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from cmim_sklearn import CMIMEncoder
n = int(sys.argv[1])
rng = np.random.default_rng(0)
with pq.ParquetWriter("x.parquet", pa.schema([(f"x{i}", pa.float64()) for i in range(20)])) as to:
    for _ in range(n // 20_000):
        to.write_table(pa.table({f"x{i}": rng.standard_normal(20_000) for i in range(20)}))
encoder = CMIMEncoder(
    max_iter=1, batch_size=5000, hidden_layer_sizes=(8,), n_components=4, random_state=0
)
encoder.fit_parquet("x.parquet", buffer_rows=40_000).transform_parquet("x.parquet", "to")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_rows(tmp_path):
    peaks = []
    for n in (200_000, 600_000):
        (tmp_path / str(n)).mkdir()
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(n)],
            cwd=tmp_path / str(n), capture_output=True, text=True, check=True,
        )  # fmt: skip
        peaks.append(int(done.stdout) / 1024)
    # The additional 400,000 rows take 64 MB, and 32 MB encoded; peaks differ by some 20 MB.
    assert peaks[1] - peaks[0] < 40


# -- Dask ------------------------------------------------------------------------------------------


def test_dask_transforms_each_partition(path, table, tmp_path):
    dd = pytest.importorskip("dask.dataframe")
    encoder = small().fit_parquet(path, columns=COLUMNS).set_output(transform="pandas")
    rows = dd.read_parquet(path, split_row_groups=True)[COLUMNS]
    meta = encoder.transform(rows.head(1))
    features = rows.map_partitions(encoder.transform, meta=meta)
    assert features.npartitions > 1
    computed = features.compute(scheduler="sync")
    expected = encoder.transform(table.to_pandas()[COLUMNS])
    np.testing.assert_allclose(computed, expected, atol=1e-5)
    pd.testing.assert_series_equal(computed.dtypes, meta.dtypes)
    assert computed.index.tolist() == rows.compute(scheduler="sync").index.tolist()
