"""Tables that come in chunks: columns from a sample, and one pass over each chunk."""

import copy
from functools import partial

import numpy as np

from cmim_sklearn._encoders.base.fit import (
    check_as_built,
    draw_seed,
    make_net,
    train,
    warn_of_faults,
)
from cmim_sklearn._training.batches import EncodedTable
from cmim_sklearn._training.net import continue_from

FITTED = ("_net", "_scales", "_latents", "n_iter_", "loss_curve_", "validation_scores_")
"""What a network learns, beside the columns."""


def learn_columns(encoder, X):
    """Begin anew with the columns of a sample; see `_LatentEncoder.fit_schema`."""
    frame = encoder._read(X, reset=True, min_rows=2)
    table, built = encoder._fit_table(frame), encoder._architecture()
    encoder._check_table(table, frame)
    for name in FITTED:
        vars(encoder).pop(name, None)
    vars(encoder).update(table_=table, _built=built)


def train_on(encoder, X):
    """Train in one pass over a chunk; see `_LatentEncoder.partial_fit`."""
    is_new = not hasattr(encoder, "table_")
    frame = encoder._read(X, reset=is_new, min_rows=2)
    built = encoder._architecture()
    if not is_new:
        check_as_built(encoder, built, "partial_fit", "Call fit_schema")
    table = encoder._fit_table(frame) if is_new else encoder.table_
    encoder._check_table(table, frame)
    encoded = table.encode(frame)
    before = encoder.net_ if hasattr(encoder, "_net") else None
    seed = draw_seed(encoder)
    if before is None:
        model = encoder._build_model(table.likelihood, built, seed)
    else:
        # A copy, so that a chunk that fails leaves the encoder as it was; and other noise than the
        # chunks before had.
        model = copy.deepcopy(before.module)
        seed = int(np.random.RandomState([seed, encoder.n_iter_]).randint(2**31 - 1))
    encoder._configure(model)
    net = make_net(encoder, model, 1, seed, one_cycle=False)
    if before is not None:
        continue_from(net, before)
    train(net, table, EncodedTable(encoded), encoded)
    attributes = encoder._read_off(net, encoded, seed, partial(_measured, table, frame))
    vars(encoder).update(attributes, table_=table, _built=built, _net=net)
    net.forget_data()
    warn_of_faults(encoder, net)


def _measured(table, frame, some):
    """Measured cells of some rows of a chunk."""
    return table.measure(frame.take(some))
