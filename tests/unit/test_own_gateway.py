"""A gateway that is this node: the node skips it, and needs no route to what is behind itself."""

from datetime import UTC, datetime
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from overlay_net.domain.kernel.gateway_health import probe_targets
from overlay_net.domain.kernel.gateway_selection import count_dead_routes, own_addresses
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.domain.kernel.probe_rollback import applied_routes
from overlay_net.domain.kernel.report import make_report
from overlay_net.domain.routes.rollout import admit
from overlay_net.domain.status.cluster_counts import ClusterCounts
from overlay_net.domain.status.events import report_events
from overlay_net.model.conditions import find_condition, parse_conditions
from overlay_net.model.desired_route import DesiredRoute, Gateway, RouteSpec
from overlay_net.model.kernel import Address, Desired, DesiredLink, Link, Observed, OwnershipMark
from overlay_net.model.node_report import Report
from overlay_net.model.route import NextHop, Route
from tests.fakes.kernel import FakeKernel
from tests.fakes.static_route_status import find_status, make_index, make_slices, table
from tests.unit.factories import desired_route, node, overlay, own_gateways, static_route
from tests.unit.test_kernel_plan import converge

MARK = OwnershipMark(117, "overlay-net")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LINK = DesiredLink("tmp0", "eth0")
OVERLAY = ip_interface("192.168.100.4/24")
PRIVATE = "10.176.162.151"
SUBNET = ip_network("172.20.0.0/16")
SUBNET_V6 = ip_network("fd00:99::/64")


def machine(*routes: Route) -> FakeKernel:
    observed = Observed(
        links=(Link(2, "eth0", "veth", None, None, up=True), Link(3, "eth1", None, None, None, up=True)),
        addresses=(
            Address(2, ip_interface(f"{PRIVATE}/26"), None),
            Address(2, ip_interface("fd00:7::2/64"), None),
            Address(3, ip_interface("10.20.0.2/24"), None),
        ),
        routes=routes,
        sysctls={("eth0", "arp_ignore"): "1"},
    )
    return FakeKernel(MARK, observed)


def route(*gateways: str, name: str = "r", priorities: tuple[int, ...] = (), **spec: Any) -> DesiredRoute:
    numbers = priorities or (0,) * len(gateways)
    listed = tuple(Gateway(ip_address(each), priority=number) for each, number in zip(gateways, numbers, strict=True))
    subnet = SUBNET_V6 if ":" in gateways[0] else SUBNET
    return DesiredRoute.to(subnet, RouteSpec(listed, **spec), name)


def hops(kernel: FakeKernel, subnet: object = SUBNET) -> list[list[str]]:
    return [[str(hop.gateway) for hop in each.next_hops] for each in kernel.routes if each.subnet == subnet]


ONLY_OWN = [
    pytest.param(route("192.168.100.4"), id="overlay address"),
    pytest.param(route(PRIVATE), id="private address"),
    pytest.param(route("10.20.0.2"), id="address of another link"),
    pytest.param(route("fd00:7::2"), id="IPv6 address"),
    pytest.param(route("192.168.100.4", PRIVATE), id="two of its addresses"),
    pytest.param(route("192.168.100.4", PRIVATE, priorities=(0, 1)), id="active and standby"),
    pytest.param(route("192.168.100.4", on_link=True), id="onLink"),
    pytest.param(route("192.168.100.4", on_all_down="unreachable"), id="unreachable if all are down"),
]


@pytest.mark.parametrize("desired", ONLY_OWN)
def test_a_node_does_not_get_a_route_whose_only_gateway_is_the_node_itself(desired: DesiredRoute) -> None:
    kernel = machine()
    target = Desired(LINK, OVERLAY, (desired, desired_route("172.21.0.0/16", "192.168.100.1")))
    converge(kernel, target)
    assert hops(kernel, desired.subnet) == []
    assert hops(kernel, ip_network("172.21.0.0/16")) == [["192.168.100.1"]]
    plan = plan_kernel(target, kernel.observe(), MARK)
    assert (plan.problems, plan.link_faults) == ((), ())
    report = make_report(overlay(), target, LINK, plan, {}, OVERLAY, NOW)
    assert (report.routes_desired, report.routes_ready, report.routes_failed, report.failures) == (1, 1, 0, ())
    (named,) = report.not_needed
    assert (named.subnet, named.static_route, named.reason) == (desired.subnet, "r", "GatewayIsThisNode")
    assert str(desired.spec.gateways[0].address) in named.message
    ready = find_condition(report.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.message) == (True, "address and 1 route are in place")
    assert Report.parse(report.to_json(), report.conditions) == report
    assert not report_events(overlay(status={}), overlay(status=report.to_json()), own_gateways)


@pytest.mark.parametrize(
    ("gateways", "priorities", "left"),
    [
        (("192.168.100.4", "192.168.100.9"), (0, 0), ["192.168.100.9"]),
        (("192.168.100.4", "192.168.100.9"), (0, 1), ["192.168.100.9"]),
        (("192.168.100.9", "192.168.100.4"), (0, 1), ["192.168.100.9"]),
        (("192.168.100.4", "192.168.100.8", "192.168.100.9"), (0, 0, 0), ["192.168.100.8", "192.168.100.9"]),
        ((PRIVATE, "10.176.162.129"), (0, 0), ["10.176.162.129"]),
        (("fd00:7::2", "fd00:7::1"), (0, 0), ["fd00:7::1"]),
    ],
)
def test_a_node_that_is_one_of_several_gateways_uses_the_others(
    gateways: tuple[str, ...], priorities: tuple[int, ...], left: list[str]
) -> None:
    desired = route(*gateways, priorities=priorities)
    kernel = machine()
    target = Desired(LINK, OVERLAY, (desired,))
    converge(kernel, target)
    assert hops(kernel, desired.subnet) == [left]
    assert plan_kernel(target, kernel.observe(), MARK).placed
    probed = {str(each.address) for each in probe_targets([desired], kernel.observe(), "tmp0")}
    assert probed == set(left), "a node would not answer its own probe"
    down = frozenset(ip_address(each) for each in left)
    own = own_addresses(OVERLAY, kernel.observe())
    assert count_dead_routes([desired], down, own=own) == dict.fromkeys(down, 1), "the node itself is no way out"


def test_the_route_through_itself_that_a_node_has_is_removed() -> None:
    """An agent of an earlier version has set it, or the address has come to this node."""
    looped = Route(SUBNET, (NextHop(ip_address(PRIVATE), 2),), 117)
    kernel = machine(looped)
    converge(kernel, Desired(LINK, OVERLAY, (route(PRIVATE),)))
    assert hops(kernel) == []


def test_an_address_that_failed_duplicate_address_detection_belongs_to_another_host() -> None:
    observed = Observed(addresses=(Address(2, ip_interface("fd00:7::2/64"), None, dad_failed=True),))
    assert ip_address("fd00:7::2") not in own_addresses(None, observed)


def test_a_change_of_a_route_that_is_not_needed_here_counts_as_applied() -> None:
    kernel = machine()
    desired = route("192.168.100.4")
    target = Desired(LINK, OVERLAY, (desired,))
    converge(kernel, target)
    assert applied_routes("r", plan_kernel(target, kernel.observe(), MARK)) == {desired}


GATEWAY: dict[str, Any] = {"ipAddr": "192.168.100.4/24"}
NAMED = {"subnet": "192.168.0.0/24", "staticRoute": "r1", "state": "GatewayIsThisNode", "message": "it is this node"}


def test_a_static_route_does_not_count_the_node_that_is_its_gateway() -> None:
    route = static_route(gateway="192.168.100.4")
    tables = [table("n1", route, routes=[NAMED], **GATEWAY), table("n2", route), table("n3", route)]
    status = find_status(route, tables)
    assert (status["desired"], status["ready"], status["failed"]) == (2, 2, 0)
    entry = next(each for each in status["nodeStatus"] if each["hostname"] == "n1")
    assert (entry["state"], entry["message"]) == ("NotNeeded", "it is this node")
    found = {each.type: each for each in parse_conditions(status)}
    assert (found["Ready"].status, found["Programmed"].status) == (True, True)
    assert found["Programmed"].message == "in place on every node; not needed on n1 (its gateway)"
    failing = table("n2", route, failures=[NAMED | {"state": "ForeignRoute"}])
    status = find_status(route, [tables[0], failing])
    assert (status["desired"], status["ready"], status["failed"]) == (1, 0, 1)
    assert [each["hostname"] for each in status["nodeStatus"]] == ["n2", "n1"], "failing nodes are first"


def test_the_first_gateways_of_a_route_are_named_and_the_others_counted() -> None:
    route = static_route(gateway="192.168.100.4")
    tables = [table(f"n{number:02}", route, routes=[NAMED], **GATEWAY) for number in range(12)]
    programmed = {each.type: each for each in parse_conditions(find_status(route, tables))}["Programmed"]
    assert programmed.message.endswith("n08, n09, and 2 more (its gateway)")


def test_the_node_that_is_the_gateway_does_not_hold_up_a_rollout() -> None:
    route = static_route(gateway="192.168.100.4", rollout={"maxUnavailable": 1})
    own, waiting = table("n1", route, routes=[NAMED], **GATEWAY), table("n2")
    index = make_index([own, waiting], [route], make_slices([route]))
    assert route.rollout is not None
    assert admit(index, route, route.rollout, ()) == {"n1", "n2"}


@pytest.mark.parametrize("silent", [["192.168.100.9"], []])
def test_a_node_that_is_one_of_two_gateways_is_cut_off_if_the_other_one_is_down(silent: list[str]) -> None:
    route = static_route(gateways=[{"address": "192.168.100.4"}, {"address": "192.168.100.9"}])
    entries = [{"address": each, "message": "no answer"} for each in silent]
    own = table("n1", route, gateways=entries, **GATEWAY)
    ready = find_condition(parse_conditions(find_status(route, [own])), "Ready")
    assert ready is not None
    assert ready.status is not bool(silent)


def test_the_counts_of_the_cluster_do_not_miss_a_route_that_is_not_needed() -> None:
    routes = [{"subnet": "10.1.0.0/16", "staticRoute": "r1", "gateways": [{"address": "192.168.100.4"}]}]
    status = GATEWAY | {"observedGeneration": 1, "routesDesired": 0, "routesReady": 0, "routes": [NAMED]}
    counts = ClusterCounts()
    counts.update("n1", node("n1"), overlay("n1", spec={"routes": routes}, status=status))
    assert (counts.routes["desired"], counts.routes["programmed"], counts.routes["failed"]) == (0, 0, 0)
