"""A link that cannot carry traffic: which gateways are cut off, what is used instead, and what a flapping link does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.adapters.netlink.bulk.codec import attribute, attribute_u32
from overlay_net.adapters.netlink.interface_messages import (
    IFINFOMSG,
    IFLA_IFNAME,
    IFLA_LINK,
    IFLA_LINK_NETNSID,
    IFLA_OPERSTATE,
    parse_link,
)
from overlay_net.agent.gateway_watch import GatewayWatch
from overlay_net.domain.kernel.agent_conditions import NeighbourState, gateway_condition
from overlay_net.domain.kernel.gateway_selection import active_gateways
from overlay_net.domain.kernel.link_health import LinkHealth
from overlay_net.domain.kernel.link_lookup import find_fault
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.domain.kernel.report import make_report
from overlay_net.domain.status.events import report_events
from overlay_net.model.conditions import find_condition, parse_conditions
from overlay_net.model.desired_route import DesiredRoute, Gateway, HealthCheck, RouteSpec
from overlay_net.model.kernel import Address, Desired, DesiredLink, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import LinkFault
from overlay_net.model.node_report import Report, SilentGateway
from overlay_net.model.route import RTPROT_KERNEL, NextHop, Route
from tests.fakes.agent import NoProber
from tests.fakes.kernel import FakeKernel
from tests.fakes.static_route_status import find_status, table
from tests.unit.factories import overlay, own_gateways, static_route
from tests.unit.test_kernel_plan import converge

MARK = OwnershipMark(117, "overlay-net")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OVERLAY = ip_interface("192.168.100.4/24")
OVERLAY_GATEWAY, STORAGE_GATEWAY = "192.168.100.1", "10.20.0.1"
NO_CARRIER = "has no carrier"


def link(index: int, name: str, kind: str | None = None, parent: int | None = None, **state: Any) -> Link:
    return Link(index, name, kind, parent, "overlay-net" if name == "tmp0" else None, **({"up": True} | state))


ETH0, TMP0 = link(2, "eth0"), link(9, "tmp0", "macvlan", 2)


@pytest.mark.parametrize(
    ("links", "fault"),
    [
        ([link(2, "eth0")], ""),
        ([link(2, "eth0", up=False)], "eth0 is down"),
        ([link(2, "eth0", obstacle=NO_CARRIER)], "eth0 has no carrier"),
        ([link(2, "eth0", obstacle="is dormant")], "eth0 is dormant"),
        ([TMP0, ETH0], ""),
        ([TMP0, replace(ETH0, up=False)], "eth0, the parent of tmp0, is down"),
        ([TMP0, replace(ETH0, obstacle=NO_CARRIER)], "eth0, the parent of tmp0, has no carrier"),
        ([replace(TMP0, obstacle=NO_CARRIER), replace(ETH0, up=False)], "eth0, the parent of tmp0, is down"),
        ([replace(TMP0, obstacle=NO_CARRIER), ETH0], "tmp0 has no carrier"),
        ([TMP0], ""),
        ([TMP0, link(2, "eth0.5", "vlan", 3), link(3, "eth0", up=False)], "eth0, below tmp0, is down"),
        ([link(9, "tmp0", "ipvlan", 2), replace(ETH0, up=False)], "eth0, the parent of tmp0, is down"),
        ([link(2, "eth0", "veth", 3), link(3, "cali1", "veth", 2, up=False)], ""),
        ([link(4, "gre1", "gre", 2), replace(ETH0, up=False)], ""),
        ([link(2, "a", "macvlan", 3), link(3, "b", "macvlan", 2)], ""),
    ],
)
def test_a_link_carries_traffic_only_if_it_and_its_parents_do(links: list[Link], fault: str) -> None:
    assert find_fault(links[0], {each.index: each for each in links}) == fault


UP, LOWER_UP = 0x1, 0x10000


@pytest.mark.parametrize(
    ("flags", "state", "up", "obstacle"),
    [
        (UP | LOWER_UP, 6, True, ""),
        (UP | LOWER_UP, 0, True, ""),
        (UP, 2, True, NO_CARRIER),
        (UP, 3, True, NO_CARRIER),
        (UP | LOWER_UP, 5, True, "is dormant"),
        # The operational state follows the carrier later.
        (UP | LOWER_UP, 3, True, ""),
        (UP, 6, True, NO_CARRIER),
        (LOWER_UP, 2, False, ""),
        (0, 2, False, ""),
    ],
)
def test_flags_and_state_of_a_link_show_whether_it_can_carry_traffic(
    flags: int, state: int, up: bool, obstacle: str
) -> None:
    body = IFINFOMSG.pack(0, 0, 2, flags, 0) + attribute(IFLA_IFNAME, b"eth0\0") + attribute_u32(IFLA_LINK, 5)
    body += attribute(IFLA_OPERSTATE, bytes([state]))
    found = parse_link(body)
    assert (found.up, found.obstacle, found.parent) == (up, obstacle, 5)
    assert parse_link(body + attribute_u32(IFLA_LINK_NETNSID, 0)).parent is None, "5 is another link there"


def observed(eth1: Link | None, *, eth0: Link = ETH0, more: tuple[Address, ...] = ()) -> Observed:
    """A node with the overlay on eth0, and storage on eth1; None: eth1 is deleted."""
    storage = () if eth1 is None else (Address(3, ip_interface("10.20.0.2/24"), None),)
    return Observed(
        links=(eth0, TMP0, *(() if eth1 is None else (eth1,))),
        addresses=(Address(2, ip_interface("10.176.162.151/26"), None), Address(9, OVERLAY, 117), *storage, *more),
        routes=(Route(OVERLAY.network, (NextHop(None, 9),), RTPROT_KERNEL, source=OVERLAY.ip),),
        sysctls={("eth0", "arp_ignore"): "1"},
    )


FAULTS = {
    "no carrier": link(3, "eth1", obstacle=NO_CARRIER),
    "dormant": link(3, "eth1", obstacle="is dormant"),
    "down": link(3, "eth1", up=False),
    "deleted": None,
}


def route(*gateways: tuple[str, int], **spec: Any) -> DesiredRoute:
    listed = tuple(Gateway(ip_address(address), weight=2, priority=priority) for address, priority in gateways)
    return DesiredRoute.to(ip_network("172.20.0.0/16"), RouteSpec(listed, **spec), "r")


def desired(*routes: DesiredRoute, **more: Any) -> Desired:
    return Desired(DesiredLink("tmp0", "eth0"), OVERLAY, routes, interface="eth0", **more)


def hops(kernel: FakeKernel) -> list[list[str]]:
    return [[str(hop.gateway) for hop in each.next_hops] for each in kernel.routes if each.protocol == 117]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("priorities", [(0, 0), (0, 1)], ids=["ECMP", "standby"])
@pytest.mark.parametrize("check", [HealthCheck(), HealthCheck("none")], ids=["probed", "not probed"])
def test_a_gateway_on_a_link_that_fails_is_dropped_while_another_one_remains(
    fault: str, priorities: tuple[int, int], check: HealthCheck
) -> None:
    target = desired(route((STORAGE_GATEWAY, priorities[0]), (OVERLAY_GATEWAY, priorities[1]), check=check))
    kernel = FakeKernel(MARK, observed(link(3, "eth1")))
    converge(kernel, target)
    before = hops(kernel)
    assert before == [[STORAGE_GATEWAY, OVERLAY_GATEWAY] if priorities == (0, 0) else [STORAGE_GATEWAY]]
    failed = FakeKernel(MARK, replace(observed(FAULTS[fault]), routes=kernel.observe().routes))
    converge(failed, target)
    assert hops(failed) == [[OVERLAY_GATEWAY]]
    (hop,) = next(each for each in failed.routes if each.protocol == 117).next_hops
    assert hop.weight == 1
    plan = plan_kernel(target, failed.observe(), MARK)
    assert [str(each.gateway) for each in plan.link_faults] == [STORAGE_GATEWAY]
    assert not plan.problems
    back = FakeKernel(MARK, replace(observed(link(3, "eth1")), routes=failed.observe().routes))
    converge(back, target)
    assert hops(back) == before


def test_a_standby_gateway_on_a_failed_link_is_reported_although_it_is_not_used() -> None:
    target = desired(route((OVERLAY_GATEWAY, 0), (STORAGE_GATEWAY, 1)))
    (fault,) = plan_kernel(target, observed(FAULTS["down"]), MARK).link_faults
    assert fault == LinkFault(ip_address(STORAGE_GATEWAY), "LinkDown", "eth1 is down")


@pytest.mark.parametrize(
    ("fault", "reason"), [("no carrier", None), ("down", "LinkDown"), ("deleted", "GatewayNotOnLink")]
)
def test_a_route_keeps_its_only_gateway_if_the_kernel_accepts_it(fault: str, reason: str | None) -> None:
    target = desired(route((STORAGE_GATEWAY, 0)))
    plan = plan_kernel(target, observed(FAULTS[fault]), MARK)
    assert [each.reason for each in plan.problems] == ([reason] if reason else [])
    assert bool(plan.actions) is (reason is None)


@pytest.mark.parametrize(("choice", "expected"), [("keep", ["10.20.0.1"]), ("withdraw", None), ("unreachable", [])])
def test_on_all_down_applies_if_each_gateway_is_silent_or_cut_off(choice: Any, expected: list[str] | None) -> None:
    spec = route((OVERLAY_GATEWAY, 0), (STORAGE_GATEWAY, 1), on_all_down=choice).spec
    active = active_gateways(spec, {ip_address(STORAGE_GATEWAY)}, cut_off={ip_address(OVERLAY_GATEWAY)})
    if expected is None:
        assert active.kind is None
    else:
        assert [str(each.address) for each in active.gateways] == expected, "a silent gateway is better than no link"


def test_another_link_with_the_subnet_of_the_gateway_takes_over() -> None:
    second = Address(4, ip_interface("10.20.0.3/24"), None)
    both = observed(FAULTS["no carrier"], more=(second,))
    both = replace(both, links=(*both.links, link(4, "eth2")))
    target = desired(route((STORAGE_GATEWAY, 0)))
    plan = plan_kernel(target, both, MARK)
    (action,) = plan.actions
    assert action.route.next_hops == (NextHop(ip_address(STORAGE_GATEWAY), 4),)  # type: ignore[union-attr]
    assert not plan.link_faults


def test_a_failed_overlay_link_does_not_send_its_gateway_to_a_wider_subnet_of_another_link() -> None:
    bridge = Address(4, ip_interface("192.168.0.1/16"), None)
    failed = observed(None, eth0=replace(ETH0, obstacle=NO_CARRIER), more=(bridge,))
    failed = replace(failed, links=(*failed.links, link(4, "cni0", "bridge")))
    plan = plan_kernel(desired(route((OVERLAY_GATEWAY, 0))), failed, MARK)
    routes = [each.route for each in plan.actions if hasattr(each, "route")]
    assert [each.next_hops[0].link for each in routes] == [TMP0.index]


def test_a_link_local_gateway_is_not_looked_for_on_another_link() -> None:
    own = ip_interface("fd00:7::4/64")
    failed = Observed(
        links=(ETH0, replace(TMP0, obstacle=NO_CARRIER), link(4, "cali1", "veth")),
        addresses=(Address(9, own, 117), Address(4, ip_interface("fe80::4/64"), None, link_local=True)),
        routes=(Route(own.network, (NextHop(None, 9),), RTPROT_KERNEL, 256),),
        sysctls={("eth0", "arp_ignore"): "1"},
    )
    gateway = DesiredRoute.to(ip_network("fd00:99::/64"), RouteSpec((Gateway(ip_address("fe80::1")),)))
    target = Desired(DesiredLink("tmp0", "eth0"), own, (gateway,))
    plan = plan_kernel(target, failed, MARK)
    assert [each.route.next_hops[0].link for each in plan.actions if hasattr(each, "route")] == [TMP0.index]


# --- Reports ---------------------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def report(target: Desired, state: Observed, watch: GatewayWatch) -> Report:
    plan = plan_kernel(target, state, MARK)
    watch.follow(target, state, plan)
    neighbours = NeighbourState(silent=watch.failures, probes=watch.result, link_down=watch.link_down)
    return make_report(overlay(), target, DesiredLink("tmp0", "eth0"), plan, {}, OVERLAY, NOW, neighbours)


def in_place(target: Desired, state: Observed) -> Observed:
    kernel = FakeKernel(MARK, state)
    converge(kernel, target)
    return kernel.observe()


@pytest.mark.parametrize(
    ("gateways", "state", "ready", "reachable"),
    [
        (((STORAGE_GATEWAY, 0), (OVERLAY_GATEWAY, 1)), observed(FAULTS["no carrier"]), (True, "Ready"), "LinkDown"),
        (((OVERLAY_GATEWAY, 0), (STORAGE_GATEWAY, 1)), observed(FAULTS["down"]), (True, "Ready"), "LinkDown"),
        (((STORAGE_GATEWAY, 0), (OVERLAY_GATEWAY, 0)), observed(None), (True, "Ready"), "GatewayNotOnLink"),
        (((STORAGE_GATEWAY, 0),), observed(FAULTS["no carrier"]), (False, "LinkDown"), "LinkDown"),
        (
            ((OVERLAY_GATEWAY, 0),),
            observed(None, eth0=replace(ETH0, obstacle=NO_CARRIER)),
            (False, "LinkDown"),
            "LinkDown",
        ),
        (
            ((STORAGE_GATEWAY, 0),),
            observed(link(3, "eth1"), eth0=replace(ETH0, obstacle=NO_CARRIER)),
            (False, "LinkDown"),
            "Reachable",
        ),
    ],
)
def test_the_conditions_of_a_node_name_the_links_that_fail(
    gateways: tuple[tuple[str, int], ...], state: Observed, ready: tuple[bool, str], reachable: str
) -> None:
    target = desired(route(*gateways))
    found = report(target, in_place(target, state), GatewayWatch(NoProber()))
    conditions = {each.type: each for each in found.conditions}
    assert (conditions["Ready"].status, conditions["Ready"].reason) == ready
    assert conditions["GatewayReachable"].reason == reachable
    assert conditions["GatewayReachable"].status is (reachable == "Reachable")
    assert Report.parse(found.to_json(), found.conditions) == found


WITHOUT_GATEWAY = DesiredRoute.to(ip_network("172.20.0.0/16"), RouteSpec())


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (Desired(DesiredLink("eth1", "eth1", "address"), ip_interface("10.20.0.2/24")), "LinkDown"),
        (Desired(routes=(WITHOUT_GATEWAY,), fallback=ip_network("10.0.0.0/8")), "LinkDown"),
        (Desired(routes=(), fallback=ip_network("10.0.0.0/8")), "Ready"),
    ],
    ids=["link mode address", "routes only, by the gateway of the node", "routes only, without a route"],
)
def test_a_node_without_a_link_of_its_own_depends_on_the_link_that_it_uses(target: Desired, reason: str) -> None:
    own_route = Route(ip_network("10.0.0.0/8"), (NextHop(ip_address(STORAGE_GATEWAY), 3),), 3)
    state = Observed(
        links=(ETH0, FAULTS["no carrier"]),  # type: ignore[arg-type]
        addresses=(Address(3, ip_interface("10.20.0.2/24"), None),),
        routes=(own_route,),
    )
    watch = GatewayWatch(NoProber())
    state = in_place(target, state)
    plan = plan_kernel(target, state, MARK)
    watch.follow(target, state, plan)
    neighbours = NeighbourState(link_down=watch.link_down)
    kind = DesiredLink("", "eth1", "none") if target.link is None else target.link
    report = make_report(overlay(), target, kind, plan, {}, target.address, NOW, neighbours)
    ready = find_condition(report.conditions, "Ready")
    assert ready is not None
    assert ready.reason == reason
    if reason == "LinkDown":
        assert ready.message == "eth1 has no carrier"


def test_the_condition_names_silent_gateways_and_those_without_a_link_in_one_message() -> None:
    silent = SilentGateway(ip_address(OVERLAY_GATEWAY), NOW, "no answer to ARP on tmp0")
    cut_off = SilentGateway(ip_address(STORAGE_GATEWAY), NOW, "eth1 is down", "LinkDown")
    condition = gateway_condition(NeighbourState(silent=(cut_off, silent)), None)
    assert condition.reason == "GatewayDown"
    assert condition.message == "10.20.0.1: eth1 is down; 192.168.100.1: no answer to ARP on tmp0"
    assert SilentGateway.parse({"address": OVERLAY_GATEWAY, "message": ""}) == replace(silent, since=None, message="")


@pytest.mark.parametrize("check", [{}, {"healthCheck": {"type": "none"}}])
def test_a_static_route_names_the_nodes_without_a_link_to_a_gateway(check: dict[str, Any]) -> None:
    route = static_route(gateways=[{"address": OVERLAY_GATEWAY}, {"address": STORAGE_GATEWAY}], **check)

    def status(*addresses: str) -> tuple[Any, Any]:
        gateways = [{"address": each, "reason": "LinkDown", "message": "eth1 is down"} for each in addresses]
        found = parse_conditions(find_status(route, [table("n1", route, gateways=gateways)]))
        return find_condition(found, "GatewayReachable"), find_condition(found, "Ready")

    reachable, ready = status(STORAGE_GATEWAY)
    assert (reachable.status, reachable.reason) == (False, "LinkDown")
    assert reachable.message == "no usable link to 10.20.0.1 on 1 node (n1)"
    assert ready.status is True
    _, ready = status(STORAGE_GATEWAY, OVERLAY_GATEWAY)
    message = "no usable gateway on 1 node (n1); see the condition GatewayReachable"
    assert (ready.status, ready.reason, ready.message) == (False, "GatewayDown", message)


# --- Flapping --------------------------------------------------------------------------------------------------------


FAULT = LinkFault(ip_address(STORAGE_GATEWAY), "LinkDown", "eth1 has no carrier")


def test_a_link_that_fails_once_is_used_as_soon_as_it_is_back() -> None:
    health = LinkHealth().follow([FAULT], 0.0, NOW)
    assert health.faults() == {FAULT.gateway: (FAULT, NOW)}
    assert health.held(0.1) == frozenset()
    assert health.wait(0.1) is None
    assert not health.follow([], 0.2, NOW).faults()


def test_a_flapping_link_is_used_and_reported_again_after_growing_pauses() -> None:
    """Carrier lost and found every second for ten minutes."""
    health, changes, last = LinkHealth(), 0, False
    texts = set()
    for second in range(600):
        now, today = float(second), NOW + timedelta(seconds=second)
        failed = second % 2 == 0
        health = health.follow([FAULT] if failed else [], now, today)
        present = health.faults()
        texts |= {(fault.message, since) for fault, since in present.values()}
        changes += bool(present) != last
        last = bool(present)
        if not failed and present:
            assert health.held(now) == {FAULT.gateway}
            assert 0 < (health.wait(now) or 0) <= 300
    assert changes <= 2 * 9, "after 1, 6, 11, 21, 41 ... seconds"
    assert len(texts) <= 9, "what is reported is stable while the link is not used"


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 900.0)), max_size=60))
def test_a_gateway_whose_link_cannot_carry_traffic_is_always_reported_and_comes_back_at_last(
    history: list[tuple[bool, float]],
) -> None:
    health, now = LinkHealth(), 0.0
    for failed, pause in history:
        now += pause
        health = health.follow([FAULT] if failed else [], now, NOW)
        if failed:
            assert FAULT.gateway in health.faults()
    for _ in range(2):
        now += 301
        health = health.follow([], now, NOW)
    assert not health.faults()
    assert health.wait(now) is None
    for _ in range(8):
        now += 600
        health = health.follow([], now, NOW)
    assert health == LinkHealth(), "nothing is remembered forever"


def test_a_held_gateway_is_used_if_no_other_one_can_be() -> None:
    spec = route((STORAGE_GATEWAY, 0), (OVERLAY_GATEWAY, 1)).spec
    storage, other = ip_address(STORAGE_GATEWAY), ip_address(OVERLAY_GATEWAY)
    assert [each.address for each in active_gateways(spec, (), held={storage}).gateways] == [other]
    assert [each.address for each in active_gateways(spec, {other}, held={storage}).gateways] == [storage]
    assert [each.address for each in active_gateways(spec, (), {other}, held={storage}).gateways] == [storage]


def test_a_gateway_whose_link_failed_twice_is_held_for_five_seconds() -> None:
    clock = Clock()
    watch = GatewayWatch(NoProber(), clock)
    target = desired(route((STORAGE_GATEWAY, 0), (OVERLAY_GATEWAY, 1)))
    good, bad = observed(link(3, "eth1")), observed(FAULTS["no carrier"])
    for state in (bad, good, bad, good):
        clock.now += 1
        watch.follow(target, state, plan_kernel(replace(target, held=watch.held), state, MARK))
    assert watch.held == {ip_address(STORAGE_GATEWAY)}
    assert watch.wait == 4
    assert "fails repeatedly" in watch.failures[0].message
    assert watch.states == {ip_address(STORAGE_GATEWAY): False, ip_address(OVERLAY_GATEWAY): True}
    assert set(watch.dead_routes.values()) == {0}
    clock.now += 4
    assert watch.held == frozenset()
    watch.follow(target, good, plan_kernel(target, good, MARK))
    assert not watch.failures


def test_events_name_the_reason_why_a_gateway_cannot_be_used() -> None:
    spec = {"routes": [{"subnet": "172.20.0.0/16", "staticRoute": "r", "gateways": [{"address": STORAGE_GATEWAY}]}]}
    fine = overlay(spec=spec, status={})
    entry = {"address": STORAGE_GATEWAY, "reason": "LinkDown", "message": "eth1 is down"}
    failed = overlay(spec=spec, status={"gateways": [entry]})
    (event,) = report_events(fine, failed, own_gateways)
    assert (event.reason, event.message, event.warning) == ("LinkDown", "10.20.0.1: eth1 is down", True)
    (event,) = report_events(failed, fine, own_gateways)
    assert (event.reason, event.message) == ("GatewayUp", "the link to 10.20.0.1 can carry traffic again")
