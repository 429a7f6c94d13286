"""Routes that an earlier operator left in the kernels of the nodes, as the objects prove.

The earlier operator listed the nodes that had the route of a StaticRoute in ``status.nodeStatus``: hostname, gateway
and device, but no ``state``, which only this product writes.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from overlay_net.model.api import JsonObject
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.parse import find_address, find_objects, find_texts, parse_address, parse_network, parse_text
from overlay_net.model.route import MAIN_TABLE
from overlay_net.model.route_key import RouteKey, encode_route_key


@dataclass(frozen=True, slots=True)
class AdoptableRoute:
    """A route of the earlier operator that the agent of one node may take over."""

    subnet: IpNetwork
    gateway: IpAddress | None
    """None: not recorded."""
    device: str

    @property
    def key(self) -> RouteKey:
        """The earlier operator had neither metrics nor tables."""
        return encode_route_key(self.subnet, 0, MAIN_TABLE)


@dataclass(frozen=True, slots=True)
class EarlierEntry:
    """What the earlier operator recorded in ``nodeStatus`` about one node."""

    hostname: str
    gateway: str
    device: str

    @classmethod
    def parse_all(cls, status: JsonObject) -> "Mapping[str, EarlierEntry]":
        """Return the entries of the earlier operator by host name."""
        entries = (each for each in find_objects(status, "nodeStatus") if "state" not in each)
        found = (cls(*(parse_text(each.get(key)) for key in ("hostname", "gateway", "device"))) for each in entries)
        return {entry.hostname: entry for entry in found if entry.hostname}

    def to_json(self) -> JsonObject:
        return {"hostname": self.hostname, "gateway": self.gateway, "device": self.device}

    def routes(self, subnets: Iterable[IpNetwork]) -> Iterator[AdoptableRoute]:
        """Return the routes that the entry proves, for a StaticRoute to ``subnets``."""
        gateway = parse_address(self.gateway)
        return (AdoptableRoute(subnet, gateway, self.device) for subnet in subnets)


def parse_adoptable(spec: JsonObject) -> tuple[AdoptableRoute, ...]:
    """Parse ``spec.adoptable``, which groups subnets by gateway and device."""
    return tuple(
        AdoptableRoute(subnet, find_address(group, "gateway"), parse_text(group.get("device")))
        for group in find_objects(spec, "adoptable")
        for subnet in map(parse_network, find_texts(group, "subnets"))
        if subnet is not None
    )


def encode_adoptable(routes: Iterable[AdoptableRoute]) -> list[JsonObject]:
    """Encode routes that are ordered by gateway and device."""
    encoded = []
    for (gateway, device), group in groupby(routes, key=_group):
        raw: JsonObject = {"gateway": gateway} if gateway else {}
        encoded.append(raw | {"device": device, "subnets": [str(route.subnet) for route in group]})
    return encoded


def adoptable_order(route: AdoptableRoute) -> tuple[str, str, int, RouteKey]:
    """Return the sort key: by gateway and device, then by subnet."""
    return (*_group(route), route.subnet.version, route.key)


def _group(route: AdoptableRoute) -> tuple[str, str]:
    return ("" if route.gateway is None else str(route.gateway), route.device)
