"""Objects for tests, as the API has them, parsed as the product parses them."""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any

from overlay_net.domain.routes.desired_entries import DesiredEntries
from overlay_net.domain.routes.merge import merge_routes
from overlay_net.domain.routes.protected_subnets import NOTHING
from overlay_net.model.api import JsonObject
from overlay_net.model.desired_route import DesiredRoute, Gateway, RouteSpec
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool
from overlay_net.model.static_route import StaticRoute


def raw_node(
    name: str = "n1",
    *,
    uid: str = "uid-1",
    zone: str = "dal10",
    taints: tuple[str, ...] = (),
    boot: str = "",
    **labels: str,
) -> JsonObject:
    labels = {"topology.kubernetes.io/zone": zone, "topology.kubernetes.io/region": "us-south", **labels}
    spec = {"taints": [{"key": key, "effect": "NoSchedule"} for key in taints]}
    status = {"nodeInfo": {"bootID": boot}}
    return {"metadata": {"name": name, "uid": uid, "labels": labels}, "spec": spec, "status": status}


def node(name: str = "n1", **options: Any) -> Node:
    return Node.parse(raw_node(name, **options))


def raw_pool(
    name: str = "p1", cidr: str = "192.168.100.0/24", gateway: str = "192.168.100.1", **spec: Any
) -> JsonObject:
    return {"metadata": {"name": name, "uid": f"pool-{name}"}, "spec": {"cidr": cidr, "gateway": gateway, **spec}}


def raw_phpipam_pool(raw: JsonObject, subnet_id: int = 7) -> JsonObject:
    """A pool of phpIPAM with the subnet, gateway and exclusions of an in-cluster one."""
    spec = {key: value for key, value in raw["spec"].items() if key not in ("cidr", "gateway")}
    facts = {key: raw["spec"][key] for key in ("cidr", "gateway")}
    return raw | {"spec": {"phpIPAM": {"subnetID": subnet_id}, **spec}, "status": facts}


def pool(name: str = "p1", *subnet: str, **spec: Any) -> Pool:
    return Pool.parse(raw_pool(name, *subnet, **spec))


def specified_routes(route: StaticRoute, overlay_gateway: IpAddress | None) -> list[DesiredRoute]:
    """The routes of a StaticRoute alone on a node with this overlay gateway."""
    return [DesiredRoute.to(each, route.spec_for(each.version, overlay_gateway), route.name) for each in route.subnets]


def raw_static_route(
    name: str = "r1",
    subnet: str = "192.168.0.0/24",
    *,
    created: str = "2026-01-01T00:00:00Z",
    labels: dict[str, str] | None = None,
    status: dict[str, Any] | None = None,
    deleting: bool = False,
    generation: int = 1,
    **spec: Any,
) -> JsonObject:
    metadata: dict[str, Any] = {"name": name, "uid": f"route-{name}", "creationTimestamp": created}
    metadata |= {"labels": labels or {}, "generation": generation}
    if deleting:
        metadata["deletionTimestamp"] = created
    return {"metadata": metadata, "spec": {"subnet": subnet, **spec}, "status": status or {}}


def static_route(name: str = "r1", subnet: str = "192.168.0.0/24", **options: Any) -> StaticRoute:
    return StaticRoute.parse(raw_static_route(name, subnet, **options))


def overlay(
    name: str = "n1",
    *,
    status: dict[str, Any] | None = None,
    spec: dict[str, Any] | None = None,
    generation: int = 1,
    deleting: bool = False,
    finalizers: tuple[str, ...] = ("finalizer.iks.ibm.com",),
    labels: dict[str, str] | None = None,
    created: str = "2025-01-01T00:00:00Z",
) -> NodeOverlay:
    metadata: dict[str, Any] = {
        "name": name,
        "uid": f"overlay-{name}",
        "resourceVersion": "7",
        "generation": generation,
        "creationTimestamp": created,
        "finalizers": list(finalizers),
        "labels": {"node": name, "region": "us-south", "zone": "dal10"} if labels is None else labels,
    }
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return NodeOverlay.parse({"metadata": metadata, "spec": spec or {}, "status": status or {}})


def desired_route(subnet: str, *gateways: str, static_route: str = "r", **spec: Any) -> DesiredRoute:
    """``spec`` are fields of RouteSpec."""
    hops = tuple(Gateway(ip_address(each)) for each in gateways)
    return DesiredRoute.to(ip_network(subnet), RouteSpec(hops, **spec), static_route)


def merged(routes: Iterable[StaticRoute], gateway: str | None = "192.168.100.1") -> tuple[DesiredRoute, ...]:
    """The routes of a node that has the sets of all these StaticRoutes, and this overlay gateway."""
    entries = DesiredEntries()
    entries.update(routes, NOTHING)
    return merge_routes((each.entry for each in entries), ip_address(gateway) if gateway else None)


def own_gateways(found: NodeOverlay) -> set[IpAddress]:
    """The gateways of the routes in the object."""
    return {gateway.address for route in found.routes for gateway in route.spec.gateways}
