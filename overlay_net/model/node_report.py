"""The agent's part of NodeOverlayIp.status: the state of the node's kernel."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import (
    CHECKPOINT_STORED,
    CONFIGURED,
    GATEWAY_REACHABLE,
    METRICS_SERVED,
    PRIVATE_ADDRESS_REACHABLE,
    ROUTE_SETS_KNOWN,
    Condition,
    is_of_controller,
)
from overlay_net.model.managed_fields import Path
from overlay_net.model.net import IpAddress, IpInterface, IpNetwork
from overlay_net.model.node import UNKNOWN_INSTANCE, NodeInstance
from overlay_net.model.parse import (
    encode_time,
    find_address,
    find_object,
    find_objects,
    keep_whole_seconds,
    parse_int,
    parse_interface,
    parse_network,
    parse_text,
    parse_time,
)
from overlay_net.model.route import MAIN_TABLE
from overlay_net.model.route_key import RouteKey, encode_route_key
from overlay_net.model.route_probe import RouteProbe

_OPTIONAL_CONDITIONS: Final = (
    CONFIGURED,
    GATEWAY_REACHABLE,
    METRICS_SERVED,
    CHECKPOINT_STORED,
    PRIVATE_ADDRESS_REACHABLE,
    ROUTE_SETS_KNOWN,
)

GATEWAY_DOWN: Final = "GatewayDown"
"""Reason for a gateway that does not answer."""

LINK_DOWN: Final = "LinkDown"
"""Reason for a gateway whose link cannot carry traffic."""

GATEWAY_IS_THIS_NODE: Final = "GatewayIsThisNode"
"""State of a route that is not set on this node, because its only gateway is this node: not a failure."""

REPORT_FIELDS: Final[frozenset[Path]] = frozenset(
    {("status", each) for each in ("lease", "configuredIpAddr", "fallbackGateway", "probes", "observedSlices")}
    | {("status", each) for each in ("conflictingIpAddr", "conflictingMAC")}
    | {("status", "conditions", each) for each in _OPTIONAL_CONDITIONS}
)
"""What a report may omit; ``Ready`` is never omitted, and shared with the controller while it is ``Unknown``."""


@dataclass(frozen=True, slots=True)
class RouteFailure:
    """One entry of status.routes: a route that is *not* in place, and why."""

    subnet: IpNetwork
    metric: int
    static_route: str
    reason: str
    message: str
    gateway: str = ""
    table: int = MAIN_TABLE

    @property
    def key(self) -> RouteKey:
        return encode_route_key(self.subnet, self.metric, self.table)

    @classmethod
    def parse(cls, raw: JsonObject) -> "RouteFailure | None":
        subnet = parse_network(raw.get("subnet"))
        if subnet is None:
            return None
        return cls(
            subnet=subnet,
            metric=parse_int(raw.get("metric")),
            static_route=parse_text(raw.get("staticRoute")),
            reason=parse_text(raw.get("state")),
            message=parse_text(raw.get("message")),
            gateway=parse_text(raw.get("gateway")),
            table=parse_int(raw.get("table"), MAIN_TABLE),
        )

    def to_json(self) -> JsonObject:
        raw: JsonObject = {
            "subnet": str(self.subnet),
            "staticRoute": self.static_route,
            "state": self.reason,
            "message": self.message,
        }
        if self.gateway:
            raw["gateway"] = self.gateway
        if self.metric:
            raw["metric"] = self.metric
        if self.table != MAIN_TABLE:
            raw["table"] = self.table
        return raw


@dataclass(frozen=True, slots=True)
class SilentGateway:
    """One entry of status.gateways: a gateway that this node cannot use."""

    address: IpAddress
    since: datetime | None
    message: str
    reason: str = GATEWAY_DOWN
    """GATEWAY_DOWN: it does not answer; another one: it is on no link that can carry traffic."""

    def __post_init__(self) -> None:
        keep_whole_seconds(self, "since")

    @classmethod
    def parse(cls, raw: JsonObject) -> "SilentGateway | None":
        address = find_address(raw, "address")
        if address is None:
            return None
        # An agent of an earlier version reports no reason.
        reason = parse_text(raw.get("reason")) or GATEWAY_DOWN
        return cls(address, parse_time(raw.get("since")), parse_text(raw.get("message")), reason)

    def to_json(self) -> JsonObject:
        raw: JsonObject = {"address": str(self.address), "reason": self.reason, "message": self.message}
        return raw | ({"since": encode_time(self.since)} if self.since else {})


@dataclass(frozen=True, slots=True)
class Report:
    """The agent's part of status. It lists only routes and gateways with a problem."""

    interface: str = ""
    link: str = ""
    configured: IpInterface | None = None
    """The overlay address in the kernel. The controller never releases an address that is reported here."""
    fallback: IpAddress | None = None
    """On a node with routes only, the gateway for routes without one, once the agent has found it."""
    observed_generation: int = 0
    observed_uid: str = ""
    """Uid of the NodeOverlayIp that the report is about; empty: an agent of an earlier version."""
    observed_node: NodeInstance = UNKNOWN_INSTANCE
    """The Node of ``spec.node``, and the boot that the agent runs in."""
    lease: str = ""
    """Namespace and name of the Lease that the agent renews; empty: none, so silence proves nothing."""
    routes_desired: int = 0
    routes_ready: int = 0
    routes_failed: int = 0
    failures: tuple[RouteFailure, ...] = ()
    not_needed: tuple[RouteFailure, ...] = ()
    """One route of each StaticRoute whose only gateway is this node; the counts do not include its routes."""
    silent_gateways: tuple[SilentGateway, ...] = ()
    conflict: IpAddress | None = None
    """The assigned address while another host on the link uses it."""
    conflict_mac: str = ""
    """MAC of that host; empty: unknown."""
    route_probes: tuple[RouteProbe, ...] = ()
    """Generations of StaticRoutes that are still being probed on this node, or were rolled back."""
    conditions: tuple[Condition, ...] = ()
    observed_slices: Mapping[str, int] | None = field(default=None, hash=False)
    """Generations, by name, of the OverlayRouteSlices that the routes are from; None: an agent without slices."""

    @classmethod
    def parse(cls, status: JsonObject, conditions: Iterable[Condition]) -> "Report":
        """``conditions`` are the parsed conditions of the status."""
        silent = (SilentGateway.parse(item) for item in find_objects(status, "gateways"))
        parsed = (RouteFailure.parse(item) for item in find_objects(status, "routes"))
        listed = [route for route in parsed if route is not None]
        return cls(
            interface=parse_text(status.get("interface")),
            link=parse_text(status.get("interfaceLabel")),
            configured=parse_interface(status.get("configuredIpAddr")),
            observed_generation=parse_int(status.get("observedGeneration")),
            observed_uid=parse_text(status.get("observedUID")),
            observed_node=NodeInstance.parse(find_object(status, "observedNode")),
            lease=parse_text(status.get("lease")),
            routes_desired=parse_int(status.get("routesDesired")),
            routes_ready=parse_int(status.get("routesReady")),
            routes_failed=parse_int(status.get("routesFailed")),
            failures=tuple(route for route in listed if route.reason != GATEWAY_IS_THIS_NODE),
            not_needed=tuple(route for route in listed if route.reason == GATEWAY_IS_THIS_NODE),
            silent_gateways=tuple(gateway for gateway in silent if gateway is not None),
            fallback=find_address(status, "fallbackGateway"),
            conflict=find_address(status, "conflictingIpAddr"),
            conflict_mac=parse_text(status.get("conflictingMAC")),
            route_probes=tuple(RouteProbe.parse(item) for item in find_objects(status, "probes")),
            conditions=tuple(each for each in conditions if not is_of_controller(each)),
            observed_slices=_parse_observed_slices(status),
        )

    def to_json(self) -> JsonObject:
        raw: JsonObject = {
            "interface": self.interface,
            "interfaceLabel": self.link,
            "observedGeneration": self.observed_generation,
            "observedUID": self.observed_uid,
            "observedNode": self.observed_node.to_json(),
            "routesDesired": self.routes_desired,
            "routesReady": self.routes_ready,
            "routesFailed": self.routes_failed,
            "routes": [route.to_json() for route in (*self.failures, *self.not_needed)],
            "gateways": [gateway.to_json() for gateway in self.silent_gateways],
            "conditions": [condition.to_json() for condition in self.conditions],
        }
        if self.lease:
            raw["lease"] = self.lease
        if self.configured is not None:
            raw["configuredIpAddr"] = str(self.configured)
        if self.fallback is not None:
            raw["fallbackGateway"] = str(self.fallback)
        if self.conflict is not None:
            raw["conflictingIpAddr"] = str(self.conflict)
        if self.conflict_mac:
            raw["conflictingMAC"] = self.conflict_mac
        if self.route_probes:
            raw["probes"] = [route_probe.to_json() for route_probe in self.route_probes]
        if self.observed_slices is not None:
            raw["observedSlices"] = dict(self.observed_slices)
        return raw


def _parse_observed_slices(status: JsonObject) -> Mapping[str, int] | None:
    if not isinstance(status.get("observedSlices"), dict):
        return None
    return {name: parse_int(generation) for name, generation in find_object(status, "observedSlices").items()}
