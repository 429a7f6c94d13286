"""Checks of the kernel of a node, from the answer of `overlay-net node-state`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from overlay_net.domain.diagnosis.finding import PROBLEM, UNKNOWN, WARNING, Finding
from overlay_net.domain.diagnosis.reports import check_reported_reverse_path
from overlay_net.domain.diagnosis.snapshot import Snapshot, known
from overlay_net.model.api import JsonObject
from overlay_net.model.names import LINK_ALIAS
from overlay_net.model.net import IpNetwork
from overlay_net.model.parse import find_object, find_objects, parse_int, parse_interface, parse_network, parse_text

STRICT: Final = 1
UNRESOLVED: Final = frozenset({"FAILED", "INCOMPLETE"})


@dataclass(frozen=True, slots=True)
class _Kernel:
    node: str
    state: JsonObject

    @property
    def links(self) -> dict[str, JsonObject]:
        return {parse_text(each.get("name")): each for each in find_objects(self.state, "links")}

    @property
    def overlay_link(self) -> JsonObject | None:
        return next((each for each in self.links.values() if each.get("alias") == LINK_ALIAS), None)

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
        link = self.overlay_link
        name = parse_text(link.get("name")) if link is not None else ""
        found = []
        for route in find_objects(self.state, "routes"):
            subnet = parse_network(route.get("subnet"))
            if subnet is not None and subnet.prefixlen and route.get("gateways") and name in route.get("links", ()):
                found.append(subnet)
        return found


def _kernels(snapshot: Snapshot) -> Iterator[_Kernel]:
    for node, reading in snapshot.kernels.items():
        yield _Kernel(node, known(reading))


def check_reverse_path(snapshot: Snapshot) -> Iterator[Finding]:
    yield from check_reported_reverse_path(snapshot)
    for kernel in _kernels(snapshot):
        link, parent = kernel.overlay_link or {}, kernel.parent or {}
        name, below = parse_text(link.get("name")), parse_text(parent.get("name"))
        if name and kernel.rp_filter(name) == STRICT:
            what = f"{name} has a strict reverse path filter and drops answers that another link has the route to"
            fix = f"set net.ipv4.conf.{name}.rp_filter to 2, and find what reverts it: the agent sets it, too"
            yield Finding(PROBLEM, what, fix, (kernel.node,))
        if below and kernel.rp_filter(below) == STRICT and kernel.subnets and not _has_private_rules(kernel):
            subnet = kernel.subnets[0]
            what = f"{below} has a strict reverse path filter: the node drops what hosts in {subnet} send to it"
            fix = f"set agent.settings.private_source_routing to true, or net.ipv4.conf.{below}.rp_filter to 2"
            yield Finding(WARNING, what, fix, (kernel.node,))


def _has_private_rules(kernel: _Kernel) -> bool:
    return any("suppressGroup" in each for each in find_objects(kernel.state, "rules"))


def check_mtu(snapshot: Snapshot) -> Iterator[Finding]:
    for kernel in _kernels(snapshot):
        link, parent = kernel.overlay_link, kernel.parent
        if link is None or parent is None:
            continue
        name, mtu, below = parse_text(link.get("name")), parse_int(link.get("mtu")), parse_int(parent.get("mtu"))
        if mtu and below and mtu != below:
            what = f"{name} has an MTU of {mtu}, its parent {parent.get('name')} of {below}"
            fix = f"find what changes the MTU of {name}: the agent sets that of the parent"
            yield Finding(PROBLEM, what, fix, (kernel.node,))
        for route in known(snapshot.static_routes):
            if route.spec.mtu > mtu > 0:
                what = f"StaticRoute {route.name} has an MTU of {route.spec.mtu}, more than the {mtu} of {name}"
                yield Finding(WARNING, what, "lower spec.mtu, or raise the MTU of the private network", (kernel.node,))


def check_neighbours(snapshot: Snapshot) -> Iterator[Finding]:
    """All neighbours of the overlay link are unresolved while some of its parent are not."""
    for kernel in _kernels(snapshot):
        link, parent = kernel.overlay_link, kernel.parent
        if link is None or parent is None:
            continue
        states: dict[str, set[str]] = {}
        for each in find_objects(kernel.state, "neighbours"):
            states.setdefault(parse_text(each.get("link")), set()).add(parse_text(each.get("state")))
        own, below = states.get(parse_text(link.get("name")), set()), states.get(parse_text(parent.get("name")), set())
        if own and own <= UNRESOLVED and below - UNRESOLVED:
            what = f"no neighbour answers on {link.get('name')}, but some do on its parent {parent.get('name')}"
            mac = parse_text(link.get("mac"))
            fix = f"allow the MAC address {mac} at the hypervisor or switch port, or check the VLAN of the pool"
            yield Finding(PROBLEM, what, fix, (kernel.node,))


def check_masquerade(snapshot: Snapshot) -> Iterator[Finding]:
    for kernel in _kernels(snapshot):
        if unread := parse_text(kernel.state.get("natUnread")):
            yield Finding(
                UNKNOWN, f"not all translations were examined: {unread}", "examine them by hand", (kernel.node,)
            )
        yield from _check_rules(kernel)


def _check_rules(kernel: _Kernel) -> Iterator[Finding]:
    for rule, covered in _find_rules(kernel):
        where = f"{parse_text(rule.get('family'))} {parse_text(rule.get('table'))} {parse_text(rule.get('chain'))}"
        text = f"{parse_text(rule.get('text'))} ({where})"
        if rule.get("action") == "snat" and rule.get("target") not in _overlay_addresses(kernel):
            what = f"traffic to {covered} leaves as {rule.get('target')}, not as the overlay address: {text}"
            fix = "exclude the subnets of StaticRoutes from this rule, or let the CNI masquerade instead"
            yield Finding(PROBLEM, what, fix, (kernel.node,))
        elif rule.get("action") in ("return", "accept") and rule.get("destination"):
            what = f"pods reach {covered} with their own addresses, which are not answered: {text}"
            fix = "remove the subnets of StaticRoutes from the ranges that the CNI does not masquerade"
            yield Finding(WARNING, what, fix, (kernel.node,))


def _find_rules(kernel: _Kernel) -> Iterator[tuple[JsonObject, IpNetwork]]:
    """Yield each rule that matches traffic over the overlay link for certain, with a subnet that it is about."""
    subnets, name = kernel.subnets, parse_text((kernel.overlay_link or {}).get("name"))
    for rule in find_objects(kernel.state, "nat"):
        covered = next((each for each in subnets if _covers(rule, each)), None)
        if covered is not None and rule.get("conditional") is not True and rule.get("output") in (None, "", name):
            yield rule, covered


def _overlay_addresses(kernel: _Kernel) -> set[str]:
    link = kernel.overlay_link or {}
    found = (
        parse_interface(each.get("address"))
        for each in find_objects(kernel.state, "addresses")
        if each.get("link") == link.get("name")
    )
    return {str(each.ip) for each in found if each is not None}


def _covers(rule: JsonObject, subnet: IpNetwork) -> bool:
    """Return whether the destination of a rule overlaps the subnet; a rule without one matches every destination."""
    destination = parse_network(rule.get("destination"))
    if destination is None:
        return not rule.get("destination") and parse_text(rule.get("family")) in ("inet", _family(subnet))
    overlaps = destination.version == subnet.version and destination.overlaps(subnet)
    return overlaps != (rule.get("inverted") is True)


def _family(subnet: IpNetwork) -> str:
    return "ip" if subnet.version == 4 else "ip6"
