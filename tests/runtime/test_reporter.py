"""Reports are written in the background: the latest one, once, and again after a failure."""

import asyncio
from dataclasses import replace
from ipaddress import ip_interface
from itertools import pairwise

import pytest

from overlay_net.agent.reporter import Reporter
from overlay_net.model.errors import ApiError, Conflict, Unavailable
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from tests.runtime.conftest import Run
from tests.unit.factories import desired_route, overlay


class Server:
    """Answers each write once ``answers`` is set; ``failure`` is raised instead."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.answers.set()
        self.failure: Exception | None = None
        self.received: list[tuple[float, str]] = []
        """Time and ``link`` of each report."""
        self.written = 0

    async def write(self, overlay: NodeOverlay, report: Report) -> None:
        self.received.append((asyncio.get_running_loop().time(), report.link))
        await self.answers.wait()
        if self.failure is not None:
            raise self.failure

    def count(self) -> None:
        self.written += 1

    @property
    def links(self) -> list[str]:
        return [link for _, link in self.received]


class Agent:
    def __init__(self) -> None:
        self.server = Server()
        self.reporter = Reporter(self.server.write, self.server.count)
        self.task = asyncio.create_task(self.reporter.run())

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def about(link: str) -> Report:
    return Report(link=link)


async def settle() -> None:
    await asyncio.sleep(0.001)


def test_while_the_api_server_hangs_only_the_latest_report_waits(virtual_time: Run) -> None:
    async def main() -> None:
        agent, found = Agent(), overlay()
        agent.server.answers.clear()
        for link in ("first", "second", "third"):
            agent.reporter.submit(found, about(link))
            await settle()
        assert (agent.server.links, agent.reporter.idle, agent.server.written) == (["first"], False, 0)
        agent.server.answers.set()
        await settle()
        assert (agent.server.links, agent.reporter.idle, agent.server.written) == (["first", "third"], True, 1)
        await agent.end()

    virtual_time(main())


def test_report_is_written_once_for_each_version_of_the_object(virtual_time: Run) -> None:
    async def main() -> None:
        agent, found = Agent(), overlay()
        for _ in range(3):
            agent.reporter.submit(found, about("tmp0"))
            await settle()
        assert agent.server.links == ["tmp0"], "the watch has not shown it yet"
        shown = replace(found, resource_version="8", report=about("tmp0"))
        agent.reporter.submit(shown, about("tmp0"))
        await settle()
        assert agent.server.links == ["tmp0"]
        edited = replace(found, resource_version="9", report=about("edited by hand"))
        agent.reporter.submit(edited, about("tmp0"))
        await settle()
        assert agent.server.links == ["tmp0", "tmp0"]
        await agent.end()

    virtual_time(main())


def test_report_that_the_object_has_again_is_not_written(virtual_time: Run) -> None:
    async def main() -> None:
        agent, found = Agent(), replace(overlay(), report=about("tmp0"))
        agent.server.failure = Unavailable("no answer")
        agent.reporter.submit(found, about("gone"))
        await settle()
        agent.reporter.submit(found, about("tmp0"))
        assert agent.reporter.idle
        await asyncio.sleep(300)
        assert agent.server.links == ["gone"]
        await agent.end()

    virtual_time(main())


def test_written_report_is_replaced_although_the_watch_has_not_shown_it(virtual_time: Run) -> None:
    async def main() -> None:
        agent, found = Agent(), replace(overlay(), report=about("tmp0"))
        for link in ("gone", "tmp0", "tmp0", "gone"):
            agent.reporter.submit(found, about(link))
            await settle()
        assert agent.server.links == ["gone", "tmp0", "gone"]
        await agent.end()

    virtual_time(main())


def test_report_about_other_routes_of_one_version_is_written_although_the_version_has_an_equal_one(
    virtual_time: Run,
) -> None:
    """The slices of the node have changed twice, and the watch has shown neither report."""

    async def main() -> None:
        agent, found = Agent(), replace(overlay(), report=about("before"))
        for link in ("changed", "before"):
            agent.reporter.submit(replace(found, slices={"rs-1-0": len(link)}), about(link))
            await settle()
        assert agent.server.links == ["changed", "before"]
        await agent.end()

    virtual_time(main())


def test_an_object_that_only_has_the_last_report_now_is_no_change(virtual_time: Run) -> None:
    async def main() -> None:
        agent, found = Agent(), overlay()
        agent.reporter.submit(found, about("tmp0"))
        shown = replace(found, resource_version="8", report=about("tmp0"))
        assert agent.reporter.is_shown(found, shown)
        other_address = replace(shown, report=replace(about("tmp0"), configured=ip_interface("192.168.100.9/24")))
        for changed in (
            replace(shown, generation=2),
            replace(shown, routes=(desired_route("10.1.0.0/16"),)),
            replace(shown, report=about("edited by hand")),
            other_address,
        ):
            assert not agent.reporter.is_shown(found, changed)
        assert not agent.reporter.is_shown(None, shown)
        assert not agent.reporter.is_shown(found, None)
        agent.reporter.submit(found, other_address.report)
        assert not agent.reporter.is_shown(found, other_address), "the checkpoint may need the address"
        await agent.end()

    virtual_time(main())


def test_latest_report_is_the_submitted_one_until_the_object_is_another(virtual_time: Run) -> None:
    async def main() -> None:
        agent, found = Agent(), overlay()
        assert agent.reporter.latest(found) == found.report
        agent.server.answers.clear()
        agent.reporter.submit(found, about("tmp0"))
        assert agent.reporter.latest(overlay(generation=2)).link == "tmp0"
        assert agent.reporter.latest(replace(found, uid="another")) == found.report
        await agent.end()

    virtual_time(main())


@pytest.mark.parametrize(
    "failure", [Unavailable("no answer"), Conflict("changed"), ApiError("500"), ValueError("a bug")]
)
def test_failed_report_is_written_again_after_a_growing_pause(virtual_time: Run, failure: Exception) -> None:
    async def main() -> None:
        agent, found = Agent(), overlay()
        agent.server.failure = failure
        agent.reporter.submit(found, about("first"))
        await asyncio.sleep(120)
        agent.reporter.submit(found, about("second"))
        attempts = len(agent.server.received)
        assert 6 <= attempts <= 14
        times = [at for at, _ in agent.server.received]
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert pauses[-1] > 10 * pauses[0]
        agent.server.failure = None
        await asyncio.sleep(60)
        assert agent.server.links[attempts:] == ["second"], "the latest"
        assert agent.server.written == 1
        await agent.end()

    virtual_time(main())


@pytest.mark.parametrize("failure", [Unavailable("no answer", retry_after=50), Conflict("changed")])
def test_new_version_of_the_object_ends_the_pause(virtual_time: Run, failure: Exception) -> None:
    async def main() -> None:
        agent, found = Agent(), overlay()
        agent.server.failure = failure
        agent.reporter.submit(found, about("first"))
        await settle()
        agent.server.failure = None
        agent.reporter.submit(replace(found, resource_version="8"), about("second"))
        await settle()
        assert agent.server.links == ["first", "second"]
        await agent.end()

    virtual_time(main())
