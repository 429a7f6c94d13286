"""Changes links, addresses and policy rules by calls of pyroute2.

Each is idempotent: an object that already exists or is already deleted is not an error, unless another object of the
same key exists that may not be ours.
"""

import contextlib
import errno
import secrets
import socket
from typing import TypeAlias

from overlay_net.adapters.netlink.bulk.route_messages import RT_TABLE_LOCAL, RTN_LOCAL
from overlay_net.adapters.netlink.bulk.socket import NOT_FOUND
from overlay_net.adapters.netlink.interface_messages import CONNECTED_METRICS
from overlay_net.adapters.netlink.interfaces import require_link
from overlay_net.adapters.netlink.iproute import IpRoute
from overlay_net.adapters.netlink.policy_rules import rule_attributes
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import OwnershipMark
from overlay_net.model.kernel_actions import (
    AddAddress,
    AddLink,
    AddLocalRoute,
    AdoptLink,
    DeleteAddress,
    DeleteLink,
    SetLinkGroup,
    SetLinkUp,
    SetMacvlanMode,
    SetMtu,
)
from overlay_net.model.net import IpInterface
from overlay_net.model.policy_rule import AddPolicyRule, DeletePolicyRule
from overlay_net.model.route import RTPROT_KERNEL

LinkAction: TypeAlias = AddLink | AdoptLink | SetLinkUp | SetMtu | SetMacvlanMode | SetLinkGroup | DeleteLink
Change: TypeAlias = LinkAction | AddAddress | DeleteAddress | AddLocalRoute | AddPolicyRule | DeletePolicyRule

IPVLAN_MODE_L2 = 0
"""In this mode the link answers ARP, unlike in L3, the default (networking/ipvlan.rst)."""
RT_SCOPE_HOST = 254
EXISTS = frozenset({errno.EEXIST})


def change(route: IpRoute, action: Change, mark: OwnershipMark) -> None:
    """Apply one action. Raises KernelError and OSError."""
    match action:
        case AddAddress(name, interface, metric):
            # "replace" also sets protocol and metric of an address that exists without them. An IPv6 address without
            # the attribute would keep the metric that it has (inet6_addr_modify).
            metric = metric or CONNECTED_METRICS[interface.version]
            own = _address(interface, require_link(route, name))
            route.change("addr", "replace", **own, proto=mark.protocol, rt_priority=metric or None)
        case DeleteAddress(name, interface):
            route.change("addr", "del", NOT_FOUND, **_address(interface, require_link(route, name)))
        case AddLocalRoute(name, interface):
            route.change("route", "add", EXISTS, **_local_route(interface, require_link(route, name)))
        case AddPolicyRule(rule):
            # NLM_F_EXCL, of which "add" is a part, prevents duplicates; rules of another protocol do not count as such.
            route.change("rule", "add", EXISTS, **rule_attributes(rule))
        case DeletePolicyRule(rule):
            route.change("rule", "del", NOT_FOUND, **rule_attributes(rule))
        case _:
            _change_link(route, action, mark)


def _change_link(route: IpRoute, action: LinkAction, mark: OwnershipMark) -> None:
    match action:
        case AddLink():
            _add_link(route, action, mark)
        case AdoptLink(name):
            route.change("link", "set", index=require_link(route, name), ifalias=mark.alias)
        case SetLinkUp(name):
            route.change("link", "set", index=require_link(route, name), state="up")
        case SetMtu(name, mtu):
            route.change("link", "set", index=require_link(route, name), mtu=mtu)
        case SetMacvlanMode(name, mode):
            route.change("link", "set", index=require_link(route, name), kind="macvlan", macvlan_mode=mode)
        case SetLinkGroup(name, group):
            route.change("link", "set", index=require_link(route, name), group=group)
        case DeleteLink(index, _):
            route.change("link", "del", NOT_FOUND, index=index)


def _add_link(route: IpRoute, action: AddLink, mark: OwnershipMark) -> None:
    """Create the link with our group and a name of its own, then set its alias, then its name and the default group.

    So it is marked at every moment, and a link that an interrupted creation leaves is deleted by a later plan. The
    kernel accepts an alias only when a link is changed (do_setlink), not when it is created.
    """
    unfinished = f"{action.name[:8]}.{secrets.token_hex(3)}"
    kind: dict[str, object] = {"kind": "ipvlan", "ipvlan_mode": IPVLAN_MODE_L2}
    if action.kind == "macvlan":
        kind = {"kind": "macvlan", "macvlan_mode": action.mode, "address": action.mac or None}
    parent = require_link(route, action.parent)
    route.change("link", "add", ifname=unfinished, link=parent, group=mark.group, **kind)
    index = require_link(route, unfinished)
    try:
        route.change("link", "set", index=index, ifalias=mark.alias)
        route.change("link", "set", index=index, ifname=action.name, group=0)
    except KernelError:
        with contextlib.suppress(KernelError):
            route.change("link", "del", index=index)
        raise


def _address(interface: IpInterface, link: int) -> dict[str, object]:
    own = str(interface.ip)
    prefix = interface.network.prefixlen
    return {"family": _family(interface), "index": link, "local": own, "address": own, "prefixlen": prefix}


def _local_route(interface: IpInterface, link: int) -> dict[str, object]:
    """The route of table "local" that the kernel derives from an address (fib_add_ifaddr)."""
    own = str(interface.ip)
    key = {"family": _family(interface), "dst": own, "dst_len": interface.max_prefixlen, "table": RT_TABLE_LOCAL}
    return {**key, "type": RTN_LOCAL, "scope": RT_SCOPE_HOST, "proto": RTPROT_KERNEL, "prefsrc": own, "oif": link}


def _family(interface: IpInterface) -> int:
    return socket.AF_INET if interface.version == 4 else socket.AF_INET6
