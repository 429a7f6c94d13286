"""Selects the parent interface of the overlay link on this node, as specified by the setting.

The interface is selected on every observation of the kernel, because it may appear, disappear and come back.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import TypeAlias

from overlay_net.domain.kernel.ownership import owns_link, owns_route
from overlay_net.domain.kernel.stacked_link import lies_on
from overlay_net.model.kernel import Link, Observed, OwnershipMark
from overlay_net.model.net import IpAddress
from overlay_net.model.route import MAIN_TABLE, Route

LOOPBACK = "lo"


@dataclass(frozen=True, slots=True)
class ByName:
    """Selects by the first pattern that matches a name of an interface, e.g. ``eth1``, ``bond*``.

    An interface may have alternative names besides its name.
    """

    patterns: tuple[str, ...]

    def __str__(self) -> str:
        return ",".join(self.patterns)


@dataclass(frozen=True, slots=True)
class ByRoute:
    """Selects the interface of the node's own route to an address."""

    address: IpAddress


@dataclass(frozen=True, slots=True)
class ByAddress:
    """Selects the interface with the address."""

    address: IpAddress


InterfaceSelector: TypeAlias = ByName | ByRoute | ByAddress


def interface_selector(text: str, node_ip: IpAddress | None) -> InterfaceSelector:
    """Parse ``eth0``, ``eth1,bond*,en*``, ``route:10.0.0.1`` or ``node-ip``. Raises ValueError with valid values."""
    if text == "node-ip":
        if node_ip is None:
            raise ValueError("must not be node-ip without the setting node_ip, the node's InternalIP")
        return ByAddress(node_ip)
    if text.startswith("route:"):
        try:
            return ByRoute(ip_address(text.removeprefix("route:")))
        except ValueError:
            raise ValueError("must be an address after route:, such as route:10.0.0.1") from None
    patterns = tuple(part.strip() for part in text.split(","))
    for pattern in patterns:
        # Names that the kernel accepts (dev_valid_name in net/core/dev.c; ALTIFNAMSIZ), and characters of patterns.
        if pattern in {".", ".."} or not re.fullmatch(r"[^/:\s]{1,127}", pattern):
            raise ValueError(
                "must be interface names of 1 to 15 characters, or alternative names of up to 127, without slash, "
                "colon or space, or patterns such as bond*, separated by commas; or route:ADDRESS; or node-ip"
            )
    return ByName(patterns)


def choose_parent(
    selector: InterfaceSelector, observed: Observed, mark: OwnershipMark, overlay_link: str
) -> str | None:
    """Return the name of the interface; None if no interface matches.

    Managed links and any link with the name of the overlay link are never selected.
    """
    links = [link for link in observed.links if not owns_link(link, mark) and link.name != overlay_link]
    match selector:
        case ByName(patterns):
            return _find_by_name(patterns, links, lambda matching: _current(matching, observed, mark, overlay_link))
        case ByRoute(address):
            found = _find_by_route(address, links, observed.routes, mark)
            current = {link.name: link for link in _current(links, observed, mark, overlay_link)}
            return found if found in current else _find_down(current.values()) or found
        case ByAddress(address):
            with_address = {each.link for each in observed.address_index.at(address)}
            return next((link.name for link in links if link.index in with_address), None)


def explain_missing(selector: InterfaceSelector) -> str:
    """Return the message for a node without a matching interface."""
    match selector:
        case ByName((single,)) if not re.search(r"[*?\[]", single):
            return f"interface {single} does not exist on this node"
        case ByName():
            return f"no interface of this node matches {selector}"
        case ByRoute(address):
            return f"the kernel has no route to {address}, so the interface is unknown"
        case ByAddress(address):
            return f"no interface of this node has the address {address}"


def _current(candidates: Iterable[Link], observed: Observed, mark: OwnershipMark, overlay_link: str) -> list[Link]:
    """Return the candidates that may be the present parent.

    That is the one that the overlay link lies on, or one with an address with our mark. An overlay link that was
    created on a link of its own kind lies on the link below: then all candidates on that link are returned.
    """
    overlay = observed.find_link(overlay_link)
    if overlay is not None and owns_link(overlay, mark) and (overlay.parent, overlay.outside) != (None, None):
        below = [link for link in candidates if lies_on(overlay, link)]
        return [link for link in below if link.index == overlay.parent] or below
    index = _link_with_mark(observed, mark)
    return [link for link in candidates if link.index == index]


def _link_with_mark(observed: Observed, mark: OwnershipMark) -> int | None:
    """Return the index of a foreign link with an address with our mark (link_mode ``address``)."""
    managed = {link.index for link in observed.links if owns_link(link, mark)}
    marked = (each for each in observed.address_index.marked(mark.protocol) if each.link not in managed)
    return next((address.link for address in marked), None)


def _find_by_name(
    patterns: tuple[str, ...], links: Iterable[Link], current: Callable[[Iterable[Link]], list[Link]]
) -> str | None:
    candidates = [link for link in links if link.name != LOOPBACK]
    for pattern in patterns:
        matching = [link for link in candidates if any(fnmatchcase(name, pattern) for name in link.names)]
        if matching:
            kept = current(matching)
            # Keep the current interface even if it is down, because it may only be flapping.
            return min(matching, key=lambda link: (link not in kept, not link.up, link.index)).name
    return None


def _find_down(current: Iterable[Link]) -> str | None:
    """Return the current interface if it is down.

    The kernel removes the routes of an interface that is down. The default route then points to another network, which
    is not that of the overlay.
    """
    return next((link.name for link in current if not link.up), None)


def _find_by_route(
    address: IpAddress, links: Iterable[Link], routes: Iterable[Route], mark: OwnershipMark
) -> str | None:
    names = {link.index: link.name for link in links if link.name != LOOPBACK}
    candidates = [
        route
        for route in routes
        # Ignore our own routes: they use the overlay, so they depend on the result.
        if not owns_route(route, mark)
        and route.table == MAIN_TABLE
        and address in route.subnet
        and route.next_hops
        and route.next_hops[0].link in names
    ]
    best = min(candidates, key=lambda route: (-route.subnet.prefixlen, route.metric), default=None)
    return names[best.next_hops[0].link] if best else None
