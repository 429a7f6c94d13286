"""The data of one node for status and rollout, indexed once for all StaticRoutes."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.node_report import Report, RouteFailure
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_key import RouteKey
from overlay_net.model.route_probe import RouteGeneration, RouteProbe
from overlay_net.model.static_route import StaticRoute


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
    def index(cls, node: Node, overlay: NodeOverlay) -> "NodeTable":
        """Index one node. Of a report about another object or instance of the node, only names and addresses count."""
        has_report = overlay.reports_on(node)
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
            overlay.is_current,
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


def _own_addresses(node: Node, overlay: NodeOverlay) -> frozenset[IpAddress]:
    overlay_addresses = (overlay.assignment.address, overlay.report.configured)
    return frozenset({*node.addresses, *(each.ip for each in overlay_addresses if each is not None)})


def select_tables(route: StaticRoute, tables: Iterable[NodeTable]) -> Iterator[NodeTable]:
    return (table for table in tables if route.selects(table.node) and not table.overlay.deleting)
