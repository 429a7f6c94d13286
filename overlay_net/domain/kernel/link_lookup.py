"""Finds the link of a gateway, and why a link cannot carry traffic."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import islice
from typing import Final

from overlay_net.model.kernel import Desired, Link, Observed
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.node_report import LINK_DOWN

GATEWAY_NOT_ON_LINK: Final = "GatewayNotOnLink"
_FIX: Final = "correct the gateway, bring up its link, or set onLink: true if it is directly reachable"

STACKED: Final = frozenset({"macvlan", "macvtap", "ipvlan", "ipvtap", "vlan", "macsec"})
"""Kinds of links whose frames leave through their parent. For others, IFLA_LINK is something else: the peer of a veth,
or the link that a tunnel is bound to."""

MOST_LAYERS: Final = 8
"""Maximum nesting of links in the kernel (MAX_NEST_DEV in linux/netdevice.h)."""

LINK_LOCAL: Final = ip_network("fe80::/64")


def with_links_below(link: Link, links: Mapping[int, Link]) -> Iterator[Link]:
    """Yield the link and those through which its frames leave, from top to bottom. ``links``: all of them, by index."""
    below: Link | None = link
    for _ in range(MOST_LAYERS + 1):
        if below is None:
            return
        yield below
        below = links.get(below.parent) if below.parent is not None and below.kind in STACKED else None


def find_fault(link: Link, links: Mapping[int, Link], *, repaired: bool = False) -> str:
    """Return why a link cannot carry traffic, or an empty string. The lowest link that is the cause is named.

    ``repaired``: the plan brings this link up, so only the links below it count. Not every driver takes the carrier
    from a link above when the parent is down, so the parents are checked as well.
    """
    own = "" if repaired and not link.up else _own_fault(link)
    fault = f"{link.name} {own}" if own else ""
    relation = "the parent of"
    for below in islice(with_links_below(link, links), 1, None):
        if _own_fault(below):
            fault = f"{below.name}, {relation} {link.name}, {_own_fault(below)}"
        relation = "below"
    return fault


def _own_fault(link: Link) -> str:
    return link.obstacle if link.up else "is down"


@dataclass(frozen=True, slots=True)
class Reach:
    """The link on which a gateway is directly reachable, and why it cannot be used."""

    link: Link | None
    fault: str = ""
    """LINK_DOWN or GATEWAY_NOT_ON_LINK; empty: the link can carry traffic."""
    message: str = ""
    on_link: bool = False
    """No subnet of the link contains the gateway."""

    @property
    def accepted(self) -> bool:
        """Whether the kernel accepts a route over the link: it must be up, or about to be brought up by the plan."""
        return self.link is not None and (self.link.up or not self.fault)


class LinkLookup:
    """Finds the link on which an address is directly reachable: that of the most specific subnet.

    Among equals a link that can carry traffic is preferred, then the overlay link: a foreign link in the overlay subnet
    must not attract our routes.
    """

    def __init__(self, desired: Desired, observed: Observed, overlay: Link | None) -> None:
        """``overlay`` is the overlay link, if it exists."""
        self._links = {each.index: each for each in observed.links}
        self._overlay = overlay
        # The plan brings our own link up, and sets its address, before any route.
        self._repairs_overlay = desired.link is not None and desired.link.kind != "address"
        self._off_link = overlay or observed.find_link(desired.interface)
        subnets: set[tuple[IpNetwork, int]] = {
            (each.interface.network, each.link)
            for each in observed.address_index.with_neighbours
            if each.link in self._links
        }
        if overlay is not None and desired.address is not None:
            subnets.add((desired.address.network, overlay.index))
            if desired.address.version == 6:
                # It exists while the link is up, and a link-local gateway must not be found on another link meanwhile.
                subnets.add((LINK_LOCAL, overlay.index))
        self._faults = {index: self._find_fault(self._links[index]) for index in {index for _, index in subnets}}
        self._subnets = sorted(subnets, key=self._order)
        self._found: dict[IpAddress, Reach | None] = {}

    def find(self, gateway: IpAddress, *, on_link: bool = False) -> Reach:
        """``on_link``: a gateway that no subnet contains is on the overlay link, or else on the private interface."""
        if gateway not in self._found:
            index = next((link for subnet, link in self._subnets if gateway in subnet), None)
            self._found[gateway] = self.reach(self._links[index]) if index is not None else None
        found = self._found[gateway]
        if found is not None:
            return found
        if on_link and self._off_link is not None:
            return self.reach(self._off_link, on_link=True)
        return Reach(None, GATEWAY_NOT_ON_LINK, f"{gateway} is in no subnet of this node's links; {_FIX}")

    def reach(self, link: Link, *, on_link: bool = False) -> Reach:
        """Return whether this link can be used."""
        message = self._find_fault(link)
        return Reach(link, LINK_DOWN if message else "", message, on_link)

    def _find_fault(self, link: Link) -> str:
        """Return why a link cannot carry traffic, or an empty string."""
        is_overlay = self._overlay is not None and link.index == self._overlay.index
        return find_fault(link, self._links, repaired=is_overlay and self._repairs_overlay)

    def _order(self, subnet: tuple[IpNetwork, int]) -> tuple[int, bool, bool, int]:
        network, index = subnet
        # Each link has its own link-local subnet: another one is no substitute.
        faulty = bool(self._faults[index]) and network != LINK_LOCAL
        is_overlay = self._overlay is not None and index == self._overlay.index
        return -network.prefixlen, faulty, not is_overlay, index
