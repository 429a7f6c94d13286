"""Which address of a route is looked up, when, and what follows from a route that the kernel does not use."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest

from overlay_net.agent.paced import CHECK_INTERVAL, REST
from overlay_net.agent.shadow_watch import STEP, ShadowWatch
from overlay_net.domain.kernel.shadowed_routes import find_shadowed, lookup_targets
from overlay_net.domain.status.events import report_events
from overlay_net.domain.status.static_route_counts import find_state
from overlay_net.model.address_spans import AddressSpans
from overlay_net.model.conditions import find_condition, parse_conditions
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import KernelPlan, Problem
from overlay_net.model.node_report import Report
from overlay_net.model.route import NextHop, Route
from overlay_net.model.route_key import decode_destination
from overlay_net.model.route_lookup import RouteLookup
from tests.fakes.agent import NoShadows
from tests.fakes.static_route_status import find_status, table
from tests.fakes.virtual_time import VirtualTimeLoop
from tests.unit.factories import desired_route, overlay, own_gateways, static_route
from tests.unit.test_node_agent import Node, assigned, ready

MARK = OwnershipMark(117, "overlay-net")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LINKS = (Link(2, "eth0", "veth", None, None, up=True), Link(3, "tmp0", "macvlan", 2, "overlay-net", up=True))


def kernel_route(text: str) -> Route:
    """``SUBNET [PROTOCOL [LINK [METRIC]]]``: ours on tmp0 by default."""
    subnet, protocol, link, metric = (*text.split(), *("117", "3", "0")[len(text.split()) - 1 :])
    return Route(ip_network(subnet), (NextHop(None, int(link)),), int(protocol), int(metric))


def looked_up(*routes: str) -> dict[str, str]:
    """Subnet -> the address that is looked up, of each route of ours."""
    observed = Observed(LINKS, routes=tuple(kernel_route(each) for each in routes))
    placed = tuple(
        (desired_route(str(r.subnet), metric=r.metric), "tmp0") for r in observed.routes if r.protocol == 117
    )
    targets = lookup_targets(placed, observed, MARK)
    return {str(each.route.subnet): str(each.lookup.destination) for each in targets}


@pytest.mark.parametrize(
    ("routes", "address"),
    [
        (["192.168.0.0/24"], "192.168.0.1"),
        (["192.168.0.0/30"], "192.168.0.1"),
        (["192.168.0.0/31"], "192.168.0.0"),
        (["192.168.0.5/32"], "192.168.0.5"),
        (["2001:db8::/32"], "2001:db8::1"),
        (["2001:db8::5/128"], "2001:db8::5"),
        (["0.0.0.0/0"], "1.0.0.1"),
        (["0.0.0.0/1"], "1.0.0.1"),
        (["128.0.0.0/1"], "128.0.0.1"),
        (["::/0"], "2000::1"),
        # A route of another process inside is asked for, wherever it is; our own and the kernel's are avoided.
        (["192.168.0.0/16", "192.168.7.0/24 4 2"], "192.168.7.1"),
        (["192.168.0.0/16", "192.168.0.0/17 117", "192.168.200.9/32 186 2"], "192.168.200.9"),
        (["192.168.0.0/16", "192.168.0.0/24 117", "192.168.1.0/24 117"], "192.168.2.0"),
        (["192.168.0.0/16", "192.168.0.0/24 2 2", "192.168.1.0/25 2 2"], "192.168.1.128"),
        (["192.168.0.0/16", "192.168.0.0/24 4 3"], "192.168.1.0"),
        (["192.168.0.0/24", "192.168.0.0/24 4 2 9"], "192.168.0.1"),
        (["2001:db8::/32", "2001:db8::/48 4 3", "2001:db8:5::/48 4 2"], "2001:db8:5::1"),
        # A wide route is for what nothing else covers.
        (["10.0.0.0/8", "10.0.0.0/16 4 2", "10.9.0.0/16 4 2"], "10.1.0.0"),
        (["0.0.0.0/0", "1.0.0.0/8 4 2", "10.0.0.0/8 4 2"], "2.0.0.0"),
        # More specific routes cover all of it.
        (["192.168.0.0/24", "192.168.0.0/25 117", "192.168.0.128/25 2 2"], None),
    ],
)
def test_looked_up_address(routes: list[str], address: str | None) -> None:
    assert looked_up(*routes).get(routes[0]) == address


def test_routes_that_carry_no_traffic_of_the_table_main_are_not_looked_up() -> None:
    routes = (
        desired_route("192.168.0.0/24", kind="blackhole"),
        desired_route("192.168.1.0/24", table=70),
        desired_route("192.168.2.0/24"),
    )
    observed = Observed(
        LINKS,
        routes=(
            Route(routes[0].subnet, (), 117, kind="blackhole"),
            kernel_route("192.168.1.0/24").replace(table=70),
            # Every gateway is down, and ``onAllDown`` is unreachable.
            Route(routes[2].subnet, (), 117, kind="unreachable"),
        ),
    )
    assert lookup_targets([(each, "") for each in routes], observed, MARK) == ()


def test_an_unknown_answer_is_no_shadow() -> None:
    observed = Observed(LINKS, routes=(kernel_route("192.168.0.0/24"), kernel_route("192.168.0.0/25 4 2")))
    targets = lookup_targets([(desired_route("192.168.0.0/24"), "tmp0")], observed, MARK)
    assert find_shadowed(targets, [None], observed, MARK) == ()
    assert len(find_shadowed(targets, [observed.routes[1]], observed, MARK)) == 1


# --- The watch --------------------------------------------------------------------------------------------------------


class Routing:
    """A kernel of one foreign route, which wins while it is there; ``error``: the kernel does not answer."""

    def __init__(self) -> None:
        self.ours: tuple[Route, ...] = (kernel_route("192.168.0.0/24"),)
        self.foreign: tuple[Route, ...] = ()
        self.error = ""
        self.asked: list[float] = []
        self.observations = 0
        self.duration = 0.0

    async def observe_rules(self) -> Observed:
        self.observations += 1
        return Observed(LINKS)

    async def read_main_table(self, spans: AddressSpans) -> tuple[Route, ...]:
        return tuple(each for each in self.observe().routes if spans.has_start(decode_destination(each.key)))

    def observe(self) -> Observed:
        return Observed(LINKS, routes=(*self.ours, *self.foreign))

    async def look_up(self, lookups: Sequence[RouteLookup]) -> list[Route | None]:
        loop = asyncio.get_running_loop()
        self.asked.append(loop.time())
        await asyncio.sleep(self.duration)
        if self.error:
            raise KernelError(self.error)
        return [next(iter(self.foreign), kernel_route("192.168.0.0/24")) for _ in lookups]


class Watched:
    """A watch of one route on ``routing``; ``changes``: the number of shadowed routes after each change."""

    def __init__(self, routing: Routing) -> None:
        self.changes: list[int] = []
        self.watch = ShadowWatch(
            routing, MARK, lambda: self.changes.append(len(self.watch.shadowed)), asyncio.get_running_loop().time
        )
        self.plan = KernelPlan(placed=((desired_route("192.168.0.0/24"), "tmp0"),))
        self._routing = routing
        self._task = asyncio.get_running_loop().create_task(self.watch.run())

    def is_known(self) -> bool:
        return self.watch.known

    async def reconciled(self, seconds: float = 0) -> None:
        self.watch.reconciling()
        observed = self._routing.observe()
        await asyncio.sleep(seconds)
        self.watch.follow(self.plan, observed)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def run_virtual(scenario: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario)


def test_failed_lookup_keeps_the_last_answers_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        routing = Routing()
        watched = Watched(routing)
        routing.foreign = (kernel_route("192.168.0.0/25 4 2"),)
        await watched.reconciled()
        assert not watched.is_known()
        await asyncio.sleep(0.1)
        assert watched.is_known()
        assert watched.changes == [1]
        routing.error, routing.foreign = "No buffer space available", ()
        for _ in range(3):
            watched.watch.kernel_changed()
            await asyncio.sleep(5)
        assert len(watched.watch.shadowed) == 1, "not knowing is not none"
        routing.error = ""
        watched.watch.kernel_changed()
        await asyncio.sleep(5)
        assert watched.changes == [1, 0]
        await watched.close()

    run_virtual(scenario())
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == [
        "cannot look up which routes the kernel uses"
    ]


def test_an_agent_whose_kernel_does_not_answer_reports_nevertheless() -> None:
    async def scenario() -> None:
        routing = Routing()
        routing.duration = 3600
        watched = Watched(routing)
        await watched.reconciled()
        await asyncio.sleep(0.9)
        assert not watched.is_known()
        await asyncio.sleep(0.1)
        assert watched.is_known()
        await watched.close()

    run_virtual(scenario())


def test_constant_changes_of_others_cost_a_bounded_share_of_the_time() -> None:
    async def scenario() -> None:
        routing = Routing()
        routing.duration = 0.5
        watched = Watched(routing)
        await watched.reconciled()
        for _ in range(6000):
            watched.watch.kernel_changed()
            await asyncio.sleep(0.01)
        gaps = [later - earlier for earlier, later in zip(routing.asked, routing.asked[1:], strict=False)]
        assert gaps
        assert min(gaps) >= REST * routing.duration
        routing.duration = 0
        await asyncio.sleep(60)
        asked = len(routing.asked)
        for _ in range(500):
            watched.watch.kernel_changed()
            await asyncio.sleep(0.01)
        assert asked + 4 <= len(routing.asked) <= asked + 5 / CHECK_INTERVAL + 1
        await watched.close()

    run_virtual(scenario())


def test_a_repair_goes_before_the_check_which_uses_its_observation() -> None:
    async def scenario() -> None:
        routing = Routing()
        watched = Watched(routing)
        await watched.reconciled()
        await asyncio.sleep(10)
        asked = len(routing.asked)
        watched.watch.kernel_changed()
        await watched.reconciled(seconds=0.05)
        assert len(routing.asked) == asked, "the repair is not disturbed"
        await asyncio.sleep(10)
        assert len(routing.asked) > asked
        assert routing.observations == 0, "the kernel is not observed twice"
        await watched.close()

    run_virtual(scenario())


def test_a_repair_during_a_check_of_many_routes_goes_first() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        routing = Routing()
        watched = Watched(routing)
        subnets = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(2 * STEP)]
        routing.ours = tuple(map(kernel_route, subnets))
        watched.plan = KernelPlan(placed=tuple((desired_route(each), "tmp0") for each in subnets))
        routing.duration = 0.01
        await watched.reconciled()
        await asyncio.sleep(0.005)
        assert len(routing.asked) == 1
        await watched.reconciled(seconds=5)
        assert len(routing.asked) == 1, "the repair is not disturbed"
        repaired = loop.time()
        await asyncio.sleep(10)
        assert routing.asked[1] == repaired
        assert routing.asked[2] < repaired + 2 * CHECK_INTERVAL, "the wait was no work to rest from"
        assert len(routing.asked) == 4
        await watched.close()

    run_virtual(scenario())


def test_a_change_during_a_reconciliation_is_observed_afterwards() -> None:
    async def scenario() -> None:
        routing = Routing()
        watched = Watched(routing)
        repair = asyncio.get_running_loop().create_task(watched.reconciled(seconds=0.05))
        await asyncio.sleep(0.01)
        routing.foreign = (kernel_route("192.168.0.128/25 4 2"),)
        watched.watch.kernel_changed()
        await repair
        await asyncio.sleep(10)
        assert routing.observations == 1
        assert watched.changes == [1]
        await watched.close()

    run_virtual(scenario())


# --- Report and status ------------------------------------------------------------------------------------------------


class OneShadow(NoShadows):
    def __init__(self, route: DesiredRoute, message: str = "not used") -> None:
        self.shadowed = (Problem("Shadowed", message, route),)


async def test_shadowed_route_is_reported_as_failed_and_the_node_is_not_ready() -> None:
    one = Node(shadows=OneShadow(assigned().routes[0], "192.168.0.0/25 on eth1 takes precedence"))
    one.answer(assigned())
    await one.reconcile()
    report = one.reports[-1]
    assert [(str(each.subnet), each.reason) for each in report.failures] == [("10.1.0.0/16", "Shadowed")]
    assert (report.routes_ready, report.routes_failed) == (0, 1)
    assert ready(report) == (False, "RoutesFailing")
    condition = find_condition(report.conditions, "Ready")
    assert condition is not None
    assert condition.message == ("1 of 1 routes are not used; 10.1.0.0/16: 192.168.0.0/25 on eth1 takes precedence")


async def test_shadow_of_a_route_that_is_not_desired_any_more_is_not_reported() -> None:
    one = Node(shadows=OneShadow(desired_route("10.9.0.0/16")))
    one.answer(assigned())
    await one.reconcile()
    assert ready(one.reports[-1]) == (True, "Ready")


def reported(*failures: Mapping[str, object]) -> Report:
    status = {"observedGeneration": 1, "routes": list(failures), "routesFailed": len(failures), "ipAddr": "10.0.0.4/24"}
    return Report.parse(status, ())


def test_static_route_is_not_ready_on_nodes_where_another_route_wins() -> None:
    message = "in the kernel but not used: 192.168.0.0/25 on eth1 (protocol 4, metric 0) takes precedence"
    failure = {"subnet": "192.168.0.0/24", "staticRoute": "r1", "state": "Shadowed", "message": message}
    route = static_route()
    status = find_status(route, [table("n1", route), table("n2", route, failures=[failure])])
    assert (status["desired"], status["ready"], status["failed"]) == (2, 1, 1)
    conditions = parse_conditions(status)
    programmed = find_condition(conditions, "Programmed")
    assert programmed is not None
    assert (programmed.status, programmed.reason) == (False, "Failing")
    assert programmed.message == f"in place on 1 of 2 nodes; n2: 192.168.0.0/24: {message}"
    assert find_state(conditions) == "failing"


def test_an_event_names_the_winner() -> None:
    failure = {"subnet": "192.168.0.0/24", "staticRoute": "r1", "state": "Shadowed", "message": "eth1 takes precedence"}
    before = replace(overlay("n1"), report=reported())
    (event,) = report_events(before, replace(before, report=reported(failure)), own_gateways)
    assert (event.reason, event.message) == ("RoutesFailing", "192.168.0.0/24: eth1 takes precedence")


async def test_a_new_agent_reports_once_its_routes_have_been_checked() -> None:
    """Otherwise its node would be ready for a moment, and lose its startup taint."""
    shadows = NoShadows()
    shadows.known = False
    one = Node(shadows=shadows)
    one.answer(assigned())
    assert await one.reconcile() == 1.0
    assert one.reports == []
    assert assigned().routes[0].subnet in {each.subnet for each in one.kernel.fake.routes}
    shadows.known = True
    assert await one.reconcile() == 60
    assert ready(one.reports[-1]) == (True, "Ready")
