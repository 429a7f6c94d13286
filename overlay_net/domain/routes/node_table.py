"""The data of one node for status and rollout, indexed once for all StaticRoutes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

from overlay_net.model.conditions import GATEWAY_REACHABLE, ROUTE_SETS_KNOWN, find_condition
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.node_report import Report, RouteFailure
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_key import RouteKey
from overlay_net.model.route_probe import RouteGeneration, RouteProbe

NO_SLICES: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class NodeTable:
    node: Node
    overlay: NodeOverlay
    sets: Mapping[str, datetime | None]
    """The route sets that the NodeOverlayIp names, and since when."""
    failures: Mapping[RouteKey, RouteFailure]
    not_needed: Mapping[str, RouteFailure]
    """By StaticRoute; its only gateway is this node."""
    route_probes: Mapping[str, RouteProbe]
    silent: Mapping[IpAddress, str]
    """Why gateways cannot be used, by address."""
    earlier: "EarlierAgent | None" = None
    """Set while the agent is of an earlier version, which reads ``spec.routes``."""
    own_addresses: frozenset[IpAddress] = frozenset()
    """The known addresses of the node: it is not its own gateway."""
    has_report: bool = True
    """Whether there is a report about this instance of the node."""
    is_current: bool = False
    """Whether the report is about the present generation of the spec."""

    @classmethod
    def index(cls, node: Node, overlay: NodeOverlay) -> "NodeTable":
        """Index one node. Of a report about another object or instance of the node, only names and addresses count."""
        report, has_report = overlay.report, overlay.reports_on(node)
        earlier = EarlierAgent.find(overlay)
        if not has_report:
            names = Report(report.interface, report.link, report.configured, report.fallback, observed_generation=-1)
            overlay = replace(overlay, report=names)
        return cls(
            node,
            overlay,
            {each.name: each.since for each in overlay.route_sets or ()},
            {failure.key: failure for failure in overlay.report.failures},
            {route.static_route: route for route in overlay.report.not_needed},
            {route_probe.static_route: route_probe for route_probe in overlay.report.route_probes},
            {each.address: each.reason for each in overlay.report.silent_gateways},
            earlier,
            _own_addresses(node, overlay),
            has_report,
            overlay.is_current,
        )

    @property
    def has_unlisted_failures(self) -> bool:
        """Return whether more routes fail than the report lists."""
        return self.overlay.report.routes_failed > len(self.overlay.report.failures)

    @property
    def has_probed(self) -> bool:
        """Return whether the agent has the result of a probe of any gateway."""
        reachable = find_condition(self.overlay.report.conditions, GATEWAY_REACHABLE)
        return reachable is not None and reachable.status is not None

    @property
    def unknown_sets(self) -> str:
        """What the agent reports about route sets that it does not know completely; empty: it knows them."""
        known = find_condition(self.overlay.report.conditions, ROUTE_SETS_KNOWN)
        return known.message if known is not None and known.status is False else ""

    @property
    def common_faults(self) -> tuple[bool, str]:
        """What any StaticRoute of the node may suffer from; false and empty: nothing."""
        return self.has_unlisted_failures, self.unknown_sets

    @property
    def default_gateway(self) -> IpAddress | None:
        """The gateway for routes that specify none."""
        overlay = self.overlay
        return overlay.report.fallback if overlay.routes_only else overlay.assignment.gateway

    @property
    def overlay_gateway(self) -> IpAddress | None:
        """The gateway that the merge puts into routes that specify none."""
        return None if self.overlay.routes_only else self.overlay.assignment.gateway

    @property
    def observed(self) -> Mapping[str, int]:
        """Generations, by name, of the slices that the report is about."""
        return self.overlay.report.observed_slices or NO_SLICES

    def fails(self, static_route: str) -> bool:
        """Return whether the report lists a failing route, or a route probe, of this StaticRoute."""
        return static_route in self.route_probes or any(
            failure.static_route == static_route for failure in self.failures.values()
        )


@dataclass(frozen=True, slots=True)
class EarlierAgent:
    """What an agent of the version before route slices reads."""

    routes: Mapping[RouteKey, DesiredRoute]
    generations: Mapping[str, RouteGeneration]

    @classmethod
    def find(cls, overlay: NodeOverlay) -> "EarlierAgent | None":
        if not overlay.has_routes or overlay.report.observed_slices is not None:
            return None
        return cls(
            {route.key: route for route in overlay.routes}, {each.static_route: each for each in overlay.generations}
        )


def _own_addresses(node: Node, overlay: NodeOverlay) -> frozenset[IpAddress]:
    overlay_addresses = (overlay.assignment.address, overlay.report.configured)
    return frozenset({*node.addresses, *(each.ip for each in overlay_addresses if each is not None)})
