"""Routes keep their subnet as a number: it comes back as it was, and distinguishes routes as the kernel does."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.model.api import JsonObject
from overlay_net.model.desired_route import DesiredRoute, Gateway, RouteSpec
from overlay_net.model.net import IpNetwork
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route import NextHop, Route

NUMBERS = st.integers(0, 2**32 - 1)
NETWORKS = st.builds(
    lambda address, prefix: ip_network((address, prefix % (address.max_prefixlen + 1)), strict=False),
    st.ip_addresses(),
    st.integers(0, 128),
)


@given(NETWORKS, NUMBERS, NUMBERS, NETWORKS)
def test_a_route_keeps_its_subnet(subnet: IpNetwork, metric: int, table: int, other: IpNetwork) -> None:
    hops = (NextHop(ip_address("192.168.100.1"), 7),)
    route = Route(subnet, hops, 117, metric, table=table)
    spec = RouteSpec((Gateway(ip_address("192.168.100.1")),), metric, table)
    target = DesiredRoute.to(subnet, spec)
    stored_metric = metric or (1024 if subnet.version == 6 else 0)
    assert (route.subnet, route.metric, route.table) == (subnet, stored_metric, table)
    assert (target.subnet, target.spec.metric, target.key) == (subnet, metric, route.key)
    elsewhere = route.replace(subnet=other)
    assert route.with_key(elsewhere.key) == elsewhere
    assert (elsewhere == route, elsewhere.key == route.key) == (other == subnet, other == subnet)


def test_an_ipv6_route_without_a_metric_has_the_key_of_the_kernels_default() -> None:
    subnet = ip_network("2001:db8::/32")
    default, explicit = DesiredRoute.to(subnet, RouteSpec()), DesiredRoute.to(subnet, RouteSpec(metric=1024))
    assert default.key == explicit.key == Route(subnet, (), 117).key == Route(subnet, (), 117, 1024).key
    assert default != explicit, "the API shows the metric as the StaticRoute has it"
    assert Route(subnet, (), 117) == Route(subnet, (), 117, 1024)


def test_an_ipv4_metric_of_0_is_a_metric_of_its_own() -> None:
    subnet = ip_network("10.0.0.0/8")
    assert Route(subnet, (), 117).key != Route(subnet, (), 117, 1024).key


ENTRY = {"subnet": "10.1.0.0/16", "staticRoute": "r", "gateways": [{"address": "192.168.100.1"}], "metric": 5}


def noip(*routes: object, generation: int = 3, uid: str = "u") -> JsonObject:
    return {"metadata": {"name": "n1", "uid": uid, "generation": generation}, "spec": {"routes": list(routes)}}


@pytest.mark.parametrize(("uid", "generation", "taken_over"), [("u", 3, True), ("u", 4, False), ("other", 3, False)])
def test_routes_are_taken_over_from_the_same_spec_only(uid: str, generation: int, taken_over: bool) -> None:
    before = NodeOverlay.parse(noip(ENTRY))
    after = NodeOverlay.parse(noip(uid=uid, generation=generation), before)
    assert (after.routes is before.routes) == taken_over
    assert taken_over or not after.routes
