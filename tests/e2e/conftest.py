"""The lab with the product running in it, as separate processes: one for each test."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lab.build.assets import find_assets
from lab.net.private import is_private
from lab.story import Story


class Silent:
    """Tells nobody; a failing step still raises."""

    def step(self, text: str) -> None: ...
    def fact(self, text: str) -> None: ...
    def table(self, title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None: ...


@pytest.fixture
def story(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Story]:
    """Parametrised indirectly with the source of addresses; without a parameter it is the cluster."""
    if not is_private():
        pytest.skip("needs private network namespaces: run `python -m lab.net.private python -m pytest`")
    assert os.geteuid() == 0
    with Story(tmp_path, find_assets(), Silent(), getattr(request, "param", "cluster")) as told:
        yield told
