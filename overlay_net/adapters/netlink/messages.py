"""Netlink messages -> the values of model.kernel (layouts: linux/if_link.h, linux/if_addr.h, linux/rtnetlink.h)."""

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from overlay_net.model.kernel import MAIN_TABLE, Address, Link, NextHop, Route

IFF_UP = 0x1
RT_SCOPE_LINK = 253
RTN_UNICAST = 1
RTNH_F_DEAD = 0x1
_DEFAULT = {2: "0.0.0.0", 10: "::"}


def link_of(message: Any) -> Link:
    return Link(
        index=message["index"],
        name=message.get("ifname"),
        kind=message.get(("linkinfo", "kind")),
        parent=message.get("link"),
        alias=message.get("ifalias"),
        up=bool(message["flags"] & IFF_UP),
    )


def address_of(message: Any) -> Address:
    # IFA_LOCAL is the address itself; IFA_ADDRESS is the peer's on a point-to-point link (linux/if_addr.h).
    own = message.get("local") or message.get("address")
    return Address(
        link=message["index"],
        interface=ip_interface(f"{own}/{message['prefixlen']}"),
        protocol=message.get("proto") or None,
        link_local=message["scope"] >= RT_SCOPE_LINK,
    )


def route_of(message: Any) -> Route | None:
    """A route of the main table; None for other tables and for the cache."""
    table = message.get("table") if message.get("table") is not None else message["table"]
    if table != MAIN_TABLE or message["family"] not in _DEFAULT:
        return None
    destination = message.get("dst") or _DEFAULT[message["family"]]
    source = message.get("prefsrc")
    return Route(
        subnet=ip_network(f"{destination}/{message['dst_len']}"),
        next_hops=_next_hops(message) if message["type"] == RTN_UNICAST else (),
        protocol=message["proto"],
        metric=message.get("priority") or 0,
        source=ip_address(source) if source else None,
        table=table,
    )


def _next_hops(message: Any) -> tuple[NextHop, ...]:
    several = message.get("multipath")
    if several:
        hops = [NextHop(_gateway(hop), hop["oif"]) for hop in several]
    elif message.get("oif") is not None:
        hops = [NextHop(_gateway(message), message.get("oif"))]
    else:
        hops = []
    return tuple(sorted(hops, key=lambda hop: (int(hop.gateway) if hop.gateway else 0, hop.link)))


def _gateway(message: Any) -> Any:
    gateway = message.get("gateway")
    return ip_address(gateway) if gateway else None
