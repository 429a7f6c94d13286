"""When an agent probes the target of a change, and what becomes of the result."""

import asyncio
from typing import Any

import pytest

from overlay_net.agent.route_probes import RouteProbes
from overlay_net.model.kernel_actions import KernelPlan
from overlay_net.model.net import IpAddress
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_probe import Probe
from tests.unit.factories import overlay

NOTHING = KernelPlan()


def node_at(generation: int, *gateways: int) -> NodeOverlay:
    routes = [
        {"subnet": f"10.{place}.0.0/16", "staticRoute": "r1", "gateways": [{"address": f"192.168.100.{gateway}"}]}
        for place, gateway in enumerate(gateways, 1)
    ]
    probe = {"icmp": "10.1.0.9"}
    generations = [{"staticRoute": "r1", "uid": "u1", "generation": generation, "probe": probe}]
    return overlay(spec={"routes": routes, "generations": generations}, generation=generation)


def kernel_with(node: NodeOverlay, count: int | None = None) -> KernelPlan:
    return KernelPlan(placed=tuple((route, "tmp0") for route in node.routes[:count]))


class Target:
    """A target that answers when the test lets it."""

    def __init__(self) -> None:
        self.probes: list[asyncio.Future[str]] = []
        self.wakes = 0

    async def probe(self, probe: Probe, source: IpAddress | None) -> str:
        self.probes.append(asyncio.get_running_loop().create_future())
        return await self.probes[-1]

    def wake(self) -> None:
        self.wakes += 1

    async def answer(self, failure: str = "") -> None:
        """The last probe ends, and the agent is woken."""
        before = self.wakes
        self.probes[-1].set_result(failure)
        while self.wakes == before:
            await asyncio.sleep(0)

    async def pause(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
def target() -> Target:
    return Target()


def states(route_probes: RouteProbes, node: NodeOverlay) -> list[str]:
    return [route_probe.state for route_probe in route_probes.follow(node)]


async def test_target_is_probed_once_and_only_after_the_kernel_has_the_routes(target: Target) -> None:
    async with RouteProbes(target.wake, overlay, target.probe) as route_probes:
        node = node_at(1, 1)
        assert states(route_probes, node) == ["Probing"]
        route_probes.settle(NOTHING, None)
        await target.pause()
        assert not target.probes
        for _ in range(3):
            route_probes.settle(kernel_with(node), None)
            await target.pause()
        assert len(target.probes) == 1
        await target.answer()
        assert states(route_probes, node) == []
        assert route_probes.in_force(node) is node


async def test_missing_route_does_not_restart_the_probe_and_an_additional_one_does(target: Target) -> None:
    async with RouteProbes(target.wake, overlay, target.probe) as route_probes:
        node = node_at(1, 1, 2)
        route_probes.follow(node)
        route_probes.settle(kernel_with(node, 1), None)
        await target.pause()
        route_probes.settle(NOTHING, None)
        await target.pause()
        assert len(target.probes) == 1
        await target.answer()
        assert states(route_probes, node) == ["Probing"], "the second route is not there yet"
        route_probes.settle(kernel_with(node), None)
        await target.pause()
        assert len(target.probes) == 2
        await target.answer("no answer")
        assert states(route_probes, node) == ["RolledBack"]
        assert route_probes.in_force(node).routes == ()
        assert route_probes.in_force(node) is route_probes.in_force(node), "the same value while nothing changes"


async def test_newer_change_cancels_the_probe_of_the_older_one(target: Target) -> None:
    async with RouteProbes(target.wake, overlay, target.probe) as route_probes:
        for generation in (1, 2):
            node = node_at(generation, generation)
            route_probes.follow(node)
            route_probes.settle(kernel_with(node), None)
            await target.pause()
        first, second = target.probes
        assert first.cancelled()
        assert not second.done()
        assert states(route_probes, node_at(2, 2)) == ["Probing"]


async def test_probe_that_raises_counts_as_no_answer(target: Target) -> None:
    async with RouteProbes(target.wake, overlay, target.probe) as route_probes:
        node = node_at(1, 1)
        route_probes.follow(node)
        route_probes.settle(kernel_with(node), None)
        await target.pause()
        target.probes[-1].set_exception(ValueError("odd"))
        await target.pause()
        (route_probe,) = route_probes.follow(node)
        assert route_probe.state == "RolledBack"
        assert "could not be probed: odd" in route_probe.message


async def test_probe_is_cancelled_when_the_object_is_deleted_or_the_agent_stops(target: Target) -> None:
    gone: list[Any] = [None, overlay(deleting=True)]
    for last in gone:
        async with RouteProbes(target.wake, overlay, target.probe) as route_probes:
            node = node_at(1, 1)
            route_probes.follow(node)
            route_probes.settle(kernel_with(node), None)
            await target.pause()
            assert route_probes.follow(last) == ()
            route_probes.settle(NOTHING, None)
            await target.pause()
            assert target.probes[-1].cancelled()
            # A later object is new: no routes came before it.
            (route_probe,) = route_probes.follow(node_at(1, 1))
            assert route_probe.previous == ()
    async with RouteProbes(target.wake, overlay, target.probe) as route_probes:
        route_probes.follow(node)
        route_probes.settle(kernel_with(node), None)
        await target.pause()
    assert target.probes[-1].cancelled()
