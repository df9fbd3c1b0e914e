"""Directory of Parquet files with features: one file for each row group, resumable.

``_features.json`` records the arguments of the call, and ``_SUCCESS`` that all files exist.
Programs that read a directory as one table skip names that start with an underscore.
"""

import json
import os
from pathlib import Path

import numpy as np

from cmim_sklearn._tables.parquet import ParquetTable, as_names, is_read
from cmim_sklearn._tables.read import MIN_PART_ROWS, PART_CELLS, read
from cmim_sklearn._utils.archive import clear_parts_in, parts_in, replacing, write_bytes
from cmim_sklearn._version import __version__

FEATURE_CELLS = 2**22
"""Maximum number of feature values in memory (16 MB); parts have at least `MIN_PART_ROWS` rows."""
MANIFEST, COMPLETE = "_features.json", "_SUCCESS"


def write_feature_files(source, destination, keep, embed, *, names, texts, types, features, digest):
    """Embed Parquet files row group by row group; see `transform_parquet` of the encoders.

    Parameters
    ----------
    source, destination, keep
        See `transform_parquet`.
    embed : callable
        From a `Frame` to its features (n, n_features_out), float32.
    names, types : list
        Names and types of the columns to embed.
    texts : list of str
        Names of the columns that hold categories.
    features : list of str
        Names of the features.
    digest : str
        Hash of everything that decides the features of a row.

    Returns
    -------
    destination : Path
    """
    source = source if isinstance(source, str | os.PathLike) else list(source)
    keep, destination = as_names(keep), Path(destination)
    clashing = sorted(set(keep) & set(features))
    if clashing:
        raise ValueError(f"`keep` must not have the name of a feature; got {clashing[0]!r}.")
    _check_apart(destination, source)
    if len(set(keep)) < len(keep):
        raise ValueError(f"`keep` must have unique names; got {keep}.")
    columns = [*names, *(name for name in keep if name not in names)]
    table = ParquetTable(source, columns, texts)
    task = {
        "version": __version__,
        "encoder": digest,
        "source": table.stamp,
        "keep": keep,
        "parts": len(table.groups),
    }
    _begin(destination, task)
    for i, group in enumerate(table.groups or [None]):  # no rows: a file with only the columns
        path = destination / f"part-{i:06d}.parquet"
        if not path.exists():
            (destination / COMPLETE).unlink(missing_ok=True)
            _write_part(path, table, group, embed, names, types, features, keep)
    write_bytes(destination / COMPLETE, b"")
    return destination


def _check_apart(destination, source):
    """Raise if the features would be written where a second call reads them as rows."""
    for folder in [source] if isinstance(source, str | os.PathLike) else source:
        folder, inside = Path(folder).resolve(), (destination / "part.parquet").resolve()
        if folder.is_dir() and inside.is_relative_to(folder) and is_read(inside, folder):
            raise ValueError(
                f"{destination} is in {folder}, where all .parquet files are read as rows. "
                "Pass another directory, or one with a name that begins with an underscore."
            )


def _begin(destination, task):
    """Make the directory, or check that it belongs to the same task."""
    path = destination / MANIFEST
    destination.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        found = set(destination.iterdir()) - set(parts_in(destination))
        if found:
            raise ValueError(
                f"{destination} holds {min(found).name!r}, but no features of an earlier call. "
                "Pass an empty directory, or a new one."
            )
        write_bytes(path, json.dumps(task).encode())
    before = json.loads(path.read_bytes())
    others = [name for name, value in task.items() if before.get(name) != value]
    if others:
        raise ValueError(
            f"{destination} holds features of another call (different {', '.join(others)}). "
            "Pass another directory, or delete this one."
        )
    clear_parts_in(destination)


def _write_part(path, table, group, embed, names, types, features, keep):
    """Write the features of one row group, or none, to a file, completely or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept = [table.schema.field(name) for name in keep]
    schema = pa.schema([*kept, *(pa.field(name, pa.float32()) for name in features)])
    max_rows = max(MIN_PART_ROWS, min(PART_CELLS // len(names), FEATURE_CELLS // len(features)))
    # Features rarely repeat, so a dictionary of their values would only take time.
    with replacing(path) as file, pq.ParquetWriter(file, schema, use_dictionary=keep) as writer:
        for first, part in table.parts(group, max_rows) if group else ():
            Z = embed(read(part.select(names), types, first))
            columns = [*part.select(keep).columns, *map(pa.array, np.array(Z.T, order="C"))]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
