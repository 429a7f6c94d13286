"""Encodes a model.route.Route as the body of RTM_NEWROUTE or RTM_DELROUTE."""

import socket
import struct

from overlay_net.adapters.netlink.bulk.codec import attribute, attribute_u32
from overlay_net.adapters.netlink.bulk.route_messages import (
    ADDRESS_SIZES,
    DST_HEADERS,
    KINDS,
    RT_SCOPE_LINK,
    RT_SCOPE_NOWHERE,
    RT_SCOPE_UNIVERSE,
    RTA_GATEWAY,
    RTA_METRICS,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTA_TABLE,
    RTA_VIA,
    RTAX_ADVMSS,
    RTAX_MTU,
    RTMSG,
    RTNEXTHOP,
    RTNH_F_ONLINK,
    route_family,
    short_table,
)
from overlay_net.model.errors import KernelError
from overlay_net.model.route import NextHop, Route, RouteInfo, RouteKind
from overlay_net.model.route_key import decode_network_address, decode_prefix_length, decode_version

MTU_LIMIT, ADVMSS_LIMIT = 65520, 65495
"""The kernel silently lowers higher values (ip_metrics_convert), so the route would never be as desired."""

KIND_NUMBERS: dict[RouteKind | None, int] = {kind: number for number, kind in KINDS.items()}

_ALL_BUT_SUBNET = (1 << 80) - 1
"""Mask of a route key for prefix length, IP version, metric and table."""


class RouteEncoder:
    """Encodes many routes, which must stay alive as long as the encoder.

    Thousands of routes differ only in their subnet: everything else is packed once for each set of values. The bytes of
    the subnet come last, as the order of attributes does not matter.
    """

    def __init__(self) -> None:
        self._templates: dict[tuple[int, int], tuple[bytes, int]] = {}
        """(id of the RouteInfo; key without the subnet) -> the bytes before the subnet, and its size."""

    def new(self, route: Route) -> bytes:
        """Encode RTM_NEWROUTE. Raises KernelError for a route that no kernel accepts."""
        route_key = route.key
        # By identity, because hashing an address is slow; at worst the same values are packed twice.
        key = (id(route.info), route_key & _ALL_BUT_SUBNET)
        found = self._templates.get(key)
        if found is None:
            found = self._templates[key] = (_new_route(route), ADDRESS_SIZES[decode_version(route_key)])
        template, size = found
        return template + decode_network_address(route_key).to_bytes(size, "big")

    def delete(self, route: Route) -> bytes:
        """Encode RTM_DELROUTE for this table, metric, subnet and protocol, and the next hops where they can be matched.

        For an IPv4 metric of 0 the kernel matches any metric (fib_nh_match), and deletes the route with the lowest one.
        """
        route_key = route.key
        key = (id(route.info), route_key & _ALL_BUT_SUBNET)
        found = self._templates.get(key)
        if found is None:
            found = self._templates[key] = (_delete_route(route), ADDRESS_SIZES[decode_version(route_key)])
        template, size = found
        return template + decode_network_address(route_key).to_bytes(size, "big")


def _new_route(route: Route) -> bytes:
    """Encode RTM_NEWROUTE without the bytes of the subnet."""
    hops = route.next_hops
    if route.kind is None or (route.kind == "unicast") != bool(hops):
        raise KernelError(f"a route of kind {route.kind} cannot have {len(hops)} next hops")
    # Scope "link" means that the destination is on the link. The kernel checks gateways against the scope.
    scope = RT_SCOPE_LINK if hops and all(hop.gateway is None for hop in hops) else RT_SCOPE_UNIVERSE
    flags = RTNH_F_ONLINK if len(hops) == 1 and hops[0].on_link else 0
    parts = [_head(route, scope, KIND_NUMBERS[route.kind], flags)]
    if route.metric:
        parts.append(attribute_u32(RTA_PRIORITY, route.metric))
    if route.source is not None:
        parts.append(attribute(RTA_PREFSRC, route.source.packed))
    version = decode_version(route.key)
    parts += (_metrics(route.info), _next_hops(hops, version), DST_HEADERS[version])
    return b"".join(parts)


def _delete_route(route: Route) -> bytes:
    """Encode RTM_DELROUTE without the bytes of the subnet."""
    version = decode_version(route.key)
    # Scope "nowhere" and type 0 match any scope and type (fib_table_delete).
    head = _head(route, RT_SCOPE_NOWHERE, 0, 0) + attribute_u32(RTA_PRIORITY, route.metric)
    # IPv4 compares several next hops in the order of their creation (fib_nh_match), which a dump may not have. IPv6
    # deletes each of them for itself; without any, it deletes also those of other protocols (ip6_route_del).
    matched = route.kind == "unicast" and (version == 6 or len(route.next_hops) == 1)
    return head + (_next_hops(route.next_hops, version) if matched else b"") + DST_HEADERS[version]


def _head(route: Route, scope: int, kind: int, flags: int) -> bytes:
    prefix = decode_prefix_length(route.key)
    head = RTMSG.pack(route_family(route), prefix, 0, 0, short_table(route.table), route.protocol, scope, kind, flags)
    return head + attribute_u32(RTA_TABLE, route.table)


def _metrics(info: RouteInfo) -> bytes:
    if not (info.mtu or info.advmss):
        return b""
    if info.mtu > MTU_LIMIT or info.advmss > ADVMSS_LIMIT:
        raise KernelError(f"the MTU must be at most {MTU_LIMIT}, the advertised MSS at most {ADVMSS_LIMIT}")
    metrics = ((RTAX_MTU, info.mtu), (RTAX_ADVMSS, info.advmss))
    return attribute(RTA_METRICS, b"".join(attribute_u32(kind, value) for kind, value in metrics if value))


def _next_hops(hops: tuple[NextHop, ...], version: int) -> bytes:
    if len(hops) > 1:
        return attribute(RTA_MULTIPATH, b"".join(_rtnexthop(hop, version) for hop in hops))
    return b"".join(_gateway(hop, version) + attribute_u32(RTA_OIF, hop.link) for hop in hops)


def _gateway(hop: NextHop, version: int) -> bytes:
    gateway = hop.gateway
    if gateway is None:
        return b""
    if gateway.version == version:
        return attribute(RTA_GATEWAY, gateway.packed)
    if gateway.version == 4:
        raise KernelError(f"an IPv6 route cannot use the IPv4 gateway {gateway}")
    # struct rtvia: the family of the gateway, then its address (RFC 5549; Linux 5.2).
    return attribute(RTA_VIA, struct.pack("=H", socket.AF_INET6) + gateway.packed)


def _rtnexthop(hop: NextHop, version: int) -> bytes:
    if not 1 <= hop.weight <= 256:
        raise KernelError(f"the weight of a next hop must be 1 to 256, not {hop.weight}")
    gateway = _gateway(hop, version)
    flags = RTNH_F_ONLINK if hop.on_link else 0
    return RTNEXTHOP.pack(RTNEXTHOP.size + len(gateway), flags, hop.weight - 1, hop.link) + gateway
