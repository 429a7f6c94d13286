"""Which questions an agent asks about a change, when, and what becomes of their answers."""

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


def told(generation: int, *gateways: int) -> NodeOverlay:
    routes = [
        {"subnet": f"10.{place}.0.0/16", "staticRoute": "r1", "gateways": [{"address": f"192.168.100.{gateway}"}]}
        for place, gateway in enumerate(gateways, 1)
    ]
    probe = {"icmp": "10.1.0.9"}
    generations = [{"staticRoute": "r1", "uid": "u1", "generation": generation, "probe": probe}]
    return overlay(spec={"routes": routes, "generations": generations}, generation=generation)


def having(node: NodeOverlay, count: int | None = None) -> KernelPlan:
    return KernelPlan(placed=tuple((route, "tmp0") for route in node.routes[:count]))


class World:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[str]] = []
        self.woken = 0

    async def ask(self, probe: Probe, source: IpAddress | None) -> str:
        self.asked.append(asyncio.get_running_loop().create_future())
        return await self.asked[-1]

    def wake(self) -> None:
        self.woken += 1

    async def answer(self, failure: str = "") -> None:
        """The last question ends, and the agent is woken."""
        before = self.woken
        self.asked[-1].set_result(failure)
        while self.woken == before:
            await asyncio.sleep(0)

    async def pause(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
def world() -> World:
    return World()


def states(route_probes: RouteProbes, node: NodeOverlay) -> list[str]:
    return [route_probe.state for route_probe in route_probes.follow(node)]


async def test_it_is_asked_once_the_kernel_has_the_routes_and_not_before(world: World) -> None:
    async with RouteProbes(world.wake, overlay, world.ask) as route_probes:
        node = told(1, 1)
        assert states(route_probes, node) == ["Probing"]
        route_probes.settle(NOTHING, None)
        await world.pause()
        assert not world.asked
        for _ in range(3):
            route_probes.settle(having(node), None)
            await world.pause()
        assert len(world.asked) == 1
        await world.answer()
        assert states(route_probes, node) == []
        assert route_probes.in_force(node) is node


async def test_a_route_that_is_lost_for_a_moment_does_not_begin_it_anew_and_another_one_does(world: World) -> None:
    async with RouteProbes(world.wake, overlay, world.ask) as route_probes:
        node = told(1, 1, 2)
        route_probes.follow(node)
        route_probes.settle(having(node, 1), None)
        await world.pause()
        route_probes.settle(NOTHING, None)
        await world.pause()
        assert len(world.asked) == 1
        await world.answer()
        assert states(route_probes, node) == ["Probing"], "the second route is not there yet"
        route_probes.settle(having(node), None)
        await world.pause()
        assert len(world.asked) == 2
        await world.answer("no answer")
        assert states(route_probes, node) == ["RolledBack"]
        assert route_probes.in_force(node).routes == ()
        assert route_probes.in_force(node) is route_probes.in_force(node), "the same value while nothing changes"


async def test_a_newer_change_ends_the_question_about_the_older_one(world: World) -> None:
    async with RouteProbes(world.wake, overlay, world.ask) as route_probes:
        for generation in (1, 2):
            node = told(generation, generation)
            route_probes.follow(node)
            route_probes.settle(having(node), None)
            await world.pause()
        first, second = world.asked
        assert first.cancelled()
        assert not second.done()
        assert states(route_probes, told(2, 2)) == ["Probing"]


async def test_a_question_that_breaks_counts_as_no_answer(world: World) -> None:
    async with RouteProbes(world.wake, overlay, world.ask) as route_probes:
        node = told(1, 1)
        route_probes.follow(node)
        route_probes.settle(having(node), None)
        await world.pause()
        world.asked[-1].set_exception(ValueError("odd"))
        await world.pause()
        (route_probe,) = route_probes.follow(node)
        assert route_probe.state == "RolledBack"
        assert "could not be probed: odd" in route_probe.message


async def test_nothing_is_asked_any_more_when_the_object_goes_or_the_agent_ends(world: World) -> None:
    gone: list[Any] = [None, overlay(deleting=True)]
    for last in gone:
        async with RouteProbes(world.wake, overlay, world.ask) as route_probes:
            node = told(1, 1)
            route_probes.follow(node)
            route_probes.settle(having(node), None)
            await world.pause()
            assert route_probes.follow(last) == ()
            route_probes.settle(NOTHING, None)
            await world.pause()
            assert world.asked[-1].cancelled()
            # What comes now is new: nothing was before.
            (route_probe,) = route_probes.follow(told(1, 1))
            assert route_probe.previous == ()
    async with RouteProbes(world.wake, overlay, world.ask) as route_probes:
        route_probes.follow(node)
        route_probes.settle(having(node), None)
        await world.pause()
    assert world.asked[-1].cancelled()
