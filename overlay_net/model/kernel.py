"""Observed and desired state of one node's kernel: links, addresses and sysctls.

Routes are in ``model.route`` and ``model.desired_route``, policy rules in ``model.policy_rule``, and the actions of a
plan in ``model.kernel_actions``.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Literal, TypeAlias, TypeVar

from overlay_net.model.adoptable_route import AdoptableRoute
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.net import IpAddress, IpInterface, IpNetwork
from overlay_net.model.policy_rule import PolicyRule, PrivateTable, SourceRouting
from overlay_net.model.route import Route

K = TypeVar("K", bound=Hashable)

LinkMode: TypeAlias = Literal["macvlan", "ipvlan", "address", "none"]
"""A managed link on top of the private interface; ``address``: no link, the address is set on the private interface;
``none``: routes only."""
MacvlanMode: TypeAlias = Literal["bridge", "private", "vepa"]


@dataclass(frozen=True, slots=True)
class OwnershipMark:
    """Identifies the kernel objects that we manage: protocol number of routes, rules and addresses, alias of links."""

    protocol: int
    alias: str
    group: int = 0x6F766C79
    """The group (IFLA_GROUP) of a link until it has its alias, which the kernel does not accept at its creation.

    With source routing for the private addresses, the overlay link stays in it.
    """


@dataclass(frozen=True, slots=True)
class Link:
    index: int
    name: str
    kind: str | None
    """``macvlan``, ``veth``, ...; None for a physical device."""
    parent: int | None
    """Index of the link below (IFLA_LINK); None also if that link is in another network namespace."""
    alias: str | None
    up: bool
    """Administratively up (IFF_UP)."""
    obstacle: str = ""
    """Why the link cannot carry traffic although it is up, such as ``has no carrier``; empty: it can."""
    mtu: int = 0
    """0: unknown."""
    mac: str = ""
    """``02:1b:..`` (IFLA_ADDRESS); empty: unknown."""
    mode: str = ""
    """The mode of a macvlan or macvtap, such as ``bridge``; empty: unknown, or another kind of link."""
    outside: tuple[int, int] | None = None
    """The link below, if it is in another network namespace: (IFLA_LINK_NETNSID, index there)."""
    alternative_names: tuple[str, ...] = ()
    """Further names of the link (``ip link property add altname``; Linux 5.5)."""
    master: int | None = None
    """Index of the bridge, bond or VRF that the link belongs to (IFLA_MASTER)."""
    vrf_table: int = 0
    """The routing table of a VRF; 0: another kind of link."""
    ethernet: bool = True
    """Whether frames on the link have Ethernet headers (ARPHRD_ETHER), so that its hosts have MACs."""
    arp: bool = True
    """Whether neighbours are resolved (IFF_NOARP is not set), unlike on tunnels and other point-to-point links."""
    group: int = 0
    """IFLA_GROUP; 0 is the default."""
    carrier_changes: int = field(default=0, compare=False)
    """How often the carrier was lost or came back (IFLA_CARRIER_CHANGES): more than before, although the link is again
    as it was, if that lasted only a moment."""
    changed_at: int = field(default=0, compare=False)
    """When the link last went down or up, in hundredths of a second since the boot (IFLA_INET6_CACHEINFO); 0: unknown,
    as on a node without IPv6. Router advertisements with timers change it as well."""

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.alternative_names)


@dataclass(frozen=True, slots=True)
class Address:
    link: int
    """Index of the link that has the address."""
    interface: IpInterface
    protocol: int | None
    """IFA_PROTO; None: not set, or a kernel before Linux 5.18, which does not report it."""
    link_local: bool = False
    """Scope link: assigned by the kernel, never managed by us."""
    tentative: bool = False
    """IPv6: duplicate address detection is running, so the address is not in use yet (RFC 4862 5.4)."""
    dad_failed: bool = False
    """IPv6: duplicate address detection failed, so the address is not used (IFA_F_DADFAILED)."""
    set_at: int = field(default=0, compare=False)
    """When the address was added, in hundredths of a second since the boot (IFA_CACHEINFO); 0: unknown."""
    deprecated: bool = False
    """IPv6: the kernel does not choose the address as a source (RFC 4862 5.5.4)."""
    metric: int = 0
    """The metric of the connected route that the kernel derives from the address; 0: the default of its family."""
    has_local_route: bool = True
    """False: the kernel accepts no packets to the address. Observed only for addresses that may be ours, and are in use
    on a link that is up."""

    @property
    def in_use(self) -> bool:
        """Return whether the kernel answers for the address and accepts it as a source address."""
        return not (self.tentative or self.dad_failed)


class Addresses(tuple[Address, ...]):
    """All addresses of a node, thousands if it uses IPVS: what a lookup needs is computed once, and shared by plans."""

    _parts: "Sequence[Addresses]" = ()

    @classmethod
    def join(cls, parts: "Iterable[Addresses]") -> "Addresses":
        """Join the addresses of several links; what a lookup needs is taken from those that have computed it before."""
        parts = tuple(parts)
        joined = cls(chain.from_iterable(parts))
        joined._parts = parts
        return joined

    def at(self, ip: IpAddress) -> tuple[Address, ...]:
        return tuple(each for each in self._by_number.get(int(ip), ()) if each.interface.version == ip.version)

    def on(self, link: int) -> Sequence[Address]:
        """Return the addresses of the link with this index, in the kernel's order."""
        return self._by_link.get(link, ())

    def marked(self, protocol: int) -> Sequence[Address]:
        """Return the addresses with this protocol number."""
        return self._by_protocol.get(protocol, ())

    def in_subnet(self, subnet: IpNetwork) -> tuple[Address, ...]:
        """Return the addresses with exactly this subnet."""
        alone = subnet.prefixlen == subnet.max_prefixlen
        candidates = self.at(subnet.network_address) if alone else self.with_neighbours
        return tuple(each for each in candidates if each.interface.network == subnet)

    @cached_property
    def ipv4(self) -> frozenset[int]:
        """The IPv4 addresses as numbers, of which a set costs a tenth of one of IPv4Address."""
        if self._parts:
            return frozenset().union(*(part.ipv4 for part in self._parts))
        return frozenset(int(each.interface) for each in self if each.interface.version == 4)

    @cached_property
    def with_neighbours(self) -> tuple[Address, ...]:
        """The addresses in whose subnets there may be other hosts."""
        if self._parts:
            return tuple(chain.from_iterable(part.with_neighbours for part in self._parts))
        return tuple(each for each in self if each.interface.network.prefixlen < each.interface.max_prefixlen)

    @cached_property
    def _by_number(self) -> Mapping[int, Sequence[Address]]:
        return self._group(lambda each: int(each.interface), (part._by_number for part in self._parts))

    @cached_property
    def _by_link(self) -> Mapping[int, Sequence[Address]]:
        return self._group(lambda each: each.link, (part._by_link for part in self._parts))

    @cached_property
    def _by_protocol(self) -> Mapping[int | None, Sequence[Address]]:
        return self._group(lambda each: each.protocol, (part._by_protocol for part in self._parts))

    def _group(
        self, key: Callable[[Address], K], of_parts: Iterable[Mapping[K, Sequence[Address]]]
    ) -> Mapping[K, Sequence[Address]]:
        if not self._parts:
            return _grouped(self, key)
        found: dict[K, Sequence[Address]] = {}
        shared = set[K]()
        for each in of_parts:
            shared |= found.keys() & each.keys()
            found |= each
        if shared:
            found |= _grouped((each for each in self if key(each) in shared), key)
        return found


def _grouped(addresses: Iterable[Address], key: Callable[[Address], K]) -> Mapping[K, Sequence[Address]]:
    found: dict[K, list[Address]] = {}
    for each in addresses:
        found.setdefault(key(each), []).append(each)
    return found


@dataclass(frozen=True, slots=True)
class Observed:
    """The kernel state of this network namespace, read in one pass."""

    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    """All routes of the tables that we write to, foreign ones included."""
    sysctls: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(link name, key) -> value, where readable; the keys are those of SetSysctl."""
    keeps_address_protocol: bool = True
    """Whether this kernel stores IFA_PROTO (Linux 5.18)."""
    rules: tuple[PolicyRule, ...] = ()
    """All policy rules, foreign ones included, in the order in which the kernel evaluates them."""
    keeps_rule_protocol: bool = True
    """Whether this kernel stores FRA_PROTOCOL (Linux 4.17)."""

    @property
    def address_index(self) -> Addresses:
        return self.addresses if isinstance(self.addresses, Addresses) else Addresses(self.addresses)

    def find_link(self, name: str) -> Link | None:
        """Find a link by its name; alternative names do not count."""
        return next((link for link in self.links if link.name == name), None)

    def find_link_at(self, index: int | None) -> Link | None:
        """Find a link by its index."""
        return next((link for link in self.links if link.index == index), None)


@dataclass(frozen=True, slots=True)
class DesiredLink:
    name: str
    parent: str
    """Name of the private interface, e.g. ``eth0``; empty: not found."""
    kind: LinkMode = "macvlan"
    """With ``address`` no link is created, and ``name`` is the parent. ``none`` is for the report only."""
    mode: MacvlanMode = "bridge"
    mac: str = ""
    """The MAC of a new macvlan; an existing one keeps its MAC. Empty: the kernel chooses."""
    missing: str = ""
    """Why no parent was found, as a message for users."""
    group: int = 0
    """The group of the link (IFLA_GROUP): ours, by which policy rules exclude its routes, or 0."""


@dataclass(frozen=True, slots=True)
class Desired:
    """Desired state of one node. ``Desired()`` removes everything that we manage."""

    link: DesiredLink | None = None
    address: IpInterface | None = None
    routes: tuple[DesiredRoute, ...] = ()
    down: frozenset[IpAddress] = frozenset()
    """Gateways that do not answer."""
    held: frozenset[IpAddress] = frozenset()
    """Gateways whose link can carry traffic again, but failed repeatedly: they are not used for a while."""
    interface: str = ""
    """The private interface, used for an ``onLink`` gateway on a node without overlay link."""
    fallback: IpNetwork | None = None
    """On a node with routes only, routes without a gateway use the gateway of the node's own route to this subnet."""
    source: SourceRouting | None = None
    """Set only together with an address."""
    private: PrivateTable | None = None
    """Set only together with an address on a link of its own."""
    node_ip: IpAddress | None = None
    """The InternalIP of the node; None: unknown."""
    adoptable: tuple[AdoptableRoute, ...] = ()
    """Routes of an earlier operator that are managed as if they had our mark."""
    gateway: IpAddress | None = None
    """The overlay gateway; None: unknown."""
    keeps_routes: bool = False
    """No route of ours is deleted, because it is not known which ones are desired besides ``routes``."""
