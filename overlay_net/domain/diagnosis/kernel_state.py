"""The kernel of a node, from the answer of `overlay-net node-state`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import collapse_addresses
from typing import Final

from overlay_net.domain.diagnosis.snapshot import Snapshot, known
from overlay_net.model.api import JsonObject
from overlay_net.model.names import LINK_ALIAS
from overlay_net.model.net import IpInterface, IpNetwork
from overlay_net.model.parse import find_object, find_objects, find_texts, parse_interface, parse_network, parse_text

MAIN_TABLE: Final = 254
POD_LINKS: Final = frozenset({"veth", "bridge", "openvswitch"})
"""Kinds of links behind which CNIs have pods."""


@dataclass(frozen=True, slots=True)
class KernelState:
    node: str
    state: JsonObject

    @property
    def links(self) -> dict[str, JsonObject]:
        return {parse_text(each.get("name")): each for each in find_objects(self.state, "links")}

    @property
    def overlay_link(self) -> JsonObject | None:
        return next((each for each in self.links.values() if each.get("alias") == LINK_ALIAS), None)

    @property
    def overlay_name(self) -> str:
        """The name of the link with the overlay address; with ``link_mode: address``, that is the private one."""
        link = self.overlay_link
        names = [link.get("name")] if link is not None else [each.get("link") for each in self._marked_addresses]
        return parse_text(next(iter(names), None))

    @property
    def overlay_addresses(self) -> Sequence[IpInterface]:
        found = self._marked_addresses
        if self.overlay_link is not None:
            addresses = find_objects(self.state, "addresses")
            found = [each for each in addresses if each.get("link") == self.overlay_name]
        return [each for each in (parse_interface(each.get("address")) for each in found) if each is not None]

    @property
    def _marked_addresses(self) -> Sequence[JsonObject]:
        """Addresses with the protocol of the routes whose source they are: both have the ownership mark."""
        routes = find_objects(self.state, "routes")
        sources = {(each.get("source"), each.get("protocol")) for each in routes if each.get("gateways")}
        return [
            each
            for each in find_objects(self.state, "addresses")
            if each.get("protocol") and (parse_text(each.get("address")).split("/")[0], each["protocol"]) in sources
        ]

    @property
    def parent(self) -> JsonObject | None:
        link = self.overlay_link
        return self.links.get(parse_text(link.get("parent"))) if link is not None else None

    def rp_filter(self, link: str) -> int:
        """Return the value that the kernel uses: the maximum of that for all links and that of the link."""
        sysctls = find_object(self.state, "sysctls")
        values = (parse_text(sysctls.get(f"{each}.rp_filter")) for each in ("all", link))
        return max(int(value) if value.isdigit() else 0 for value in values)

    @property
    def subnets(self) -> Sequence[IpNetwork]:
        """The destinations of routes over the overlay link, but the overlay subnet."""
        name, found = self.overlay_name, []
        sources = {str(each.ip) for each in self.overlay_addresses}
        for route in find_objects(self.state, "routes"):
            subnet = parse_network(route.get("subnet"))
            is_ours = self.overlay_link is not None or route.get("source") in sources
            if subnet and subnet.prefixlen and route.get("gateways") and name in _links(route) and is_ours:
                found.append(subnet)
        return found

    @property
    def pods(self) -> Sequence[IpNetwork]:
        """Subnets and addresses behind links of the kinds that CNIs create for pods."""
        routes = [each for each in find_objects(self.state, "routes") if each.get("table") == MAIN_TABLE]
        uplinks = {link for each in routes if each.get("subnet") in ("0.0.0.0/0", "::/0") for link in _links(each)}
        uplinks |= {self.overlay_name, parse_text((self.parent or {}).get("name"))}
        kinds = {name: each.get("kind") for name, each in self.links.items() if name not in uplinks}
        subnets = [
            parse_network(each.get("subnet"))
            for each in routes
            if "type" not in each and "gateways" not in each and {kinds.get(link) for link in _links(each)} & POD_LINKS
        ]
        found = [each for each in subnets if each is not None and not each.is_link_local and not each.is_multicast]
        return [
            *collapse_addresses(each for each in found if each.version == 4),
            *collapse_addresses(each for each in found if each.version == 6),
        ]


def _links(route: JsonObject) -> tuple[str, ...]:
    return find_texts(route, "links")


def find_kernels(snapshot: Snapshot) -> Iterator[KernelState]:
    """Yield the kernels of the snapshot. Raises NotRead."""
    for node, reading in snapshot.kernels.items():
        yield KernelState(node, known(reading))
