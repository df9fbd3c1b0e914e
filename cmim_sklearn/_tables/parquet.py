"""Parquet files read as one table, one part of the rows at a time."""

import os
import re
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from cmim_sklearn._tables.read import MIN_PART_ROWS, PART_CELLS
from cmim_sklearn._utils.messages import listed

OPEN_GROUPS = 4
"""Number of row groups that a shuffled pass reads together, to mix the rows of a sorted file."""
KEPT_FOOTERS = 64
HIDDEN = (".", "_")
"""First characters of the names of files and folders that are skipped."""
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Group:
    """Row group of a file, with its position in the table."""

    file: int
    index: int
    first_row: int
    n_rows: int


class ParquetTable:
    """Table of the rows of Parquet files, read in parts and by column.

    Parameters
    ----------
    source : str or path-like, or list of them
        Files or directories. A directory means all ``*.parquet`` files in it and its
        subdirectories, including linked ones, sorted by name with numbers in numeric order. Folder
        names of the form ``year=2020`` are columns: integers if all values are whole numbers
        (including the months 01 to 12), otherwise strings.
    columns : list of str, default=None
        Names of the columns to read; all columns by default, except a pandas row index. A column
        named here may also come from the name of a folder that contains the source.
    texts : collection of str, default=()
        Columns from folder names that are always read as strings.

    Attributes
    ----------
    files : list of Path
    columns : list of str
    schema : pyarrow.Schema
        Schema of the columns, with types that hold the values of all files.
    groups : list of Group
        Row groups with at least one row.
    n_rows : int
    stamp : list of [name, size, modification time, values of folder names]
        One entry per file, by which an unchanged table is recognised.
    """

    def __init__(self, source, columns=None, texts=()):
        pa, self._pq = _pyarrow()
        requested = None if columns is None else as_names(columns)
        _check_unique(requested or [], "columns must have unique names; got")
        found = _find(source, requested or [])
        self.files = [path for path, _ in found]
        self._stamps = [_stamp(path) for path in self.files]
        self.stamp = [[*one, of] for one, (_, of) in zip(self._stamps, found, strict=True)]
        self._folders = _typed([of_file for _, of_file in found], texts)
        self._footer = lru_cache(KEPT_FOOTERS)(lambda f: self._pq.read_metadata(self.files[f]))
        schemas, self.groups, self.n_rows = [], [], 0
        for f, folders in enumerate(self._folders):
            with self._open(f) as file:
                schema, metadata = file.schema_arrow, file.metadata
                n_rows = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
            present = set(schema.names)
            wanted = present if requested is None else present.intersection(requested)
            names = [name for name in schema.names if name in wanted]
            _check_unique(names, f"{self.files[f]} must have unique column names; got")
            for name, value in folders.items():
                if name not in present:
                    schema = schema.append(pa.field(name, value.type))
            schemas.append(schema)
            for g, n in enumerate(n_rows):
                if n:
                    self.groups.append(Group(f, g, self.n_rows, n))
                self.n_rows += n
        self.columns = _without_index(schemas[0]) if requested is None else requested
        for path, schema in zip(self.files, schemas, strict=True):
            present = set(schema.names)
            missing = [name for name in self.columns if name not in present]
            if missing:
                raise ValueError(
                    f"{path} has no column {missing[0]!r}. Its columns: [{listed(schema.names)}]."
                )
        try:
            plain = _without_mixed_codes([[s.field(n) for n in self.columns] for s in schemas])
            self.schema = pa.unify_schemas(plain, promote_options="permissive")
        except pa.ArrowException as error:
            raise ValueError(
                f"Columns of the files must have compatible types: {error}. Write each column with "
                "one type in all files."
            ) from error

    def _open(self, f):
        path = self.files[f]
        if _stamp(path) != self._stamps[f]:
            raise ValueError(
                f"{path} changed while it was being read. Call again, and do not modify the files "
                "until the call has ended."
            )
        with _file_errors(path):
            # A buffer without pre-buffering: otherwise a whole row group is held in memory.
            options = {"buffer_size": 2**16, "pre_buffer": False}
            return self._pq.ParquetFile(path, metadata=self._footer(f), **options)

    def parts(self, group, max_rows=None):
        """Yield the parts of a row group in order: position of the first row, pyarrow Table."""
        import pyarrow as pa

        first, folders = group.first_row, self._folders[group.file]
        max_rows = max_rows or max(MIN_PART_ROWS, PART_CELLS // max(1, len(self.columns)))
        with self._open(group.file) as file:
            names = set(file.schema_arrow.names)
            stored = [name for name in self.columns if name in names]
            batches = file.iter_batches(max_rows, row_groups=[group.index], columns=stored)
            for batch in _with_file_errors(batches, self.files[group.file]):
                part = pa.Table.from_batches([batch])
                for name in self.columns:
                    if name not in stored:
                        part = part.append_column(name, pa.repeat(folders[name], len(batch)))
                yield first, self._as_schema(part.select(self.columns), group.file)
                first += len(part)

    def _as_schema(self, part, f):
        import pyarrow as pa

        try:
            return part.cast(self.schema)
        except pa.ArrowException:
            for name in self.columns:  # the error does not name the column
                try:
                    part[name].cast(self.schema.field(name).type)
                except pa.ArrowException as error:
                    raise ValueError(
                        f"Column {name!r} has type {part[name].type} in {self.files[f]}, which "
                        f"cannot be cast to {self.schema.field(name).type}, the common type of "
                        f"all files: {error}. Write the column with one type, for example as "
                        "strings if it holds identifiers."
                    ) from error
            raise

    def head(self):
        """First part of a table that has rows."""
        with closing(self.parts(self.groups[0])) as parts:
            return next(parts)[1]

    def shuffled_parts(self, rng):
        """Yield the parts of all row groups in random order, from a few row groups at a time."""
        waiting, opened = list(rng.permutation(len(self.groups))), []
        while waiting or opened:
            while waiting and len(opened) < OPEN_GROUPS:
                opened.append(self.parts(self.groups[waiting.pop()]))
            i = int(rng.integers(len(opened)))
            part = next(opened[i], None)
            if part is None:
                opened.pop(i)
            else:
                yield part

    def read(self):
        """Read all rows as a pyarrow Table."""
        import pyarrow as pa

        parts = [part for group in self.groups for _, part in self.parts(group)]
        return pa.concat_tables(parts) if parts else self.schema.empty_table()


def _pyarrow():
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "Reading Parquet files needs pyarrow. Install it with "
            'pip install "cmim-sklearn[parquet]".'
        ) from error
    return pyarrow, pyarrow.parquet


@contextmanager
def _file_errors(path):
    """Add the path to errors in the content of a file."""
    try:
        yield
    except (ValueError, OSError) as error:  # pyarrow's ArrowInvalid is a ValueError
        if getattr(error, "errno", None) is not None:  # from the file system
            raise
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from error


def _with_file_errors(batches, path):
    with _file_errors(path):
        yield from batches


def as_names(columns):
    """List of column names, from None, one name or several."""
    if columns is None:
        return []
    return [columns] if isinstance(columns, str) else list(columns)


def is_read(path, folder):
    """Whether a file with this path is read as a part of a folder."""
    inside = path.relative_to(folder).parts
    return path.suffix == ".parquet" and not any(part.startswith(HIDDEN) for part in inside)


def _find(source, requested):
    """Files of a source, each with the values of its folder names."""
    if hasattr(source, "columns"):
        raise TypeError(
            f"The source must be paths of Parquet files; got {type(source).__name__}. Use fit and "
            "transform for tables in memory."
        )
    if not isinstance(source, str | os.PathLike):
        found = [file for one in source for file in _find(one, requested)]
        if not found:
            raise FileNotFoundError("The source must have at least one file; got an empty list.")
        return found
    path = Path(source)
    above = _folder_names(path.absolute().parts if path.is_dir() else path.absolute().parts[:-1])
    above = {name: value for name, value in above.items() if name in requested}
    if not path.is_dir():
        return [(path, above)]
    files = sorted(_files_in(path), key=_by_number)
    if not files:
        raise FileNotFoundError(f"{path} contains no file that ends in .parquet.")
    return [(file, above | _folder_names(file.relative_to(path).parts[:-1])) for file in files]


def _files_in(folder, above=()):
    """Yield the files of a folder, including those that cannot be read and broken links."""
    # rglob would skip links to folders, and folders without read permission.
    within = (*above, folder.resolve())
    if within[-1] in above:
        raise ValueError(f"{folder} is a link to a folder that contains it. Remove the link.")
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith(HIDDEN):
            yield from _files_in(path, within)
        elif is_read(path, folder) and not path.is_dir():
            yield path


def _by_number(path):
    """Sort key: part.10 comes after part.2, as in Dask."""
    pieces = re.split(r"(\d+)", str(path))  # every second piece is a number
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], str(path)


def _folder_names(parts):
    """Names and values of folders named ``name=value``."""
    pairs = [part.split("=", 1) for part in parts if "=" in part]
    return {unquote(name): unquote(value) for name, value in pairs}


def _typed(folders, texts):
    """Values of folder names as pyarrow scalars: integers if all values of a name are."""
    import pyarrow as pa

    names = {name for of_file in folders for name in of_file}
    types = {}
    for name in names:
        values = {of_file[name] for of_file in folders if name in of_file} - {HIVE_NULL}
        # 007 is an identifier; 01 may be a month.
        are_whole = all(re.fullmatch(r"\d\d|0|-?[1-9]\d{0,17}", value) for value in values)
        is_number = values and are_whole and name not in texts
        types[name] = (int, pa.int64()) if is_number else (str, pa.string())
    return [
        {
            name: pa.scalar(None if value == HIVE_NULL else types[name][0](value), types[name][1])
            for name, value in of_file.items()
        }
        for of_file in folders
    ]


def _stamp(path):
    stat = path.stat()
    return [path.name, stat.st_size, stat.st_mtime_ns]


def _check_unique(names, where):
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"{where} {repeated[0]!r} more than once. Rename the columns.")


def _without_mixed_codes(fields):
    """Schemas of files, in which a column is a dictionary only if it is one in all files.

    String views become large strings: Arrow cannot take rows of views.
    """
    import pyarrow as pa

    is_coded = pa.types.is_dictionary
    for c in range(len(fields[0])):
        for of_file in fields:
            if str(of_file[c].type) == "string_view":
                of_file[c] = of_file[c].with_type(pa.large_string())
        types = [of_file[c].type for of_file in fields]
        if any(map(is_coded, types)) and not all(is_coded(t) or pa.types.is_null(t) for t in types):
            for of_file, kind in zip(fields, types, strict=True):
                if is_coded(kind):
                    of_file[c] = of_file[c].with_type(kind.value_type)
    return [pa.schema(of_file) for of_file in fields]


def _without_index(schema):
    pandas = schema.pandas_metadata or {}
    index = [name for name in pandas.get("index_columns", []) if isinstance(name, str)]
    return [name for name in schema.names if name not in index]
