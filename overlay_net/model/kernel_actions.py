"""The closed set of changes to a node's kernel, and a plan of them. Each can be applied twice."""

from dataclasses import dataclass
from typing import Final, TypeAlias

from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel import LinkMode, MacvlanMode
from overlay_net.model.net import IpInterface
from overlay_net.model.policy_rule import AddPolicyRule, DeletePolicyRule
from overlay_net.model.route import Route


@dataclass(frozen=True, slots=True)
class AddLink:
    """A new link has the MTU of its parent."""

    name: str
    parent: str
    kind: LinkMode = "macvlan"
    mode: MacvlanMode = "bridge"
    """Of a macvlan."""
    mac: str = ""
    """Of a macvlan; empty: the kernel chooses. An ipvlan has its parent's."""


@dataclass(frozen=True, slots=True)
class AdoptLink:
    """Mark a link that the earlier operator made, recognised by the very address that this node owns."""

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
class DeleteLink:
    index: int
    name: str


@dataclass(frozen=True, slots=True)
class SetSysctl:
    """``net.ipv4.conf.<link>.<key> = value``; a key such as ``ipv6.accept_ra`` is below ``net.ipv6.conf`` instead."""

    link: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class AddAddress:
    link: str
    interface: IpInterface


@dataclass(frozen=True, slots=True)
class DeleteAddress:
    link: str
    interface: IpInterface


@dataclass(frozen=True, slots=True)
class AddRoute:
    """Exclusive create: the kernel refuses it (EEXIST) where a route of the same key exists."""

    route: Route


@dataclass(frozen=True, slots=True)
class ReplaceRoute:
    """Change a route of ours in place, with no gap."""

    route: Route


@dataclass(frozen=True, slots=True)
class DeleteRoute:
    route: Route


RouteAction: TypeAlias = AddRoute | ReplaceRoute | DeleteRoute
ROUTE_ACTIONS: Final = (AddRoute, ReplaceRoute, DeleteRoute)
"""For isinstance, which is slow with the former."""

KernelAction: TypeAlias = (
    AddLink
    | AdoptLink
    | SetLinkUp
    | SetMtu
    | SetMacvlanMode
    | DeleteLink
    | SetSysctl
    | AddAddress
    | DeleteAddress
    | RouteAction
    | AddPolicyRule
    | DeletePolicyRule
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a part of the wish cannot be planned now. ``reason`` is CamelCase, as conditions want it."""

    reason: str
    message: str
    route: DesiredRoute | None = None
    """The route concerned, or None when link or address cannot be had."""


@dataclass(frozen=True, slots=True)
class KernelPlan:
    actions: tuple[KernelAction, ...] = ()
    problems: tuple[Problem, ...] = ()
    placed: tuple[tuple[DesiredRoute, str], ...] = ()
    """Routes that the kernel has already as wished, each with its device name (the first of several)."""
