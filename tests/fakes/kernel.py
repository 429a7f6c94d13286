"""A kernel in memory that refuses the same actions as Linux, and drops dependent objects as Linux does.

tests/contract/test_kernel.py checks it against the real one.
"""

import errno
from dataclasses import replace

from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Address, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import (
    AddAddress,
    AddLink,
    AddLocalRoute,
    AddRoute,
    AdoptLink,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    KernelAction,
    ReplaceRoute,
    RouteAction,
    SetLinkGroup,
    SetLinkUp,
    SetMacvlanMode,
    SetMtu,
    SetSysctl,
)
from overlay_net.model.policy_rule import AddPolicyRule, DeletePolicyRule
from overlay_net.model.route import RTPROT_KERNEL, NextHop, Route


class FakeKernel:
    def __init__(self, mark: OwnershipMark, observed: Observed) -> None:
        self.mark = mark
        self.links = {link.index: link for link in observed.links}
        self.addresses = list(observed.addresses)
        self.routes = list(observed.routes)
        self.sysctls = dict(observed.sysctls)
        self.rules = list(observed.rules)
        self._next = max(self.links, default=0) + 1

    def observe(self, awaited: AwaitedRoutes | None = None) -> Observed:
        """``awaited``: the routes of other processes that are observed; None: all of them."""
        routes = self.routes
        if awaited is not None:
            routes = [each for each in routes if each.protocol == self.mark.protocol or awaited.needs(each)]
        return Observed(
            links=tuple(self.links.values()),
            addresses=tuple(self.addresses),
            routes=tuple(routes),
            sysctls=dict(self.sysctls),
            rules=tuple(self.rules),
        )

    def apply(self, action: KernelAction) -> None:
        """Raises KernelError with the errno of Linux."""
        match action:
            case AddLink():
                self._add_link(action)
            case AdoptLink() | SetMtu() | SetMacvlanMode() | SetLinkGroup():
                self._change_link(action)
            case SetLinkUp(name):
                link = self._named(name)
                self._check_mac(link)
                self.set_up(link)
            case DeleteLink(index, _):
                self.delete_link(index)
            case SetSysctl(link, key, value):
                self._named(link)
                self.sysctls[link, key] = value
            case AddAddress(name, interface, metric):
                self.add_address(Address(self._named(name).index, interface, self.mark.protocol, metric=metric))
            case AddLocalRoute(name, interface):
                index = self._named(name).index
                self.addresses = [
                    replace(a, has_local_route=True) if (a.link, a.interface) == (index, interface) else a
                    for a in self.addresses
                ]
            case DeleteAddress(name, interface):
                self.delete_address(self._named(name).index, interface)
            case AddRoute() | ReplaceRoute() | DeleteRoute():
                self._change_routes(action)
            case AddPolicyRule() | DeletePolicyRule():
                self._change_rules(action)

    def add_address(self, address: Address) -> None:
        """Add it behind the others of its link, or change mark and metric of an existing one in its place."""
        for position, each in enumerate(self.addresses):
            if (each.link, each.interface) == (address.link, address.interface):
                self.addresses[position] = address
                if each.metric != address.metric:
                    self._connect(address)
                    self.routes = [a for a in self.routes if a != self._connected(each)]
                return
        self.addresses.append(address)
        self._connect(address)

    def _change_routes(self, action: RouteAction) -> None:
        match action:
            case AddRoute(route):
                self._check(route)
                if any(each.key == route.key for each in self.routes):
                    raise KernelError("exists", code=errno.EEXIST)
                self.routes.append(route)
            case ReplaceRoute(route):
                self._check(route)
                self._replace_route(route)
            case DeleteRoute(route):
                found = next((each for each in self.routes if _matches(each, route)), None)
                if found is not None:
                    self.routes.remove(found)

    def _replace_route(self, route: Route) -> None:
        """Replace the first route with that key, whatever its protocol, as Linux does."""
        same_key = [index for index, each in enumerate(self.routes) if each.key == route.key]
        if any(self.routes[index] == route for index in same_key[1:]):
            raise KernelError("exists", code=errno.EEXIST)
        if same_key:
            self.routes[same_key[0]] = route
        else:
            self.routes.append(route)

    def _change_rules(self, action: AddPolicyRule | DeletePolicyRule) -> None:
        match action:
            case AddPolicyRule(rule):
                # The protocol is part of the rule: the same rule may exist with two protocols.
                if rule not in self.rules:
                    self.rules.append(rule)
                    self.rules.sort(key=lambda each: each.priority)
            case DeletePolicyRule(rule):
                self.rules = [each for each in self.rules if each != rule]

    def _check_mac(self, link: Link) -> None:
        for other in self.links.values():
            is_sibling = other.index != link.index and (other.kind, other.parent) == ("macvlan", link.parent)
            if is_sibling and link.kind == "macvlan" and other.up and link.mac and other.mac == link.mac:
                raise KernelError("Address already in use", code=errno.EADDRINUSE)

    def set_up(self, link: Link) -> None:
        self.links[link.index] = replace(link, up=True)
        for address in self.addresses:
            if address.link == link.index:
                self._connect(address)

    def set_down(self, index: int) -> None:
        """The kernel drops the link's routes without a notification."""
        self.links[index] = replace(self.links[index], up=False)
        self._drop_routes_over(index)

    def delete_link(self, index: int) -> None:
        if self.links.pop(index, None) is None:
            return
        for child in [link.index for link in self.links.values() if link.parent == index]:
            self.delete_link(child)
        self.addresses = [address for address in self.addresses if address.link != index]
        self._drop_routes_over(index)

    def _drop_routes_over(self, index: int) -> None:
        self.routes = [route for route in self.routes if all(hop.link != index for hop in route.next_hops)]

    def _add_link(self, action: AddLink) -> None:
        if any(link.name == action.name for link in self.links.values()):
            raise KernelError("exists", code=errno.EEXIST)
        parent = self._named(action.parent)
        macvlan = action.kind == "macvlan"
        # On a link of its own kind, Linux attaches the new one to the link below.
        stacked = parent.kind == action.kind
        self.links[self._next] = Link(
            self._next,
            action.name,
            action.kind,
            parent.parent if stacked else parent.index,
            self.mark.alias,
            up=False,
            mtu=parent.mtu,
            mac=(action.mac or f"02:00:00:00:00:{self._next:02x}") if macvlan else parent.mac,
            mode=action.mode if macvlan else "",
            outside=parent.outside if stacked else None,
        )
        self._next += 1

    def _change_link(self, action: AdoptLink | SetMtu | SetMacvlanMode | SetLinkGroup) -> None:
        link = self._named(action.name)
        match action:
            case AdoptLink():
                self.links[link.index] = replace(link, alias=self.mark.alias)
            case SetMtu(_, mtu):
                self.links[link.index] = replace(link, mtu=mtu)
            case SetLinkGroup(_, group):
                self.links[link.index] = replace(link, group=group)
            case SetMacvlanMode(_, mode):
                self.links[link.index] = replace(link, mode=mode)

    def _named(self, name: str) -> Link:
        for link in self.links.values():
            if link.name == name:
                return link
        raise KernelError(f"no link {name}", code=errno.ENODEV)

    def _connect(self, address: Address) -> None:
        """Add the kernel's own route to the subnet of an address, if the link is up."""
        network = address.interface.network
        if not self.links[address.link].up or network.prefixlen == network.max_prefixlen:
            return
        same = [a for a in self.addresses if a.link == address.link and a.interface.network == network]
        if network.version == 6 or same[0] == address:
            self.routes.append(self._connected(address))

    def _connected(self, address: Address) -> Route:
        """Of one subnet on two links, the kernel has two routes; it uses the first (fib_magic, NLM_F_APPEND)."""
        network, v4 = address.interface.network, address.interface.version == 4
        source, metric = (address.interface.ip, address.metric) if v4 else (None, address.metric or 256)
        return Route(network, (NextHop(None, address.link),), RTPROT_KERNEL, metric, source)

    def delete_address(self, index: int, interface: object) -> None:
        deleted = [a for a in self.addresses if (a.link, a.interface) == (index, interface)]
        self.addresses = [a for a in self.addresses if a not in deleted]
        for address in deleted:
            self._drop_routes_from(address)
            self._reconnect(address)

    def _drop_routes_from(self, address: Address) -> None:
        ip = address.interface.ip
        if all(each.interface.ip != ip for each in self.addresses):
            # Routes whose gateway was in the subnet stay: the kernel checks only sources (fib_sync_down_addr).
            self.routes = [route for route in self.routes if route.source != ip]

    def _reconnect(self, deleted: Address) -> None:
        """Restore the kernel's own route to the subnet with another address of it as the source, or remove it."""
        network = deleted.interface.network
        remaining = [a for a in self.addresses if a.link == deleted.link and a.interface.network == network]
        for each in remaining:
            self._connect(each)
        if not remaining:
            self.routes = [each for each in self.routes if (each.protocol, each.subnet) != (RTPROT_KERNEL, network)]

    def _check(self, route: Route) -> None:
        if (route.kind == "unicast") != bool(route.next_hops):
            raise KernelError(f"{len(route.next_hops)} next hops in a route of kind {route.kind}", code=errno.EINVAL)
        for hop in route.next_hops:
            link = self.links.get(hop.link)
            if link is None:
                raise KernelError("no such link", code=errno.ENODEV)
            if not link.up:
                raise KernelError("link is down", code=errno.ENETDOWN)
            subnets = [address.interface.network for address in self.addresses if address.link == hop.link]
            on_link = hop.on_link or hop.gateway is None or hop.gateway.is_link_local
            if not on_link and not any(hop.gateway in subnet for subnet in subnets):
                raise KernelError("gateway is unreachable", code=errno.ENETUNREACH)
        if route.source is not None and all(address.interface.ip != route.source for address in self.addresses):
            raise KernelError("source is not local", code=errno.EINVAL)


def _matches(route: Route, deleted: Route) -> bool:
    """Return whether Linux deletes ``route``: it compares the next hop, unless there are several."""
    if (route.key, route.protocol) != (deleted.key, deleted.protocol):
        return False
    return len(deleted.next_hops) != 1 or route.next_hops == deleted.next_hops
