"""NodeOverlayIp: all that one node must have, and what its agent says it has."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import (
    CONFIGURED,
    READY,
    RELEASED,
    RESERVED,
    ROUTES_WITHDRAWN,
    Condition,
    find,
    parse_conditions,
)
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.names import FINALIZER
from overlay_net.model.net import IpAddress, IpInterface, IpNetwork
from overlay_net.model.parse import (
    encode_time,
    find_address,
    find_object,
    find_objects,
    find_texts,
    parse_int,
    parse_interface,
    parse_labels,
    parse_network,
    parse_text,
    parse_time,
)
from overlay_net.model.route import MAIN_TABLE
from overlay_net.model.route_key import RouteKey, encode_route_key
from overlay_net.model.route_probe import RouteGeneration, RouteProbe
from overlay_net.model.route_spec import parse_routes


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
    """One entry of status.gateways: a gateway that does not answer on this node."""

    address: IpAddress
    since: datetime | None
    message: str

    @classmethod
    def parse(cls, raw: JsonObject) -> "SilentGateway | None":
        address = find_address(raw, "address")
        return None if address is None else cls(address, parse_time(raw.get("since")), parse_text(raw.get("message")))

    def to_json(self) -> JsonObject:
        raw: JsonObject = {"address": str(self.address), "message": self.message}
        return raw | ({"since": encode_time(self.since)} if self.since else {})


@dataclass(frozen=True, slots=True)
class Assignment:
    """The controller's part of status."""

    address: IpInterface | None = None
    gateway: IpAddress | None = None
    pool: str = ""
    node_uid: str = ""
    """The Node whose mark the reservation carries."""
    releasing: tuple[str, ...] = ()
    """Other addresses that are still reserved for the node, until its agent reports the present one in use."""
    node_gone_since: datetime | None = None
    conflicts: int = 0
    """How often an address of this node was given up because somebody else used it."""
    last_conflict: datetime | None = None
    reserved: Condition | None = None
    withdrawn: Condition | None = None
    """Only while an agent does not confirm that routes of StaticRoutes that were deleted are gone."""

    def to_json(self) -> JsonObject:
        raw: JsonObject = {}
        if self.address is not None:
            raw["ipAddr"] = str(self.address)
        if self.gateway is not None:
            raw["gateway"] = str(self.gateway)
        if self.pool:
            raw["pool"] = self.pool
        if self.node_uid:
            raw["nodeUID"] = self.node_uid
        if self.releasing:
            raw["releasing"] = list(self.releasing)
        if self.node_gone_since is not None:
            raw["nodeGoneSince"] = encode_time(self.node_gone_since)
        if self.conflicts:
            raw["conflicts"] = self.conflicts
        if self.last_conflict is not None:
            raw["lastConflict"] = encode_time(self.last_conflict)
        conditions = [each.to_json() for each in (self.reserved, self.withdrawn) if each is not None]
        if conditions:
            raw["conditions"] = conditions
        return raw


@dataclass(frozen=True, slots=True)
class Report:
    """The agent's part of status: what the kernel of the node has, by exception."""

    interface: str = ""
    link: str = ""
    configured: IpInterface | None = None
    """The overlay address that the kernel has now. The controller releases none that is reported here."""
    fallback: IpAddress | None = None
    """On a node with routes only: the gateway that routes without one take, as far as the agent has found it."""
    observed_generation: int = 0
    routes_desired: int = 0
    routes_ready: int = 0
    routes_failed: int = 0
    failures: tuple[RouteFailure, ...] = ()
    silent_gateways: tuple[SilentGateway, ...] = ()
    conflict: IpAddress | None = None
    """The assigned address, while somebody else on the link uses it."""
    route_probes: tuple[RouteProbe, ...] = ()
    """Generations of StaticRoutes that are not proven here, or were rolled back."""
    conditions: tuple[Condition, ...] = ()

    def to_json(self) -> JsonObject:
        raw: JsonObject = {
            "interface": self.interface,
            "interfaceLabel": self.link,
            "observedGeneration": self.observed_generation,
            "routesDesired": self.routes_desired,
            "routesReady": self.routes_ready,
            "routesFailed": self.routes_failed,
            "routes": [failure.to_json() for failure in self.failures],
            "gateways": [gateway.to_json() for gateway in self.silent_gateways],
            "conditions": [condition.to_json() for condition in self.conditions],
        }
        if self.configured is not None:
            raw["configuredIpAddr"] = str(self.configured)
        if self.fallback is not None:
            raw["fallbackGateway"] = str(self.fallback)
        if self.conflict is not None:
            raw["conflictingIpAddr"] = str(self.conflict)
        if self.route_probes:
            raw["probes"] = [route_probe.to_json() for route_probe in self.route_probes]
        return raw


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """One entry of spec.withdrawn: a StaticRoute that the node has no routes of any more, and since when."""

    static_route: str
    since: datetime | None

    @classmethod
    def parse(cls, raw: JsonObject) -> "Withdrawal":
        return cls(parse_text(raw.get("staticRoute")), parse_time(raw.get("since")))

    def to_json(self) -> JsonObject:
        return {"staticRoute": self.static_route} | ({"since": encode_time(self.since)} if self.since else {})


@dataclass(frozen=True, slots=True)
class NodeOverlay:
    name: str
    uid: str
    resource_version: str
    generation: int
    deleted_at: datetime | None
    """When its deletion was asked for; it stays until nobody holds it by a finalizer."""
    labels: Mapping[str, str]
    finalizers: tuple[str, ...]
    pin: IpAddress | None
    gateway_override: IpAddress | None
    routes_only: bool
    """The node is to have routes and no overlay address."""
    routes: tuple[DesiredRoute, ...]
    assignment: Assignment
    report: Report
    generations: tuple[RouteGeneration, ...] = ()
    """Of StaticRoutes with a probe or a staged roll-out."""
    withdrawn: tuple[Withdrawal, ...] = ()
    """What the agent has not confirmed to be gone, as of the last change of the routes."""

    @classmethod
    def parse(cls, raw: JsonObject, before: "NodeOverlay | None" = None) -> "NodeOverlay":
        """``before`` is an earlier version of the object: while its spec is the same, so is the tuple of its routes.

        The API server counts ``generation`` up with every change of the spec, and with no other but a deletion.
        """
        metadata, spec, status = find_object(raw, "metadata"), find_object(raw, "spec"), find_object(raw, "status")
        conditions = parse_conditions(status)
        version = (parse_text(metadata.get("uid")), parse_int(metadata.get("generation")))
        if before is not None and all(version) and version == (before.uid, before.generation):
            routes = before.routes
        else:
            routes = parse_routes(spec)
        silent = (SilentGateway.parse(item) for item in find_objects(status, "gateways"))
        failures = (RouteFailure.parse(item) for item in find_objects(status, "routes"))
        return cls(
            name=parse_text(metadata.get("name")),
            uid=parse_text(metadata.get("uid")),
            resource_version=parse_text(metadata.get("resourceVersion")),
            generation=parse_int(metadata.get("generation")),
            deleted_at=parse_time(metadata.get("deletionTimestamp")),
            labels=parse_labels(find_object(metadata, "labels")),
            finalizers=find_texts(metadata, "finalizers"),
            pin=find_address(spec, "ipAddr"),
            gateway_override=find_address(spec, "gateway"),
            routes_only=spec.get("routesOnly") is True,
            routes=routes,
            assignment=Assignment(
                address=parse_interface(status.get("ipAddr")),
                gateway=find_address(status, "gateway"),
                pool=parse_text(status.get("pool")),
                node_uid=parse_text(status.get("nodeUID")),
                releasing=find_texts(status, "releasing"),
                node_gone_since=parse_time(status.get("nodeGoneSince")),
                conflicts=parse_int(status.get("conflicts")),
                last_conflict=parse_time(status.get("lastConflict")),
                reserved=find(conditions, RESERVED),
                withdrawn=find(conditions, ROUTES_WITHDRAWN),
            ),
            report=Report(
                interface=parse_text(status.get("interface")),
                link=parse_text(status.get("interfaceLabel")),
                configured=parse_interface(status.get("configuredIpAddr")),
                observed_generation=parse_int(status.get("observedGeneration")),
                routes_desired=parse_int(status.get("routesDesired")),
                routes_ready=parse_int(status.get("routesReady")),
                routes_failed=parse_int(status.get("routesFailed")),
                failures=tuple(failure for failure in failures if failure is not None),
                silent_gateways=tuple(gateway for gateway in silent if gateway is not None),
                fallback=find_address(status, "fallbackGateway"),
                conflict=find_address(status, "conflictingIpAddr"),
                route_probes=tuple(RouteProbe.parse(item) for item in find_objects(status, "probes")),
                conditions=tuple(each for each in conditions if each.type not in (RESERVED, ROUTES_WITHDRAWN)),
            ),
            generations=tuple(RouteGeneration.parse(item) for item in find_objects(spec, "generations")),
            withdrawn=tuple(Withdrawal.parse(item) for item in find_objects(spec, "withdrawn")),
        )

    @property
    def deleting(self) -> bool:
        return self.deleted_at is not None

    @property
    def has_finalizer(self) -> bool:
        """Whether our finalizer keeps the object."""
        return FINALIZER in self.finalizers

    @property
    def is_current(self) -> bool:
        """Whether the agent has reported on the spec as it is now."""
        return self.report.observed_generation >= self.generation

    @property
    def is_ready(self) -> bool:
        """The agent saw this very generation, and has all of it in its kernel."""
        ready = find(self.report.conditions, READY)
        return ready is not None and ready.status and self.is_current

    @property
    def is_without_address(self) -> bool:
        """The agent was told that this node has routes only, and has no overlay address in its kernel."""
        return (
            self.routes_only
            and self.report.configured is None
            and 0 < self.generation <= self.report.observed_generation
        )

    @property
    def is_released(self) -> bool:
        """The agent saw this deletion and has nothing of the overlay left in its kernel."""
        configured = find(self.report.conditions, CONFIGURED)
        return configured is not None and not configured.status and configured.reason == RELEASED and self.is_current
