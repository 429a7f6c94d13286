"""Adoption of routes of an earlier operator, and what a person can do about a route of an unknown owner."""

from collections.abc import Iterable, Iterator, Mapping

from overlay_net.model.adoptable_route import AdoptableRoute
from overlay_net.model.kernel import Link
from overlay_net.model.route import MAIN_TABLE, NextHop, Route
from overlay_net.model.route_key import IPV6_DEFAULT_METRIC, decode_metric, decode_table

UNCLAIMED = {3: "boot", 4: "static"}
"""Protocols that no daemon claims (rtnetlink.h, RTPROT_BOOT and RTPROT_STATIC): ``ip route add`` sets the first."""


def find_adopted(adoptable: Iterable[AdoptableRoute], routes: Iterable[Route], link: Link | None) -> Iterator[Route]:
    """Yield the routes of the kernel that are managed from now on, because ``adoptable`` proves whose they are.

    ``link`` is the overlay link. Of two routes with one key the kernel would replace the first, so neither is adopted.
    """
    proven = {each.key: each for each in adoptable}
    found: dict[int, list[Route]] = {}
    for route in routes if proven else ():
        if route.key in proven:
            found.setdefault(route.key, []).append(route)
    for key, candidates in found.items():
        if len(candidates) == 1 and _is_proven(candidates[0], proven[key], link):
            yield candidates[0]


def _is_proven(route: Route, proof: AdoptableRoute, link: Link | None) -> bool:
    """Return whether this is the recorded route: on the overlay link, or through the recorded gateway."""
    device = link.index if link is not None and link.name == proof.device else None
    return (
        route.kind == "unicast"
        and route.protocol in UNCLAIMED
        and bool(route.next_hops)
        and all(
            hop.link == device or (hop.gateway is not None and hop.gateway == proof.gateway) for hop in route.next_hops
        )
    )


def explain_foreign(ours: Route, foreign: Route, links: Mapping[int, str]) -> str:
    """Return the message, without the destination, about a route in the place of ours; ``links``: names by index."""
    name = UNCLAIMED.get(foreign.protocol, "")
    protocol = f"{foreign.protocol} ({name})" if name else str(foreign.protocol)
    message = f"there is already a route of protocol {protocol} that is not managed by us"
    if not name:
        return f"{message}; remove it where it is configured, or set another metric"
    same = (foreign.next_hops, foreign.kind) == (ours.next_hops, ours.kind)
    if not same or len(ours.next_hops) != 1 or ours.next_hops[0].link not in links:
        return f"{message}; delete it, or set another metric"
    return f"{message}; to hand it over without a gap, run: {_handover(ours, ours.next_hops[0], links)}"


def _handover(ours: Route, hop: NextHop, links: Mapping[int, str]) -> str:
    """Return the command that gives the route in the kernel our protocol number."""
    parts = [f"ip route change {ours.subnet}"]
    if hop.gateway is not None:
        family = "inet6 " if hop.gateway.version > ours.subnet.version else ""
        parts.append(f"via {family}{hop.gateway}")
    parts.append(f"dev {links[hop.link]}")
    metric, table = decode_metric(ours.key), decode_table(ours.key)
    if metric and not (ours.subnet.version == 6 and metric == IPV6_DEFAULT_METRIC):
        parts.append(f"metric {metric}")
    if table != MAIN_TABLE:
        parts.append(f"table {table}")
    parts.append(f"proto {ours.protocol}")
    return " ".join((*parts, "onlink")) if hop.on_link else " ".join(parts)
