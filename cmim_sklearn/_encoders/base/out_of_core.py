"""Tables beyond memory: fitted and embedded from Parquet files, a part of their rows at a time."""

import hashlib
import json
import os
import warnings
from dataclasses import replace
from functools import partial
from numbers import Integral
from pathlib import Path

import numpy as np
import torch

from cmim_sklearn._encoders.base.fit import (
    Rows,
    check_warm,
    draw_seed,
    encoded_to_watch,
    goes_on,
    measured,
    told_of_held_out,
    train_on_rows,
)
from cmim_sklearn._likelihoods.summary import ColumnSummary
from cmim_sklearn._tables.parquet import ParquetTable, as_names, is_read
from cmim_sklearn._tables.read import CATEGORY, MIN_PART_ROWS, PART_CELLS, read
from cmim_sklearn._tables.schema import choose_kinds, warn_of_unseen
from cmim_sklearn._training.batches import StreamedTable
from cmim_sklearn._utils.archive import clear_parts_in, parts_in, replacing, write_bytes
from cmim_sklearn._utils.hashing import hash_of
from cmim_sklearn._version import __version__

MIN_BUFFER_ROWS, KEPT_ROWS = 10, 20_000
MAX_LEVELS = 2**20
FEATURE_CELLS = 2**22
"""Features that are written at a time, 16 MB, but at least `MIN_PART_ROWS` rows."""
MANIFEST, COMPLETE = "_features.json", "_SUCCESS"
"""What was asked for, and that all is there: readers of folders pass over such names."""


# -- fit -------------------------------------------------------------------------------------------


def check_buffer(buffer_rows):
    """Raise where no rows, or hardly any, would be held at a time."""
    is_int = isinstance(buffer_rows, Integral) and not isinstance(buffer_rows, bool)
    if not is_int or buffer_rows < MIN_BUFFER_ROWS:
        raise ValueError(
            f"buffer_rows must be an int of at least {MIN_BUFFER_ROWS}. Got {buffer_rows!r} "
            "instead."
        )


def open_table(encoder, source, columns):
    """The table of a fit; where the fit goes on, columns that were text are text."""
    return ParquetTable(source, columns, _texts_of(encoder) if goes_on(encoder) else ())


def _texts_of(encoder):
    """Names of an encoder's columns that hold categories."""
    names = getattr(encoder, "feature_names_in_", [])
    return [
        name for name, kind in zip(names, encoder.table_.types, strict=False) if kind == CATEGORY
    ]


def fit_on_parquet(encoder, source: ParquetTable, X_val, buffer_rows):
    """Learn the columns in one pass, and train in others; see `_LatentEncoder.fit_parquet`."""
    warm, seed = goes_on(encoder), draw_seed(encoder)
    check_warm(encoder)
    _check_early(encoder, source, X_val, warm)
    positions, sample, summaries, content = _survey(encoder, source, buffer_rows, seed)
    frame = encoder._read(sample, reset=not warm, min_rows=2)
    table = encoder.table_ if warm else encoder._fit_table(_with_ends(frame, summaries), summaries)
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
            "content": torch.frombuffer(bytearray(content), dtype=torch.uint8),
            "buffer_rows": torch.tensor(buffer_rows),  # by which rows are mixed, and sampled
        },
    )
    rows = Rows(data, encoded, partial(measured, table, frame, np.arange(len(some))), held_out)
    train_on_rows(encoder, table, rows, seed, sample)
    warn_of_unseen(unseen)


def _check_early(encoder, source, X_val, warm):
    """Raise what can be known before all rows are read."""
    encoder._read(source.head(), reset=not warm, min_rows=1)
    if X_val is not None:
        with told_of_held_out(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # told when it is read for good
            encoder._checked(read(X_val), reset=False, min_rows=encoder._min_held_out)


def _divided(encoder, table, frame, X_val, positions, source, seed):
    """Rows of a sample to train on, positions in the source of no such, encoded rows to watch."""
    rows, none = np.arange(frame.n_rows), positions[:0]
    if X_val is not None:
        return rows, none, encoded_to_watch(encoder, table, X_val)
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
    """One pass over all rows.

    Returns
    -------
    positions : array of shape (n_sample,)
        Of a uniform sample, in order.
    sample : pyarrow.Table
        Its rows.
    summaries : list of ColumnSummary
        Of all rows.
    content : bytes
        A hash of all rows, in their order.
    """
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    n_sample = min(n_sample, source.n_rows)
    positions = np.sort(rng.choice(source.n_rows, n_sample, replace=False, shuffle=False))
    sample, summaries, sha = [], None, hashlib.sha256()
    for group in source.groups:
        for first, part in source.parts(group):
            frame = read(part, first_row=first)
            if summaries is None:
                likelihoods = getattr(encoder, "likelihoods", None)
                kinds = choose_kinds(frame, encoder.categorical_features, likelihoods)
                summaries = [ColumnSummary(kind == "categorical") for kind in kinds]
            for p, (values, summary) in enumerate(zip(frame.columns, summaries, strict=True)):
                summary.add(values, first)
                if len(summary.counts) > MAX_LEVELS:
                    raise ValueError(
                        f"Column {frame.name(p)!r} has more than {MAX_LEVELS} levels, as an id "
                        "has. Leave it out: columns=[...]."
                    )
                is_object = values.dtype == object
                sha.update(repr(values.tolist()).encode() if is_object else values.tobytes())
            ends = np.searchsorted(positions, [first, first + len(part)])
            sample.append(part.take(positions[slice(*ends)] - first))
            if len(sample) == 64:  # each with a dictionary of its own, where levels are coded
                sample = [pa.concat_tables(sample).unify_dictionaries()]
    return positions, pa.concat_tables(sample), summaries, sha.digest()


def _with_ends(frame, summaries):
    """A sample to learn scalings from; where it has no two numbers, those at the ends of all."""
    columns = [
        values
        if values.dtype == object or len(np.unique(values[~np.isnan(values)])) > 1
        else np.append(values, [summary.low, summary.high])
        for values, summary in zip(frame.columns, summaries, strict=True)
    ]
    return replace(frame, columns=columns)


# -- transform -------------------------------------------------------------------------------------


def write_features(encoder, source, destination, keep):
    """Embed row group by row group; see `_LatentEncoder.transform_parquet`."""
    if not hasattr(encoder, "feature_names_in_"):
        raise ValueError(
            f"This {type(encoder).__name__} was fitted on an array, or on columns whose names are "
            "no strings: there are no names to find them by. Fit it on a frame with names that are "
            "strings, or by fit_parquet."
        )
    source = source if isinstance(source, str | os.PathLike) else list(source)
    names, keep = list(encoder.feature_names_in_), as_names(keep)
    features = encoder.get_feature_names_out().tolist()
    doubled = sorted(set(keep) & set(features))
    if doubled:
        raise ValueError(f"keep names {doubled[0]!r}, which is the name of a feature, too.")
    destination = Path(destination)
    _check_apart(destination, source)
    if len(set(keep)) < len(keep):
        raise ValueError(f"keep names a column twice: {keep}.")
    columns = [*names, *(name for name in keep if name not in names)]
    source = ParquetTable(source, columns, _texts_of(encoder))
    _begin(
        destination,
        {
            "version": __version__,
            "encoder": _fingerprint(encoder),
            "source": source.stamp,
            "keep": keep,
            "parts": len(source.groups),
        },
    )
    unseen = {}
    for i, group in enumerate(source.groups or [None]):  # of no rows, a file that has the columns
        path = destination / f"part-{i:06d}.parquet"
        if not path.exists():
            (destination / COMPLETE).unlink(missing_ok=True)
            _write_part(encoder, source, group, path, names, features, keep, unseen)
    write_bytes(destination / COMPLETE, b"")
    warn_of_unseen(unseen)
    return destination


def _check_apart(destination, source):
    """Raise where features would be among the rows of a folder when the call is made again."""
    for folder in [source] if isinstance(source, str | os.PathLike) else source:
        folder, inside = Path(folder).resolve(), (destination / "part.parquet").resolve()
        if folder.is_dir() and inside.is_relative_to(folder) and is_read(inside, folder):
            raise ValueError(
                f"{destination} is in {folder}, all of whose .parquet files are taken for rows. "
                "Give another directory, or one whose name begins with an underscore."
            )


def _begin(destination, task):
    """Make the directory, or make sure that it is of the same task."""
    path = destination / MANIFEST
    destination.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        found = set(destination.iterdir()) - set(parts_in(destination))
        if found:
            raise ValueError(
                f"{destination} holds {min(found).name!r}, but no features of an earlier call. "
                "Give the name of a directory that is empty, or not there yet."
            )
        write_bytes(path, json.dumps(task).encode())
    before = json.loads(path.read_bytes())
    others = [name for name, value in task.items() if before.get(name) != value]
    if others:
        raise ValueError(
            f"{destination} holds features of another call: not the same {', '.join(others)}. "
            "Give another directory, or delete this one."
        )
    clear_parts_in(destination)


def _write_part(encoder, source, group, path, names, features, keep, unseen):
    """Write the features of one row group, or of none, to a file, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept = [source.schema.field(name) for name in keep]
    schema = pa.schema([*kept, *(pa.field(name, pa.float32()) for name in features)])
    max_rows = max(MIN_PART_ROWS, min(PART_CELLS // len(names), FEATURE_CELLS // len(features)))
    # Numbers that never repeat gain nothing from a dictionary.
    with replacing(path) as file, pq.ParquetWriter(file, schema, use_dictionary=keep) as writer:
        for first, part in source.parts(group, max_rows) if group else ():
            frame = read(part.select(names), encoder.table_.types, first)
            Z = encoder._embed(len(part), [frame], unseen)
            columns = [*part.select(keep).columns, *map(pa.array, np.array(Z.T, order="C"))]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _fingerprint(encoder):
    """A hash of all that decides the features of an encoder."""
    state = encoder.__getstate__()
    name = encoder._embedding
    parts = [type(encoder).__name__, name, state["table_"], state["_scales"][name]]
    told = json.dumps(parts, default=lambda array: array.tolist())
    return hashlib.sha256(f"{told} {hash_of(state['_net']['weights'])}".encode()).hexdigest()
