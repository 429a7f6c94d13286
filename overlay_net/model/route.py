"""Kernel routes: a unique key, and attributes that thousands of routes share."""

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.route_key import RouteKey, decode_metric, decode_subnet, decode_table, encode_route_key

RouteKind: TypeAlias = Literal["unicast", "blackhole", "unreachable", "prohibit"]

MAIN_TABLE = 254
RTPROT_KERNEL, RTPROT_RA = 2, 9
"""The protocols of routes that the kernel derives from addresses and from router advertisements (linux/rtnetlink.h)."""


@dataclass(frozen=True, slots=True)
class NextHop:
    gateway: IpAddress | None
    """None if the destination is directly connected."""
    link: int
    """Index of the outgoing link."""
    weight: int = 1
    """Share of the traffic, 1 to 256; always 1 for a single next hop."""
    on_link: bool = False
    """The gateway is directly reachable although no subnet of the link contains it (RTNH_F_ONLINK)."""

    @property
    def order(self) -> tuple[int, int]:
        """Sort key of a route's next hops, so that two routes can be compared."""
        return (int(self.gateway) if self.gateway else 0, self.link)


@dataclass(frozen=True, slots=True)
class RouteInfo:
    """Attributes that routes to many destinations share in memory, like fib_info in the kernel."""

    next_hops: tuple[NextHop, ...]
    protocol: int
    source: IpAddress | None
    kind: RouteKind | None
    mtu: int
    advmss: int


@dataclass(frozen=True, slots=True, init=False)
class Route:
    """One route; destination, metric and table are in ``key``, which is unique in the kernel."""

    key: RouteKey
    info: RouteInfo

    def __init__(
        self,
        subnet: IpNetwork,
        next_hops: tuple[NextHop, ...],
        protocol: int,
        metric: int = 0,
        source: IpAddress | None = None,
        table: int = MAIN_TABLE,
        kind: RouteKind | None = "unicast",
        mtu: int = 0,
        advmss: int = 0,
    ) -> None:
        """``next_hops`` are sorted by their ``order``; several mean ECMP, and a kind other than unicast has none.

        Kind None is one that we never create (local, broadcast, nat ...). ``mtu`` and ``advmss`` are RTAX_MTU and
        RTAX_ADVMSS, 0 if not set.
        """
        _set_key(self, encode_route_key(subnet, metric, table))
        _set_info(self, RouteInfo(next_hops, protocol, source, kind, mtu, advmss))

    def with_key(self, key: RouteKey) -> "Route":
        """Return the same route with another key."""
        return _route(key, self.info)

    def replace(
        self, *, subnet: IpNetwork | None = None, metric: int | None = None, table: int | None = None, **info: Any
    ) -> "Route":
        """Return the same route with other values; ``info`` are fields of RouteInfo."""
        key = encode_route_key(
            subnet or self.subnet,
            self.metric if metric is None else metric,
            self.table if table is None else table,
        )
        return _route(key, replace(self.info, **info))

    def __repr__(self) -> str:
        return f"Route({self.subnet}, metric={self.metric}, table={self.table}, {self.info})"

    @property
    def subnet(self) -> IpNetwork:
        return decode_subnet(self.key)

    @property
    def metric(self) -> int:
        return decode_metric(self.key)

    @property
    def table(self) -> int:
        return decode_table(self.key)

    @property
    def next_hops(self) -> tuple[NextHop, ...]:
        return self.info.next_hops

    @property
    def protocol(self) -> int:
        return self.info.protocol

    @property
    def source(self) -> IpAddress | None:
        return self.info.source

    @property
    def kind(self) -> RouteKind | None:
        return self.info.kind


# The slot setters: a dump or a plan of many thousands of routes creates each of them without __init__.
_set_key, _set_info = (getattr(Route, name).__set__ for name in ("key", "info"))


def _route(key: RouteKey, info: RouteInfo) -> Route:
    route = object.__new__(Route)
    _set_key(route, key)
    _set_info(route, info)
    return route
