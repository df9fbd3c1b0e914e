"""Several processes train one model: real ones, by gloo, on this machine's CPU."""

import os
import pickle
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from cmim_sklearn import AEEncoder, CMIMEncoder
from cmim_sklearn._training.batches import WholeBatches
from cmim_sklearn._training.distributed import World
from tests.conftest import make_mixed
from tests.training.train_together import ONE_PASS, SGD, TOGETHER, weights

ROOT = Path(__file__).parents[2]
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node")


def start(case, folder, n_processes=2, launcher=TORCHRUN):
    """What each process found, by rank, and what they printed."""
    command = [
        sys.executable,
        "-m",
        *launcher,
        str(n_processes),
        "tests/training/train_together.py",
    ]
    ran = subprocess.run(
        [*command, case, str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    files = [folder / f"{rank}.pickle" for rank in range(n_processes)]
    return [pickle.loads(file.read_bytes()) for file in files], ran.stdout


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return start("short", tmp_path_factory.mktemp("short"))


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [16, 17, 101, 256])
@pytest.mark.parametrize("batch_size", [2, 16, 30])
def test_parts_are_disjoint_complete_and_alike_in_number(n, size, batch_size):
    x = torch.arange(float(n))[:, None]
    ranks = [
        list(WholeBatches(x, batch_size, torch.Generator().manual_seed(0), "cpu", World(r, size)))
        for r in range(size)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    together = [torch.cat(parts) for parts in zip(*ranks, strict=True)]
    assert sorted(torch.cat(together).flatten().tolist()) == list(range(n))
    assert min(len(part) for batches in ranks for part in batches) >= 2
    # As one process would have had them, in the same order, where batches are not too small for it.
    alone = list(WholeBatches(x, batch_size, torch.Generator().manual_seed(0), "cpu"))
    if batch_size >= 4 * size:
        assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))


def test_processes_take_disjoint_rows_and_all(short):
    (one, other), _ = short
    assert len(one["batches"]) == len(other["batches"]) == 4
    assert sorted(chain(*one["batches"], *other["batches"])) == list(range(101))


def test_weights_and_what_follows_are_equal_on_all_ranks(short):
    (one, other), _ = short
    assert_equal(one["weights"], other["weights"])
    assert_equal(one["scales"], other["scales"])
    assert one["sample"].equals(other["sample"])


def test_losses_are_means_over_ranks(short):
    (one, other), _ = short
    assert len(one["history"]) == 3
    for mine, theirs in zip(one["history"], other["history"], strict=True):
        assert {k: v for k, v in mine.items() if k != "dur"} == {
            k: v for k, v in theirs.items() if k != "dur"
        }
        terms = [mine[f"train_{name}"] for name in ("distortion", "latent", "contrast")]
        assert mine["train_loss"] == pytest.approx(sum(terms))
        assert "valid_loss" in mine


def test_ranks_shuffle_alike_and_draw_noise_of_their_own(short):
    (one, other), _ = short
    assert all(torch.equal(a, b) for a, b in zip(one["shared"], other["shared"], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one["own"], other["own"], strict=True))
    assert len({World(rank, 8).seed(0) for rank in range(8)}) == 8


def test_two_processes_step_as_one_does_on_the_same_batches(short):
    """Without noise and contrast the mean of the gradients is the gradient of the mean."""
    (one, _), _ = short
    encoder = AEEncoder(**ONE_PASS, net_params=SGD)
    alone = weights(encoder.fit(make_mixed()))
    untrained = weights(encoder.set_params(learning_rate_init=1e-30).fit(make_mixed()))
    for name, weight in alone.items():
        np.testing.assert_allclose(
            one["one_pass"][name], weight, rtol=1e-5, atol=1e-5, err_msg=name
        )
    assert max(abs(alone[name] - untrained[name]).max() for name in alone) > 0.01


def test_a_loss_that_breaks_on_one_rank_takes_all_back_together(short):
    (one, other), _ = short
    assert one["faults"] == other["faults"] == [3]
    assert_equal(one["poisoned"], other["poisoned"])
    assert all(np.isfinite(weight).all() for weight in one["poisoned"].values())


def test_the_first_process_alone_prints(short):
    _, printed = short
    assert printed.count("[CMIMEncoder] 3/3") == 1


def test_the_fitted_encoder_goes_on_alone(short):
    (one, other), _ = short
    mixed = make_mixed()
    encoders = [pickle.loads(found["encoder"]) for found in (one, other)]
    features = [encoder.transform(mixed) for encoder in encoders]
    np.testing.assert_array_equal(*features)
    with pytest.raises(ValueError, match="needs the processes of torch"):
        encoders[0].fit(mixed)
    again = encoders[0].set_params(net_params=None, max_iter=1, warm_start=True).fit(mixed)
    assert np.isfinite(again.transform(mixed)).all()


def test_what_cannot_be_trained_together_is_refused_on_every_rank(short):
    found, _ = short
    for rank in found:
        assert "random_state (give an int)" in rank["other_seed"]
        assert "differ in X" in rank["other_rows"]
        assert "3 rows to train on are too few for 2 processes" in rank["few_rows"]
        assert "differ in X" in rank["few_rows_here"]
        assert "differ in learning_rate_init." in rank["other_rate"]
        assert "differ in net_params: optimizer__betas." in rank["other_adam"]
        assert "ended with different weights" in "".join(rank["drifted"])
    first, second = (rank["no_folder"] for rank in found)
    assert "file" in first
    assert second == f"The first process failed: NotADirectoryError: {first}"


def test_data_parallel_is_a_bool_and_needs_processes(mixed, quick):
    with pytest.raises(ValueError, match=r"must be True or False\. Got 2"):
        CMIMEncoder(**quick, net_params={"data_parallel": 2}).fit(mixed)
    with pytest.raises(ValueError, match="torchrun"):
        CMIMEncoder(**quick, net_params=TOGETHER).fit(mixed)


@pytest.mark.slow
@pytest.mark.parametrize("n_processes", [2, 3])
def test_every_learner_ends_alike_on_all_ranks(tmp_path, n_processes):
    first, *others = start("family", tmp_path, n_processes)[0]
    for other in others:
        for name, (fitted, features, streamed, *critics) in first.items():
            np.testing.assert_array_equal(features, other[name][1], err_msg=name)
            for mine, theirs in zip((fitted, streamed), other[name][::2], strict=False):
                assert_equal(mine, theirs)
            for mine, theirs in zip(critics, other[name][3:], strict=True):
                assert_equal(mine, theirs)
            assert bool(critics) == (name == "InfoMaxVAEEncoder")


@pytest.mark.slow
def test_a_fit_that_crashed_goes_on_from_the_first_ones_checkpoint(tmp_path):
    one, other = start("resumed", tmp_path)[0]
    assert (one["wrote"], other["wrote"]) == (True, False)
    assert one["n_resumed"] == other["n_resumed"] == 2
    for found in (one, other):
        assert_equal(found["again"], found["whole"])
    assert_equal(one["again"], other["again"])


@pytest.mark.slow
def test_accelerate_starts_them_too(tmp_path):
    pytest.importorskip("accelerate")
    launcher = ("accelerate.commands.launch", "--multi_gpu", "--num_processes")
    one, other = start("short", tmp_path, launcher=launcher)[0]
    assert_equal(one["weights"], other["weights"])


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    houses = pd.read_csv(ROOT / "examples" / "data" / "california_housing.csv")[:300]
    houses = houses.rename(columns={"median_house_value": "target"})
    houses.to_parquet(tmp_path / "houses.parquet")
    command = [sys.executable, "-m", "benchmarks.data_parallel", "--data-dir", str(tmp_path)]
    command += ["--tables", "houses", "--layouts", "1x64", "2x32", "--max-iter", "2"]
    ran = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    for layout in ("1x64", "2x32"):
        assert ran.stdout.count(layout) == 3  # once for each arm
