"""OverlayRouteSlice: routes of accepted StaticRoutes that all nodes of a route set share, written by the controller.

A route set is one or more slices, in the way of EndpointSlices, so a change of one StaticRoute is one small write,
whatever the number of nodes. A NodeOverlayIp names the sets that its node has.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from overlay_net.model.api import JsonObject
from overlay_net.model.desired_route import RouteSpec
from overlay_net.model.names import OVERLAY_ROUTE_SLICES, ROUTE_SET_LABEL
from overlay_net.model.parse import (
    encode_time,
    find_object,
    find_objects,
    keep_whole_seconds,
    parse_int,
    parse_text,
    parse_time,
)
from overlay_net.model.slice_entry import SliceEntry, SliceWithdrawal

FIRST: Final = 0
"""Index of the slice that lists the slices of its set."""


@dataclass(frozen=True, slots=True)
class NamedSet:
    """One entry of NodeOverlayIp.spec.routeSets."""

    name: str
    since: datetime | None = None
    """Since when the node has the set: a StaticRoute that was refused earlier does not apply to it."""

    def __post_init__(self) -> None:
        keep_whole_seconds(self, "since")

    @classmethod
    def parse_all(cls, spec: JsonObject) -> "tuple[NamedSet, ...] | None":
        """Return None if the field does not exist."""
        if "routeSets" not in spec:
            return None
        items = find_objects(spec, "routeSets")
        return tuple(cls(parse_text(item.get("name")), parse_time(item.get("since"))) for item in items)

    def to_json(self) -> JsonObject:
        return {"name": self.name} | ({"since": encode_time(self.since)} if self.since else {})


@dataclass(frozen=True, slots=True)
class SliceContent:
    """The spec of a slice."""

    route_set: str
    selector: str = ""
    """Which nodes have the set, or whose rollout it is for; for people."""
    slices: tuple[int, ...] = ()
    """In the first slice: the indices of all slices of the set."""
    entries: tuple[SliceEntry, ...] = ()
    retained: tuple[SliceEntry, ...] = ()
    """Routes that StaticRoutes of this slice have lost, until every node has them from another StaticRoute."""
    withdrawn: tuple[SliceWithdrawal, ...] = ()
    generation: int = 0
    """Greater after each write, also after the slice was deleted and created again."""

    @property
    def routes(self) -> int:
        """The number of routes, shown by ``kubectl get``."""
        return sum(len(entry.subnets) for entry in (*self.entries, *self.retained))

    def to_json(self) -> JsonObject:
        raw: JsonObject = {"routeSet": self.route_set, "selector": self.selector, "routes": self.routes}
        raw["generation"] = self.generation
        if self.slices:
            raw["slices"] = list(self.slices)
        raw["staticRoutes"] = [entry.to_json() for entry in self.entries]
        if self.retained:
            raw["retained"] = [entry.to_json() for entry in self.retained]
        if self.withdrawn:
            raw["withdrawn"] = [each.to_json() for each in self.withdrawn]
        return raw | {"checksum": slice_checksum(raw)}


@dataclass(frozen=True, slots=True)
class RouteSlice:
    name: str
    uid: str
    resource_version: str
    deleting: bool
    content: SliceContent
    label: str = ""
    """The set according to the label, by which agents select slices."""
    intact: bool = True
    """Whether what agents use is as the controller wrote it; otherwise it counts as missing until that restores it."""

    @classmethod
    def parse(cls, raw: JsonObject, before: "RouteSlice | None" = None) -> "RouteSlice":
        """``before`` is an earlier version of the slice: equal entries are reused."""
        metadata, spec = find_object(raw, "metadata"), find_object(raw, "spec")
        known = {entry.name: entry for entry in before.content.entries} if before is not None else {}
        indices = spec.get("slices")
        return cls(
            name=parse_text(metadata.get("name")),
            uid=parse_text(metadata.get("uid")),
            resource_version=parse_text(metadata.get("resourceVersion")),
            deleting="deletionTimestamp" in metadata,
            label=parse_text(find_object(metadata, "labels").get(ROUTE_SET_LABEL)),
            intact=spec.get("checksum") == slice_checksum(spec),
            content=SliceContent(
                route_set=parse_text(spec.get("routeSet")),
                selector=parse_text(spec.get("selector")),
                slices=tuple(map(parse_int, indices)) if isinstance(indices, list) else (),
                entries=_parse_entries(spec, known),
                retained=tuple(SliceEntry.parse(item, {}, retained=True) for item in find_objects(spec, "retained")),
                withdrawn=tuple(SliceWithdrawal.parse(item) for item in find_objects(spec, "withdrawn")),
                generation=parse_int(spec.get("generation")),
            ),
        )

    @property
    def route_set(self) -> str:
        return self.content.route_set

    @property
    def generation(self) -> int:
        return self.content.generation

    @property
    def is_member(self) -> bool:
        """Return whether the slice is part of its set: one that is being deleted, or has another name, is not."""
        return not self.deleting and self.index >= FIRST

    @property
    def index(self) -> int:
        """The index in the set, from the name; -1 for a slice that is not named after its set."""
        digits = self.name.removeprefix(f"{self.route_set}-")
        index = int(digits) if digits.isascii() and digits.isdigit() else -1
        # Another name, such as with a leading zero, would be a second slice of this index.
        return index if slice_name(self.route_set, index) == self.name else -1


def _parse_entries(spec: JsonObject, known: Mapping[str, SliceEntry]) -> tuple[SliceEntry, ...]:
    specs: dict[str, RouteSpec] = {}
    parsed = (SliceEntry.parse(item, specs) for item in find_objects(spec, "staticRoutes"))
    return tuple(known[entry.name] if known.get(entry.name) == entry else entry for entry in parsed)


def slice_checksum(spec: JsonObject) -> str:
    """Return the checksum of what agents use, as JSON, so that fields of a later version count as well."""
    used = [spec.get(field) for field in ("routeSet", "generation", "slices", "staticRoutes", "retained")]
    return sha256(json.dumps(used, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


def slice_name(route_set: str, index: int) -> str:
    return f"{route_set}-{index}"


def slice_manifest(
    index: int, content: SliceContent, *, uid: str | None = None, resource_version: str | None = None
) -> JsonObject:
    """Return the object for a create, or with ``resource_version`` for a conditional update."""
    return OVERLAY_ROUTE_SLICES.manifest(
        slice_name(content.route_set, index),
        uid=uid,
        resource_version=resource_version,
        labels={ROUTE_SET_LABEL: content.route_set},
        spec=content.to_json(),
    )


def by_set(slices: Iterable[RouteSlice], *, intact: bool = True) -> dict[str, dict[int, RouteSlice]]:
    """Return the slices by set and index; ``intact``: without those that another client has edited."""
    found: dict[str, dict[int, RouteSlice]] = {}
    for each in slices:
        if each.is_member and (each.intact or not intact):
            found.setdefault(each.route_set, {})[each.index] = each
    return found
