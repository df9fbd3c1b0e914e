"""Tables beyond memory: fitted and embedded from Parquet files, a part of their rows at a time."""

import hashlib
import json
import os
import secrets
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from pathlib import Path

import numpy as np
import torch

from cmim_sklearn.archive import write_bytes
from cmim_sklearn.batches import StreamedTable
from cmim_sklearn.fitting import Rows, check_warm, draw_seed, goes_on, measured, train_on_rows
from cmim_sklearn.frames import MIN_PART_ROWS, PART_CELLS, read
from cmim_sklearn.hashing import hash_of
from cmim_sklearn.table import choose_kinds, warn_of_unseen

OPEN_GROUPS = 4
"""Row groups that a shuffled pass reads side by side, so that a sorted file is mixed further."""
MIN_BUFFER_ROWS, KEPT_ROWS = 10, 20_000
MAX_LEVELS = 2**20
FEATURE_CELLS = 2**22
"""Features that are written at a time, 16 MB, but at least `MIN_PART_ROWS` rows."""
MANIFEST = "_features.json"  # readers of Parquet folders pass over names that begin so


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
        Files; a directory stands for the ``*.parquet`` in and below it, by name.
    columns : list of str, default=None
        All by default, but for the row index of a pandas frame.

    Attributes
    ----------
    files : list of Path
    columns : list of str
    schema : pyarrow.Schema
        Of the columns, as wide as all files need.
    groups : list of Group
        Those that have rows.
    n_rows : int
    """

    def __init__(self, source, columns=None):
        pa, self._pq = _pyarrow()
        self.files = _find(source)
        opened = [self._open(file) for file in self.files]
        schemas = [file.schema_arrow for file in opened]
        self._metadata = [file.metadata for file in opened]
        for file in opened:
            file.close()
        self.columns = _without_index(schemas[0]) if columns is None else as_names(columns)
        for path, schema in zip(self.files, schemas, strict=True):
            lacking = [name for name in self.columns if name not in schema.names]
            if lacking:
                raise ValueError(f"{path} lacks column {lacking[0]!r}. It has: {schema.names}.")
        wanted = [pa.schema([s.field(name) for name in self.columns]) for s in schemas]
        try:
            self.schema = pa.unify_schemas(wanted, promote_options="permissive")
        except pa.ArrowException as error:
            raise ValueError(f"The files' columns do not fit together: {error}") from error
        self.groups, self.n_rows = [], 0
        for f, metadata in enumerate(self._metadata):
            for g in range(metadata.num_row_groups):
                n_rows = metadata.row_group(g).num_rows
                if n_rows:
                    self.groups.append(Group(f, g, self.n_rows, n_rows))
                self.n_rows += n_rows

    def _open(self, path, metadata=None):
        try:
            # Through a buffer, and none before it: a row group would else be held whole.
            return self._pq.ParquetFile(
                path, metadata=metadata, buffer_size=2**16, pre_buffer=False
            )
        except ValueError as error:  # pyarrow's ArrowInvalid is one
            raise ValueError(f"{path} cannot be read as Parquet: {error}") from error

    def parts(self, group, max_rows=None):
        """Pairs of the first row's position and a pyarrow Table, of a row group in its order."""
        import pyarrow as pa

        first = group.first_row
        max_rows = max_rows or max(MIN_PART_ROWS, PART_CELLS // max(1, len(self.columns)))
        with self._open(self.files[group.file], self._metadata[group.file]) as file:
            options = {"row_groups": [group.index], "columns": self.columns}
            for batch in file.iter_batches(max_rows, **options):
                part = pa.Table.from_batches([batch]).select(self.columns).cast(self.schema)
                yield first, part
                first += len(part)

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

    def stamp(self):
        """By which a table is told from another, and from itself once it was rewritten."""
        stats = [file.stat() for file in self.files]
        files = zip(self.files, stats, strict=True)
        return [[file.name, stat.st_size, stat.st_mtime_ns] for file, stat in files]


def _pyarrow():
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            'Parquet files are read by pyarrow: pip install "cmim-sklearn[parquet]".'
        ) from error
    return pyarrow, pyarrow.parquet


def as_names(columns):
    """Names of columns as a list: of none, of one or of several."""
    return [columns] if isinstance(columns, str) else list(columns or [])


def _find(source):
    """The files that a source stands for."""
    if not isinstance(source, str | os.PathLike):
        return [file for one in source for file in _find(one)]
    path = Path(source)
    if not path.is_dir():
        return [path]
    files = sorted(
        file
        for file in path.rglob("*.parquet")
        if not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
    )
    if not files:
        raise FileNotFoundError(f"{path} holds no file that ends in .parquet.")
    return files


def _without_index(schema):
    pandas = schema.pandas_metadata or {}
    index = [name for name in pandas.get("index_columns", []) if isinstance(name, str)]
    return [name for name in schema.names if name not in index]


# -- fit -------------------------------------------------------------------------------------------


def check_buffer(buffer_rows):
    """Raise where no rows, or hardly any, would be held at a time."""
    is_int = isinstance(buffer_rows, Integral) and not isinstance(buffer_rows, bool)
    if not is_int or buffer_rows < MIN_BUFFER_ROWS:
        raise ValueError(
            f"buffer_rows must be an int of at least {MIN_BUFFER_ROWS}. Got {buffer_rows!r} "
            "instead."
        )


def fit_on_parquet(encoder, source: ParquetTable, X_val, buffer_rows):
    """Learn the columns in one pass, and train in others; see `_LatentEncoder.fit_parquet`."""
    warm, seed = goes_on(encoder), draw_seed(encoder)
    check_warm(encoder)
    positions, sample, seen = _survey(encoder, source, buffer_rows, seed)
    frame = encoder._read(sample, reset=not warm, min_rows=2)
    table = encoder.table_ if warm else encoder._fit_table(_with_seen(frame, seen))
    encoder._check_table(table, frame)
    kept, left_out, held_out = _divided(encoder, table, frame, X_val, positions, source, seed)
    # As many as are looked at after training, and some; the others would be held to its end.
    some = np.sort(np.random.RandomState(seed).permutation(kept)[:KEPT_ROWS])
    frame, sample = frame.take(some), sample.take(some)
    encoded, unseen = table.encode(frame, {}), {}
    data = StreamedTable(
        source.n_rows - len(left_out),
        partial(_encoded_parts, source, table, left_out, unseen),
        buffer_rows,
        {
            "groups": torch.tensor([group.n_rows for group in source.groups]),
            "some": torch.from_numpy(encoded),
        },
    )
    rows = Rows(data, encoded, partial(measured, table, frame, np.arange(len(some))), held_out)
    train_on_rows(encoder, table, rows, seed, sample)
    warn_of_unseen(unseen, stacklevel=5)


def _divided(encoder, table, frame, X_val, positions, source, seed):
    """Rows of a sample to train on, positions in the source of no such, encoded rows to watch."""
    rows, none = np.arange(frame.n_rows), positions[:0]
    if X_val is not None:
        X_val = encoder._read(X_val, reset=False, min_rows=encoder._min_held_out, table=table)
        return rows, none, table.encode(X_val)
    if not encoder.early_stopping:
        return rows, none, None
    share = round(encoder.validation_fraction * source.n_rows)
    n = max(encoder._min_held_out, min(share, frame.n_rows // 2))
    order = np.random.RandomState(seed).permutation(frame.n_rows)
    return np.sort(order[n:]), np.sort(positions[order[:n]]), table.encode(frame.take(order[:n]))


def _encoded_parts(source, table, left_out, unseen, seed):
    """All rows but those at some sorted positions, encoded, in an order of the seed."""
    for first, part in source.shuffled_parts(np.random.default_rng(seed)):
        encoded = table.encode(read(part, table.types, first), unseen)
        ends = np.searchsorted(left_out, [first, first + len(encoded)])
        encoded = np.delete(encoded, left_out[slice(*ends)] - first, axis=0)
        yield torch.from_numpy(encoded)


def _survey(encoder, source, n_sample, seed):
    """One pass: sorted positions of a uniform sample, its rows, and `Seen` of each column."""
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    n_sample = min(n_sample, source.n_rows)
    positions = np.sort(rng.choice(source.n_rows, n_sample, replace=False, shuffle=False))
    sample, seen = [], None
    for group in source.groups:
        for first, part in source.parts(group):
            frame = read(part, first_row=first)
            if seen is None:
                likelihoods = getattr(encoder, "likelihoods", None)
                kinds = choose_kinds(frame, encoder.categorical_features, likelihoods)
                seen = [Seen(frame.name(p), k == "categorical") for p, k in enumerate(kinds)]
            for values, column in zip(frame.columns, seen, strict=True):
                column.add(values)
            ends = np.searchsorted(positions, [first, first + len(part)])
            sample.append(part.take(positions[slice(*ends)] - first))
            if len(sample) == 64:  # each with a dictionary of its own, where levels are coded
                sample = [pa.concat_tables(sample).unify_dictionaries()]
    return positions, pa.concat_tables(sample), seen


class Seen:
    """Values of a column that decide what it is, whether or not a sample has them.

    These are all levels of categories; of numbers the lowest and the highest, and whether there are
    more than two.

    Parameters
    ----------
    name : str
        For messages.
    has_levels : bool
        Whether the column is one of categories, whatever its values are.
    """

    def __init__(self, name, has_levels):
        self.name, self.has_levels = name, has_levels
        self.distinct, self.range = set(), []

    def add(self, values):
        """Look at some of the column's values (m,), as `read` gives them."""
        if values.dtype == object:
            self.distinct.update(values.tolist())
            self.distinct.discard(None)
        else:
            observed = values[~np.isnan(values)]
            if len(observed):
                ends = [*self.range, observed.min(), observed.max()]
                self.range = [min(ends), max(ends)]
            if self.has_levels or len(self.distinct) <= 2:
                self.distinct.update(np.unique(observed).tolist())
            if not self.has_levels:
                self.distinct = set(sorted(self.distinct)[:3])
        if len(self.distinct) > MAX_LEVELS:
            raise ValueError(
                f"Column {self.name!r} has more than {MAX_LEVELS} levels, as an id has. Leave it "
                "out: columns=[...]."
            )

    def joined(self, values):
        """A sample of the column with those values at its end that it lacks."""
        if values.dtype == object:
            lacking = self.distinct.difference(values.tolist())
            joined = np.empty(len(values) + len(lacking), dtype=object)
            joined[:] = [*values, *sorted(lacking)]
            return joined
        lacking = self.distinct.union(self.range).difference(np.unique(values).tolist())
        return np.concatenate([values, sorted(lacking)])


def _with_seen(frame, seen):
    """A frame to learn columns from: no longer of rows, as some columns have more values."""
    pairs = zip(frame.columns, seen, strict=True)
    return replace(frame, columns=[column.joined(values) for values, column in pairs])


# -- transform -------------------------------------------------------------------------------------


def write_features(encoder, source, destination, keep):
    """Embed row group by row group; see `_LatentEncoder.transform_parquet`."""
    if not hasattr(encoder, "feature_names_in_"):
        raise ValueError(
            f"This {type(encoder).__name__} was fitted on an array, whose columns have no names "
            "to be found by. Fit it on a frame, or by fit_parquet."
        )
    names, keep = list(encoder.feature_names_in_), as_names(keep)
    features = encoder.get_feature_names_out().tolist()
    doubled = sorted(set(keep) & set(features))
    if doubled:
        raise ValueError(f"keep names {doubled[0]!r}, which is the name of a feature, too.")
    source = ParquetTable(source, [*names, *(name for name in keep if name not in names)])
    destination = Path(destination)
    _begin(
        destination,
        {
            "encoder": _fingerprint(encoder),
            "source": source.stamp(),
            "keep": keep,
            "parts": len(source.groups),
        },
    )
    unseen = {}
    for i, group in enumerate(source.groups):
        path = destination / f"part-{i:06d}.parquet"
        if not path.exists():
            _write_part(encoder, source, group, path, names, features, keep, unseen)
    warn_of_unseen(unseen)
    return destination


def _begin(destination, task):
    """Make the directory, or make sure that it is of the same task."""
    path = destination / MANIFEST
    destination.mkdir(parents=True, exist_ok=True)
    for part in destination.glob(f".{'[0-9a-f]' * 16}*.part"):  # of one killed as it wrote
        part.unlink(missing_ok=True)
    if not path.exists():
        found = next(destination.iterdir(), None)
        if found is not None:
            raise ValueError(
                f"{destination} holds {found.name!r}, but no features of an earlier call. Give "
                "the name of a directory that is empty, or not there yet."
            )
        write_bytes(path, json.dumps(task).encode())
    before = json.loads(path.read_bytes())
    others = [name for name, value in task.items() if before.get(name) != value]
    if others:
        raise ValueError(
            f"{destination} holds features of another call: not the same {', '.join(others)}. "
            "Give another directory, or delete this one."
        )


def _write_part(encoder, source, group, path, names, features, keep, unseen):
    """Write the features of one row group to a file, whole or not at all."""
    pa, pq = _pyarrow()
    kept = [source.schema.field(name) for name in keep]
    schema = pa.schema([*kept, *(pa.field(name, pa.float32()) for name in features)])
    max_rows = max(MIN_PART_ROWS, min(PART_CELLS // len(names), FEATURE_CELLS // len(features)))
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with open(temporary, "xb") as file:
            # Numbers that never repeat gain nothing from a dictionary.
            with pq.ParquetWriter(file, schema, use_dictionary=keep) as writer:
                for first, part in source.parts(group, max_rows):
                    frame = read(part.select(names), encoder.table_.types, first)
                    Z = encoder._embed(len(part), [frame], unseen)
                    columns = [*part.select(keep).columns, *map(pa.array, np.array(Z.T, order="C"))]
                    writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _fingerprint(encoder):
    """A hash of all that decides the features of an encoder."""
    state = encoder.__getstate__()
    name = encoder._embedding
    parts = [type(encoder).__name__, name, state["table_"], state["_scales"][name]]
    told = json.dumps(parts, default=lambda array: array.tolist())
    return hashlib.sha256(f"{told} {hash_of(state['_net']['weights'])}".encode()).hexdigest()
