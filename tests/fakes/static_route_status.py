"""The status of StaticRoutes from nodes as they are: slices, NodeOverlayIps and reports, without an API server."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from overlay_net.domain.routes.protected_subnets import NOTHING, RouteCheck, refusal
from overlay_net.domain.routes.route_sets import route_set_name
from overlay_net.domain.routes.status import route_status
from overlay_net.domain.routes.status_index import StatusIndex
from overlay_net.model.api import JsonObject
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_slice import NamedSet, RouteSlice, SliceContent, slice_name
from overlay_net.model.slice_entry import SliceEntry
from overlay_net.model.static_route import StaticRoute
from tests.unit.factories import node, overlay

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GENERATION = 2
"""Of each slice, with which each of its entries got its present form."""


@dataclass(frozen=True)
class ReportingNode:
    node: Node
    overlay: NodeOverlay
    routes: Sequence[StaticRoute] = field(default=())
    """The StaticRoutes in its slices."""


def entry(route: StaticRoute, **changes: Any) -> SliceEntry:
    fields: dict[str, Any] = {
        "name": route.name,
        "uid": route.uid,
        "generation": route.generation,
        "created": route.created,
        "subnets": route.subnets,
        "spec": route.spec,
        "probe": route.probe,
        "slice_generation": GENERATION,
    }
    return SliceEntry(**fields | changes)


def route_slice(
    route_set: str, *entries: SliceEntry, index: int = 0, generation: int = GENERATION, slices: Sequence[int] = (0,)
) -> RouteSlice:
    content = SliceContent(
        route_set, slices=tuple(slices) if index == 0 else (), entries=entries, generation=generation
    )
    name = slice_name(route_set, index)
    return RouteSlice(name, f"uid-{name}", str(generation), deleting=False, content=content)


def make_slices(routes: Iterable[StaticRoute]) -> list[RouteSlice]:
    """One slice for each set; an object that comes again replaces the one before."""
    by_set: dict[str, dict[str, StaticRoute]] = {}
    for each in routes:
        if not each.deleting and not each.problem:
            by_set.setdefault(route_set_name(each), {})[each.name] = each
    return [route_slice(name, *map(entry, found.values())) for name, found in by_set.items()]


def table(
    name: str,
    *routes: StaticRoute,
    behind: bool = False,
    failures: Any = (),
    failed: int | None = None,
    spec: Mapping[str, Any] | None = None,
    **reported: Any,
) -> ReportingNode:
    """A node that has the sets of ``routes``; ``behind``: its agent has reported an earlier generation of the slices.

    ``reported`` are more fields of the status.
    """
    sets = sorted({route_set_name(each) for each in routes})
    observed = {slice_name(each, 0): GENERATION - 1 if behind else GENERATION for each in sets}
    status = {
        "ipAddr": "192.168.100.4/24",
        "gateway": "192.168.100.1",
        "interface": "eth0",
        "interfaceLabel": "tmp0",
        "observedGeneration": 1,
        "observedSlices": observed,
        "routes": list(failures),
        "routesFailed": len(failures) if failed is None else failed,
    }
    desired = {"routeSets": [NamedSet(each).to_json() for each in sets], **(spec or {})}
    return ReportingNode(node(name), overlay(name, spec=desired, status=status | reported), routes)


def make_index(
    nodes: Iterable[ReportingNode], routes: Iterable[StaticRoute], slices: Iterable[RouteSlice]
) -> StatusIndex:
    index = StatusIndex()
    for route in routes:
        index.update_route(route.name, route)
    for each in slices:
        index.update_slice(each.name, each)
    for found in nodes:
        index.update_node(found.node.name, found.node, found.overlay)
    return index


def find_status(
    route: StaticRoute,
    nodes: Sequence[ReportingNode],
    now: datetime = NOW,
    protection: RouteCheck = NOTHING,
    slices: Iterable[RouteSlice] | None = None,
    **options: Any,
) -> JsonObject:
    """``slices`` are by default those of the StaticRoutes of the nodes."""
    others = {each.name: each for found in nodes for each in found.routes} | {route.name: route}
    if slices is None:
        slices = make_slices(each for found in nodes for each in found.routes)
    index = make_index(nodes, others.values(), slices)
    return route_status(index, route, now, refusal(route, protection), present=route.conditions, **options)
