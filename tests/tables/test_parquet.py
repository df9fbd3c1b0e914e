"""Parquet files as one table: files, order, columns, types."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cmim_sklearn._tables.parquet import ParquetTable

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write(path, row_group_size=None, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def column(source, name="x", **options):
    return ParquetTable(source, **options).read()[name].to_pylist()


def test_files_of_a_folder_are_sorted_by_their_numbers(tmp_path):
    for i in range(12):
        write(tmp_path / f"part.{i}.parquet", x=[i])
    assert column(tmp_path) == list(range(12))


def test_parts_cover_all_rows_with_their_positions(tmp_path):
    write(tmp_path / "a.parquet", x=np.arange(70), row_group_size=30)
    write(tmp_path / "b.parquet", x=np.arange(70, 75))
    table = ParquetTable(tmp_path)
    assert [(g.file, g.first_row, g.n_rows) for g in table.groups] == [
        (0, 0, 30), (0, 30, 30), (0, 60, 10), (1, 70, 5),
    ]  # fmt: skip
    assert table.n_rows == 75
    for group in table.groups:
        for first, part in table.parts(group, max_rows=7):
            assert part["x"].to_pylist() == list(range(first, first + len(part)))
    shuffled = table.shuffled_parts(np.random.default_rng(0))
    seen = [value for _, part in shuffled for value in part["x"].to_pylist()]
    assert sorted(seen) == list(range(75))
    assert table.head()["x"][0].as_py() == 0


def test_folder_names_are_columns(tmp_path):
    write(tmp_path / "year=2020" / "city=New%20York" / "a.parquet", x=[1, 2])
    write(tmp_path / "year=2021" / "city=__HIVE_DEFAULT_PARTITION__" / "a.parquet", x=[3])
    table = ParquetTable(tmp_path)
    assert table.columns == ["x", "year", "city"]
    assert table.schema.types == [pa.int64(), pa.int64(), pa.string()]
    assert table.read().to_pydict() == {
        "x": [1, 2, 3], "year": [2020, 2020, 2021], "city": ["New York", "New York", None],
    }  # fmt: skip
    assert column(tmp_path, "city", columns=["city"]) == ["New York", "New York", None]
    with pytest.raises(
        ValueError, match=r"no column 'month'\. Its columns: \['x', 'year', 'city'\]"
    ):
        ParquetTable(tmp_path, ["x", "month"])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["01", "02", "12"], "int64"), (["-7", "0", "1900"], "int64"), (["007", "008"], "string"),
        (["02138", "10001"], "string"), (["1", "two"], "string"),
        (["__HIVE_DEFAULT_PARTITION__"], "string"), (["9" * 19], "string"),
    ],
)  # fmt: skip
def test_folder_names_are_numbers_if_that_loses_nothing(values, kind, tmp_path):
    for value in values:
        write(tmp_path / f"key={value}" / "a.parquet", x=[1])
    table = ParquetTable(tmp_path)
    assert str(table.schema.field("key").type) == kind
    assert str(ParquetTable(tmp_path, texts=["key"]).schema.field("key").type) == "string"


def test_a_column_from_a_folder_above_the_source_must_be_requested(tmp_path):
    path = write(tmp_path / "key=7" / "a.parquet", x=[1])
    for source in (path, path.parent, [path]):
        assert column(source, "key", columns=["x", "key"]) == [7]
        assert ParquetTable(source).columns == ["x"]


def test_renaming_a_folder_changes_the_stamp(tmp_path):
    write(tmp_path / "key=7" / "a.parquet", x=[1])
    before = ParquetTable(tmp_path).stamp
    assert ParquetTable(tmp_path).stamp == before
    (tmp_path / "key=7").rename(tmp_path / "key=8")
    assert ParquetTable(tmp_path).stamp != before


def test_unusual_names_are_sorted_and_broken_links_raise(tmp_path):
    for name in ("2²3", "a1", "a01"):
        write(tmp_path / f"{name}.parquet", x=[name])
    assert sorted(column(tmp_path)) == sorted(["2²3", "a1", "a01"])
    (tmp_path / "gone.parquet").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="gone"):
        ParquetTable(tmp_path)


def test_links_to_folders_are_read_and_cycles_raise(tmp_path):
    write(tmp_path / "rows" / "key=1" / "a.parquet", x=[1])
    write(tmp_path / "elsewhere" / "a.parquet", x=[2])
    for name in ("key=2", "key=3", "_hidden"):
        (tmp_path / "rows" / name).symlink_to(tmp_path / "elsewhere")
    table = ParquetTable(tmp_path / "rows").read()
    assert table.to_pydict() == {"x": [1, 2, 2], "key": [1, 2, 3]}
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "rows")
    with pytest.raises(ValueError, match="back is a link to a folder that contains it"):
        ParquetTable(tmp_path / "rows")


def test_only_requested_columns_must_be_unique(tmp_path):
    arrays = [pa.array([v]) for v in (1, 2, 3)]
    pq.write_table(pa.Table.from_arrays(arrays, ["a", "b", "b"]), tmp_path / "x")
    assert column(tmp_path / "x", "a", columns="a") == [1]
    with pytest.raises(ValueError, match="x must have unique column names; got 'b' more"):
        ParquetTable(tmp_path / "x", ["b"])


def test_folders_named_like_files_are_folders(tmp_path):
    write(tmp_path / "rows.parquet" / "part-0.parquet", x=[1])
    write(tmp_path / "rows.parquet" / "_hidden" / "part-1.parquet", x=[2])
    assert column(tmp_path) == column(tmp_path / "rows.parquet") == [1]


def test_files_are_not_all_open_at_once(tmp_path):
    resource = pytest.importorskip("resource")
    for i in range(60):
        write(tmp_path / f"{i}.parquet", x=[i])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    n_open = len(list(Path("/dev/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (n_open + 20, limits[1]))
    try:
        assert column(tmp_path) == list(range(60))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_dictionaries_and_strings_together_are_read_as_strings(tmp_path):
    words = pa.array(["a", "b"])
    write(tmp_path / "1.parquet", x=words.dictionary_encode())
    write(tmp_path / "2.parquet", x=words)
    write(tmp_path / "3.parquet", x=pa.nulls(1))
    assert ParquetTable(tmp_path).schema.types == [pa.string()]
    assert column(tmp_path) == ["a", "b", "a", "b", None]
    coded = ParquetTable([tmp_path / "1.parquet", tmp_path / "3.parquet"])
    assert pa.types.is_dictionary(coded.schema.types[0])
    assert coded.read()["x"].to_pylist() == ["a", "b", None]


def test_string_views_are_read_as_large_strings(tmp_path):
    try:
        write(tmp_path / "1.parquet", x=pa.array(["a", "b", None], pa.string_view()))
    except pa.ArrowNotImplementedError:
        pytest.skip("pyarrow cannot write string views")
    write(tmp_path / "2.parquet", x=["c"])
    assert ParquetTable(tmp_path).schema.types == [pa.large_string()]
    assert ParquetTable(tmp_path).read().take([3, 0])["x"].to_pylist() == ["c", "a"]


def test_columns_may_be_any_sequence_of_names(tmp_path):
    path = write(tmp_path / "x", a=[1], b=[2], c=[3])
    for columns in (["c", "a"], ("c", "a"), np.array(["c", "a"])):
        assert ParquetTable(path, columns).columns == ["c", "a"]
    assert ParquetTable(path, "b").columns == ["b"]


@pytest.mark.parametrize(
    ("make", "columns", "message"),
    [
        (lambda to: [], None, "at least one file; got an empty list"),
        (lambda to: write(to / "x", a=[1]), ["a", "a"], "must have unique names; got 'a' more"),
        (lambda to: repeated(to / "x"), None, "x must have unique column names; got 'a' more"),
        (
            lambda to: [write(to / "1", a=[1.5, None]), write(to / "2", a=[2**60 + 1])],
            None,
            r"'a' has type int64 in .*2, which cannot be cast to double.*as strings",
        ),
    ],
)  # fmt: skip
def test_files_that_are_not_one_table_raise(make, columns, message, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        ParquetTable(make(tmp_path), columns).read()


def repeated(path):
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), path)
    return path


def test_a_file_that_changes_while_it_is_read_raises(tmp_path):
    path = write(tmp_path / "x.parquet", x=np.arange(100), row_group_size=10)
    table = ParquetTable(path)
    next(table.parts(table.groups[0]))
    write(tmp_path / "other", x=np.arange(100) + 1000, row_group_size=10)
    shutil.copyfile(tmp_path / "other", path)
    with pytest.raises(ValueError, match=r"x\.parquet changed while it was being read"):
        next(table.parts(table.groups[1]))
