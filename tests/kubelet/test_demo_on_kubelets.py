"""The demo on kubelets leaves nothing behind when it is interrupted."""

import signal
from pathlib import Path

import pytest

from lab.cluster.prepare import prepare
from tests.e2e.test_demo import interrupt_demo

CGROUPS = Path("/sys/fs/cgroup")


def groups() -> set[Path]:
    return {*CGROUPS.glob("overlay-net-*"), *CGROUPS.glob("*/overlay-net-*")}


def test_an_interrupted_cluster_leaves_nothing_behind(tmp_path: Path) -> None:
    if missing := prepare():
        pytest.skip(missing)
    before = groups()
    interrupt_demo(tmp_path, [], "helm install", signal.SIGINT, 130)
    assert groups() == before
