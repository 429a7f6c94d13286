"""Reads links and addresses (linux/if_link.h, linux/if_addr.h) as values of model.kernel."""

import errno
import operator
import socket
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Interface, IPv6Interface

from overlay_net.adapters.netlink.bulk.codec import (
    HEADER,
    I32,
    U32,
    attributes,
    fixed_part,
    messages,
    parse_text,
    parse_u32,
)
from overlay_net.adapters.netlink.iproute import IpRoute
from overlay_net.adapters.netlink.parsed_dump import ParsedDump
from overlay_net.adapters.netlink.pyroute2_parts import (
    ifaddrmsg,
    ifinfmsg,
    rtnl,
)
from overlay_net.adapters.netlink.raw_requests import Message
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Address, Addresses, Link
from overlay_net.model.kernel_changes import EVERYTHING, KernelChanges

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
RTEXT_FILTER_SKIP_STATS = 8
IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS, IFA_RT_PRIORITY, IFA_PROTO = 1, 2, 6, 8, 9, 11
IFLA_CACHEINFO_CHANGED, IFA_CACHEINFO_CREATED = 4, 8
"""Offsets in struct ifla_cacheinfo and struct ifa_cacheinfo."""
IFA_F_OPTIMISTIC, IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE = 0x04, 0x08, 0x20, 0x40
CONNECTED_METRICS = {4: 0, 6: 256}
"""The metric of a connected route by IP version if its address has none (IP6_RT_PRIO_ADDRCONF)."""


FEW_LINKS = 8
"""Links whose addresses are read one by one, which takes less time than to read those of hundreds."""


class Interfaces:
    """Reads links and addresses repeatedly, of which a node with many pods has hundreds, and thousands with IPVS."""

    def __init__(self) -> None:
        self._links = ParsedDump(rtnl.RTM_NEWLINK, parse_link, tuple[Link, ...])
        self._all_links: tuple[Link, ...] | None = None
        self._dump = ParsedDump(rtnl.RTM_NEWADDR, parse_address, tuple[Address, ...])
        self._dumped: tuple[Address, ...] | None = None
        """The last dump of all addresses; None: those of some links were read after it."""
        self._by_link: dict[int, Addresses] = {}
        self._addresses: Addresses | None = None

    def read_links(self, route: IpRoute, changes: KernelChanges = EVERYTHING) -> tuple[Link, ...]:
        """Raises KernelError and OSError."""
        if self._all_links is None or changes.everything or changes.links:
            self._all_links = self._links.read(route, _all_links, rtnl.RTM_GETLINK)
        return self._all_links

    def read_addresses(self, route: IpRoute, changes: KernelChanges = EVERYTHING) -> Addresses:
        """Raises KernelError and OSError."""
        if self._addresses is None or changes.everything or len(changes.addresses) > FEW_LINKS:
            dumped = self._dump.read(route, ifaddrmsg, rtnl.RTM_GETADDR)
            if dumped is not self._dumped or self._addresses is None:
                self._set(_group_by_link(dumped))
            self._dumped = dumped
        elif changes.addresses:
            found = {link: _read_addresses_on(route, link) for link in changes.addresses}
            self._dumped = None
            self._set(self._by_link | found)
        return self._addresses or Addresses()

    def _set(self, found: Mapping[int, tuple[Address, ...]]) -> None:
        """Set the addresses of each link. Those that are unchanged stay the same object, with what it has computed."""
        last = self._by_link
        # In the order of the kernel.
        self._by_link = {
            link: last[link] if link in last and _are_same(last[link], found[link]) else Addresses(found[link])
            for link in sorted(found)
            if found[link]
        }
        if (
            self._addresses is None
            or self._by_link.keys() != last.keys()
            or any(self._by_link[link] is not last[link] for link in last)
        ):
            self._addresses = Addresses.join(self._by_link.values())


def require_link(route: IpRoute, name: str) -> int:
    """Return the index of a link. Raises KernelError if it does not exist, and OSError."""
    message: Message = ifinfmsg()
    message["attrs"] = [("IFLA_IFNAME", name), ("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]
    missing = KernelError(f"no link {name}", code=errno.ENODEV)
    try:
        datagram = route.get(message, rtnl.RTM_GETLINK)
    except KernelError as error:
        raise missing if error.code == errno.ENODEV else error from None
    link = parse_link(datagram[HEADER.size :])
    if link.name != name:
        # The kernel finds links by their alternative names, too.
        raise missing
    return link.index


def _read_addresses_on(route: IpRoute, link: int) -> tuple[Address, ...]:
    message: Message = ifaddrmsg()
    message["index"] = link
    try:
        datagrams = route.dump_once(message, rtnl.RTM_GETADDR)
    except KernelError as error:
        if error.code != errno.ENODEV:
            raise
        return ()
    found = (
        parse_address(datagram[start:end])
        for datagram in datagrams
        for kind, _, _, start, end in messages(datagram)
        if kind == rtnl.RTM_NEWADDR
    )
    # Kernels before 4.20 do not select.
    return tuple(each for each in found if each is not None and each.link == link)


def _group_by_link(addresses: Iterable[Address]) -> Mapping[int, tuple[Address, ...]]:
    found: dict[int, list[Address]] = {}
    for each in addresses:
        found.setdefault(each.link, []).append(each)
    return {link: tuple(group) for link, group in found.items()}


def _are_same(some: tuple[Address, ...], others: tuple[Address, ...]) -> bool:
    return len(some) == len(others) and all(map(operator.is_, some, others))


def _all_links() -> Message:
    """All links, without their counters."""
    message: Message = ifinfmsg()
    message["attrs"] = [("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]
    return message


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
