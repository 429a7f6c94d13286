"""The data of one node for status and rollout, indexed once for all StaticRoutes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeAlias

from overlay_net.domain.routes.merge import Selection, merge_routes, select_entries
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.node_report import Report, RouteFailure
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_key import RouteKey
from overlay_net.model.route_probe import RouteGeneration, RouteProbe
from overlay_net.model.route_slice import RouteSlice
from overlay_net.model.static_route import StaticRoute

SlicesBySet: TypeAlias = Mapping[str, Mapping[int, RouteSlice]]
NO_SLICES: SlicesBySet = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class NodeTable:
    node: Node
    overlay: NodeOverlay
    routes: Mapping[RouteKey, DesiredRoute]
    failures: Mapping[RouteKey, RouteFailure]
    not_needed: Mapping[str, RouteFailure]
    """By StaticRoute; its only gateway is this node."""
    generations: Mapping[str, RouteGeneration]
    route_probes: Mapping[str, RouteProbe]
    own_addresses: frozenset[IpAddress] = frozenset()
    """The known addresses of the node: it is not its own gateway."""
    has_report: bool = True
    """Whether there is a report about this instance of the node."""
    is_current: bool = False
    """Whether the report is about the present generation of the spec."""

    @classmethod
    def index(cls, node: Node, overlay: NodeOverlay, slices: SlicesBySet = NO_SLICES) -> "NodeTable":
        """Index one node. Of a report about another object or instance of the node, only names and addresses count.

        ``slices`` are all slices by set and index. An agent of an earlier version has the routes of the object instead.
        """
        has_report = overlay.reports_on(node)
        is_current = overlay.is_current
        if overlay.report.observed_slices is not None or not overlay.has_routes:
            selection = select_entries(overlay.route_sets or (), slices)
            overlay = _with_entries(overlay, selection)
            is_current = _is_observed(overlay, selection)
        if not has_report:
            report = overlay.report
            names = Report(report.interface, report.link, report.configured, report.fallback, observed_generation=-1)
            overlay = replace(overlay, report=names)
        return cls(
            node,
            overlay,
            {route.key: route for route in overlay.routes},
            {failure.key: failure for failure in overlay.report.failures},
            {route.static_route: route for route in overlay.report.not_needed},
            {each.static_route: each for each in overlay.generations},
            {route_probe.static_route: route_probe for route_probe in overlay.report.route_probes},
            _own_addresses(node, overlay),
            has_report,
            is_current and has_report,
        )

    @property
    def has_unlisted_failures(self) -> bool:
        """Return whether more routes fail than the report lists."""
        return self.overlay.report.routes_failed > len(self.overlay.report.failures)

    @property
    def default_gateway(self) -> IpAddress | None:
        """The gateway for routes that specify none."""
        overlay = self.overlay
        return overlay.report.fallback if overlay.routes_only else overlay.assignment.gateway


def _with_entries(overlay: NodeOverlay, selection: Selection) -> NodeOverlay:
    gateway = None if overlay.routes_only else overlay.assignment.gateway
    entries = selection.entries.values()
    generations = (RouteGeneration(each.name, each.uid, each.generation, each.probe) for each in entries)
    return replace(overlay, routes=merge_routes(entries, gateway), generations=tuple(generations))


def _is_observed(overlay: NodeOverlay, selection: Selection) -> bool:
    """Return whether the report is about the present generation of each slice."""
    observed = overlay.report.observed_slices or {}
    current = all(observed.get(name, -1) >= generation for name, generation in selection.slices.items())
    return current and not selection.missing


def _own_addresses(node: Node, overlay: NodeOverlay) -> frozenset[IpAddress]:
    overlay_addresses = (overlay.assignment.address, overlay.report.configured)
    return frozenset({*node.addresses, *(each.ip for each in overlay_addresses if each is not None)})


def select_tables(route: StaticRoute, tables: Iterable[NodeTable]) -> Iterator[NodeTable]:
    return (table for table in tables if route.selects(table.node) and not table.overlay.deleting)
