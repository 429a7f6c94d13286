"""Route messages: struct rtmsg and its attributes (linux/rtnetlink.h) <-> model.kernel.Route.

Reading keeps one rule above all: what a Route cannot say makes it a route of no kind (``kind=None``), which is equal to
none of ours. Two sorts of messages are no Route at all, as no key of ours can meet theirs: routes of the table "local"
and of the cache, which the kernel keeps itself, and routes for one TOS or one source prefix only.
"""

import socket
import struct
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from overlay_net.adapters.netlink.codec import ATTRIBUTE, U32, attribute, attributes
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import NextHop, Route, RouteKind
from overlay_net.model.net import IpAddress
from overlay_net.model.route_key import number_of, prefix_of, version_of

RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

RTMSG = struct.Struct("=BBBBBBBBI")
"""family, prefix length, source prefix length, TOS, table, protocol, scope, type, flags."""
RTNEXTHOP = struct.Struct("=HBBi")
"""length, flags, hops (weight - 1), link."""

RT_TABLE_COMPAT, RT_TABLE_LOCAL = 252, 255
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_NOWHERE = 0, 253, 255
RTM_F_CLONED = 0x200
IP6_RT_PRIO_USER = 1024
RTNH_F_ONLINK = 0x4
RTAX_MTU, RTAX_ADVMSS = 2, 8
MTU_LIMIT, ADVMSS_LIMIT = 65520, 65495
"""A higher value is lowered by the kernel without a word (ip_metrics_convert): it would never be what was wished."""

RTA_DST, RTA_IIF, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS, RTA_MULTIPATH = 1, 3, 4, 5, 6, 7, 8, 9
RTA_FLOW, RTA_CACHEINFO, RTA_TABLE, RTA_VIA, RTA_NEWDST, RTA_PREF = 11, 12, 15, 18, 19, 20
RTA_ENCAP_TYPE, RTA_ENCAP, RTA_NH_ID = 21, 22, 30

BEYOND_US = {RTA_IIF, RTA_FLOW, RTA_NEWDST, RTA_ENCAP_TYPE, RTA_ENCAP, RTA_NH_ID}
"""Attributes that change where packets go, or who says so, in a way that a Route has no words for."""

TYPES: dict[int, RouteKind] = {1: "unicast", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
NUMBERS: dict[RouteKind | None, int] = {kind: number for number, kind in TYPES.items()}


# --- Writing ---------------------------------------------------------------------------------------------------------


class RoutePacker:
    """Bodies of RTM_NEWROUTE and RTM_DELROUTE for many routes that are alive meanwhile.

    Thousands of routes differ in little but their subnet: everything else is packed once for each set of values. A
    subnet's bytes come last, as the order of attributes does not matter.
    """

    def __init__(self) -> None:
        self._templates: dict[tuple[int, int], tuple[bytes, int]] = {}
        """(id of what routes have in common, or the protocol; key but for the subnet) -> what the subnet follows, and
        its size."""

    def new(self, route: Route) -> bytes:
        """Raises KernelError for what no kernel takes."""
        place = route.route_key
        # By identity, as hashing an address is slow: at worst the same is packed twice.
        key = (id(route.info), place & _ALL_BUT_SUBNET)
        found = self._templates.get(key)
        if found is None:
            found = self._templates[key] = (_new_route(route), _SIZES[version_of(place)])
        template, size = found
        return template + number_of(place).to_bytes(size, "big")

    def delete(self, route: Route) -> bytes:
        """For the route of this table, metric, subnet and protocol, wherever it leads.

        An IPv4 metric of 0 is no condition to the kernel (fib_nh_match): of that protocol the lowest metric goes.
        """
        place = route.route_key
        key = (route.info.protocol, place & _ALL_BUT_SUBNET)
        found = self._templates.get(key)
        if found is None:
            version = version_of(place)
            # A scope of "nowhere" and a type of 0 match any (fib_table_delete).
            head = _head(route, RT_SCOPE_NOWHERE, 0, 0)
            template = head + _number(RTA_PRIORITY, metric_of(route)) + _DST[version]
            found = self._templates[key] = (template, _SIZES[version])
        template, size = found
        return template + number_of(place).to_bytes(size, "big")


_ALL_BUT_SUBNET = (1 << 80) - 1
"""Of a quick key: prefix length, IP version, metric and table."""
_SIZES = {4: 4, 6: 16}
"""Bytes of an address, by IP version."""
_DST = {version: ATTRIBUTE.pack(ATTRIBUTE.size + size, RTA_DST) for version, size in _SIZES.items()}
"""What the bytes of a subnet follow."""


def metric_of(route: Route) -> int:
    """The metric under which the kernel has the route: no IPv6 route has the metric 0 (ip6_route_info_create)."""
    return route.metric or (IP6_RT_PRIO_USER if version_of(route.route_key) == 6 else 0)


def _new_route(route: Route) -> bytes:
    """All of RTM_NEWROUTE but the bytes of the subnet."""
    hops = route.next_hops
    if route.kind is None or (route.kind == "unicast") != bool(hops):
        raise KernelError(f"{len(hops)} next hops do not make a route of kind {route.kind}")
    # Scope "link" says that the destination itself is on the link; the kernel checks gateways against it.
    scope = RT_SCOPE_LINK if hops and all(hop.gateway is None for hop in hops) else RT_SCOPE_UNIVERSE
    flags = RTNH_F_ONLINK if len(hops) == 1 and hops[0].on_link else 0
    parts = [_head(route, scope, NUMBERS[route.kind], flags)]
    if route.metric:
        parts.append(_number(RTA_PRIORITY, route.metric))
    if route.source is not None:
        parts.append(attribute(RTA_PREFSRC, route.source.packed))
    if route.info.mtu or route.info.advmss:
        if route.info.mtu > MTU_LIMIT or route.info.advmss > ADVMSS_LIMIT:
            raise KernelError(f"an MTU is at most {MTU_LIMIT}, an advertised MSS at most {ADVMSS_LIMIT}")
        limits = ((RTAX_MTU, route.info.mtu), (RTAX_ADVMSS, route.info.advmss))
        parts.append(attribute(RTA_METRICS, b"".join(_number(kind, value) for kind, value in limits if value)))
    if len(hops) == 1:
        parts.append(_gateway(hops[0], route))
        parts.append(_number(RTA_OIF, hops[0].link))
    elif hops:
        parts.append(attribute(RTA_MULTIPATH, b"".join(_rtnexthop(hop, route) for hop in hops)))
    parts.append(_DST[version_of(route.route_key)])
    return b"".join(parts)


def _head(route: Route, scope: int, number: int, flags: int) -> bytes:
    family = socket.AF_INET if version_of(route.route_key) == 4 else socket.AF_INET6
    table = route.table if route.table < 256 else RT_TABLE_COMPAT
    head = RTMSG.pack(family, prefix_of(route.route_key), 0, 0, table, route.protocol, scope, number, flags)
    return head + _number(RTA_TABLE, route.table)


def dump_routes(family: int) -> bytes:
    """The body of RTM_GETROUTE for all routes of a family, in all tables; strict checking wants the rest to be zero."""
    return RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)


def _number(kind: int, value: int) -> bytes:
    return attribute(kind, U32.pack(value))


def _gateway(hop: NextHop, route: Route) -> bytes:
    gateway = hop.gateway
    if gateway is None:
        return b""
    if gateway.version == version_of(route.route_key):
        return attribute(RTA_GATEWAY, gateway.packed)
    if gateway.version == 4:
        raise KernelError(f"an IPv6 route cannot go through the IPv4 gateway {gateway}")
    # struct rtvia: the family of the gateway, then its address (RFC 5549; Linux 5.2).
    return attribute(RTA_VIA, struct.pack("=H", socket.AF_INET6) + gateway.packed)


def _rtnexthop(hop: NextHop, route: Route) -> bytes:
    if not 1 <= hop.weight <= 256:
        raise KernelError(f"a weight is 1 to 256, not {hop.weight}")
    gateway = _gateway(hop, route)
    flags = RTNH_F_ONLINK if hop.on_link else 0
    return RTNEXTHOP.pack(RTNEXTHOP.size + len(gateway), flags, hop.weight - 1, hop.link) + gateway


# --- Reading ---------------------------------------------------------------------------------------------------------


class RouteReader:
    """Routes of many RTM_NEWROUTE bodies: what they have in common is read, and kept in memory, once."""

    def __init__(self) -> None:
        self._shapes: dict[bytes, _Shape | None] = {}

    def parse_route(self, body: bytes) -> Route | None:
        """None where it is none of those that this module knows."""
        # The kernel puts the subnet behind the table (fib_dump_info, rt6_fill_node): all the rest is the shape.
        if body[20:24] == _DST[4]:
            end = 28
        elif body[20:24] == _DST[6]:
            end = 40
        else:
            shape = _shape_of(body)
            return shape.route(_subnet_bytes(body)) if shape is not None else None
        rest = body[:24] + body[end:]
        try:
            shape = self._shapes[rest]
        except KeyError:
            shape = self._shapes[rest] = _shape_of(body)
        return shape.route(body[24:end]) if shape is not None else None


class _Shape:
    """A route but for its subnet."""

    __slots__ = ("_any", "_rest")

    def __init__(self, family: int, prefix: int, *rest: Any) -> None:
        everything = IPv4Network((0, prefix)) if family == socket.AF_INET else IPv6Network((0, prefix))
        self._any = Route(everything, *rest)
        self._rest = self._any.route_key

    def route(self, subnet: bytes) -> Route:
        return self._any.at(int.from_bytes(subnet, "big") << 80 | self._rest)


def _subnet_bytes(body: bytes) -> bytes:
    """Empty for a default route, which names none."""
    return dict(attributes(body, RTMSG.size)).get(RTA_DST, b"")


def _shape_of(body: bytes) -> _Shape | None:
    family, prefix, source_prefix, tos, table, protocol, _, number, flags = RTMSG.unpack_from(body)
    if family not in (socket.AF_INET, socket.AF_INET6) or flags & RTM_F_CLONED or tos or source_prefix:
        return None
    found = dict(attributes(body, RTMSG.size))
    if RTA_TABLE in found:
        (table,) = U32.unpack(found[RTA_TABLE])
    if table == RT_TABLE_LOCAL:
        return None
    kind = TYPES.get(number)
    mtu, advmss, more = _limits(found.get(RTA_METRICS, b""))
    # The kernel ties an IPv6 route that is not unicast to the loopback link (fib6_config, RTF_REJECT).
    hops = _hops_of(found, flags) if kind == "unicast" else ()
    if more or _is_beyond_us(found):
        kind = None
    metric = U32.unpack(found[RTA_PRIORITY])[0] if RTA_PRIORITY in found else 0
    source = _address(found[RTA_PREFSRC]) if RTA_PREFSRC in found else None
    return _Shape(family, prefix, hops, protocol, metric, source, table, kind, mtu, advmss)


def _is_beyond_us(found: dict[int, bytes]) -> bool:
    if not BEYOND_US.isdisjoint(found):
        return True
    # struct rta_cacheinfo: its third number is the time after which the route goes away by itself.
    cache = found.get(RTA_CACHEINFO, b"")
    expires = len(cache) >= 12 and U32.unpack_from(cache, 8)[0] != 0
    # A router preference other than medium (RFC 4191) comes with router advertisements.
    return expires or found.get(RTA_PREF, b"\0")[0] != 0


def _limits(metrics: bytes) -> tuple[int, int, bool]:
    """MTU, advertised MSS, and whether other metrics are set (a lock of one of these two is RTAX_LOCK, too)."""
    values = {kind: U32.unpack_from(payload)[0] for kind, payload in attributes(metrics, 0) if len(payload) == 4}
    several = bool(values.keys() - {RTAX_MTU, RTAX_ADVMSS}) or len(values) != sum(1 for _ in attributes(metrics, 0))
    return values.get(RTAX_MTU, 0), values.get(RTAX_ADVMSS, 0), several


def _hops_of(found: dict[int, bytes], flags: int) -> tuple[NextHop, ...]:
    if RTA_MULTIPATH in found:
        hops = list(_multipath(found[RTA_MULTIPATH]))
        if len(hops) == 1:
            hops = [NextHop(hops[0].gateway, hops[0].link, 1, hops[0].on_link)]
        hops.sort(key=lambda hop: hop.order)
        return tuple(hops)
    if RTA_OIF not in found:
        return ()
    (link,) = U32.unpack(found[RTA_OIF])
    return _single(found.get(RTA_GATEWAY) or found.get(RTA_VIA, b"")[2:], link, bool(flags & RTNH_F_ONLINK))


def _multipath(data: bytes) -> Iterator[NextHop]:
    offset = 0
    while offset + RTNEXTHOP.size <= len(data):
        length, flags, hops, link = RTNEXTHOP.unpack_from(data, offset)
        if length < RTNEXTHOP.size:
            return
        found = dict(attributes(data, offset + RTNEXTHOP.size, min(offset + length, len(data))))
        gateway = found.get(RTA_GATEWAY) or found.get(RTA_VIA, b"")[2:]
        # A hop with a label or another encapsulation of its own: no link has the number 0, so no hop of ours is this.
        link = 0 if not BEYOND_US.isdisjoint(found) else link
        yield _hop(gateway, link, hops + 1, bool(flags & RTNH_F_ONLINK))
        offset += (length + 3) & ~3


# Thousands of routes share few gateways: one object for each of these values.


@lru_cache(maxsize=4096)
def _address(packed: bytes) -> IpAddress:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


@lru_cache(maxsize=4096)
def _hop(gateway: bytes, link: int, weight: int, on_link: bool) -> NextHop:
    return NextHop(_address(gateway) if gateway else None, link, weight, on_link)


@lru_cache(maxsize=4096)
def _single(gateway: bytes, link: int, on_link: bool) -> tuple[NextHop, ...]:
    return (_hop(gateway, link, 1, on_link),)
