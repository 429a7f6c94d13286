"""Too many routes for one object: what is in place stays, removals always fit, and what does not fit is reported."""

import json
from collections import Counter
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.domain.routes.capacity import ALWAYS_FITS, MAX_BYTES, MAX_ROUTES, max_size
from overlay_net.domain.routes.compile import compile_routes
from overlay_net.domain.routes.node_table import NodeTable
from overlay_net.domain.routes.status import route_status
from overlay_net.model.api import JsonObject
from overlay_net.model.desired_route import CheckKind, DesiredRoute, Gateway, HealthCheck, OnAllDown, RouteSpec
from overlay_net.model.names import NODE_OVERLAY_IPS, STATIC_ROUTES
from overlay_net.model.node_actions import NodeRoutes
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import parse_time
from overlay_net.model.route import RouteKind
from overlay_net.model.route_spec import encode_route, max_encoded_size
from overlay_net.model.static_route import StaticRoute
from tests.fakes.cluster import Cluster
from tests.unit.factories import node, raw_node, raw_pool, raw_static_route, static_route

UINT32 = st.integers(0, 2**32 - 1)
INT32 = st.integers(0, 2**31 - 1)
CHECKS = st.builds(HealthCheck, st.sampled_from(get_args(CheckKind)), st.integers(0, 65535), INT32, INT32, INT32)
GATEWAYS = st.builds(Gateway, st.ip_addresses(), st.integers(1, 256), INT32)
SPECS = st.builds(
    RouteSpec,
    st.lists(GATEWAYS, max_size=16).map(tuple),
    UINT32,
    st.integers(1, 2**32 - 1),
    st.sampled_from(get_args(RouteKind)),
    st.integers(0, 65520),
    st.integers(0, 65495),
    st.booleans(),
    CHECKS,
    st.sampled_from(get_args(OnAllDown)),
)
LONGEST = {4: "255.255.255.128/32", 6: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"}


def encoded(routes: Sequence[DesiredRoute]) -> int:
    return len(json.dumps([encode_route(route) for route in routes], separators=(",", ":")))


@given(SPECS, st.sampled_from(sorted(LONGEST)), st.text("abz.-09", max_size=253))
def test_the_size_of_a_route_is_not_underestimated(spec: RouteSpec, version: int, name: str) -> None:
    subnet = ip_network(LONGEST[version], strict=False)
    route = DesiredRoute.to(subnet, spec, name)
    # The comma takes the place of one of the brackets.
    assert encoded([route]) - 1 <= max_encoded_size(route)


def test_a_few_routes_fit_without_a_calculation() -> None:
    gateway = Gateway(ip_address(LONGEST[6].partition("/")[0]), 256, 2**31 - 1)
    check = HealthCheck("icmp", 65535, 2**31 - 1, 2**31 - 1, 2**31 - 1)
    largest = RouteSpec((gateway,) * 16, 2**32 - 1, 2**32 - 1, "unreachable", 65520, 65495, True, check, "unreachable")
    route = DesiredRoute.to(ip_network(LONGEST[6]), largest, "x" * 253)
    assert max_size([route] * ALWAYS_FITS, probed=True) <= MAX_BYTES


def many(number: int, subnets: int = 500, *, version: int = 4, **spec: Any) -> StaticRoute:
    """StaticRoute r000, r001 and so on, from the oldest to the youngest, each with its own subnets."""
    if version == 4:
        base = int(ip_address("10.0.0.0")) + number * 2**16
        texts = [f"{ip_address(base + index * 64)}/26" for index in range(subnets)]
    else:
        texts = [f"2001:db8:{number:x}:{index:x}::/64" for index in range(subnets)]
    created = f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z"
    return static_route(f"r{number:03}", texts[0], subnets=texts[1:], created=created, **spec)


def compiled(static_routes: Sequence[StaticRoute], present: NodeRoutes | None = None) -> NodeRoutes:
    gateway = ip_address("192.168.100.1")
    return compile_routes(static_routes, node(), gateway, present=present or NodeRoutes())


def counts(routes: NodeRoutes) -> Counter[str]:
    return Counter(route.static_route for route in routes.routes)


TWO_GATEWAYS = [{"address": f"192.168.100.{number}", "weight": 200, "priority": 10} for number in (7, 8)]
PROBE = {"tcp": "10.200.0.1:179"}
FULL = {
    "overlay gateway": [many(number) for number in range(36)],
    "several gateways": [many(number, gateways=TWO_GATEWAYS) for number in range(36)],
    "IPv6": [many(number, version=6, gateway="2001:db8:ffff::1") for number in range(36)],
    "blackholes": [many(number, type="blackhole") for number in range(60)],
    "without next hops": [many(number, version=6) for number in range(60)],
}


@pytest.mark.parametrize("kind", FULL)
def test_a_node_gets_as_many_of_the_oldest_static_routes_as_fit(kind: str) -> None:
    routes = compiled(FULL[kind])
    assert encoded(routes.routes) <= MAX_BYTES
    assert len(routes.routes) <= MAX_ROUTES
    complete = sorted(counts(routes))
    assert set(counts(routes).values()) == {500}, "none is there in part"
    assert complete == [route.name for route in FULL[kind]][: len(complete)]
    assert routes.omitted == tuple(route.name for route in FULL[kind][len(complete) :])
    assert encoded(routes.routes) > 0.6 * MAX_BYTES, "the estimate is not much too cautious"
    assert compiled(FULL[kind], routes) == routes, "it is stable"


def test_the_previous_routes_of_a_probe_fit_as_well() -> None:
    routes = compiled([many(number, probe=PROBE) for number in range(36)])
    assert 0.4 * MAX_BYTES < encoded(routes.routes) <= 0.5 * MAX_BYTES


def test_a_removed_static_route_makes_room_for_the_oldest_that_was_omitted() -> None:
    static_routes = FULL["overlay gateway"]
    before = compiled(static_routes)
    first = before.omitted[0]
    after = compiled(static_routes[1:], before)
    assert static_routes[0].name not in counts(after)
    assert counts(after)[first] == 500
    assert after.omitted == before.omitted[1:]


def test_a_static_route_that_grows_keeps_its_previous_routes_and_displaces_no_other() -> None:
    static_routes = [many(0, 100, probe=PROBE), *(many(number) for number in range(1, 40))]
    before = compiled(static_routes)
    grown = compiled([many(0, 1000, probe=PROBE, generation=2), *static_routes[1:]], before)
    assert grown.routes == before.routes
    assert grown.generations == before.generations, "the probe is still that of the generation in place"
    assert set(grown.omitted) == {"r000", *before.omitted}


def test_a_static_route_with_fewer_or_other_subnets_is_never_omitted() -> None:
    static_routes = FULL["overlay gateway"]
    before = compiled(static_routes)
    fewer = compiled([many(0, 100), *static_routes[1:]], before)
    assert counts(fewer)["r000"] == 100
    moved = compiled([many(0, type="blackhole"), *static_routes[1:]], before)
    assert {route.spec.kind for route in moved.routes if route.static_route == "r000"} == {"blackhole"}
    assert "r000" not in (*fewer.omitted, *moved.omitted)


def test_removals_fit_into_an_object_that_is_larger_than_the_limit_already() -> None:
    static_routes = FULL["overlay gateway"]
    # As an earlier version, without a limit, has written it.
    entries = tuple(each for route in static_routes for each in route.routes(ip_address("192.168.100.1")))
    assert encoded(entries) > MAX_BYTES
    after = compiled(static_routes[1:], NodeRoutes(entries))
    assert counts(after) == {route.name: 500 for route in static_routes[1:]}
    added = compiled([*static_routes[1:], many(99)], NodeRoutes(entries))
    assert added.routes == after.routes
    assert added.omitted == ("r099",)


def test_a_key_of_an_omitted_static_route_goes_to_the_next_one() -> None:
    static_routes = [*(many(number) for number in range(20)), many(30, 1000), many(31, 10)]
    clash = static_route("late", str(static_routes[-2].subnets[0]), created="2026-02-01T00:00:00Z")
    full = [*static_routes[:20], many(21), many(22), many(23), *static_routes[20:], clash]
    routes = compiled(full)
    assert "r030" in routes.omitted
    assert counts(routes)["late"] == 1
    assert encoded(routes.routes) <= MAX_BYTES


async def read_overlay(cluster: Cluster) -> NodeOverlay:
    return NodeOverlay.parse(await cluster.present_overlay())


def raw_many(number: int) -> JsonObject:
    route = many(number)
    texts = [str(subnet) for subnet in route.subnets]
    return raw_static_route(route.name, texts[0], subnets=texts[1:], created=route.created)


async def test_what_does_not_fit_is_reported_on_the_node_and_on_the_static_route_until_it_fits() -> None:
    cluster = await Cluster.start(raw_pool())
    # The fake assigns one time to all, so their names decide.
    for number in range(30):
        await cluster.add_route(raw_many(number))
    await cluster.join(raw_node())
    await cluster.reconcile()
    overlay = await read_overlay(cluster)
    condition = overlay.assignment.routes_accepted
    assert condition is not None
    assert (condition.status, condition.reason) == (False, "TooManyRoutes")
    assert overlay.omitted[0] in condition.message
    assert overlay.assignment.address is not None
    assert (await cluster.announced()).count("TooManyRoutes") == 1
    last = overlay.omitted[-1]
    now = parse_time("2026-01-01T12:00:00Z")
    assert now is not None
    status = route_status(many(int(last[1:])), [NodeTable.index(node(), overlay)], now)
    reasons = {each["type"]: each["reason"] for each in status["conditions"]}
    assert (reasons["Programmed"], reasons["Ready"]) == ("TooManyRoutes", "TooManyRoutes")
    for name in overlay.omitted:
        await cluster.kube.delete(STATIC_ROUTES, name)
    await cluster.reconcile()
    overlay = await read_overlay(cluster)
    assert (overlay.omitted, overlay.assignment.routes_accepted) == ((), None)
    assert "RoutesAccepted" not in json.dumps(await cluster.kube.get(NODE_OVERLAY_IPS, overlay.name))
