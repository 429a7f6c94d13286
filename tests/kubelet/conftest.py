"""A cluster of real kubelets, shared by all tests: it takes seconds to start, a minute on a busy machine."""

from collections.abc import Iterator, Sequence

import pytest

from lab.build.image import Image, find_image
from lab.cluster.cluster import Cluster
from lab.cluster.prepare import prepare
from lab.cluster.programs import find_cluster_programs
from lab.net.private import is_private
from lab.net.traffic import serve


@pytest.fixture(scope="session")
def image() -> Image:
    return find_image()


@pytest.fixture(scope="session")
def cluster(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three Ready nodes, and an on-premise host that answers with the source address that it observes."""
    if not is_private():
        pytest.skip("needs private network namespaces: run `python -m lab.net.private python -m pytest`")
    if missing := prepare():
        pytest.skip(missing)
    directory = tmp_path_factory.mktemp("cluster")
    with Cluster(directory, find_cluster_programs(), [image.archive]) as started:
        started.start()
        with serve(started.vlan.on_premise, directory / "traffic.log"):
            yield started


class TableReporter:
    """Keeps the tables of a scenario, for the end of the test run."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def step(self, text: str) -> None:
        pass

    def fact(self, text: str) -> None:
        pass

    def table(self, title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = [headers, *rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(headers))]
        self._lines.append(title)
        self._lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table]


SUMMARY = pytest.StashKey[list[str]]()


@pytest.fixture
def reporter(request: pytest.FixtureRequest) -> TableReporter:
    return TableReporter(request.config.stash.setdefault(SUMMARY, []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(SUMMARY, []):
        terminalreporter.write_line(line)
