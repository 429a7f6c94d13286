"""`overlay-net routes NODE`: what a node must have and has, from which StaticRoute, and why one of them lost."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import click
from rich.text import Text

from overlay_net.adapters.kube import KubeApi
from overlay_net.cli.cluster import read_all
from overlay_net.cli.options import NODE_NAME, answer, cluster_options, output_option, watch_option
from overlay_net.cli.output import columns
from overlay_net.domain.routes.node_listing import IN_PLACE, ListedRoute, NodeListing, list_routes
from overlay_net.domain.routes.outcome import NOT_NEEDED
from overlay_net.model.api import JsonObject
from overlay_net.model.desired_route import RouteSpec
from overlay_net.model.errors import NotFound
from overlay_net.model.names import NODE_OVERLAY_IPS, NODES, OVERLAY_ROUTE_SLICES, STATIC_ROUTES
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route import MAIN_TABLE
from overlay_net.model.route_slice import RouteSlice
from overlay_net.model.static_route import StaticRoute


@click.command()
@click.argument("node", type=NODE_NAME)
@click.option("--problems", is_flag=True, help="Only routes that are not in place.")
@cluster_options
@output_option
@watch_option
def routes(node: str, problems: bool, **options: Any) -> int:
    """List the routes of a node: what it must have and has, from which StaticRoute, and why one of them lost."""

    async def read(api: KubeApi) -> "Routes":
        return Routes(await read_listing(api, node), only_problems=problems)

    return answer(read, options)


async def read_listing(api: KubeApi, name: str) -> NodeListing:
    """Raises NotFound for a node that is not managed."""
    # First what is not found only if its kind does not exist.
    node, slices, static_routes = await asyncio.gather(
        _read_node(api, name),
        read_all(api, OVERLAY_ROUTE_SLICES, RouteSlice.parse),
        read_all(api, STATIC_ROUTES, StaticRoute.parse),
    )
    try:
        overlay = NodeOverlay.parse(await api.get(NODE_OVERLAY_IPS, name))
    except NotFound:
        message = f"node {name} has no NodeOverlayIp; kubectl get noip lists the nodes with one"
        raise NotFound(message) from None
    return list_routes(node, overlay, slices, static_routes)


async def _read_node(api: KubeApi, name: str) -> Node:
    try:
        return Node.parse(await api.get(NODES, name))
    except NotFound:
        # The object stays until the address is released.
        return Node(name, "", {})


@dataclass(frozen=True, slots=True)
class Routes:
    listing: NodeListing
    only_problems: bool = False
    exit_code: int = 0

    @property
    def shown(self) -> tuple[ListedRoute, ...]:
        return tuple(each for each in self.listing.routes if each.is_problem or not self.only_problems)

    def to_json(self) -> JsonObject:
        overlay = self.listing.overlay
        assignment = overlay.assignment
        return {
            "node": overlay.name,
            "address": str(assignment.address or ""),
            "gateway": str(assignment.gateway or ""),
            "routes": [_route_json(each) for each in self.shown],
            "notes": list(self.listing.notes),
        }

    def lines(self, width: int | None) -> Iterator[Text]:
        yield Text(self._head(), "bold")
        yield from (Text(f"note: {each}", "yellow") for each in self.listing.notes)
        if self.shown:
            yield Text()
        yield from columns(*_table(self.shown), width)

    def _head(self) -> str:
        overlay = self.listing.overlay
        counts = Counter(each.state for each in self.listing.routes)
        where = f"{overlay.report.link or 'no link'} on {overlay.report.interface or 'no interface'}"
        address = "routes only" if overlay.routes_only else f"address {overlay.assignment.address or 'none'}, {where}"
        total = sum(counts.values()) - counts[NOT_NEEDED]
        return f"node {overlay.name}: {address}; {counts[IN_PLACE]} of {total} routes in place"


def _table(routes: Iterable[ListedRoute]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and rows; metric and table are columns if any route has one."""
    listed = list(routes)
    with_metric = any(each.spec.metric for each in listed)
    with_table = any(each.spec.table != MAIN_TABLE for each in listed)
    optional = (("METRIC", with_metric), ("TABLE", with_table))
    header = ("SUBNET", "GATEWAY", *(name for name, present in optional if present), "STATICROUTE", "STATE", "MESSAGE")
    rows = [
        (
            str(each.subnet or "-"),
            describe_gateways(each.spec),
            *((str(each.spec.metric),) if with_metric else ()),
            *((str(each.spec.table),) if with_table else ()),
            each.static_route,
            each.state,
            each.message,
        )
        for each in listed
    ]
    return header, rows


def describe_gateways(spec: RouteSpec) -> str:
    if spec.kind != "unicast":
        return spec.kind
    return ",".join(str(gateway.address) for gateway in spec.gateways) or "-"


def _route_json(route: ListedRoute) -> JsonObject:
    return {
        "subnet": str(route.subnet or ""),
        "gateways": [str(gateway.address) for gateway in route.spec.gateways],
        "type": route.spec.kind,
        "metric": route.spec.metric,
        "table": route.spec.table,
        "staticRoute": route.static_route,
        "state": route.state,
        "message": route.message,
    }
