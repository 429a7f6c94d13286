"""Link and address messages (linux/if_link.h, linux/if_addr.h): encodes and parses the values of model.kernel."""

import socket
import struct
from ipaddress import IPv4Interface, IPv6Interface

from overlay_net.adapters.netlink.bulk.codec import (
    I32,
    U32,
    attribute,
    attribute_text,
    attribute_u32,
    attributes,
    parse_text,
    parse_u32,
)
from overlay_net.model.kernel import Address, Link
from overlay_net.model.net import IpInterface

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22

IFINFOMSG = struct.Struct("=BxHiII")
"""family, device type, index, flags, mask of the flags to change."""
IFADDRMSG = struct.Struct("=BBBBI")
"""family, prefix length, flags, scope, link."""

IFF_UP, IFF_NOARP, IFF_LOWER_UP = 0x1, 0x80, 0x10000
IF_OPER_DORMANT = 5
RT_SCOPE_LINK = 253
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_LINKINFO, IFLA_IFALIAS = 1, 3, 4, 5, 10, 18, 20
IFLA_AF_SPEC, IFLA_CARRIER_CHANGES, IFLA_INET6_CACHEINFO, IFLA_OPERSTATE = 26, 35, 5, 16
IFLA_GROUP, IFLA_EXT_MASK, IFLA_LINK_NETNSID, IFLA_PROP_LIST, IFLA_ALT_IFNAME = 27, 29, 37, 52, 53
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_MACVLAN_MODE, IFLA_IPVLAN_MODE, IFLA_VRF_TABLE = 1, 2, 1, 1, 1
ARPHRD_ETHER = 1
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}
MACVLAN_MODE_NAMES = {number: name for name, number in MACVLAN_MODES.items()}
IPVLAN_MODE_L2 = 0
"""In this mode the link answers ARP, unlike in L3, the default (networking/ipvlan.rst)."""
RTEXT_FILTER_SKIP_STATS = 8
IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS, IFA_RT_PRIORITY, IFA_PROTO = 1, 2, 6, 8, 9, 11
IFLA_CACHEINFO_CHANGED, IFA_CACHEINFO_CREATED = 4, 8
"""Offsets in struct ifla_cacheinfo and struct ifa_cacheinfo."""
IFA_F_OPTIMISTIC, IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE = 0x04, 0x08, 0x20, 0x40
CONNECTED_METRICS = {4: 0, 6: 256}
"""The metric of a connected route by IP version if its address has none (IP6_RT_PRIO_ADDRCONF)."""


def dump_links() -> bytes:
    """The body of RTM_GETLINK for all links, without their counters."""
    return encode_link(0) + attribute_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)


def dump_addresses() -> bytes:
    """The body of RTM_GETADDR for all addresses."""
    return IFADDRMSG.pack(0, 0, 0, 0, 0)


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
        interruptions=(parse_u32(found, IFLA_CARRIER_CHANGES, 0), _ipv6_changed(found.get(IFLA_AF_SPEC, b""))),
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
    return MACVLAN_MODE_NAMES.get(parse_u32(dict(attributes(data)), IFLA_MACVLAN_MODE, 0), "")


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


def add_link(name: str, parent: int, kind: str, mode: str, mac: str, group: int) -> bytes:
    """The body of RTM_NEWLINK that creates a macvlan or an ipvlan on the parent link."""
    if kind == "macvlan":
        data = attribute_u32(IFLA_MACVLAN_MODE, MACVLAN_MODES[mode])
    else:
        data = attribute(IFLA_IPVLAN_MODE, struct.pack("=H", IPVLAN_MODE_L2))
    own_mac = attribute(IFLA_ADDRESS, bytes.fromhex(mac.replace(":", ""))) if mac and kind == "macvlan" else b""
    name_and_parent = attribute_text(IFLA_IFNAME, name) + attribute_u32(IFLA_LINK, parent)
    return encode_link(0) + name_and_parent + attribute_u32(IFLA_GROUP, group) + own_mac + _link_info(kind, data)


def set_macvlan_mode(index: int, mode: str) -> bytes:
    """The body of RTM_NEWLINK that changes the mode of a macvlan."""
    return encode_link(index) + _link_info("macvlan", attribute_u32(IFLA_MACVLAN_MODE, MACVLAN_MODES[mode]))


def set_mtu(index: int, mtu: int) -> bytes:
    """The body of RTM_NEWLINK that changes a link's MTU."""
    return encode_link(index) + attribute_u32(IFLA_MTU, mtu)


def set_group(index: int, group: int) -> bytes:
    """The body of RTM_NEWLINK that changes a link's group."""
    return encode_link(index) + attribute_u32(IFLA_GROUP, group)


def _link_info(kind: str, data: bytes) -> bytes:
    return attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, kind.encode()) + attribute(IFLA_INFO_DATA, data))


def set_alias(index: int, alias: str) -> bytes:
    """The body of RTM_NEWLINK that sets the alias of a link."""
    return encode_link(index) + attribute(IFLA_IFALIAS, alias.encode())


def rename(index: int, name: str) -> bytes:
    """The body of RTM_NEWLINK that sets the name of a link, and puts it into the default group."""
    return encode_link(index) + attribute_text(IFLA_IFNAME, name) + attribute_u32(IFLA_GROUP, 0)


def set_up(index: int) -> bytes:
    """The body of RTM_NEWLINK that brings a link up."""
    return IFINFOMSG.pack(0, 0, index, IFF_UP, IFF_UP)


def encode_link(index: int) -> bytes:
    """The body of RTM_DELLINK, and the start of the body of RTM_NEWLINK."""
    return IFINFOMSG.pack(0, 0, index, 0, 0)


def encode_address(interface: IpInterface, link: int, protocol: int | None = None, metric: int = 0) -> bytes:
    """The body of RTM_NEWADDR and RTM_DELADDR; ``metric`` is that of the connected route, 0 for the default."""
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    head = IFADDRMSG.pack(family, interface.network.prefixlen, 0, 0, link)
    mark = attribute(IFA_PROTO, bytes([protocol])) if protocol is not None else b""
    # An IPv6 address without the attribute would keep the metric that it has (inet6_addr_modify).
    metric = metric or CONNECTED_METRICS[interface.version]
    if protocol is not None and metric:
        mark += attribute_u32(IFA_RT_PRIORITY, metric)
    own = interface.ip.packed
    return head + attribute(IFA_LOCAL, own) + attribute(IFA_ADDRESS, own) + mark
