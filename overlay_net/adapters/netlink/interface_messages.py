"""Parses messages about links and addresses (linux/if_link.h, linux/if_addr.h) into values of model.kernel."""

import socket
from ipaddress import IPv4Interface, IPv6Interface

from overlay_net.adapters.netlink.bulk.codec import I32, U32, attributes, fixed_part, parse_text, parse_u32
from overlay_net.adapters.netlink.pyroute2_parts import ifaddrmsg, ifinfmsg
from overlay_net.model.kernel import Address, Link

IFINFOMSG = fixed_part(ifinfmsg)
IFADDRMSG = fixed_part(ifaddrmsg)

IFF_UP, IFF_NOARP, IFF_LOWER_UP = 0x1, 0x80, 0x10000
IF_OPER_DORMANT = 5
RT_SCOPE_LINK = 253
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO, IFLA_IFALIAS = 1, 3, 4, 5, 10, 18, 20
IFLA_AF_SPEC, IFLA_CARRIER_CHANGES, IFLA_INET6_CACHEINFO, IFLA_OPERSTATE = 26, 35, 5, 16
IFLA_GROUP, IFLA_LINK_NETNSID, IFLA_PROP_LIST, IFLA_ALT_IFNAME = 27, 37, 52, 53
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_MACVLAN_MODE, IFLA_VRF_TABLE = 1, 2, 1, 1
ARPHRD_ETHER = 1
MACVLAN_MODES = {1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}
IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS, IFA_RT_PRIORITY, IFA_PROTO = 1, 2, 6, 8, 9, 11
IFLA_CACHEINFO_CHANGED, IFA_CACHEINFO_CREATED = 4, 8
"""Offsets in struct ifla_cacheinfo and struct ifa_cacheinfo."""
IFA_F_OPTIMISTIC, IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE = 0x04, 0x08, 0x20, 0x40
CONNECTED_METRICS = {4: 0, 6: 256}
"""The metric of a connected route by IP version if its address has none (IP6_RT_PRIO_ADDRCONF)."""


def parse_link(body: bytes) -> Link:
    _, hardware, index, flags, _ = IFINFOMSG.unpack_from(body)
    found = dict(attributes(body, IFINFOMSG.size))
    link_info = dict(attributes(found.get(IFLA_LINKINFO, b"")))
    kind = parse_text(link_info[IFLA_INFO_KIND]) if IFLA_INFO_KIND in link_info else None
    data = link_info.get(IFLA_INFO_DATA, b"")
    parent = parse_u32(found, IFLA_LINK, 0) if IFLA_LINK in found else None
    # The kernel includes this attribute only if the link below is in another namespace (rtnl_fill_link_netnsid).
    namespace = I32.unpack(found[IFLA_LINK_NETNSID])[0] if IFLA_LINK_NETNSID in found else None
    return Link(
        index=index,
        name=parse_text(found[IFLA_IFNAME]),
        kind=kind,
        parent=parent if namespace is None else None,
        alias=parse_text(found[IFLA_IFALIAS]) if IFLA_IFALIAS in found else None,
        up=bool(flags & IFF_UP),
        obstacle=_obstacle(flags, found.get(IFLA_OPERSTATE, b"\0")[0]),
        mtu=parse_u32(found, IFLA_MTU, 0),
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mode=_macvlan_mode(data) if kind in ("macvlan", "macvtap") else "",
        outside=(namespace, parent) if namespace is not None and parent is not None else None,
        alternative_names=tuple(
            parse_text(name)
            for property_, name in attributes(found.get(IFLA_PROP_LIST, b""))
            if property_ == IFLA_ALT_IFNAME
        ),
        master=parse_u32(found, IFLA_MASTER, 0) or None,
        vrf_table=parse_u32(dict(attributes(data)), IFLA_VRF_TABLE, 0) if kind == "vrf" else 0,
        ethernet=hardware == ARPHRD_ETHER,
        arp=not flags & IFF_NOARP,
        group=parse_u32(found, IFLA_GROUP, 0),
        carrier_changes=parse_u32(found, IFLA_CARRIER_CHANGES, 0),
        changed_at=_ipv6_changed(found.get(IFLA_AF_SPEC, b"")),
    )


def _ipv6_changed(families: bytes) -> int:
    """Return when IPv6 of the link last changed, in hundredths of a second since the boot; 0 without IPv6.

    Going down or up is such a change (addrconf_ifdown and addrconf_notify in net/ipv6/addrconf.c).
    """
    found = dict(attributes(dict(attributes(families)).get(socket.AF_INET6, b"")))
    return _parse_time(found.get(IFLA_INET6_CACHEINFO, b""), IFLA_CACHEINFO_CHANGED)


def _parse_time(cache_info: bytes, offset: int) -> int:
    return int(U32.unpack_from(cache_info, offset)[0]) if len(cache_info) >= offset + U32.size else 0


def _obstacle(flags: int, state: int) -> str:
    """Return why a link that is up cannot pass frames; ``state`` is its operational state (RFC 2863).

    IFF_RUNNING has the same meaning, but follows a returning carrier up to a second later (net/core/link_watch.c).
    """
    if not flags & IFF_UP:
        return ""
    if not flags & IFF_LOWER_UP:
        return "has no carrier"
    # For example until the port of the switch accepts the node (IEEE 802.1X).
    return "is dormant" if state == IF_OPER_DORMANT else ""


def _macvlan_mode(data: bytes) -> str:
    return MACVLAN_MODES.get(parse_u32(dict(attributes(data)), IFLA_MACVLAN_MODE, 0), "")


def parse_address(body: bytes) -> Address | None:
    """Parse an address; None for a family other than IPv4 and IPv6."""
    family, prefix, flags, scope, link = IFADDRMSG.unpack_from(body)
    found = dict(attributes(body, IFADDRMSG.size))
    flags = parse_u32(found, IFA_FLAGS, flags)
    # IFA_LOCAL is the address itself; IFA_ADDRESS is the peer's on a point-to-point link (linux/if_addr.h).
    own = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
    if own is None or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    interface = IPv4Interface((own, prefix)) if family == socket.AF_INET else IPv6Interface((own, prefix))
    protocol = found.get(IFA_PROTO, b"\0")[0]
    # A failed address stays tentative (addrconf_dad_stop); an optimistic one is in use during DAD (RFC 4429).
    failed = interface.version == 6 and bool(flags & IFA_F_DADFAILED)
    tentative = interface.version == 6 and bool(flags & IFA_F_TENTATIVE) and not flags & IFA_F_OPTIMISTIC
    metric = parse_u32(found, IFA_RT_PRIORITY, 0)
    return Address(
        link,
        interface,
        protocol or None,
        link_local=scope >= RT_SCOPE_LINK,
        tentative=tentative and not failed,
        dad_failed=failed,
        set_at=_parse_time(found.get(IFA_CACHEINFO, b""), IFA_CACHEINFO_CREATED),
        deprecated=interface.version == 6 and bool(flags & IFA_F_DEPRECATED),
        metric=0 if metric == CONNECTED_METRICS[interface.version] else metric,
    )
