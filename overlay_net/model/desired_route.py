"""Desired routes of a node: each has a destination, and a specification that all routes of a StaticRoute share."""

from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.route import MAIN_TABLE, RouteKind
from overlay_net.model.route_key import RouteKey, decode_subnet, decode_version, encode_route_key

OnAllDown: TypeAlias = Literal["keep", "withdraw", "unreachable"]
CheckKind: TypeAlias = Literal["arp", "icmp", "tcp", "none"]


@dataclass(frozen=True, slots=True)
class Gateway:
    """A next hop as users specify it."""

    address: IpAddress
    weight: int = 1
    """Share of the traffic among gateways of the same priority (ECMP)."""
    priority: int = 0
    """Gateways with the lowest number are used; the others are standbys."""


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How each gateway of a route is probed."""

    kind: CheckKind = "arp"
    port: int = 0
    """The port for ``tcp``."""
    interval: float = 1.0
    """Seconds between two probes."""
    failures: int = 2
    """Consecutive failures after which a gateway goes down."""
    successes: int = 3
    """Consecutive answers after which a gateway comes up again."""


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """Everything about a desired route except its destination and its StaticRoute.

    Many thousands of routes share one value, and addresses are slow to hash, so the hash is computed only once.
    """

    gateways: tuple[Gateway, ...] = ()
    metric: int = 0
    """The metric of the StaticRoute; 0 is the kernel's default."""
    table: int = MAIN_TABLE
    kind: RouteKind = "unicast"
    mtu: int = 0
    advmss: int = 0
    on_link: bool = False
    check: HealthCheck = HealthCheck()
    on_all_down: OnAllDown = "keep"
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        values = (self.gateways, self.metric, self.table, self.kind, self.mtu, self.advmss, self.on_link, self.check)
        object.__setattr__(self, "_hash", hash(values))

    def __hash__(self) -> int:
        return self._hash

    def with_default_gateway(self, version: int, gateway: IpAddress | None) -> "RouteSpec":
        """Return the specification for subnets of an IP version (4 or 6) on a node with this overlay gateway.

        A route that specifies no gateway uses the overlay gateway if that is of the same version.
        """
        if self.gateways or self.kind != "unicast" or gateway is None or gateway.version != version:
            return self
        return replace(self, gateways=(Gateway(gateway),))


@dataclass(frozen=True, slots=True)
class DesiredRoute:
    """One route of NodeOverlayIp.spec.routes. The plan derives its device from the subnets of the node's links."""

    key: RouteKey
    """Includes the subnet: a separate field for it would double the memory."""
    static_route: str
    """Name of the StaticRoute that the route belongs to."""
    spec: RouteSpec

    @classmethod
    def to(cls, subnet: IpNetwork, spec: RouteSpec, static_route: str = "") -> "DesiredRoute":
        return cls(encode_route_key(subnet, spec.metric, spec.table), static_route, spec)

    @property
    def subnet(self) -> IpNetwork:
        return decode_subnet(self.key)

    @property
    def version(self) -> int:
        """The IP version, 4 or 6."""
        return decode_version(self.key)
