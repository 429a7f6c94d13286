"""A subnet that becomes protected while it is routed: nodes that have the route keep it, no other node gets it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from overlay_net.controller.caches import Caches
from overlay_net.controller.event_routes import EventRoutes, Queues
from overlay_net.domain.routes.node_table import NodeTable
from overlay_net.domain.routes.status import route_status
from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.model.conditions import find_condition, parse_conditions
from overlay_net.model.names import NODES
from overlay_net.model.node import Node
from overlay_net.model.node_actions import NodeRoutes
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_spec import encode_route
from tests.fakes.cluster import Cluster
from tests.fakes.woken import woken_nodes
from tests.unit.factories import raw_node, raw_pool, raw_static_route

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GATEWAY = "192.168.100.1"


def claiming(name: str, address: str, **fields: Any) -> JsonObject:
    """A Node with an InternalIP, which a kubelet sets as it likes."""
    return raw_node(name) | {"status": {"addresses": [{"type": "InternalIP", "address": address}]}} | fields


class ManyNodes:
    """Nodes with what is compiled for them, as their NodeOverlayIps have it after each change."""

    def __init__(self, *names: str) -> None:
        self.caches = Caches()
        self.caches.protected.set_unknown("")
        self.routes: dict[str, JsonObject] = {}
        self.nodes: dict[str, JsonObject] = {}
        self.compiled: dict[str, NodeRoutes] = {}
        self.version = 0
        for name in names:
            self.join(raw_node(name))

    def join(self, raw: JsonObject) -> None:
        self.nodes[raw["metadata"]["name"]] = raw
        self._list()

    def leave(self, name: str) -> None:
        del self.nodes[name]
        self._list()

    def put(self, raw: JsonObject) -> None:
        self.routes[raw["metadata"]["name"]] = raw
        self._list()

    def _list(self) -> None:
        self.version += 1
        for store, objects in ((self.caches.nodes, self.nodes), (self.caches.routes, self.routes)):
            listed = []
            for raw in objects.values():
                metadata = raw["metadata"] | {"resourceVersion": str(self.version)}
                listed.append(raw | {"metadata": metadata})
            store.replace(Listing(tuple(listed), str(self.version)))

    def settle(self) -> None:
        for node in self.caches.nodes.values():
            overlay = self.overlay(node)
            self.compiled[node.name] = self.caches.compile_routes_for(node, overlay, overlay.assignment.gateway)

    def overlay(self, node: Node) -> NodeOverlay:
        compiled = self.compiled.get(node.name, NodeRoutes())
        spec = {
            "routes": [encode_route(each) for each in compiled.routes],
            "generations": [each.to_json() for each in compiled.generations],
        }
        status = {"ipAddr": "192.168.100.2/24", "gateway": GATEWAY, "observedGeneration": 9}
        return NodeOverlay.parse({"metadata": {"name": node.name, "uid": node.name}, "spec": spec, "status": status})

    def subnets(self, name: str) -> list[str]:
        return [str(each.subnet) for each in self.compiled[name].routes]

    def gateways(self, name: str) -> list[str]:
        return [str(gateway.address) for each in self.compiled[name].routes for gateway in each.spec.gateways]

    def status(self, name: str = "r1") -> JsonObject:
        route = self.caches.routes.get(name)
        assert route is not None
        tables = [NodeTable.index(node, self.overlay(node)) for node in self.caches.nodes.values()]
        return route_status(route, tables, NOW, self.caches.protection)

    def accepted(self, name: str = "r1") -> tuple[object, str, str]:
        condition = find_condition(parse_conditions(self.status(name)), "Accepted")
        assert condition is not None
        return condition.status, condition.reason, condition.message


@pytest.fixture
def nodes() -> ManyNodes:
    """Two nodes that route 10.55.0.0/24."""
    made = ManyNodes("n1", "n2")
    made.put(raw_static_route(subnet="10.55.0.0/24"))
    made.settle()
    assert made.subnets("n1") == made.subnets("n2") == ["10.55.0.0/24"]
    return made


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (claiming("x", "10.55.0.7"), "10.55.0.7/32 (address of node x)"),
        (raw_node("x") | {"spec": {"podCIDRs": ["10.55.0.0/16"]}}, "10.55.0.0/16 (pod subnet of node x)"),
        (
            {"metadata": {"name": "x", "annotations": {"projectcalico.org/IPv4VXLANTunnelAddr": "10.55.0.64"}}},
            "10.55.0.64/32 (Calico tunnel address of node x)",
        ),
    ],
    ids=["InternalIP", "podCIDR", "annotation"],
)
def test_a_node_that_joins_withdraws_no_route(nodes: ManyNodes, raw: JsonObject, named: str) -> None:
    nodes.join(raw)
    nodes.settle()
    assert nodes.subnets("n1") == nodes.subnets("n2") == ["10.55.0.0/24"]
    assert nodes.subnets("x") == [], "the node that claims the subnet gets no route for it"
    status, reason, message = nodes.accepted()
    assert (status, reason) == (False, "Protected")
    assert f"10.55.0.0/24 overlaps {named}; nodes that already have the route keep it" in message
    assert [each["hostname"] for each in nodes.status()["nodeStatus"]] == ["n1", "n2"]


def test_another_node_gets_the_route_once_the_subnet_is_not_protected_any_more(nodes: ManyNodes) -> None:
    nodes.join(claiming("x", "10.55.0.7"))
    nodes.join(raw_node("n3"))
    nodes.settle()
    assert nodes.subnets("n3") == []
    nodes.leave("x")
    nodes.settle()
    assert nodes.subnets("n3") == ["10.55.0.0/24"]
    assert nodes.accepted()[0] is True


def test_pools_and_overlay_addresses_withdraw_no_route_either(nodes: ManyNodes) -> None:
    nodes.caches.pools.replace(Listing((raw_pool("late", "10.55.0.0/25", "10.55.0.1"),), "1"))
    nodes.settle()
    assert nodes.subnets("n1") == ["10.55.0.0/24"]
    assert "10.55.0.0/25 (OverlayPool late)" in nodes.accepted()[2]


def test_a_new_route_in_a_protected_subnet_reaches_no_node(nodes: ManyNodes) -> None:
    nodes.join(claiming("x", "10.56.0.7"))
    nodes.put(raw_static_route("r2", "10.56.0.0/24"))
    nodes.settle()
    assert nodes.subnets("n1") == ["10.55.0.0/24"]
    assert "keep it" not in nodes.accepted("r2")[2]
    assert nodes.status("r2")["desired"] == 0


def test_edits_reach_the_subnets_that_stay_and_add_none(nodes: ManyNodes) -> None:
    nodes.join(claiming("x", "10.55.0.7"))
    edited = raw_static_route(gateway="192.168.100.254", generation=2)
    edited["spec"] = {"subnets": ["10.55.0.0/24", "10.57.0.0/24"], "gateway": "192.168.100.254"}
    nodes.put(edited)
    nodes.settle()
    assert (nodes.subnets("n1"), nodes.gateways("n1")) == (["10.55.0.0/24"], ["192.168.100.254"])
    nodes.put(raw_static_route(subnet="10.57.0.0/24", generation=3))
    nodes.settle()
    assert nodes.subnets("n1") == nodes.subnets("x") == ["10.57.0.0/24"], "a subnet that is not listed goes"


def test_a_route_that_is_deleted_or_selects_other_nodes_is_removed(nodes: ManyNodes) -> None:
    nodes.join(claiming("x", "10.55.0.7"))
    nodes.put(raw_static_route(subnet="10.55.0.0/24", labels={"topology.kubernetes.io/zone": "wdc04"}))
    nodes.settle()
    assert nodes.subnets("n1") == []


def test_a_staged_rollout_stops_and_withdraws_nothing() -> None:
    nodes = ManyNodes("n1", "n2")
    rollout: dict[str, Any] = {"rollout": {"maxUnavailable": 1}, "created": "2027-01-01T00:00:00Z"}
    first = raw_static_route(subnet="10.55.0.0/24", gateway="192.168.100.250", **rollout)
    nodes.put(first)
    nodes.caches.admitted = {("route-r1", 1): frozenset({"n1", "n2"})}
    nodes.settle()
    nodes.put(raw_static_route(subnet="10.55.0.0/24", gateway="192.168.100.251", generation=2, **rollout))
    nodes.caches.admitted = {("route-r1", 2): frozenset({"n1"})}
    nodes.settle()
    nodes.join(claiming("x", "10.55.0.7"))
    nodes.settle()
    assert (nodes.gateways("n1"), nodes.gateways("n2")) == (["192.168.100.251"], ["192.168.100.250"])
    assert nodes.compiled["x"] == NodeRoutes(), "without a generation, it takes part in the rollout later"


async def test_only_nodes_with_a_changed_decision_are_woken() -> None:
    caches, queues = Caches(), Queues()
    caches.protected.set_unknown("")
    routes = (
        raw_static_route("r1", "10.55.0.0/24", labels={"topology.kubernetes.io/zone": "dal10"}),
        raw_static_route("r2", "10.56.0.0/24"),
    )
    caches.routes.replace(Listing(routes, "1"))
    caches.nodes.replace(Listing((raw_node("n1"), raw_node("n2", zone="wdc04")), "1"))
    for route in caches.routes.values():
        assert caches.protection.refusal(route) is None
    events = EventRoutes(caches, queues, batch=3600)
    caches.nodes.apply(WatchEvent("ADDED", claiming("x", "10.55.0.7")))
    assert await woken_nodes(events, queues) == {"n1", "x"}
    caches.nodes.apply(WatchEvent("ADDED", claiming("y", "10.55.0.8")))
    assert await woken_nodes(events, queues) == {"y"}, "the message names the first overlap, which is the same"
    caches.nodes.apply(WatchEvent("DELETED", claiming("x", "10.55.0.7")))
    caches.nodes.apply(WatchEvent("DELETED", claiming("y", "10.55.0.8")))
    assert await woken_nodes(events, queues) == {"n1", "x", "y"}


async def test_the_object_of_a_node_keeps_the_route() -> None:
    cluster = await Cluster.start(raw_pool(), routes=[raw_static_route(subnet="10.55.0.0/24")])
    await cluster.join(raw_node())
    await cluster.settle()
    before = (await cluster.present_overlay())["spec"]["routes"]
    assert [each["subnet"] for each in before] == ["10.55.0.0/24"]
    await cluster.kube.create(NODES, claiming("x", "10.55.0.7"))
    await cluster.settle()
    assert (await cluster.present_overlay())["spec"]["routes"] == before
    await cluster.set_policy()
    await cluster.settle()
    assert (await cluster.present_overlay())["spec"]["routes"] == before
