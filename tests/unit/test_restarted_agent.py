"""A restarted agent sends no traffic to a gateway that is down, and nothing outlasts a boot of the node."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from overlay_net.agent.gateway_prober import GatewayProber
from overlay_net.agent.gateway_watch import GatewayWatch
from overlay_net.domain.kernel.desired import LinkConfig
from overlay_net.domain.kernel.gateway_health import Target
from overlay_net.domain.kernel.parent_interface import interface_selector
from overlay_net.domain.kernel.remembered_gateways import remembered_down
from overlay_net.model.api import Listing
from overlay_net.model.conditions import parse_conditions
from overlay_net.model.desired_route import DesiredRoute, Gateway, HealthCheck, RouteSpec
from overlay_net.model.kernel import Observed
from overlay_net.model.node import NodeInstance
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route import NextHop, Route
from overlay_net.runtime.store import Store
from tests.fakes.agent import make_agent
from tests.fakes.virtual_time import VirtualTimeLoop
from tests.unit.factories import overlay
from tests.unit.test_node_agent import MARK, OURS, Kernel

FIRST, SECOND, THIRD = "192.168.100.1", "192.168.100.2", "192.168.100.3"
SUBNET = "10.1.0.0/16"


class Machine:
    """A node with its kernel, its object, and gateways that answer or not."""

    def __init__(self, *gateways: dict[str, Any], **route: Any) -> None:
        entry = {"subnet": SUBNET, "staticRoute": "r1", "gateways": list(gateways), **route}
        status = {"ipAddr": str(OURS), "gateway": FIRST}
        self.object = overlay(spec={"node": {"uid": "uid-1", "bootID": "boot-1"}, "routes": [entry]}, status=status)
        self.kernel = Kernel()
        self.silent: set[str] = set()

    async def probe(self, target: Target, timeout: float) -> bool:
        if str(target.address) in self.silent:
            await asyncio.sleep(timeout)
        return str(target.address) not in self.silent

    def used(self) -> list[str]:
        """The next hops, or the kind, of the route."""
        for route in self.kernel.fake.routes:
            if str(route.subnet) == SUBNET and route.protocol == MARK.protocol:
                return sorted(str(hop.gateway) for hop in route.next_hops) or [str(route.kind)]
        return []


@dataclass
class Run:
    """What one run of the agent did."""

    used: list[list[str]]
    """The next hops after each reconciliation, without repetitions."""
    reports: list[Report]


async def run_agent(machine: Machine, seconds: float, *, boot: str = "boot-1") -> Run:
    """Run the agent, and store its last report."""
    store: Store[NodeOverlay] = Store(lambda raw: raw["object"])
    woken = asyncio.Event()
    done = Run([], [])

    def show(found: NodeOverlay) -> None:
        raw = {"metadata": {"name": "n1", "resourceVersion": str(id(found))}, "object": found}
        store.replace(Listing((raw,), "1"))

    async with GatewayProber(machine.probe, woken.set) as prober:
        config = LinkConfig(interface_selector("eth0", None))
        agent = make_agent(
            machine.kernel, store, done.reports, config, MARK, gateways=GatewayWatch(prober), boot_id=boot
        )
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        show(machine.object)
        while loop.time() < end:
            woken.clear()
            await agent.reconcile("n1")
            if done.used[-1:] != [machine.used()]:
                done.used.append(machine.used())
            if done.reports:
                status = done.reports[-1].to_json()
                machine.object = replace(machine.object, report=Report.parse(status, parse_conditions(status)))
                show(machine.object)
            try:
                async with asyncio.timeout_at(end):
                    await woken.wait()
            except TimeoutError:
                break
    return done


def virtually(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main)


def gateways(*priorities: int) -> tuple[dict[str, Any], ...]:
    return tuple({"address": each, "priority": p} for each, p in zip((FIRST, SECOND, THIRD), priorities, strict=False))


DOWN = {
    "standby": (Machine(*gateways(0, 1)), {FIRST}, [SECOND]),
    "second standby": (Machine(*gateways(0, 1, 2)), {FIRST, SECOND}, [THIRD]),
    "ECMP": (Machine(*gateways(0, 0)), {FIRST}, [SECOND]),
    "ECMP of three": (Machine(*gateways(0, 0, 0)), {FIRST, THIRD}, [SECOND]),
    "unreachable": (Machine(*gateways(0, 1), onAllDown="unreachable"), {FIRST, SECOND}, ["unreachable"]),
    "withdraw": (Machine(*gateways(0, 1), onAllDown="withdraw"), {FIRST, SECOND}, []),
    "withdraw, one gateway": (Machine(*gateways(0), onAllDown="withdraw"), {FIRST}, []),
    "keep, one gateway": (Machine(*gateways(0)), {FIRST}, [FIRST]),
    "keep": (Machine(*gateways(0, 1)), {FIRST, SECOND}, [FIRST]),
}


@pytest.mark.parametrize("kind", DOWN)
def test_restarted_agent_keeps_traffic_away_from_gateways_that_are_down(kind: str) -> None:
    machine, silent, left = DOWN[kind]
    healthy = machine.object

    async def main() -> None:
        machine.object, machine.silent, machine.kernel = healthy, set(), Kernel()
        await run_agent(machine, 5)
        before = machine.used()
        machine.silent = silent
        await run_agent(machine, 10)
        assert machine.used() == left
        again = await run_agent(machine, 10)
        assert again.used == [left]
        assert again.reports == [], "the gateways are still down, and since the same time"
        machine.silent = set()
        back = await run_agent(machine, 3)
        assert machine.used() == before, "the first answer counts"
        assert back.reports[-1].silent_gateways == ()

    virtually(main())


@pytest.mark.parametrize("kind", ["standby", "ECMP", "ECMP of three", "unreachable"])
def test_without_a_report_the_kernel_shows_what_was_down(kind: str) -> None:
    """The API server may be unreachable at the restart, or since before the gateway went down."""
    machine, silent, left = DOWN[kind]
    healthy = replace(machine.object, report=overlay().report)

    async def main() -> None:
        machine.object, machine.silent, machine.kernel = healthy, set(silent), Kernel()
        await run_agent(machine, 10)
        assert machine.used() == left
        machine.object = healthy
        assert (await run_agent(machine, 10)).used == [left]
        assert machine.object.report.silent_gateways != ()

    virtually(main())


def test_nothing_is_remembered_after_a_boot() -> None:
    machine = Machine(*gateways(0, 1), onAllDown="withdraw")

    async def main() -> None:
        machine.silent = {FIRST}
        await run_agent(machine, 10)
        assert machine.used() == [SECOND]
        machine.kernel, machine.silent = Kernel(), set()
        machine.object = replace(machine.object, node=NodeInstance("uid-1", "boot-2"))
        assert (await run_agent(machine, 10, boot="boot-2")).used == [[FIRST]]

    virtually(main())


def test_report_that_the_kernel_contradicts_withdraws_no_route() -> None:
    """The gateway was up again when the API server could not be reached."""
    machine = Machine(*gateways(0), onAllDown="withdraw")

    async def main() -> None:
        machine.silent = {FIRST}
        await run_agent(machine, 10)
        reported = machine.object
        machine.silent = set()
        await run_agent(machine, 20)
        assert machine.used() == [FIRST]
        machine.object = reported
        assert (await run_agent(machine, 10)).used == [[FIRST]]
        assert machine.object.report.silent_gateways == ()

    virtually(main())


def test_gateway_that_is_not_probed_does_not_stay_down() -> None:
    machine = Machine(*gateways(0, 1))

    async def main() -> None:
        machine.silent = {FIRST}
        await run_agent(machine, 10)
        assert machine.used() == [SECOND]
        (route,) = machine.object.routes
        unchecked = DesiredRoute.to(route.subnet, replace(route.spec, check=HealthCheck("none")), "r1")
        machine.object = replace(machine.object, routes=(unchecked,))
        await run_agent(machine, 10)
        assert machine.used() == [FIRST]

    virtually(main())


def spec(*gateways: tuple[str, int], **more: Any) -> RouteSpec:
    return RouteSpec(tuple(Gateway(ip_address(each), priority=p) for each, p in gateways), **more)


@pytest.mark.parametrize(
    ("desired", "route", "down"),
    [
        (spec((FIRST, 0), (SECOND, 1)), [FIRST], []),
        (spec((FIRST, 0), (SECOND, 1)), [SECOND], [FIRST]),
        (spec((FIRST, 0), (SECOND, 0), (THIRD, 1)), [THIRD], [FIRST, SECOND]),
        (spec((FIRST, 0), (SECOND, 0), (THIRD, 1)), [SECOND], [FIRST]),
        (spec((FIRST, 0), (SECOND, 0)), [FIRST, SECOND], []),
        # The specification was changed while no agent was running.
        (spec((FIRST, 0), (SECOND, 1)), [THIRD], []),
        (spec((FIRST, 0), (SECOND, 1)), [], []),
        (spec((FIRST, 0)), [FIRST], []),
        (spec((FIRST, 0), (SECOND, 1), check=HealthCheck("none")), [SECOND], []),
        (spec((FIRST, 0), on_all_down="unreachable"), "unreachable", [FIRST]),
        (spec((FIRST, 0), (SECOND, 1)), "unreachable", []),
        (spec(kind="blackhole"), "blackhole", []),
    ],
)
def test_gateways_that_a_route_in_the_kernel_leaves_out_were_down(
    desired: RouteSpec, route: Any, down: list[str]
) -> None:
    subnet = ip_network(SUBNET)
    kind = route if isinstance(route, str) else "unicast"
    hops = () if isinstance(route, str) else tuple(NextHop(ip_address(each), 7) for each in route)
    present, foreign = (
        (Route(subnet, hops, protocol, kind=kind),) if hops or kind != "unicast" else ()  # type: ignore[arg-type]
        for protocol in (MARK.protocol, 4)
    )
    routes = (DesiredRoute.to(subnet, desired, "r1"),)
    assert {str(each) for each in remembered_down(routes, Observed(routes=present), MARK, ())} == set(down)
    assert remembered_down(routes, Observed(routes=foreign), MARK, ()) == frozenset()
