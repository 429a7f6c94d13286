"""Merging the StaticRoutes of a node into its routes, and conflicts between them."""

from typing import Any

from overlay_net.model.static_route import StaticRoute
from tests.unit.factories import merged, node, static_route


def found(*routes: StaticRoute) -> list[tuple[str, list[str], str]]:
    return [
        (str(each.subnet), [str(gateway.address) for gateway in each.spec.gateways], each.static_route)
        for each in merged(routes)
    ]


def test_a_route_without_gateway_uses_the_overlay_gateway() -> None:
    assert found(static_route()) == [("192.168.0.0/24", ["192.168.100.1"], "r1")]
    assert found(static_route(gateway="10.0.0.9")) == [("192.168.0.0/24", ["10.0.0.9"], "r1")]
    several = [{"address": "10.0.0.9"}, {"address": "10.0.0.8"}]
    assert found(static_route(gateways=several)) == [("192.168.0.0/24", ["10.0.0.9", "10.0.0.8"], "r1")]
    for gateway in (None, "fd00::1"):
        assert merged([static_route()], gateway)[0].spec.gateways == ()


def test_zone_labels_and_selectors_select_nodes() -> None:
    def selects(**options: Any) -> bool:
        return static_route(**options).selects(node(tier="a"))

    for label in ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"):
        assert selects(labels={label: "dal10"})
        assert not selects(labels={label: "wdc04"})
    for expression, matches in (
        ({"key": "tier", "operator": "In", "values": ["a", "b"]}, True),
        ({"key": "tier", "operator": "NotIn", "values": ["a"]}, False),
        ({"key": "other", "operator": "NotIn", "values": ["a"]}, True),
        ({"key": "tier", "operator": "Exists"}, True),
        ({"key": "tier", "operator": "DoesNotExist"}, False),
    ):
        assert selects(nodeSelector={"matchExpressions": [expression]}) is matches, expression


def test_the_older_of_two_objects_with_the_same_subnet_wins_in_any_order() -> None:
    old = static_route("z-old", gateway="10.0.0.1", created="2025-01-01T00:00:00Z")
    new = static_route("a-new", gateway="10.0.0.2")
    for pair in ((old, new), (new, old)):
        assert found(*pair) == [("192.168.0.0/24", ["10.0.0.1"], "z-old")]
    other_metric = static_route("a-new", gateway="10.0.0.2", metric=50)
    assert len(found(old, other_metric)) == 2, "another metric makes another route"


def test_invalid_and_deleted_objects_have_no_routes_and_do_not_affect_others() -> None:
    broken = [
        static_route("b1", "10.1.2.3/24"),
        static_route("b2", "nonsense"),
        static_route("b3", gateway="fe80::1"),
        static_route("b4", gateway="nonsense"),
        static_route("b5", deleting=True),
    ]
    assert [each.problem != "" for each in broken] == [True, True, True, True, False]
    assert found(*broken, static_route("fine", "10.5.0.0/16")) == [("10.5.0.0/16", ["192.168.100.1"], "fine")]


def test_ipv6_routes_without_metric_and_with_the_kernels_default_are_the_same_route() -> None:
    older = static_route("older", "2001:db8::/32", gateway="fd00::1")
    younger = static_route("younger", "2001:db8::/32", gateway="fd00::2", metric=1024, created="2026-01-02T00:00:00Z")
    assert found(younger, older) == [("2001:db8::/32", ["fd00::1"], "older")]
