"""The interface below the overlay link: from what a person wrote to the name of one link of this node.

It is chosen anew from every look at the kernel: an interface may appear, vanish, and come back.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import TypeAlias

from overlay_net.domain.kernel.ownership import owns_link, owns_route
from overlay_net.model.kernel import Link, Observed, OwnershipMark
from overlay_net.model.net import IpAddress
from overlay_net.model.route import MAIN_TABLE, Route

LOOPBACK = "lo"


@dataclass(frozen=True, slots=True)
class ByName:
    """The first pattern that any interface fits wins, e.g. ``eth1``, ``bond*``."""

    patterns: tuple[str, ...]

    def __str__(self) -> str:
        return ",".join(self.patterns)


@dataclass(frozen=True, slots=True)
class ByRoute:
    """The interface of the kernel's own route to an address."""

    address: IpAddress


@dataclass(frozen=True, slots=True)
class ByAddress:
    """The interface that has the address."""

    address: IpAddress


InterfaceSelector: TypeAlias = ByName | ByRoute | ByAddress


def interface_selector(text: str, node_ip: IpAddress | None) -> InterfaceSelector:
    """``eth0``, ``eth1,bond*,en*``, ``route:10.0.0.1`` or ``node-ip``. Raises ValueError with what is allowed."""
    if text == "node-ip":
        if node_ip is None:
            raise ValueError("node-ip needs the setting node_ip, the node's InternalIP")
        return ByAddress(node_ip)
    if text.startswith("route:"):
        try:
            return ByRoute(ip_address(text.removeprefix("route:")))
        except ValueError:
            raise ValueError("must be an address after route:, such as route:10.0.0.1") from None
    patterns = tuple(part.strip() for part in text.split(","))
    for pattern in patterns:
        # What the kernel takes as a name (dev_valid_name in net/core/dev.c), and the characters of patterns.
        if pattern in {".", ".."} or not re.fullmatch(r"[^/:\s]{1,15}", pattern):
            raise ValueError(
                "must be interface names of 1 to 15 characters without slash, colon or space, or patterns such as "
                "bond*, separated by commas; or route:ADDRESS; or node-ip"
            )
    return ByName(patterns)


def choose_parent(rule: InterfaceSelector, observed: Observed, mark: OwnershipMark, overlay_link: str) -> str | None:
    """The name of the interface, or None where this node has none that fits now.

    Links of ours, and whatever has the overlay link's name, are never chosen.
    """
    links = [link for link in observed.links if not owns_link(link, mark) and link.name != overlay_link]
    present = _present_parent(observed, mark, overlay_link)
    match rule:
        case ByName(patterns):
            return _named(patterns, links, present)
        case ByRoute(address):
            kept = next((link for link in links if link.index == present), None)
            if kept is not None and not kept.up:
                # Its routes are away only as long as it is down. What the default route says meanwhile is another
                # network, where the overlay has no business.
                return kept.name
            return _routed(address, links, observed.routes, mark)
        case ByAddress(address):
            having = {each.link for each in observed.addresses if each.interface.ip == address}
            return next((link.name for link in links if link.index in having), None)


def why_missing(rule: InterfaceSelector) -> str:
    """The sentence for a node where nothing fits."""
    match rule:
        case ByName((single,)) if not re.search(r"[*?\[]", single):
            return f"interface {single} does not exist on this node"
        case ByName():
            return f"no interface of this node fits {rule}"
        case ByRoute(address):
            return f"the kernel has no route to {address}, so the interface is not known"
        case ByAddress(address):
            return f"no interface of this node has its address {address}"


def _present_parent(observed: Observed, mark: OwnershipMark, overlay_link: str) -> int | None:
    """Index of the interface that is in use now: below our link, or with an address that carries our mark."""
    mine = {link.index: link for link in observed.links if owns_link(link, mark)}
    below = next((link.parent for link in mine.values() if link.name == overlay_link), None)
    marked = (each.link for each in observed.addresses if each.protocol == mark.protocol and each.link not in mine)
    return below if below is not None else next(marked, None)


def _named(patterns: tuple[str, ...], links: Iterable[Link], present: int | None) -> str | None:
    for pattern in patterns:
        fitting = [link for link in links if link.name != LOOPBACK and fnmatchcase(link.name, pattern)]
        if fitting:
            # Among equals the one in use stays, also while it is down: moving would cut what may only flap.
            return min(fitting, key=lambda link: (link.index != present, not link.up, link.index)).name
    return None


def _routed(address: IpAddress, links: Iterable[Link], routes: Iterable[Route], mark: OwnershipMark) -> str | None:
    names = {link.index: link.name for link in links if link.name != LOOPBACK}
    around = [
        route
        for route in routes
        # Ours lead through the overlay: they follow from the answer.
        if not owns_route(route, mark)
        and route.table == MAIN_TABLE
        and address in route.subnet
        and route.next_hops
        and route.next_hops[0].link in names
    ]
    best = min(around, key=lambda route: (-route.subnet.prefixlen, route.metric), default=None)
    return names[best.next_hops[0].link] if best else None
