"""A subnet that becomes protected while it is routed: nodes that have the route keep it, no other node gets it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from overlay_net.controller.caches import Caches
from overlay_net.controller.event_routes import SLICES, EventRoutes, Queues
from overlay_net.controller.slice_reconciler import SliceReconciler
from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.model.conditions import find_condition, parse_conditions
from overlay_net.model.names import STATIC_ROUTES
from overlay_net.model.node_actions import NodeRoutes
from tests.fakes.cluster import Cluster
from tests.fakes.kube import InMemoryKube
from tests.fakes.woken import woken_nodes
from tests.unit.factories import overlay, raw_node, raw_pool, raw_static_route

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def claiming(name: str, address: str, **fields: Any) -> JsonObject:
    """A Node with an InternalIP, which a kubelet sets as it likes."""
    return raw_node(name) | {"status": {"addresses": [{"type": "InternalIP", "address": address}]}} | fields


class Nodes:
    """A cluster whose controller and agents settle after each change."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    async def put(self, raw: JsonObject) -> None:
        """Create the StaticRoute, or replace its labels and spec."""
        name = raw["metadata"]["name"]
        if await self.cluster.find(STATIC_ROUTES, name) is None:
            await self.cluster.add_route(raw)
        else:
            present = await self.cluster.kube.get(STATIC_ROUTES, name)
            spec = {**dict.fromkeys(present["spec"]), **raw["spec"]}
            change = {"metadata": {"labels": raw["metadata"]["labels"]}, "spec": spec}
            await self.cluster.kube.merge_patch(STATIC_ROUTES, name, change)

    async def settle(self) -> None:
        for _ in range(3):
            await self.cluster.update_status()
            await self.cluster.settle()

    async def subnets(self, name: str) -> list[str]:
        return [each["subnet"] for each in await self.cluster.routes(name)]

    async def gateways(self, name: str) -> list[str]:
        return [gateway["address"] for each in await self.cluster.routes(name) for gateway in each["gateways"]]

    async def status(self, name: str = "r1") -> JsonObject:
        await self.cluster.update_status()
        status: JsonObject = (await self.cluster.kube.get(STATIC_ROUTES, name))["status"]
        return status

    async def accepted(self, name: str = "r1") -> tuple[object, str, str]:
        condition = find_condition(parse_conditions(await self.status(name)), "Accepted")
        assert condition is not None
        return condition.status, condition.reason, condition.message


@pytest.fixture
async def nodes() -> Nodes:
    """Two nodes that route 10.55.0.0/24."""
    made = Nodes(await Cluster.start(raw_pool(), routes=[raw_static_route(subnet="10.55.0.0/24")]))
    for name in ("n1", "n2"):
        await made.cluster.join(raw_node(name))
    await made.settle()
    assert await made.subnets("n1") == await made.subnets("n2") == ["10.55.0.0/24"]
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
async def test_a_node_that_joins_withdraws_no_route(nodes: Nodes, raw: JsonObject, named: str) -> None:
    await nodes.cluster.join(raw)
    await nodes.settle()
    assert await nodes.subnets("n1") == await nodes.subnets("n2") == ["10.55.0.0/24"]
    assert await nodes.subnets("x") == [], "the node that claims the subnet gets no route for it"
    status, reason, message = await nodes.accepted()
    assert (status, reason) == (False, "Protected")
    assert f"10.55.0.0/24 overlaps {named}; nodes that already have the route keep it" in message
    assert [each["hostname"] for each in (await nodes.status())["nodeStatus"]] == ["n1", "n2"]


async def test_a_node_that_claims_the_subnet_names_no_set_before_the_slices_are_planned(nodes: Nodes) -> None:
    await nodes.cluster.join(claiming("x", "10.55.0.7"))
    controller = await nodes.cluster.running()
    for _ in range(2):
        await controller.node.reconcile("x")
    assert "routeSets" not in (await nodes.cluster.present_overlay("x"))["spec"]
    await nodes.settle()
    assert await nodes.subnets("x") == []
    assert await nodes.subnets("n1") == ["10.55.0.0/24"]


async def test_another_node_gets_the_route_once_the_subnet_is_not_protected_any_more(nodes: Nodes) -> None:
    await nodes.cluster.join(claiming("x", "10.55.0.7"))
    await nodes.cluster.reconcile()
    await nodes.cluster.join(raw_node("n3"))
    await nodes.settle()
    assert await nodes.subnets("n3") == []
    await nodes.cluster.leave("x")
    await nodes.settle()
    assert await nodes.subnets("n3") == ["10.55.0.0/24"]
    assert (await nodes.accepted())[0] is True


async def test_pools_and_overlay_addresses_withdraw_no_route_either(nodes: Nodes) -> None:
    await nodes.cluster.set_pools(raw_pool(), raw_pool("late", "10.55.0.0/25", "10.55.0.1"))
    await nodes.settle()
    assert await nodes.subnets("n1") == ["10.55.0.0/24"]
    assert "10.55.0.0/25 (OverlayPool late)" in (await nodes.accepted())[2]


async def test_a_new_route_in_a_protected_subnet_reaches_no_node(nodes: Nodes) -> None:
    await nodes.cluster.join(claiming("x", "10.56.0.7"))
    await nodes.put(raw_static_route("r2", "10.56.0.0/24"))
    await nodes.settle()
    assert await nodes.subnets("n1") == ["10.55.0.0/24"]
    assert "keep it" not in (await nodes.accepted("r2"))[2]
    assert (await nodes.status("r2"))["desired"] == 0


async def test_edits_reach_the_subnets_that_stay_and_add_none(nodes: Nodes) -> None:
    await nodes.cluster.join(claiming("x", "10.55.0.7"))
    edited = raw_static_route()
    edited["spec"] = {"subnets": ["10.55.0.0/24", "10.57.0.0/24"], "gateway": "192.168.100.254"}
    await nodes.put(edited)
    await nodes.settle()
    assert (await nodes.subnets("n1"), await nodes.gateways("n1")) == (["10.55.0.0/24"], ["192.168.100.254"])
    await nodes.put(raw_static_route(subnet="10.57.0.0/24"))
    await nodes.settle()
    for name in ("n1", "x"):
        assert await nodes.subnets(name) == ["10.57.0.0/24"], "a subnet that is not listed goes"


async def test_a_route_that_is_deleted_or_selects_other_nodes_is_removed(nodes: Nodes) -> None:
    await nodes.cluster.join(claiming("x", "10.55.0.7"))
    await nodes.put(raw_static_route(subnet="10.55.0.0/24", labels={"topology.kubernetes.io/zone": "wdc04"}))
    await nodes.settle()
    assert await nodes.subnets("n1") == []


async def test_a_staged_rollout_stops_and_withdraws_nothing() -> None:
    rollout: dict[str, Any] = {"rollout": {"maxUnavailable": 1}, "subnet": "10.55.0.0/24"}
    nodes = Nodes(await Cluster.start(raw_pool(), routes=[raw_static_route(gateway="192.168.100.250", **rollout)]))
    for name in ("n1", "n2"):
        await nodes.cluster.join(raw_node(name))
    await nodes.settle()
    assert await nodes.gateways("n1") == await nodes.gateways("n2") == ["192.168.100.250"]
    await nodes.put(raw_static_route(gateway="192.168.100.251", **rollout))
    await nodes.cluster.update_status()
    await nodes.cluster.reconcile()
    assert await nodes.gateways("n1") == ["192.168.100.251"]
    await nodes.cluster.join(claiming("x", "10.55.0.7"))
    await nodes.settle()
    assert (await nodes.gateways("n1"), await nodes.gateways("n2")) == (["192.168.100.251"], ["192.168.100.250"])
    assert await nodes.subnets("x") == [], "it takes part in the rollout later"


async def test_slices_are_planned_again_only_for_a_changed_decision() -> None:
    caches, queues = Caches(), Queues()
    caches.protected.set_unknown("")
    caches.routes.replace(
        Listing((raw_static_route("r1", "10.55.0.0/24"), raw_static_route("r2", "10.56.0.0/24")), "1")
    )
    caches.nodes.replace(Listing((raw_node("n1"), raw_node("n2")), "1"))
    for route in caches.routes.values():
        assert caches.protection.refusal(route) is None
    events = EventRoutes(caches, queues, batch=3600)

    async def is_planned() -> bool:
        planned = bool(len(queues.slices))
        if planned:
            queues.slices.done(await queues.slices.get())
        return planned

    caches.nodes.apply(WatchEvent("ADDED", claiming("x", "10.55.0.7")))
    assert await is_planned()
    assert await woken_nodes(events, queues) == {"x"}
    caches.nodes.apply(WatchEvent("ADDED", claiming("y", "10.55.0.8")))
    assert not await is_planned(), "the message names the first overlap, which is the same"
    caches.nodes.apply(WatchEvent("DELETED", claiming("x", "10.55.0.7")))
    caches.nodes.apply(WatchEvent("DELETED", claiming("y", "10.55.0.8")))
    assert await is_planned()
    assert await woken_nodes(events, queues) == {"x", "y"}


async def test_a_restarted_controller_leaves_the_route_where_it_is(nodes: Nodes) -> None:
    before = (await nodes.cluster.present_overlay("n1"))["spec"]["routeSets"]
    await nodes.cluster.join(claiming("x", "10.55.0.7"))
    await nodes.settle()
    await nodes.cluster.set_policy()
    await nodes.settle()
    assert (await nodes.cluster.present_overlay("n1"))["spec"]["routeSets"] == before
    assert await nodes.subnets("n1") == ["10.55.0.0/24"]


async def test_a_node_that_is_the_reason_for_the_refusal_names_no_set_before_its_slices_exclude_it() -> None:
    caches = Caches()
    caches.protected.set_unknown("")
    for store in caches.stores:
        store.replace(Listing((), "0"))
    for name, subnet in (("r1", "10.55.0.0/24"), ("r2", "10.56.0.0/24")):
        caches.routes.apply(WatchEvent("ADDED", raw_static_route(name, subnet)))
    api: Any = InMemoryKube(lambda: NOW)
    slices = SliceReconciler(api, caches, now=lambda: NOW, seconds_per_node=0)
    await slices.reconcile(SLICES)

    def plan(name: str) -> NodeRoutes:
        node = caches.nodes.get(name)
        assert node is not None
        return caches.find_routes_for(node, overlay(name), NOW)

    caches.nodes.apply(WatchEvent("ADDED", raw_node("n1")))
    assert plan("n1").complete
    caches.nodes.apply(WatchEvent("ADDED", claiming("x", "10.55.0.7")))
    assert (plan("x").sets, plan("x").complete) == (None, False)
    await slices.reconcile(SLICES)
    (named,) = plan("x").sets or ()
    (found,) = caches.slices.values()
    assert [each.name for each in found.content.entries if each.applies_since(named.since)] == ["r2"]
