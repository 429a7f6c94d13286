"""Decodes the body of RTM_NEWROUTE into a model.route.Route.

A route with a property that Route cannot express has no kind (``kind=None``), so it never equals one of ours. Two kinds
of messages are skipped, as their keys never collide with ours: routes of the table "local" and of the cache, which the
kernel maintains, and routes for one TOS or one source prefix.
"""

import socket
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from overlay_net.adapters.netlink.bulk.codec import U32, align, attributes, parse_u32
from overlay_net.adapters.netlink.bulk.route_messages import (
    ADDRESS_SIZES,
    DST_HEADERS,
    KINDS,
    RT_TABLE_LOCAL,
    RTA_CACHEINFO,
    RTA_DST,
    RTA_ENCAP,
    RTA_ENCAP_TYPE,
    RTA_FLOW,
    RTA_GATEWAY,
    RTA_IIF,
    RTA_METRICS,
    RTA_MULTIPATH,
    RTA_NEWDST,
    RTA_NH_ID,
    RTA_OIF,
    RTA_PREF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTA_TABLE,
    RTA_VIA,
    RTAX_ADVMSS,
    RTAX_MTU,
    RTM_F_CLONED,
    RTMSG,
    RTNEXTHOP,
    RTNH_F_ONLINK,
)
from overlay_net.model.net import IpAddress
from overlay_net.model.route import NextHop, Route

_VERSIONS = {int(socket.AF_INET): 4, int(socket.AF_INET6): 6}

UNSUPPORTED = {RTA_IIF, RTA_FLOW, RTA_NEWDST, RTA_ENCAP_TYPE, RTA_ENCAP, RTA_NH_ID}
"""Attributes that affect forwarding and that Route cannot express."""


class RouteDecoder:
    """Decodes many routes: the parts that they have in common are parsed and stored once."""

    def __init__(self) -> None:
        self._templates: dict[bytes, _Template | None] = {}

    def decode(self, body: bytes) -> Route | None:
        """Decode a route; None if it is skipped."""
        # The kernel writes the subnet right after the table (fib_dump_info, rt6_fill_node); the rest is the template.
        if body[20:24] == DST_HEADERS[4]:
            end = 28
        elif body[20:24] == DST_HEADERS[6]:
            end = 40
        else:
            template = _parse_template(body)
            return template.route(_subnet_bytes(body)) if template is not None else None
        rest = body[:24] + body[end:]
        try:
            template = self._templates[rest]
        except KeyError:
            template = self._templates[rest] = _parse_template(body)
        return template.route(body[24:end]) if template is not None else None


class _Template:
    """A route without its subnet."""

    __slots__ = ("_key", "_route")

    def __init__(self, family: int, prefix: int, *rest: Any) -> None:
        zero_subnet = IPv4Network((0, prefix)) if family == socket.AF_INET else IPv6Network((0, prefix))
        self._route = Route(zero_subnet, *rest)
        self._key = self._route.key

    def route(self, subnet: bytes) -> Route:
        return self._route.with_key(int.from_bytes(subnet, "big") << 80 | self._key)


def parse_destination(body: bytes) -> int:
    """Return the destination of a route message, as in ``decode_destination``; -1 if it is not an IP route."""
    if len(body) < RTMSG.size:
        return -1
    version = _VERSIONS.get(body[0])
    if version is None:
        return -1
    size = ADDRESS_SIZES[version]
    subnet = body[24 : 24 + size] if body[20:24] == DST_HEADERS[version] else _subnet_bytes(body)
    return (int.from_bytes(subnet, "big") << 8 | body[1]) << 8 | version


def _subnet_bytes(body: bytes) -> bytes:
    """Return the bytes of the subnet; empty for a default route, which has no RTA_DST."""
    return dict(attributes(body, RTMSG.size)).get(RTA_DST, b"")


def _parse_template(body: bytes) -> _Template | None:
    family, prefix, source_prefix, tos, table, protocol, _, number, flags = RTMSG.unpack_from(body)
    if family not in (socket.AF_INET, socket.AF_INET6) or flags & RTM_F_CLONED or tos or source_prefix:
        return None
    found = dict(attributes(body, RTMSG.size))
    table = parse_u32(found, RTA_TABLE, table)
    if table == RT_TABLE_LOCAL:
        return None
    kind = KINDS.get(number)
    mtu, advmss, has_other_metrics = _parse_metrics(found.get(RTA_METRICS, b""))
    # The kernel sets the loopback link on an IPv6 route that is not unicast (fib6_config, RTF_REJECT).
    hops = _parse_next_hops(found, flags) if kind == "unicast" else ()
    if has_other_metrics or _is_unsupported(found):
        kind = None
    metric = parse_u32(found, RTA_PRIORITY, 0)
    source = _address(found[RTA_PREFSRC]) if RTA_PREFSRC in found else None
    return _Template(family, prefix, hops, protocol, metric, source, table, kind, mtu, advmss)


def _is_unsupported(found: dict[int, bytes]) -> bool:
    if not UNSUPPORTED.isdisjoint(found):
        return True
    # The third number of struct rta_cacheinfo is the time after which the route expires.
    cache = found.get(RTA_CACHEINFO, b"")
    expires = len(cache) >= 12 and U32.unpack_from(cache, 8)[0] != 0
    # Router advertisements may set a router preference other than medium (RFC 4191).
    return expires or found.get(RTA_PREF, b"\0")[0] != 0


def _parse_metrics(metrics: bytes) -> tuple[int, int, bool]:
    """Return MTU, advertised MSS, and whether other metrics are set, including a lock of these two (RTAX_LOCK)."""
    found = list(attributes(metrics))
    values = {kind: U32.unpack_from(payload)[0] for kind, payload in found if len(payload) == 4}
    has_others = bool(values.keys() - {RTAX_MTU, RTAX_ADVMSS}) or len(values) != len(found)
    return values.get(RTAX_MTU, 0), values.get(RTAX_ADVMSS, 0), has_others


def _parse_next_hops(found: dict[int, bytes], flags: int) -> tuple[NextHop, ...]:
    if RTA_MULTIPATH in found:
        hops = list(_parse_multipath(found[RTA_MULTIPATH]))
        if len(hops) == 1:
            hops = [NextHop(hops[0].gateway, hops[0].link, 1, hops[0].on_link)]
        hops.sort(key=lambda hop: hop.order)
        return tuple(hops)
    if RTA_OIF not in found:
        return ()
    return _single_hop(_gateway_bytes(found), parse_u32(found, RTA_OIF, 0), bool(flags & RTNH_F_ONLINK))


def _parse_multipath(data: bytes) -> Iterator[NextHop]:
    offset = 0
    while offset + RTNEXTHOP.size <= len(data):
        length, flags, hops, link = RTNEXTHOP.unpack_from(data, offset)
        if length < RTNEXTHOP.size:
            return
        found = dict(attributes(data, offset + RTNEXTHOP.size, min(offset + length, len(data))))
        # No link has index 0, so a hop with its own encapsulation never equals one of ours.
        link = 0 if not UNSUPPORTED.isdisjoint(found) else link
        yield _hop(_gateway_bytes(found), link, hops + 1, bool(flags & RTNH_F_ONLINK))
        offset += align(length)


def _gateway_bytes(found: dict[int, bytes]) -> bytes:
    """Return the bytes of the gateway; empty for a hop without one. struct rtvia begins with the family."""
    return found.get(RTA_GATEWAY) or found.get(RTA_VIA, b"")[2:]


# Thousands of routes share few gateways: one object for each of these values.


@lru_cache(maxsize=4096)
def _address(packed: bytes) -> IpAddress:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


@lru_cache(maxsize=4096)
def _hop(gateway: bytes, link: int, weight: int, on_link: bool) -> NextHop:
    return NextHop(_address(gateway) if gateway else None, link, weight, on_link)


@lru_cache(maxsize=4096)
def _single_hop(gateway: bytes, link: int, on_link: bool) -> tuple[NextHop, ...]:
    return (_hop(gateway, link, 1, on_link),)
