"""Checks of the kernel of a node, from the answer of `overlay-net node-state`."""

from collections.abc import Iterator
from typing import Final

from overlay_net.domain.diagnosis.finding import PROBLEM, WARNING, Finding
from overlay_net.domain.diagnosis.kernel_state import KernelState, find_kernels
from overlay_net.domain.diagnosis.reports import check_reported_reverse_path
from overlay_net.domain.diagnosis.snapshot import Snapshot, known
from overlay_net.model.parse import find_objects, parse_int, parse_text

STRICT: Final = 1
UNRESOLVED: Final = frozenset({"FAILED", "INCOMPLETE"})


def check_reverse_path(snapshot: Snapshot) -> Iterator[Finding]:
    yield from check_reported_reverse_path(snapshot)
    for kernel in find_kernels(snapshot):
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


def _has_private_rules(kernel: KernelState) -> bool:
    return any("suppressGroup" in each for each in find_objects(kernel.state, "rules"))


def check_mtu(snapshot: Snapshot) -> Iterator[Finding]:
    for kernel in find_kernels(snapshot):
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
    for kernel in find_kernels(snapshot):
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
