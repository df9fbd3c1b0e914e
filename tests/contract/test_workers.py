"""Number of workers of a parallel test run, and threads in each."""

import os

import pytest
import torch

from conftest import cgroup_quotas, n_cores


def test_tests_run_on_one_thread():
    assert torch.get_num_threads() == 1


def test_workers_are_at_most_the_cores_of_the_affinity():
    assert 1 <= n_cores() <= os.cpu_count()


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "150000 100000\n"}, [1.5]),
        ("0::/seen/from/outside\n", {"cpu.max": "50000 100000\n"}, [0.5]),
        (
            "5:cpu,cpuacct:/a\n1:memory:/a\n",
            {"cpu/a/cpu.cfs_quota_us": "300000\n", "cpu/a/cpu.cfs_period_us": "100000\n",
             "cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            [3.0],
        ),
        ("0::/\n", {}, []),
        (None, {}, []),
    ],
    ids=["version 2", "container", "version 1", "no limit", "not Linux"],
)  # fmt: skip
def test_quotas_of_control_groups(groups, files, expected, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    own = tmp_path / "own"
    if groups is not None:
        own.write_text(groups)
    assert list(cgroup_quotas(tmp_path, own)) == expected
