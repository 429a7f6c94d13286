"""The demo as it is run where kubelets can: interrupted, it leaves nothing behind."""

import signal
from pathlib import Path

import pytest

from lab.cluster.prepare import prepare
from tests.e2e.test_demo import interrupt_demo

CGROUPS = Path("/sys/fs/cgroup")


def groups() -> set[Path]:
    return {*CGROUPS.glob("overlay-net-*"), *CGROUPS.glob("*/overlay-net-*")}


def test_an_interrupted_cluster_leaves_nothing_behind(tmp_path: Path) -> None:
    if lacking := prepare():
        pytest.skip(lacking)
    before = groups()
    interrupt_demo(tmp_path, [], "helm install", signal.SIGINT, 130)
    assert groups() == before
