"""One lab per test, in which the product runs as separate processes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.build.assets import find_assets
from lab.net.private import is_private
from lab.scenario.process_lab import ProcessLab
from lab.scenario.reporter import SilentReporter


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProcessLab]:
    """Its indirect parameter is the source of addresses; the cluster by default."""
    if not is_private():
        pytest.skip("needs private network namespaces: run `python -m lab.net.private python -m pytest`")
    assert os.geteuid() == 0
    with ProcessLab(tmp_path, find_assets(), SilentReporter(), getattr(request, "param", "cluster")) as opened:
        yield opened
