"""What the kernel has and what it shall have: links, addresses, routes, sysctls; rules are in model.rule.

``Link``, ``Address``, ``Route`` are observations of one dump; ``Desired`` is what one node must have. The changes that
a plan may ask for are in model.kernel_actions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from overlay_net.model.net import IpAddress, IpInterface, IpNetwork
from overlay_net.model.policy_rule import PolicyRule, SourceRouting
from overlay_net.model.route_key import Numbered, RouteKey, route_key, subnet_of

RouteKind: TypeAlias = Literal["unicast", "blackhole", "unreachable", "prohibit"]
OnAllDown: TypeAlias = Literal["keep", "withdraw", "unreachable"]
CheckKind: TypeAlias = Literal["arp", "icmp", "tcp", "none"]
LinkMode: TypeAlias = Literal["macvlan", "ipvlan", "address", "none"]
"""A link of ours over the private interface; no link, the address is on that interface itself; routes only."""
MacvlanMode: TypeAlias = Literal["bridge", "private", "vepa"]

MAIN_TABLE = 254

IPV6_DEFAULT_METRIC = 1024
"""What the kernel stores for an IPv6 route without a metric (IP6_RT_PRIO_USER)."""


@dataclass(frozen=True, slots=True)
class OwnershipMark:
    """How what is ours is recognised: the route (and address) protocol number and the alias of the link."""

    protocol: int
    alias: str


@dataclass(frozen=True, slots=True)
class Link:
    index: int
    name: str
    kind: str | None
    """``macvlan``, ``veth``, ...; None for a physical device."""
    parent: int | None
    """Index of the link below (IFLA_LINK)."""
    alias: str | None
    up: bool
    """Administratively up (IFF_UP)."""
    mtu: int = 0
    """0 where it is not known."""
    mac: str = ""
    """``02:1b:..`` (IFLA_ADDRESS); empty where it is not known."""
    mode: str = ""
    """Of a macvlan: ``bridge``, ``private`` ...; empty where it is not known, and for other kinds."""


@dataclass(frozen=True, slots=True)
class Address:
    link: int
    """Index of the link that carries it."""
    interface: IpInterface
    protocol: int | None
    """IFA_PROTO; None where the kernel did not say (before Linux 5.18, or an address nobody marked)."""
    link_local: bool = False
    """Scope link: the kernel's own, never ours."""
    tentative: bool = False
    """IPv6: the kernel still asks whether somebody else has it, and does not use it yet (RFC 4862 5.4)."""
    dad_failed: bool = False
    """IPv6: somebody else has it, so the kernel does not use it (IFA_F_DADFAILED)."""

    @property
    def in_use(self) -> bool:
        """Whether the kernel answers for it, and takes it as a source."""
        return not (self.tentative or self.dad_failed)


@dataclass(frozen=True, slots=True)
class NextHop:
    gateway: IpAddress | None
    """None: the subnet is on-link."""
    link: int
    """Index of the outgoing link."""
    weight: int = 1
    """Share of the traffic, 1 to 256; of a single next hop always 1."""
    on_link: bool = False
    """The kernel is told that the gateway is there, though no subnet of the link says so (RTNH_F_ONLINK)."""

    @property
    def order(self) -> tuple[int, int]:
        """By which the next hops of a route are sorted, so that two routes can be compared."""
        return (int(self.gateway) if self.gateway else 0, self.link)


@dataclass(frozen=True, slots=True)
class RouteInfo:
    """What routes to thousands of subnets have in common, and share; the kernel's word for it is fib_info."""

    next_hops: tuple[NextHop, ...]
    protocol: int
    metric: int
    source: IpAddress | None
    table: int
    kind: RouteKind | None
    mtu: int
    advmss: int


@dataclass(frozen=True, slots=True, init=False)
class Route:
    """One route; ``route_key`` is what the kernel allows only once, and holds the subnet."""

    route_key: RouteKey
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
        """``next_hops`` are in their ``order``; more than one is ECMP, none belongs to another kind.

        A kind of None is one that we never make (local, broadcast, nat ...). ``mtu`` and ``advmss`` are RTAX_MTU and
        RTAX_ADVMSS, 0 where none is set.
        """
        _put_key(self, route_key(subnet, metric, table))
        _put_info(self, RouteInfo(next_hops, protocol, metric, source, table, kind, mtu, advmss))

    def at(self, key: RouteKey) -> "Route":
        """The same route to another subnet, whose key is given; metric and table are those of this route."""
        return _route(key, self.info)

    def but(self, *, subnet: IpNetwork | None = None, **changes: Any) -> "Route":
        """The same route, with other values of the constructor's."""
        info = replace(self.info, **changes)
        return _route(route_key(subnet or self.subnet, info.metric, info.table), info)

    def __repr__(self) -> str:
        return f"Route({self.subnet}, {self.info})"

    @property
    def subnet(self) -> IpNetwork:
        return subnet_of(self.route_key)

    @property
    def next_hops(self) -> tuple[NextHop, ...]:
        return self.info.next_hops

    @property
    def protocol(self) -> int:
        return self.info.protocol

    @property
    def metric(self) -> int:
        return self.info.metric

    @property
    def source(self) -> IpAddress | None:
        return self.info.source

    @property
    def table(self) -> int:
        return self.info.table

    @property
    def kind(self) -> RouteKind | None:
        return self.info.kind


# The slots themselves: a thousand routes that lead the same way are made in no time.
_put_key, _put_info = (getattr(Route, name).__set__ for name in ("route_key", "info"))


def _route(key: RouteKey, info: RouteInfo) -> Route:
    route = object.__new__(Route)
    _put_key(route, key)
    _put_info(route, info)
    return route


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at the kernel of this network namespace."""

    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    """All routes of the tables that we write to, foreign ones too."""
    sysctls: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(link name, key) -> value, as far as it can be read; the keys are those of SetSysctl."""
    marks_addresses: bool = True
    """Whether this kernel keeps IFA_PROTO (Linux 5.18)."""
    rules: tuple[PolicyRule, ...] = ()
    """All policy rules, foreign ones too, in the order in which they are asked."""
    marks_rules: bool = True
    """Whether this kernel keeps FRA_PROTOCOL (Linux 4.17)."""


@dataclass(frozen=True, slots=True)
class DesiredLink:
    name: str
    parent: str
    """Name of the private interface below, e.g. ``eth0``; empty where none is to be found."""
    kind: LinkMode = "macvlan"
    """``address``: no link is made, ``name`` is the parent itself. ``none`` is for the report alone."""
    mode: MacvlanMode = "bridge"
    mac: str = ""
    """Of a macvlan that is made anew; one that exists keeps what it has. Empty: the kernel chooses."""
    missing: str = ""
    """Why there is no parent, for a person."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A next hop as users give it."""

    address: IpAddress
    weight: int = 1
    """Share of the traffic among gateways of the same priority (ECMP)."""
    priority: int = 0
    """Those with the lowest number are used; the next ones stand by until none of the former is alive."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How each gateway of a route is probed."""

    kind: CheckKind = "arp"
    port: int = 0
    """For ``tcp``."""
    interval: float = 1.0
    """Seconds between two probes."""
    failures: int = 2
    """Probes in a row without an answer after which a gateway counts as down."""
    successes: int = 3
    """Answers in a row after which it counts as up again."""


@dataclass(frozen=True, slots=True)
class DesiredRoute(Numbered):
    """One route of NodeOverlayIp.spec.routes; the device is found by the plan, from the on-link subnets."""

    subnet: IpNetwork = field(compare=False)
    gateways: tuple[Gateway, ...]
    metric: int = 0
    static_route: str = ""
    """The StaticRoute that asked for it, for the report."""
    table: int = MAIN_TABLE
    kind: RouteKind = "unicast"
    mtu: int = 0
    advmss: int = 0
    on_link: bool = False
    check: HealthCheck = HealthCheck()
    on_all_down: OnAllDown = "keep"
    route_key: RouteKey = field(init=False, repr=False)
    """That under which the kernel keeps the route."""

    def __post_init__(self) -> None:
        metric = self.metric or (IPV6_DEFAULT_METRIC if self.subnet.version == 6 else 0)
        self._number(route_key(self.subnet, metric, self.table))

    @property
    def key(self) -> RouteKey:
        """What may be wanted only once: with the metric as it is wished."""
        return self.route_key & ~(0xFFFFFFFF << 32) | self.metric << 32


@dataclass(frozen=True, slots=True)
class Desired:
    """All that one node must have. ``Desired()`` is the wish of a node that lets go of everything."""

    link: DesiredLink | None = None
    address: IpInterface | None = None
    routes: tuple[DesiredRoute, ...] = ()
    down: frozenset[IpAddress] = frozenset()
    """Gateways that do not answer now."""
    interface: str = ""
    """The node's private interface: where a gateway is that no subnet contains, on a node without overlay link."""
    fallback: IpNetwork | None = None
    """On a node without overlay: routes without a gateway take the one that the node uses for this subnet."""
    source: SourceRouting | None = None
    """Only beside an address."""
