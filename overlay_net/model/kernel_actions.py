"""The closed set of actions on a node's kernel, and plans of them. Each action is idempotent."""

from dataclasses import dataclass
from typing import Final, TypeAlias

from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel import LinkMode, MacvlanMode
from overlay_net.model.net import IpAddress, IpInterface
from overlay_net.model.policy_rule import AddPolicyRule, DeletePolicyRule
from overlay_net.model.route import Route


@dataclass(frozen=True, slots=True)
class AddLink:
    """Create a link with the MTU of its parent."""

    name: str
    parent: str
    kind: LinkMode = "macvlan"
    mode: MacvlanMode = "bridge"
    """The mode of a macvlan."""
    mac: str = ""
    """The MAC of a macvlan; empty: the kernel chooses. An ipvlan has the MAC of its parent."""


@dataclass(frozen=True, slots=True)
class AdoptLink:
    """Set our ownership mark on a link of the earlier operator, identified by the address of this node."""

    name: str


@dataclass(frozen=True, slots=True)
class SetLinkUp:
    name: str


@dataclass(frozen=True, slots=True)
class SetMtu:
    name: str
    mtu: int


@dataclass(frozen=True, slots=True)
class SetMacvlanMode:
    name: str
    mode: MacvlanMode


@dataclass(frozen=True, slots=True)
class SetLinkGroup:
    name: str
    group: int
    """0 is the default group."""


@dataclass(frozen=True, slots=True)
class DeleteLink:
    index: int
    name: str


@dataclass(frozen=True, slots=True)
class SetSysctl:
    """``net.ipv4.conf.<link>.<key> = value``; a key such as ``ipv6.accept_ra`` belongs to ``net.ipv6.conf``."""

    link: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Add an address, or set the mark and the metric of an existing one."""

    link: str
    interface: IpInterface
    metric: int = 0
    """The metric of its connected route; 0: the kernel's default."""


@dataclass(frozen=True, slots=True)
class DeleteAddress:
    link: str
    interface: IpInterface


@dataclass(frozen=True, slots=True)
class AddLocalRoute:
    """Restore the route of an IPv4 address in table local, without which the kernel accepts no packets to it."""

    link: str
    interface: IpInterface


@dataclass(frozen=True, slots=True)
class AddRoute:
    """Create a route; the kernel refuses it (EEXIST) if a route with the same key exists."""

    route: Route


@dataclass(frozen=True, slots=True)
class ReplaceRoute:
    """Change a managed route in place, without a gap."""

    route: Route


@dataclass(frozen=True, slots=True)
class DeleteRoute:
    route: Route


RouteAction: TypeAlias = AddRoute | ReplaceRoute | DeleteRoute
ROUTE_ACTIONS: Final = (AddRoute, ReplaceRoute, DeleteRoute)
"""A tuple for isinstance, which is slow with a union."""

KernelAction: TypeAlias = (
    AddLink
    | AdoptLink
    | SetLinkUp
    | SetMtu
    | SetMacvlanMode
    | SetLinkGroup
    | DeleteLink
    | SetSysctl
    | AddAddress
    | DeleteAddress
    | AddLocalRoute
    | RouteAction
    | AddPolicyRule
    | DeletePolicyRule
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a part of the desired state cannot be configured now; ``reason`` is CamelCase, as in conditions."""

    reason: str
    message: str
    """Without the destination of ``route``, which is beside it wherever it is shown."""
    route: DesiredRoute | None = None
    """None: link, address or source routing."""


@dataclass(frozen=True, slots=True)
class LinkFault:
    """A gateway that is on no link that can carry traffic."""

    gateway: IpAddress | None
    """None: the overlay link itself."""
    reason: str
    """``LinkDown`` or ``GatewayNotOnLink``."""
    message: str


@dataclass(frozen=True, slots=True)
class KernelPlan:
    actions: tuple[KernelAction, ...] = ()
    problems: tuple[Problem, ...] = ()
    placed: tuple[tuple[DesiredRoute, str], ...] = ()
    """Routes that are already in place, each with the name of its first device."""
    not_needed: tuple[tuple[DesiredRoute, str], ...] = ()
    """Routes whose only gateway is this node, so they are not set here; each with a message."""
    link_faults: tuple[LinkFault, ...] = ()
