"""Parquet files larger than memory: `fit_parquet` and `transform_parquet`."""

import hashlib
import json
import warnings
from functools import partial
from numbers import Integral

import numpy as np
import torch

from cmim_sklearn._encoders.base.fit import draw_seed, errors_name_x_val
from cmim_sklearn._encoders.base.parameters import isolated
from cmim_sklearn._tables.feature_files import write_feature_files
from cmim_sklearn._tables.parquet import ParquetTable, as_names
from cmim_sklearn._tables.read import CATEGORY, read
from cmim_sklearn._tables.schema import warn_of_unseen
from cmim_sklearn._tables.survey import survey, with_extremes
from cmim_sklearn._training.batches import StreamedTable
from cmim_sklearn._training.labels import plan_labels
from cmim_sklearn._training.train import Rows, train
from cmim_sklearn._utils.hashing import hash_of
from cmim_sklearn._utils.messages import shown
from cmim_sklearn._utils.sklearn_compat import with_callbacks

MIN_BUFFER_ROWS = 10
KEPT_ROWS = 20_000
"""Maximum number of sampled rows that stay in memory during training, to summarise the network."""
SOME_LABELLED = 1000
"""Number of labelled rows to hold back labels from, if fewer of the sampled rows are labelled."""


class OutOfCoreEncoder:
    """Fit and transform of Parquet files, a part of their rows at a time."""

    @isolated()
    @with_callbacks
    def fit_parquet(
        self, source, *, columns=None, target=None, X_val=None, y_val=None, buffer_rows=200_000
    ):
        """Fit to the rows of Parquet files, in memory that does not grow with their number.

        A table of at most `buffer_rows` rows is read and fitted as by `fit`. For a larger table,
        one pass over the files learns the schema, and each epoch is another pass.

        Parameters
        ----------
        source : str or path-like, or list of them
            Local Parquet files with the same columns, whose rows are concatenated. A directory
            means all ``*.parquet`` files in it and its subdirectories, including linked ones, in
            the order of their names (part.10 after part.2). Folder names such as ``year=2020``
            become columns; names of folders above the source only if `columns` lists them. Files
            must not change during the call.
        columns : list of str, default=None
            Columns to fit to; no other column is read. None: all columns, except the row index of
            a pandas DataFrame and `target`.
        target : str, default=None
            Column of the labels, as y of `fit`. It is no column of the fitted table, also if
            `label_weight` is 0. Labels take 8 bytes of memory for each row.
        X_val : table of shape (n_held_out, n_features), default=None
            Rows in memory for early stopping. If given, `early_stopping` and `validation_fraction`
            are ignored.
        y_val : array-like of shape (n_held_out,), default=None
            Target of `X_val`, see `fit`.
        buffer_rows : int, default=200_000
            Number of rows that are shuffled together, and number of rows sampled for statistics;
            at least 10. Peak memory is about 50 bytes per cell of these rows.

        Returns
        -------
        self : object
            Fitted encoder. Tables that it returns are pyarrow tables.

        Raises
        ------
        ImportError
            If pyarrow is not installed (``pip install "cmim-sklearn[parquet]"``).
        FileNotFoundError
            If a file does not exist, or a directory has no Parquet file.
        ValueError
            If a file is not a Parquet file, lacks a column, has a column twice or with a type that
            does not fit the other files, or changes while it is read; if a column of categories
            has more than 1,048,576 levels; if `columns` contains `target`; if `label_weight` is
            not 0 and there is no `target`; and as in `fit`.
        TypeError
            If `target` is not a string; and as in `fit`.
        FloatingPointError, KeyboardInterrupt
            As in `fit`.

        Notes
        -----
        All rows decide the kinds of columns, levels and their frequencies, ranges and decimals of
        numbers, and means of counts. A uniform sample of `buffer_rows` rows decides numeric
        scalings and, after training, the scale of features, the distribution of codes, the residual
        noise, and how often cells are missing in each column. With `early_stopping`, rows are held
        out from this sample, at most half of it. Labels are held back from at most 20,000 of its
        rows, or, if fewer than 1,000 of them are labelled, from up to 1,000 labelled rows of the
        files.

        An epoch reads the row groups in random order, four at a time, and shuffles the rows in the
        buffer. If a file is sorted and its row groups are larger than the buffer, batches are less
        mixed than those of `fit`: write many row groups. The next rows are read and encoded in a
        thread during training.

        ``max_iter="auto"`` is as in `fit`: 10 epochs for more than about 38,000 rows. For tens of
        millions of rows, one or two epochs with a larger `batch_size` may be enough.
        """
        self._check_params()
        is_int = isinstance(buffer_rows, Integral) and not isinstance(buffer_rows, bool)
        if not is_int or buffer_rows < MIN_BUFFER_ROWS:
            raise ValueError(
                f"buffer_rows must be an int of at least {MIN_BUFFER_ROWS}; got {buffer_rows!r}."
            )
        self._warn_of_parameters()
        y, columns = self._target_column(source, target, columns)
        self._check_labels(y, X_val, y_val)
        source = ParquetTable(source, columns, self._text_columns() if self._is_warm() else ())
        with self._names_restored_on_error():
            if source.n_rows <= buffer_rows:
                self._fit_in_memory(source.read(), y, X_val, y_val)
            else:
                self._fit_streamed(source, y, X_val, y_val, buffer_rows)
        return self

    def _target_column(self, source, target, columns):
        """Labels in a column of files, or None, and the names of the columns to fit to."""
        if target is None:
            if self._label_weight:
                raise ValueError(
                    f"label_weight={self._label_weight!r} needs labels. Name their column, by "
                    "fit_parquet(source, target=...), or set label_weight=0."
                )
            return None, columns
        if not isinstance(target, str):
            raise TypeError(f"`target` must be the name of one column; got {shown(target)}.")
        if columns is None:
            columns = [name for name in ParquetTable(source).columns if name != target]
        elif target in as_names(columns):
            raise ValueError(
                f"columns must not contain the target; got {shown(target)} in both. Leave it out."
            )
        labels = ParquetTable(source, [target])
        return (labels.read()[target] if self._label_weight else None), columns

    def _fit_streamed(self, source, y, X_val, y_val, buffer_rows):
        seed = draw_seed(self.random_state)
        self._check_before_survey(source, X_val)
        labels = self._read_labels(y, source.n_rows)
        labelled = _some_labelled(labels, seed)
        kinds = self.categorical_features, self._imposed_likelihoods
        found = survey(source, buffer_rows, seed, *kinds, others=labelled)
        frame = self._read(found.sample, reset=not self._is_warm(), min_rows=2)
        table = self._learn_table(with_extremes(frame, found.summaries), found.summaries)
        unseen = {}
        stream = partial(_stream, source, table, found.digest, buffer_rows, unseen)
        rows, kept = self._split_sample(
            stream, found, table, frame, X_val, labels, labelled, y_val, seed
        )
        sample = found.sample.take(kept)
        del found, frame  # most of their rows would stay in memory during training
        built = self._architecture()
        trained = train(self._make_net(built, rows, sample), rows, self._summarise)
        self._keep(table, built, trained)
        warn_of_unseen(unseen)

    def _check_before_survey(self, source, X_val):
        """Raise errors that can be found before all rows are read."""
        if self._is_warm():
            self._check_unchanged("warm_start=True", "Set warm_start=False")
        self._read(source.head(), reset=not self._is_warm(), min_rows=1)
        if X_val is not None:
            with errors_name_x_val(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it is read again, with warnings, after the survey
                self._checked(read(X_val), reset=False, min_rows=self._min_held_out)

    def _split_sample(self, stream, found, table, frame, X_val, target, labelled, y_val, seed):
        """Rows of a fit to a stream, and the positions in the sample that stay in memory."""
        kept, left_out, held_out = np.arange(frame.n_rows), found.positions[:0], None
        order = kept[:0]
        if X_val is not None:
            held_out = self._encode_held_out(table, X_val)
        elif self.early_stopping:
            share = round(self.validation_fraction * found.n_rows)
            n = max(self._min_held_out, min(share, frame.n_rows // 2))
            order, kept = np.split(np.random.RandomState(seed).permutation(frame.n_rows), [n])
            held_out = table.encode(frame.take(order))
            kept, left_out = np.sort(kept), np.sort(found.positions[order])
        kept = np.sort(np.random.RandomState(seed).permutation(kept)[:KEPT_ROWS])
        frame = frame.take(kept)
        encoded, labels = table.encode(frame, {}), None
        if target is not None:
            candidates, codes, known = found.positions[kept], target.standardised, encoded
            if target.is_labelled[candidates].sum() < len(labelled):
                candidates, known = labelled, table.encode(read(found.others, table.types), {})
            of_held_out = self._labels_of_held_out(
                target, codes[found.positions[order]], held_out, y_val
            )
            codes[left_out] = np.nan
            labels = plan_labels(
                target.n_classes,
                codes,
                of_held_out,
                lambda rows: known[np.searchsorted(candidates, rows)],
                held_out,
                seed,
                candidates=candidates,
            )
        data = stream(left_out, labels)
        return Rows(table, data, encoded, frame.take, held_out, seed, target, labels), kept

    def _text_columns(self):
        """Names of the columns that hold categories."""
        names = getattr(self, "feature_names_in_", [])
        types = self.table_.types
        return [name for name, kind in zip(names, types, strict=False) if kind == CATEGORY]

    @isolated()
    def transform_parquet(self, source, destination, *, keep=None):
        """Embed the rows of Parquet files, and write the features to a directory of Parquet files.

        Each row group with rows becomes one file, ``part-000000.parquet`` and so on, in the order
        of the rows, so that the directory can be read as one table. If the call was interrupted,
        the same call resumes: files that exist are complete, and stay. ``_SUCCESS`` is written
        last: without it, the directory is incomplete.

        Parameters
        ----------
        source : str or path-like, or list of them
            As for `fit_parquet`. Only the columns of fit and those of `keep` are read.
        destination : str or path-like
            Directory, created if it does not exist. Only one call at a time may write to it.
        keep : list of str, default=None
            Columns to copy, such as an ID, before the features.

        Returns
        -------
        destination : Path

        Raises
        ------
        ImportError
            If pyarrow is not installed (``pip install "cmim-sklearn[parquet]"``).
        FileNotFoundError
            If a file does not exist, or a directory has no Parquet file.
        ValueError
            If the directory holds other files than those of the same call: equal encoder,
            `embedding`, source files (by name, size and time of modification), `keep` and release;
            if it is in a directory of the source; if the encoder was fitted to an array; if a file
            is not a Parquet file, lacks a column, or changes while it is read; and as in
            `transform`.

        Notes
        -----
        Features are float32, named by `get_feature_names_out`; ``set_output`` has no effect. They
        equal those of `transform` up to rounding, about 1e-6, because rows are computed in other
        batches.
        """
        self._check_use()
        if not hasattr(self, "feature_names_in_"):
            raise ValueError(
                f"This {type(self).__name__} was fitted to an array, or to columns whose names are "
                "not strings, so columns cannot be found by name. Fit it to a DataFrame whose "
                "column names are strings, or with fit_parquet."
            )
        unseen = {}
        destination = write_feature_files(
            source,
            destination,
            keep,
            lambda frame: self._embed(frame.n_rows, [frame], unseen),
            names=list(self.feature_names_in_),
            texts=self._text_columns(),
            types=self.table_.types,
            features=self.get_feature_names_out().tolist(),
            digest=self._digest_of_features(),
        )
        warn_of_unseen(unseen)
        return destination

    def _digest_of_features(self):
        """Hash of everything that decides the features of a row."""
        state, name = self.__getstate__(), self._embedding
        parts = [type(self).__name__, name, state["table_"], state["_scales"][name]]
        text = json.dumps(parts, default=lambda array: array.tolist())
        return hashlib.sha256(f"{text} {hash_of(state['_net']['weights'])}".encode()).hexdigest()


def _some_labelled(target, seed):
    """Sorted positions of up to 1,000 labelled rows, drawn uniformly; none without a target."""
    if target is None:
        return np.arange(0)
    labelled = np.flatnonzero(target.is_labelled)
    return np.sort(np.random.RandomState([seed, 2]).permutation(labelled)[:SOME_LABELLED])


def _stream(source, table, digest, buffer_rows, unseen, left_out, labels):
    """Data set of all rows except those at some sorted positions, with their `Labels`, if any."""
    columns = None if labels is None else labels.train
    identity = {
        "groups": torch.tensor([group.n_rows for group in source.groups]),
        "content": torch.frombuffer(bytearray(digest), dtype=torch.uint8),
        "buffer_rows": torch.tensor(buffer_rows),  # decides how rows are mixed and sampled
    }
    if columns is not None:
        identity["labels"] = torch.from_numpy(columns)
    parts = partial(_encoded_parts, source, table, left_out, unseen, columns)
    return StreamedTable(source.n_rows - len(left_out), parts, buffer_rows, identity)


def _encoded_parts(source, table, left_out, unseen, columns, seed):
    """All rows except those at some sorted positions, encoded, in an order given by the seed.

    `columns` are those of labels of all rows, or None.
    """
    for first, part in source.shuffled_parts(np.random.default_rng(seed)):
        encoded = table.encode(read(part, table.types, first), unseen)
        ends = np.searchsorted(left_out, [first, first + len(encoded)])
        if columns is not None:
            encoded = np.hstack([encoded, columns[first : first + len(encoded)]])
        encoded = np.delete(encoded, left_out[slice(*ends)] - first, axis=0)
        yield torch.from_numpy(encoded)
