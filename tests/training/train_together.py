"""What each of the processes does that test_distributed.py starts.

    torchrun --standalone --nproc-per-node 2 tests/training/train_together.py CASE DIR

writes what it found to DIR/RANK.pickle.
"""

import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import distributed

import cmim_sklearn
from cmim_sklearn import AEEncoder, Checkpoint, CMIMEncoder
from cmim_sklearn._training.batches import WholeBatches
from cmim_sklearn._training.distributed import World
from tests.conftest import make_mixed

TOGETHER = {"data_parallel": True}
SMALL = {"hidden_layer_sizes": (16,), "n_components": 4, "random_state": 0, "max_iter": 3}
ONE_PASS = SMALL | {"max_iter": 1, "batch_size": 5, "input_masking": 0, "learning_rate_init": 0.005}
"""No noise, and batches that two processes share by three to two."""
SGD = {"optimizer": torch.optim.SGD}
"""Its steps show the size of a gradient, which Adam's hide."""


class Generators(Callback):
    """Note the states of the generators: what the ranks share, and what each draws noise by."""

    def on_train_begin(self, net, **kwargs):
        self.shared_, self.own_ = [], []

    def on_epoch_begin(self, net, **kwargs):
        self.shared_.append(net.generator_.get_state())

    def on_batch_begin(self, net, **kwargs):
        self.own_.append(net.generator_.get_state())


class Crash(Callback):
    """A process that dies in its fourth epoch, the first time."""

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 4 and not CRASHES:
            CRASHES.append(len(net.history))
            raise RuntimeError("crash")


CRASHES = []
"""Not the class's: a callback that holds another value is another callback, and the fit another."""


class Drift(Callback):
    """In the second process alone, weights that move by themselves."""

    def on_batch_end(self, net, **kwargs):
        with torch.no_grad():
            next(net.module_.parameters()).add_(1e-6 * net.world_.rank)


class Poison(Callback):
    """In the second process alone, a batch of the third epoch that breaks the loss, once."""

    has_struck = False

    def on_batch_begin(self, net, batch=None, **kwargs):
        if net.world_.rank == 1 and len(net.history) == 3 and not Poison.has_struck:
            Poison.has_struck = True
            batch[0][:, 0] = 1e30


def weights(encoder):
    return {name: w.numpy().copy() for name, w in encoder.net_.module.state_dict().items()}


def refused(fit):
    try:
        fit()
    except (ValueError, OSError, RuntimeError) as error:
        return str(error)
    return None


def short(world, folder):
    """Fits of a second, and what must be refused."""
    mixed, generators = make_mixed(), Generators()
    encoder = CMIMEncoder(
        **SMALL, batch_size=32, early_stopping=True, verbose=1,
        net_params={**TOGETHER, "callbacks": [generators]},
    ).fit(mixed)  # fmt: skip
    numbers = torch.arange(101.0)[:, None]
    loader = WholeBatches(numbers, 32, torch.Generator().manual_seed(0), "cpu", world)
    poisoned = CMIMEncoder(**SMALL, net_params={**TOGETHER, "callbacks": [Poison()]}).fit(mixed)
    other_seed = CMIMEncoder(**SMALL | {"random_state": world.rank}, net_params=TOGETHER)
    other_rows = CMIMEncoder(**SMALL, net_params=TOGETHER)
    other_rate = CMIMEncoder(
        **SMALL, net_params=TOGETHER, learning_rate_init=0.001 * (1 + world.rank)
    )
    other_adam = CMIMEncoder(
        **SMALL, net_params=TOGETHER | {"optimizer__betas": (0.9, 0.9 + 0.05 * world.rank)}
    )
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        CMIMEncoder(**SMALL, net_params=TOGETHER | {"callbacks": [Drift()]}).fit(mixed)
    (folder / "file").touch()
    no_folder = TOGETHER | {"callbacks": [Checkpoint(folder / "file" / "in it")]}
    return {
        "weights": weights(encoder),
        "history": [dict(row) for row in encoder.net_.history],
        "scales": encoder._scales,
        "sample": encoder.sample(5, random_state=0),
        "shared": generators.shared_,
        "own": generators.own_,
        "encoder": pickle.dumps(encoder.set_params(net_params=TOGETHER)),
        "batches": [batch.flatten().tolist() for batch in loader],
        "one_pass": weights(AEEncoder(**ONE_PASS, net_params=TOGETHER | SGD).fit(mixed)),
        "faults": poisoned.net_.faults_,
        "poisoned": weights(poisoned),
        "other_seed": refused(lambda: other_seed.fit(mixed)),
        "other_rows": refused(lambda: other_rows.fit(mixed[world.rank :])),
        "few_rows": refused(lambda: other_rows.fit(mixed[:3])),
        "few_rows_here": refused(lambda: other_rows.fit(mixed[: 3 if world.rank else 200])),
        "other_rate": refused(lambda: other_rate.fit(mixed)),
        "other_adam": refused(lambda: other_adam.fit(mixed)),
        "drifted": [str(warning.message) for warning in told],
        "no_folder": refused(lambda: other_rows.set_params(net_params=no_folder).fit(mixed)),
    }


def family(world, folder):
    """All learners, by fit and by partial_fit."""
    numbers = np.random.RandomState(0).randn(120, 5).astype(np.float32)
    found = {}
    for name in sorted(name for name in cmim_sklearn.__all__ if name.endswith("Encoder")):
        encoder = getattr(cmim_sklearn, name)(**SMALL, batch_size=40, net_params=TOGETHER)
        found[name] = weights(encoder.fit(numbers)), encoder.transform(numbers)
        found[name] += (weights(encoder.partial_fit(numbers[:60])),)
        critics = [cb.critic.module_ for _, cb in encoder.net_.callbacks_ if hasattr(cb, "critic")]
        found[name] += tuple({k: w.numpy() for k, w in c.state_dict().items()} for c in critics)
    return found


def resumed(world, folder):
    """A fit that crashes and is started again, and one that does not."""
    mixed = make_mixed()

    def fit(*callbacks):
        params = TOGETHER | {"callbacks": list(callbacks)}
        encoder = CMIMEncoder(**SMALL | {"max_iter": 6}, batch_size=32, net_params=params)
        return encoder.fit(mixed)

    # Each process has a directory of its own: the first one's alone is used.
    checkpoint = Checkpoint(folder / f"checkpoint-{world.rank}", every_epochs=2)
    try:
        fit(checkpoint, Crash())
    except RuntimeError:
        pass
    else:
        raise AssertionError("it did not crash")
    wrote = checkpoint.path_.exists()
    again = fit(checkpoint, Crash())
    return {
        "wrote": wrote,
        "n_resumed": again.net_.n_resumed_,
        "again": weights(again),
        "whole": weights(fit()),
    }


if __name__ == "__main__":
    distributed.init_process_group()
    world, folder = World.initialized(), Path(sys.argv[2])
    found = {"short": short, "family": family, "resumed": resumed}[sys.argv[1]](world, folder)
    (folder / f"{world.rank}.pickle").write_bytes(pickle.dumps(found))
    distributed.destroy_process_group()
