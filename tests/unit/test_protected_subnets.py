"""Protected subnets: a route that overlaps one is rejected and the overlap is named; all others pass."""

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.domain.routes.compile import compile_routes
from overlay_net.domain.routes.protected_subnets import ProtectedSubnet, Protection, overlap, protected_by
from overlay_net.model.node import Node
from tests.unit.factories import node, static_route

A_NODE = Node.parse(
    {
        "metadata": {"name": "n1"},
        "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:1::/64"]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": "10.176.162.151"},
                {"type": "Hostname", "address": "n1.example.com"},
            ]
        },
    }
)
SERVICES = ProtectedSubnet(ip_network("10.96.0.0/16"), "services")
PROTECTION = Protection((*protected_by([A_NODE]), SERVICES))


@pytest.mark.parametrize(
    ("subnet", "named"),
    [
        ("10.176.162.151/32", "10.176.162.151/32 (address of node n1)"),
        ("10.176.0.0/16", "10.176.162.151/32 (address of node n1)"),
        ("10.0.0.0/8", "overlaps"),
        ("10.244.1.128/25", "10.244.1.0/24 (pod subnet of node n1)"),
        ("10.96.7.0/24", "10.96.0.0/16 (services)"),
        ("fd00:1::/80", "fd00:1::/64 (pod subnet of node n1)"),
        ("0.0.0.0/0", "default route"),
        ("::/0", "default route"),
        ("192.168.0.0/24", ""),
        ("10.176.162.152/32", ""),
        ("10.244.2.0/24", ""),
        ("fd00:2::/64", ""),
    ],
)
def test_a_subnet_that_overlaps_a_protected_one_is_rejected_and_the_overlap_is_named(subnet: str, named: str) -> None:
    refusal = PROTECTION.refusal(ip_network(subnet))
    assert named in refusal
    assert bool(refusal) is bool(named)


def test_default_routes_are_accepted_only_if_allowed() -> None:
    assert not Protection((SERVICES,), allow_default=True).refusal(ip_network("0.0.0.0/0"))
    assert Protection((SERVICES,), allow_default=True).refusal(ip_network("10.0.0.0/8"))


networks = st.builds(
    lambda number, length: ip_network((number >> (32 - length) << (32 - length), length)),
    st.integers(0, 2**32 - 1),
    st.integers(1, 32),
)


@given(st.lists(networks, max_size=20), networks)
def test_the_search_agrees_with_comparing_every_protected_subnet(protected: list[Any], subnet: Any) -> None:
    found = Protection(ProtectedSubnet(each, "x") for each in protected).refusal(subnet)
    assert bool(found) is any(overlap(each, subnet) for each in protected)


def test_a_rejected_route_is_not_compiled_and_leaves_other_routes_in_place() -> None:
    routes = [static_route("bad", "10.176.0.0/16"), static_route("good", "10.5.0.0/16")]
    found = compile_routes(routes, node(), None, PROTECTION).routes
    assert [each.static_route for each in found] == ["good"]
