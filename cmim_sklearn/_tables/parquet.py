"""Parquet files as one table, read a part of its rows at a time."""

import os
import re
from collections import Counter
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from cmim_sklearn._tables.read import MIN_PART_ROWS, PART_CELLS

OPEN_GROUPS = 4
"""Row groups that a shuffled pass reads side by side, so that a sorted file is mixed further."""
KEPT_FOOTERS = 64
HIDDEN = (".", "_")
"""How names of files and folders begin that are passed over."""
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Group:
    """One row group of one file, and where it stands in the table."""

    file: int
    index: int
    first_row: int
    n_rows: int


class ParquetTable:
    """The rows of Parquet files, one below the other; read in parts, and some columns alone.

    Parameters
    ----------
    source : str or path-like, or list of them
        Files; a directory stands for the ``*.parquet`` in and below it, also behind links, by
        name, the numbers in names by their size. What names of folders in it say, as
        ``year=2020``, are columns: of whole numbers where all are written as such, the months 01
        to 12 included.
    columns : list of str, default=None
        All by default, but for the row index of a pandas frame. Asked for by name, a column may
        also be in the name of a folder that the source is in.
    texts : collection of str, default=()
        Columns that are text, whatever the names of folders look like.

    Attributes
    ----------
    files : list of Path
    columns : list of str
    schema : pyarrow.Schema
        Of the columns, as wide as all files need.
    groups : list of Group
        Those that have rows.
    n_rows : int
    stamp : list of [name, size, time of change, what folders say]
        By which a table is told from another, and from itself once it was rewritten.
    """

    def __init__(self, source, columns=None, texts=()):
        pa, self._pq = _pyarrow()
        asked = None if columns is None else as_names(columns)
        _refuse_doubles(asked or [], "columns names")
        found = _find(source, asked or [])
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
            there = set(schema.names)
            wanted = there if asked is None else there.intersection(asked)
            names = [name for name in schema.names if name in wanted]
            _refuse_doubles(names, f"{self.files[f]} has column")
            for name, value in folders.items():
                if name not in there:
                    schema = schema.append(pa.field(name, value.type))
            schemas.append(schema)
            for g, n in enumerate(n_rows):
                if n:
                    self.groups.append(Group(f, g, self.n_rows, n))
                self.n_rows += n
        self.columns = _without_index(schemas[0]) if asked is None else asked
        for path, schema in zip(self.files, schemas, strict=True):
            there = set(schema.names)
            lacking = [name for name in self.columns if name not in there]
            if lacking:
                raise ValueError(f"{path} lacks column {lacking[0]!r}. It has: {schema.names}.")
        try:
            alike = _alike([[s.field(name) for name in self.columns] for s in schemas])
            self.schema = pa.unify_schemas(alike, promote_options="permissive")
        except pa.ArrowException as error:
            raise ValueError(f"The files' columns do not fit together: {error}") from error

    def _open(self, f):
        path = self.files[f]
        if _stamp(path) != self._stamps[f]:
            raise ValueError(
                f"{path} was changed while it was being read. Leave the files as they are until "
                "the call has ended, and call again."
            )
        with _reading(path):
            # Through a buffer, and none before it: a row group would else be held whole.
            options = {"buffer_size": 2**16, "pre_buffer": False}
            return self._pq.ParquetFile(path, metadata=self._footer(f), **options)

    def parts(self, group, max_rows=None):
        """Pairs of the first row's position and a pyarrow Table, of a row group in its order."""
        import pyarrow as pa

        first, folders = group.first_row, self._folders[group.file]
        max_rows = max_rows or max(MIN_PART_ROWS, PART_CELLS // max(1, len(self.columns)))
        with self._open(group.file) as file:
            names = set(file.schema_arrow.names)
            there = [name for name in self.columns if name in names]
            batches = file.iter_batches(max_rows, row_groups=[group.index], columns=there)
            for batch in _each(batches, self.files[group.file]):
                part = pa.Table.from_batches([batch])
                for name in self.columns:
                    if name not in there:
                        part = part.append_column(name, pa.repeat(folders[name], len(batch)))
                yield first, self._as_schema(part.select(self.columns), group.file)
                first += len(part)

    def _as_schema(self, part, f):
        import pyarrow as pa

        try:
            return part.cast(self.schema)
        except pa.ArrowException:
            for name in self.columns:  # which of them it was, nobody says
                try:
                    part[name].cast(self.schema.field(name).type)
                except pa.ArrowException as error:
                    raise ValueError(
                        f"{self.files[f]} has column {name!r} as {part[name].type}, other files "
                        f"in a way that makes it {self.schema.field(name).type} in all: {error}. "
                        "Write it with one type, as a string for instance if it is a name."
                    ) from error
            raise

    def head(self):
        """Some of the first rows; the table has some."""
        with closing(self.parts(self.groups[0])) as parts:
            return next(parts)[1]

    def shuffled_parts(self, rng):
        """The parts of all row groups, some of these at a time, in an order drawn from rng."""
        waiting, side_by_side = list(rng.permutation(len(self.groups))), []
        while waiting or side_by_side:
            while waiting and len(side_by_side) < OPEN_GROUPS:
                side_by_side.append(self.parts(self.groups[waiting.pop()]))
            i = int(rng.integers(len(side_by_side)))
            part = next(side_by_side[i], None)
            if part is None:
                side_by_side.pop(i)
            else:
                yield part

    def read(self):
        """All rows, a pyarrow Table."""
        import pyarrow as pa

        parts = [part for group in self.groups for _, part in self.parts(group)]
        return pa.concat_tables(parts) if parts else self.schema.empty_table()


def _pyarrow():
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            'Parquet files are read by pyarrow: pip install "cmim-sklearn[parquet]".'
        ) from error
    return pyarrow, pyarrow.parquet


@contextmanager
def _reading(path):
    """Name the file whose content is at fault."""
    try:
        yield
    except (ValueError, OSError) as error:  # pyarrow's ArrowInvalid is a ValueError
        if getattr(error, "errno", None) is not None:  # of the file system
            raise
        raise ValueError(f"{path} cannot be read as Parquet: {error}") from error


def _each(batches, path):
    with _reading(path):
        yield from batches


def as_names(columns):
    """Names of columns as a list: of none, of one or of several."""
    if columns is None:
        return []
    return [columns] if isinstance(columns, str) else list(columns)


def is_read(path, folder):
    """Whether a file of such a path would be among those that a folder stands for."""
    inside = path.relative_to(folder).parts
    return path.suffix == ".parquet" and not any(part.startswith(HIDDEN) for part in inside)


def _find(source, asked):
    """The files that a source stands for, each with what the names of folders say of its rows."""
    if hasattr(source, "columns"):
        raise TypeError(
            f"A {type(source).__name__} came; expected paths of Parquet files. A table in memory "
            "goes into fit and transform."
        )
    if not isinstance(source, str | os.PathLike):
        found = [file for one in source for file in _find(one, asked)]
        if not found:
            raise FileNotFoundError("The list of Parquet files is empty.")
        return found
    path = Path(source)
    above = _folder_names(path.absolute().parts if path.is_dir() else path.absolute().parts[:-1])
    above = {name: value for name, value in above.items() if name in asked}
    if not path.is_dir():
        return [(path, above)]
    files = sorted(_files_in(path), key=_by_number)
    if not files:
        raise FileNotFoundError(f"{path} holds no file that ends in .parquet.")
    return [(file, above | _folder_names(file.relative_to(path).parts[:-1])) for file in files]


def _files_in(folder, above=()):
    """The files that a folder stands for; what cannot be read or leads nowhere is no file less."""
    # Not by rglob, which passes over links to folders, and over folders that may not be read.
    within = (*above, folder.resolve())
    if within[-1] in above:
        raise ValueError(f"{folder} is a link to a folder that it is in. Remove it.")
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith(HIDDEN):
            yield from _files_in(path, within)
        elif is_read(path, folder) and not path.is_dir():
            yield path


def _by_number(path):
    """A key to sort by: part.10 comes after part.2, as in Dask."""
    pieces = re.split(r"(\d+)", str(path))  # every other one is a number
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], str(path)


def _folder_names(parts):
    """Names and values of folders that are called ``name=value``."""
    pairs = [part.split("=", 1) for part in parts if "=" in part]
    return {unquote(name): unquote(value) for name, value in pairs}


def _typed(folders, texts):
    """Values of folders' names as pyarrow scalars: whole numbers where all of a name are."""
    import pyarrow as pa

    names = {name for of_file in folders for name in of_file}
    types = {}
    for name in names:
        values = {of_file[name] for of_file in folders if name in of_file} - {HIVE_NULL}
        # 007 is a name; 01 may be a month.
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


def _refuse_doubles(names, where):
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise ValueError(f"{where} {doubled[0]!r} twice. Give each column a name of its own.")


def _alike(fields):
    """Schemas of files' fields; a dictionary is plain where another file has the column so.

    Views of strings are large strings: Arrow cannot take rows of them.
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
