"""StaticRoute: subnets, their gateways, and the nodes that need these routes. Created by users."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from overlay_net.model.adoptable_route import EarlierEntry
from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import Condition, parse_conditions
from overlay_net.model.desired_route import RouteSpec
from overlay_net.model.managed_fields import Path
from overlay_net.model.names import ZONE_LABELS
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.node import Node, first_label
from overlay_net.model.parse import (
    find_object,
    find_objects,
    find_texts,
    parse_address,
    parse_int,
    parse_labels,
    parse_network,
    parse_text,
)
from overlay_net.model.route_probe import Probe, Revision
from overlay_net.model.route_spec import parse_spec
from overlay_net.model.selectors import Selector

ROUTE_STATUS_FIELDS: Final[frozenset[Path]] = frozenset({("status", "updated")})
"""What the status of a StaticRoute may omit."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """spec.rollout.maxUnavailable: a number of nodes, or a percentage of the selected nodes."""

    amount: int
    percent: bool = False

    @classmethod
    def parse(cls, raw: JsonObject) -> "Rollout | None":
        value = raw.get("maxUnavailable")
        if isinstance(value, int):
            return cls(max(value, 1))
        digits = parse_text(value).removesuffix("%")
        # An invalid value, stored before there was a schema, means one node at a time, the most cautious one.
        amount = int(digits) if digits.isascii() and digits.isdigit() else 0
        return None if value is None else cls(max(amount, 1), percent=amount > 0)

    def limit(self, nodes: int) -> int:
        """Return the maximum number of unavailable nodes, rounded up as for a DaemonSet, and at least one."""
        return max(1, -(-nodes * self.amount // 100)) if self.percent else self.amount


@dataclass(frozen=True, slots=True)
class StaticRoute:
    name: str
    uid: str
    generation: int
    resource_version: str
    created: str
    deleting: bool
    finalizers: tuple[str, ...]
    zone: str
    """Value of the zone label: only nodes of that zone are selected. Empty: all zones."""
    selector: Selector
    destinations: tuple[str, ...]
    """The subnets as they are written in the object, valid or not."""
    subnets: tuple[IpNetwork, ...]
    spec: RouteSpec
    """If it has no gateways, the node's overlay gateway is used; a type without next hop has none."""
    probe: Probe | None
    """The target that must answer after a change; otherwise the node rolls back to its previous routes."""
    rollout: Rollout | None
    """None: all nodes are updated at once."""
    problem: str
    """Why the StaticRoute is invalid and applies to no node; empty: valid."""
    status_digest: str
    """Equal for equal statuses; the status itself has hundreds of nodes."""
    earlier: Mapping[str, EarlierEntry]
    """The nodes that have the route according to the earlier operator; empty once all of it is handed over."""
    conditions: tuple[Condition, ...]

    @classmethod
    def parse(cls, raw: JsonObject) -> "StaticRoute":
        metadata, spec, status = find_object(raw, "metadata"), find_object(raw, "spec"), find_object(raw, "status")
        subnet_texts = (*((parse_text(spec.get("subnet")),) if "subnet" in spec else ()), *find_texts(spec, "subnets"))
        single = [{"address": spec["gateway"]}] if spec.get("gateway") else []
        given = {"gateways": [*single, *find_objects(spec, "gateways")]}
        subnets = {text: parse_network(text) for text in subnet_texts}
        gateways = {parse_text(item.get("address")): parse_address(item.get("address")) for item in given["gateways"]}
        return cls(
            name=parse_text(metadata.get("name")),
            uid=parse_text(metadata.get("uid")),
            generation=parse_int(metadata.get("generation")),
            resource_version=parse_text(metadata.get("resourceVersion")),
            created=parse_text(metadata.get("creationTimestamp")),
            deleting="deletionTimestamp" in metadata,
            finalizers=find_texts(metadata, "finalizers"),
            zone=first_label(parse_labels(find_object(metadata, "labels")), ZONE_LABELS),
            selector=Selector.parse(find_object(spec, "nodeSelector")),
            destinations=subnet_texts,
            subnets=tuple(subnet for subnet in subnets.values() if subnet is not None),
            spec=parse_spec(spec | given),
            probe=Probe.parse(find_object(spec, "probe")),
            rollout=Rollout.parse(find_object(spec, "rollout")),
            problem=_problem(subnets, gateways) or _probe_problem(spec),
            status_digest=digest_status(status),
            earlier=EarlierEntry.parse_all(status),
            conditions=parse_conditions(status),
        )

    def differs_in_status_only(self, other: "StaticRoute") -> bool:
        """Return whether both are versions of one object that differ in their status at most.

        What the status has about the earlier operator must be the same.
        """

        def parts(route: StaticRoute) -> tuple[object, ...]:
            return route.uid, route.generation, route.zone, route.deleting, route.finalizers, route.earlier

        return parts(self) == parts(other)

    @property
    def revision(self) -> Revision:
        return (self.uid, self.generation)

    @property
    def age_key(self) -> tuple[str, str]:
        """Sort key, oldest object first; the name breaks ties, as creation times have whole seconds."""
        return (self.created, self.name)

    def spec_for(self, version: int, overlay_gateway: IpAddress | None) -> RouteSpec:
        """Return ``spec`` for subnets of an IP version (4 or 6), with the overlay gateway if ``spec`` has none."""
        return self.spec.with_default_gateway(version, overlay_gateway)

    def selects(self, node: Node) -> bool:
        return (not self.zone or self.zone == node.zone) and self.selector.matches(node.labels)


def digest_status(status: JsonObject) -> str:
    """Return a short text that is equal for equal statuses."""
    text = json.dumps(status, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:32]


def _probe_problem(spec: JsonObject) -> str:
    if "probe" in spec and Probe.parse(find_object(spec, "probe")) is None:
        return "spec.probe must have tcp, such as 10.1.2.3:179, or icmp, such as 10.1.2.3"
    return ""


def _problem(subnets: Mapping[str, IpNetwork | None], gateways: Mapping[str, IpAddress | None]) -> str:
    if not subnets:
        return "spec.subnet is missing; set a subnet such as 10.1.0.0/16"
    for text, subnet in subnets.items():
        if subnet is None:
            return f"spec.subnet {text!r} must be a subnet without host bits, such as 10.1.0.0/16"
    for text, gateway in gateways.items():
        if gateway is None:
            return f"spec.gateway {text!r} must be an IP address"
    families = {part.version for part in (*subnets.values(), *gateways.values()) if part is not None}
    return "spec mixes IPv4 and IPv6; use one StaticRoute for each" if len(families) > 1 else ""
