"""Parallel test runs, one worker for each core that this process may use, each with one thread.

The option --device runs the tests on a stand-in for a GPU.
"""

import os
from pathlib import Path

import pytest

# Set before anything imports torch; workers inherit it. Networks this small gain nothing from a
# second thread, and threads of several workers would wait for each other.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"


def pytest_addoption(parser, pluginmanager):
    """Add --device, and the options in setup.cfg where pytest-xdist is missing or disabled."""
    parser.addoption(
        "--device",
        choices=["standin", "standin-float32"],
        help='what device="auto" resolves to in tests, see tests/standin; default: CUDA or the CPU',
    )
    if not pluginmanager.has_plugin("xdist"):
        for option in ("--numprocesses", "--dist"):
            parser.addoption(option, help="ignored without pytest-xdist")


def pytest_configure(config):
    """Register the stand-in device before the tests are imported."""
    if name := config.getoption("--device"):
        from tests import standin

        standin.install(name)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Return the number of workers for `auto`; none for a single file, which runs right here."""
    is_one_file = len(config.args) == 1 and ".py" in config.args[0]
    return 0 if is_one_file else n_cores()


def n_cores():
    """Return the number of cores that CPU affinity and the quotas of control groups allow."""
    has_affinity = hasattr(os, "sched_getaffinity")
    allowed = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, int(min([allowed, *cgroup_quotas()])))


def cgroup_quotas(root=Path("/sys/fs/cgroup"), own=Path("/proc/self/cgroup")):
    """Yield the CPU quotas, in cores, of this process's control group and those above it."""
    for line in own.read_text().splitlines() if own.exists() else ():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        tree = root / "cpu" if controllers else root  # version 1, with a tree for each; version 2
        own_folder = tree / group.lstrip("/")
        for folder in (own_folder, *own_folder.parents):
            for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
                paths = [folder / name for name in names]
                if all(path.exists() for path in paths):
                    quota, period = " ".join(path.read_text() for path in paths).split()
                    if quota not in ("max", "-1"):
                        yield int(quota) / int(period)
            if folder == tree:  # a container may see its own group as the root
                break
