"""Routes keep their subnet as a number: it comes back as it was, and distinguishes routes as the kernel does."""

import json
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.model.kernel import DesiredRoute, Gateway, NextHop, Route
from overlay_net.model.net import IpNetwork
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_spec import shape

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
    wish = DesiredRoute(subnet, (Gateway(ip_address("192.168.100.1")),), metric, table=table)
    assert (route.subnet, route.metric, route.table) == (subnet, metric, table)
    assert (wish.subnet, wish.metric, wish.table) == (subnet, metric, table)
    elsewhere = route.but(subnet=other)
    assert route.at(elsewhere.route_key) == elsewhere
    assert (elsewhere == route, elsewhere.route_key == route.route_key) == (other == subnet, other == subnet)


def test_ipv6_metrics_differ_as_wishes_and_not_in_the_kernel() -> None:
    subnet = ip_network("2001:db8::/32")
    unsaid, said = DesiredRoute(subnet, ()), DesiredRoute(subnet, (), 1024)
    assert unsaid.route_key == said.route_key == Route(subnet, (), 117, 1024).route_key
    assert unsaid != said
    assert unsaid.key != said.key


def test_a_wish_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError, match="DesiredRoute has no gateway"):
        DesiredRoute(ip_network("10.0.0.0/8"), ()).gateway  # type: ignore[attr-defined]  # noqa: B018


ENTRY = {"subnet": "10.1.0.0/16", "staticRoute": "r", "gateways": [{"address": "192.168.100.1"}], "metric": 5}
FAILURE = {"subnet": "10.2.0.0/16", "staticRoute": "r", "state": "ForeignRoute", "message": "taken"}


def noip(*routes: object, generation: int = 3, uid: str = "u") -> str:
    metadata = {"name": "n1", "uid": uid, "generation": generation}
    return json.dumps({"metadata": metadata, "spec": {"routes": routes}, "status": {"routes": [FAILURE]}})


def test_an_object_is_the_same_whether_its_routes_are_made_while_it_is_read() -> None:
    text = noip(ENTRY, {"subnet": "10.0.0.1/8", "staticRoute": "broken"}, "text", None, [], {"staticRoute": "r"})
    early, late = json.loads(text, object_hook=shape), json.loads(text)
    assert NodeOverlay.parse(early) == NodeOverlay.parse(late)
    assert [str(route.subnet) for route in NodeOverlay.parse(early).routes] == ["10.1.0.0/16"]
    assert [str(failure.subnet) for failure in NodeOverlay.parse(early).report.failures] == ["10.2.0.0/16"]


@pytest.mark.parametrize(("uid", "generation", "taken_over"), [("u", 3, True), ("u", 4, False), ("other", 3, False)])
def test_routes_are_taken_over_from_the_same_spec_only(uid: str, generation: int, taken_over: bool) -> None:
    before = NodeOverlay.parse(json.loads(noip(ENTRY)))
    after = NodeOverlay.parse(json.loads(noip(uid=uid, generation=generation)), before)
    assert (after.routes is before.routes) == taken_over
    assert taken_over or not after.routes
