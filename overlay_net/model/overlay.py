"""NodeOverlayIp: the desired state of one node, and the state reported by its agent."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from overlay_net.model.adoptable_route import AdoptableRoute, parse_adoptable
from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import (
    CONFIGURED,
    CONTROLLER_CONDITIONS,
    READY,
    RELEASED,
    RESERVED,
    ROUTES_ACCEPTED,
    ROUTES_WITHDRAWN,
    UP_TO_DATE,
    Condition,
    find_condition,
    find_ready_unknown,
    parse_conditions,
)
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.managed_fields import Path
from overlay_net.model.names import FINALIZER, NODE_LABEL, REGION_LABEL, RENUMBER_ANNOTATION, ZONE_LABEL
from overlay_net.model.net import IpAddress, IpInterface
from overlay_net.model.node import UNKNOWN_INSTANCE, Node, NodeInstance
from overlay_net.model.node_report import Report
from overlay_net.model.parse import (
    encode_time,
    find_address,
    find_object,
    find_objects,
    find_texts,
    keep_whole_seconds,
    parse_int,
    parse_interface,
    parse_labels,
    parse_text,
    parse_time,
)
from overlay_net.model.route_probe import RouteGeneration
from overlay_net.model.route_slice import NamedSet
from overlay_net.model.route_spec import parse_routes

OVERLAY_LABELS: Final = frozenset({NODE_LABEL, REGION_LABEL, ZONE_LABEL})
"""The labels of a NodeOverlayIp that the controller sets."""

SPEC_FIELDS: Final[frozenset[Path]] = frozenset(
    {("metadata", "labels", label) for label in OVERLAY_LABELS}
    | {("spec", each) for each in ("routes", "routesOnly", "generations", "node", "clusterID", "withdrawn", "omitted")}
    | {("spec", "adoptable"), ("spec", "routeSets")}
)
"""The controller's part of labels and spec; ``spec.ipAddr`` and ``spec.gateway`` belong to users."""

ASSIGNMENT_FIELDS: Final[frozenset[Path]] = frozenset(
    {("status", each) for each in ("ipAddr", "gateway", "pool", "nodeUID", "releasing", "ipams", "nodeGoneSince")}
    | {("status", each) for each in ("conflicts", "lastConflict", "lastConflictMAC", "consecutiveConflicts")}
    | {("status", "conditions", each) for each in CONTROLLER_CONDITIONS}
)
"""The controller's part of status, without ``Ready=Unknown``, whose fields it shares with the agent."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The controller's part of status."""

    address: IpInterface | None = None
    gateway: IpAddress | None = None
    pool: str = ""
    node_uid: str = ""
    """The uid in the owner tag of the reservation."""
    releasing: tuple[str, ...] = ()
    """Other addresses that remain reserved for the node until its agent reports the present one in use."""
    ipams: tuple[str, ...] = ()
    """The external IPAMs that have records of this node, also while they are not configured."""
    node_gone_since: datetime | None = None
    conflicts: int = 0
    """How often this node got another address because of an address conflict."""
    last_conflict: datetime | None = None
    last_conflict_mac: str = ""
    """MAC of the host of the latest conflicts; empty once the node uses its address."""
    consecutive_conflicts: int = 0
    """How many of the latest conflicts in a row were with that host."""
    reserved: Condition | None = None
    withdrawn: Condition | None = None
    """Set only while the agent has not confirmed the removal of routes of deleted StaticRoutes."""
    up_to_date: Condition | None = None
    """Set only while the address is not one that the node would get now."""
    routes_accepted: Condition | None = None
    """Set only while routes of a StaticRoute do not fit into the object."""
    ready: Condition | None = None
    """``Ready=Unknown`` while the agent is silent, or has not reported about this object, Node and boot."""

    def __post_init__(self) -> None:
        keep_whole_seconds(self, "node_gone_since", "last_conflict")

    @classmethod
    def parse(cls, status: JsonObject, conditions: Iterable[Condition]) -> "Assignment":
        return cls(
            address=parse_interface(status.get("ipAddr")),
            gateway=find_address(status, "gateway"),
            pool=parse_text(status.get("pool")),
            node_uid=parse_text(status.get("nodeUID")),
            releasing=find_texts(status, "releasing"),
            ipams=find_texts(status, "ipams"),
            node_gone_since=parse_time(status.get("nodeGoneSince")),
            conflicts=parse_int(status.get("conflicts")),
            last_conflict=parse_time(status.get("lastConflict")),
            last_conflict_mac=parse_text(status.get("lastConflictMAC")),
            consecutive_conflicts=parse_int(status.get("consecutiveConflicts")),
            reserved=find_condition(conditions, RESERVED),
            withdrawn=find_condition(conditions, ROUTES_WITHDRAWN),
            up_to_date=find_condition(conditions, UP_TO_DATE),
            routes_accepted=find_condition(conditions, ROUTES_ACCEPTED),
            ready=find_ready_unknown(conditions),
        )

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
        if self.ipams:
            raw["ipams"] = list(self.ipams)
        if self.node_gone_since is not None:
            raw["nodeGoneSince"] = encode_time(self.node_gone_since)
        if self.conflicts:
            raw["conflicts"] = self.conflicts
        if self.last_conflict is not None:
            raw["lastConflict"] = encode_time(self.last_conflict)
        if self.last_conflict_mac:
            raw["lastConflictMAC"] = self.last_conflict_mac
        if self.consecutive_conflicts:
            raw["consecutiveConflicts"] = self.consecutive_conflicts
        if self.conditions:
            raw["conditions"] = [each.to_json() for each in self.conditions]
        return raw

    @property
    def conditions(self) -> tuple[Condition, ...]:
        written = (self.reserved, self.withdrawn, self.up_to_date, self.routes_accepted, self.ready)
        return tuple(each for each in written if each is not None)


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """One entry of spec.withdrawn: a StaticRoute whose routes the node must remove, and the start time."""

    static_route: str
    since: datetime | None

    def __post_init__(self) -> None:
        keep_whole_seconds(self, "since")

    @classmethod
    def parse(cls, raw: JsonObject) -> "Withdrawal":
        return cls(parse_text(raw.get("staticRoute")), parse_time(raw.get("since")))

    def to_json(self) -> JsonObject:
        return {"staticRoute": self.static_route} | ({"since": encode_time(self.since)} if self.since else {})


@dataclass(frozen=True, slots=True)
class UnknownSets:
    """Why an agent does not know all route sets of its node, or does not notice their changes."""

    reason: str
    message: str
    since_start: bool = False
    """Whether the agent has not known them since it started: the kernel may have routes that must not be deleted."""
    without_routes: bool = False
    """Whether it does not know either which routes the node had earlier."""


@dataclass(frozen=True, slots=True)
class NodeOverlay:
    name: str
    uid: str
    resource_version: str
    generation: int
    deleted_at: datetime | None
    """The deletionTimestamp; the object exists until all finalizers are removed."""
    labels: Mapping[str, str]
    finalizers: tuple[str, ...]
    pin: IpAddress | None
    gateway_override: IpAddress | None
    renumber: IpAddress | None
    """The address that the node must give up for another one, by an annotation."""
    routes_only: bool
    """The node must have routes but no overlay address."""
    routes: tuple[DesiredRoute, ...]
    assignment: Assignment
    report: Report
    generations: tuple[RouteGeneration, ...] = ()
    """The generations of StaticRoutes with a probe; those with a rollout as well in objects of an earlier version."""
    withdrawn: tuple[Withdrawal, ...] = ()
    """StaticRoutes whose removal the agent had not confirmed at the last change of the routes."""
    omitted: tuple[str, ...] = ()
    """StaticRoutes whose current routes do not fit into the object."""
    adoptable: tuple[AdoptableRoute, ...] = ()
    """Routes of an earlier operator in the kernel of the node that its agent takes over."""
    created: datetime | None = None
    node: NodeInstance = UNKNOWN_INSTANCE
    """The Node that the object is for, and the boot of it that must report."""
    cluster: str = ""
    """The id of the cluster, unique among those that share a VLAN; empty: written by an earlier version."""
    route_sets: tuple[NamedSet, ...] | None = None
    """The route sets that the node has; None: the object was written by an earlier version, or read with its schema."""
    has_routes: bool = False
    """Whether ``spec.routes`` exists, if only as an empty list: an earlier version always wrote it."""
    slices: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Generations, by name, of the OverlayRouteSlices that ``routes`` are merged from. Only an agent sets it."""
    unknown_sets: UnknownSets | None = None
    """Only an agent sets it."""

    @classmethod
    def parse(cls, raw: JsonObject, before: "NodeOverlay | None" = None) -> "NodeOverlay":
        """``before`` is an earlier version of the object: if the spec is the same, its tuple of routes is reused.

        The API server increments ``generation`` on every change of the spec and on deletion, but never otherwise.
        """
        metadata, spec, status = find_object(raw, "metadata"), find_object(raw, "spec"), find_object(raw, "status")
        conditions = parse_conditions(status)
        version = (parse_text(metadata.get("uid")), parse_int(metadata.get("generation")))
        if before is not None and all(version) and version == (before.uid, before.generation):
            routes = before.routes
        else:
            routes = parse_routes(spec)
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
            renumber=find_address(find_object(metadata, "annotations"), RENUMBER_ANNOTATION),
            routes_only=spec.get("routesOnly") is True,
            routes=routes,
            assignment=Assignment.parse(status, conditions),
            report=Report.parse(status, conditions),
            generations=tuple(RouteGeneration.parse(item) for item in find_objects(spec, "generations")),
            withdrawn=tuple(Withdrawal.parse(item) for item in find_objects(spec, "withdrawn")),
            omitted=find_texts(spec, "omitted"),
            adoptable=parse_adoptable(spec),
            created=parse_time(metadata.get("creationTimestamp")),
            node=NodeInstance.parse(find_object(spec, "node")),
            cluster=parse_text(spec.get("clusterID")),
            route_sets=NamedSet.parse_all(spec),
            has_routes="routes" in spec,
        )

    @property
    def deleting(self) -> bool:
        return self.deleted_at is not None

    def names_set(self, route_set: str) -> bool:
        return any(each.name == route_set for each in self.route_sets or ())

    def differs_in_report(self, other: "NodeOverlay") -> bool:
        """Return whether ``other`` is the same but for the report, which must have the same configured address."""
        is_same_address = self.report.configured == other.report.configured
        return is_same_address and other == replace(self, resource_version=other.resource_version, report=other.report)

    def after_report(self, report: Report, resource_version: str) -> "NodeOverlay":
        """Return the object after a write of the agent that made this version of it, and that nothing else preceded."""
        status = report.to_json()
        conditions = parse_conditions(status)
        return replace(
            self,
            resource_version=resource_version,
            report=Report.parse(status, conditions),
            # The agent takes over a ``Ready`` of the controller.
            assignment=replace(self.assignment, ready=find_ready_unknown(conditions)),
        )

    @property
    def has_finalizer(self) -> bool:
        """Return whether the object has our finalizer."""
        return FINALIZER in self.finalizers

    @property
    def own_labels(self) -> dict[str, str]:
        """The labels that the controller sets."""
        return {label: value for label, value in self.labels.items() if label in OVERLAY_LABELS}

    @property
    def has_own_report(self) -> bool:
        """Return whether the report is about this object and about the present instance of its Node.

        A write of the status is not refused for the uid of an earlier object of the same name. An agent of an earlier
        version names neither object nor Node.
        """
        return self.report.observed_uid in ("", self.uid) and self.node.may_be(self.report.observed_node)

    def reports_on(self, node: Node) -> bool:
        """Return whether the report is about ``node``, also if ``spec.node`` names an earlier instance of it."""
        return self.has_own_report and self.node.may_be(node.instance)

    @property
    def is_current(self) -> bool:
        """Return whether the agent has observed the present generation."""
        return self.has_own_report and self.report.observed_generation >= self.generation

    @property
    def is_ready(self) -> bool:
        """Return whether the agent has everything of the present generation in place."""
        ready = find_condition(self.report.conditions, READY)
        return ready is not None and ready.status is True and self.is_current

    @property
    def is_without_address(self) -> bool:
        """Return whether the agent has removed the overlay address because the spec sets ``routesOnly``."""
        return self.routes_only and self.report.configured is None and self.generation > 0 and self.is_current

    @property
    def is_released(self) -> bool:
        """Return whether the agent has removed everything from its kernel because the object is being deleted."""
        configured = find_condition(self.report.conditions, CONFIGURED)
        return configured is not None and not configured.status and configured.reason == RELEASED and self.is_current
