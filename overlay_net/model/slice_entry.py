"""The StaticRoutes in an OverlayRouteSlice: their routes, or that they were removed."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from overlay_net.model.api import JsonObject
from overlay_net.model.desired_route import RouteSpec
from overlay_net.model.net import IpNetwork
from overlay_net.model.parse import (
    encode_time,
    find_object,
    find_texts,
    keep_whole_seconds,
    parse_int,
    parse_network,
    parse_text,
    parse_time,
)
from overlay_net.model.route_probe import Probe
from overlay_net.model.route_spec import encode_spec, parse_spec


@dataclass(frozen=True, slots=True)
class SliceEntry:
    """One StaticRoute in a slice."""

    name: str
    uid: str
    generation: int
    created: str
    subnets: tuple[IpNetwork, ...]
    spec: RouteSpec
    """If it has no gateways, the agent uses the overlay gateway of its node."""
    probe: Probe | None = None
    slice_generation: int = 0
    """Generation of the slice with which the entry got its present form."""
    closed_since: datetime | None = None
    """The StaticRoute is refused: only nodes that have had the set since before then keep its routes."""
    retained: bool = False
    """Routes that the StaticRoute has lost: nodes keep them until they have them from another one."""

    def __post_init__(self) -> None:
        keep_whole_seconds(self, "closed_since")

    @classmethod
    def parse(cls, raw: JsonObject, specs: dict[str, RouteSpec], *, retained: bool = False) -> "SliceEntry":
        """``specs`` has one value for all equal specifications, by their text."""
        subnets = (parse_network(text) for text in find_texts(raw, "subnets"))
        rest = {key: value for key, value in raw.items() if key not in _OWN_FIELDS}
        text = repr(rest)
        spec = specs.get(text)
        if spec is None:
            spec = specs[text] = parse_spec(rest)
        return cls(
            name=parse_text(raw.get("name")),
            uid=parse_text(raw.get("uid")),
            generation=parse_int(raw.get("generation")),
            created=parse_text(raw.get("created")),
            subnets=tuple(subnet for subnet in subnets if subnet is not None),
            spec=spec,
            probe=Probe.parse(find_object(raw, "probe")) if "probe" in raw else None,
            slice_generation=parse_int(raw.get("sliceGeneration")),
            closed_since=parse_time(raw.get("closedSince")),
            retained=retained,
        )

    def to_json(self) -> JsonObject:
        raw: JsonObject = {
            "name": self.name,
            "uid": self.uid,
            "generation": self.generation,
            "created": self.created,
            "sliceGeneration": self.slice_generation,
            "subnets": [str(subnet) for subnet in self.subnets],
        }
        if self.probe is not None:
            raw["probe"] = self.probe.to_json()
        if self.closed_since is not None:
            raw["closedSince"] = encode_time(self.closed_since)
        return raw | encode_spec(self.spec)

    @property
    def age_key(self) -> tuple[str, str]:
        """Sort key, oldest StaticRoute first, as ``StaticRoute.age_key``."""
        return (self.created, self.name)

    @property
    def version_key(self) -> tuple[str, int, int]:
        """Sort key of entries of one name: a later object, then a later generation, then accepted after refused."""
        return (self.created, self.generation, self.closed_since is None)

    def applies_since(self, since: datetime | None) -> bool:
        """Return whether a node that has had the set ``since`` then has the routes."""
        return self.closed_since is None or since is None or since <= self.closed_since


_OWN_FIELDS: Final = frozenset(
    {"name", "uid", "generation", "created", "subnets", "probe", "sliceGeneration", "closedSince"}
)
"""The fields of an entry that are not its specification."""


@dataclass(frozen=True, slots=True)
class SliceWithdrawal:
    """A StaticRoute that was removed from a slice, until every node has observed that."""

    static_route: str
    since: datetime | None
    slice_generation: int

    def __post_init__(self) -> None:
        keep_whole_seconds(self, "since")

    @classmethod
    def parse(cls, raw: JsonObject) -> "SliceWithdrawal":
        name = parse_text(raw.get("staticRoute"))
        return cls(name, parse_time(raw.get("since")), parse_int(raw.get("sliceGeneration")))

    def to_json(self) -> JsonObject:
        raw: JsonObject = {"staticRoute": self.static_route, "sliceGeneration": self.slice_generation}
        return raw | ({"since": encode_time(self.since)} if self.since else {})
