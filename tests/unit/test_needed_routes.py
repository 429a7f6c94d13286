"""The routes of other processes that are not read make no difference to any decision."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

from hypothesis import example, given
from hypothesis import strategies as st

from overlay_net.domain.kernel.awaited_routes import find_awaited_routes
from overlay_net.domain.kernel.desired import LinkConfig, desired_link, desired_state
from overlay_net.domain.kernel.next_hops import fallback_gateway
from overlay_net.domain.kernel.parent_interface import ByName, ByRoute
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.domain.kernel.shadowed_routes import lookup_targets, main_table_spans
from overlay_net.model.kernel import Address, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import DeleteRoute, KernelPlan
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.policy_rule import PrivateTable, SourceTable
from overlay_net.model.route import NextHop, Route, RouteKind
from overlay_net.model.route_key import decode_destination
from tests.unit.factories import desired_route

MARK = OwnershipMark(117, "overlay-net")
ETH0, ETH1, TMP0 = 2, 3, 4
OVERLAY = ip_interface("192.168.100.4/24")
BASE = LinkConfig(ByName(("eth0",)))
PRIVATE = PrivateTable(118, 11800)
CONFIGS = (
    BASE,
    replace(BASE, parent=ByRoute(ip_address("10.99.0.1"))),
    replace(BASE, mode="none", fallback=ip_network("10.0.0.0/8")),
    replace(BASE, mode="address"),
    replace(BASE, source=SourceTable(117, 11700, 8)),
    replace(BASE, private=PRIVATE),
    replace(BASE, source=SourceTable(117, 11700, 8), private=PRIVATE),
)
OURS = ("10.1.0.0/16", "172.0.0.0/8", "10.2.0.0/16", "fd01::/64")
SUBNETS = (
    *OURS,
    *("0.0.0.0/0", "::/0", "10.0.0.0/8", "10.1.0.0/17", "10.1.128.0/24", "10.99.0.0/24", "11.0.0.0/8"),
    *("192.168.100.0/24", "192.168.100.128/25", "172.16.0.0/12", "10.9.0.0/16", "fd00::/8", "fd01::/96"),
)
OVERLAY_NODE = NodeOverlay.parse(
    {
        "metadata": {"name": "n1", "generation": 1},
        "spec": {
            "routes": [
                {"subnet": "10.1.0.0/16", "staticRoute": "r", "gateways": [{"address": "192.168.100.1"}]},
                {"subnet": "172.0.0.0/8", "staticRoute": "r", "gateways": []},
                {"subnet": "10.2.0.0/16", "staticRoute": "r", "gateways": [{"address": "10.176.162.129"}], "metric": 7},
                {"subnet": "fd01::/64", "staticRoute": "r", "gateways": [{"address": "fd00:7::1"}]},
            ],
            "adoptable": [{"gateway": "192.168.100.1", "device": "tmp0", "subnets": ["10.9.0.0/16"]}],
        },
        "status": {"ipAddr": str(OVERLAY), "gateway": "192.168.100.1"},
    }
)
LINKS = (
    Link(ETH0, "eth0", None, None, None, True),
    Link(ETH1, "eth1", None, None, None, True),
    Link(TMP0, "tmp0", "macvlan", ETH0, "overlay-net", True, mode="bridge"),
)
ADDRESSES = (
    Address(ETH0, ip_interface("10.176.162.151/26"), None),
    Address(ETH0, ip_interface("fd00:7::2/64"), None),
    Address(TMP0, OVERLAY, 117),
)
SYSCTLS = {("eth0", "ipv6.forwarding"): "1", ("tmp0", "ipv6.forwarding"): "0"}


@st.composite
def kernel_routes(draw: st.DrawFn) -> Route:
    subnet = ip_network(draw(st.sampled_from(SUBNETS)))
    gateways = ["10.176.162.129", "192.168.100.1"] if subnet.version == 4 else ["fd00:7::1", "fe80::1"]
    gateway = draw(st.sampled_from([*map(ip_address, gateways), None]))
    hop = NextHop(gateway, draw(st.sampled_from([ETH0, ETH1, TMP0])))
    kind: RouteKind = draw(st.sampled_from(["unicast"] * 4 + ["blackhole"]))
    return Route(
        subnet,
        (hop,) if kind == "unicast" else (),
        draw(st.sampled_from([2, 3, 4, 9, 16, 117, 186])),
        draw(st.sampled_from([0, 0, 7, 100, 1024])),
        table=draw(st.sampled_from([254, 254, 254, 117, 118, 52])),
        kind=kind,
    )


def in_any_order_of_deletions(plan: KernelPlan) -> tuple[KernelPlan, set[DeleteRoute]]:
    """An obsolete route beside a foreign one with its key is deleted like any other, but as the last one."""
    deletions = {each for each in plan.actions if isinstance(each, DeleteRoute)}
    rest = tuple(each for each in plan.actions if not isinstance(each, DeleteRoute))
    return replace(plan, actions=rest), deletions


IN_OUR_PLACE = Route(ip_network("10.1.0.0/16"), (NextHop(ip_address("10.176.162.129"), ETH0),), 4)
IN_A_VRF = Route(OVERLAY.network, (NextHop(None, TMP0),), 2, table=52)
ADVERTISED = Route(ip_network("::/0"), (NextHop(ip_address("fe80::1"), ETH0),), 9, 1024)


@example([IN_OUR_PLACE], BASE, True)
@example([IN_A_VRF], BASE, True)
@example([ADVERTISED], BASE, True)
@given(st.lists(kernel_routes(), max_size=12), st.sampled_from(CONFIGS), st.booleans())
def test_a_plan_is_the_same_without_the_routes_that_are_not_needed(
    routes: list[Route], config: LinkConfig, present: bool
) -> None:
    overlay = OVERLAY_NODE if present else None
    address = OVERLAY if present else None
    awaited = (
        find_awaited_routes(overlay.routes, address, config, overlay.adoptable)
        if overlay is not None
        else find_awaited_routes((), None, config)
    )
    complete = Observed(LINKS, ADDRESSES, tuple(routes), SYSCTLS)
    needed = tuple(each for each in routes if each.protocol == 117 or awaited.needs(each))
    reduced = replace(complete, routes=needed)
    link = desired_link(config, complete, MARK)
    assert desired_link(config, reduced, MARK) == link
    state = desired_state(overlay, link, config.fallback, config.source, config.private)
    assert in_any_order_of_deletions(plan_kernel(state, reduced, MARK)) == in_any_order_of_deletions(
        plan_kernel(state, complete, MARK)
    )
    if config.fallback is not None:
        assert fallback_gateway(reduced, config.fallback, MARK) == fallback_gateway(complete, config.fallback, MARK)


@given(st.lists(kernel_routes(), max_size=12), st.lists(st.sampled_from(SUBNETS), unique=True))
def test_the_routes_that_may_win_over_ours_begin_inside_them(routes: list[Route], subnets: list[str]) -> None:
    placed = [(desired_route(each, metric=1024 if ":" in each else 0), "tmp0") for each in subnets]
    ours = [
        Route(desired.subnet, (NextHop(ip_address("192.168.100.1"), TMP0),), 117, desired.spec.metric)
        for desired, _ in placed
    ]
    spans = main_table_spans(placed)
    all_routes = (*ours, *routes)
    inside = tuple(each for each in all_routes if spans.has_start(decode_destination(each.key)))
    assert lookup_targets(placed, Observed(LINKS, routes=inside), MARK) == lookup_targets(
        placed, Observed(LINKS, routes=all_routes), MARK
    )
