"""Hands routes of an earlier operator over to the agents: what each may adopt, and until when the proof is kept.

The proof is the entry of the earlier operator in ``StaticRoute.status.nodeStatus``. It goes through three places, and
is in one of them at any time, so a controller that stops in between loses nothing: it stays in ``nodeStatus`` until
``spec.adoptable`` of the node has it; there it stays until the agent has reported that generation with the route in
place; then the route in the kernel has our ownership mark.

An agent deletes an adoptable route that is not desired. Therefore a route is handed over only after the agent has read
the desired route to its subnet, or once its StaticRoute no longer applies to the node. While a StaticRoute is rejected
or held back, the routes of the earlier operator stay as they are.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from typing import Final

from overlay_net.model.adoptable_route import AdoptableRoute, EarlierEntry, adoptable_order
from overlay_net.model.net import IpNetwork
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.static_route import StaticRoute

MAX_ADOPTABLE: Final = 5000
"""Maximum number of routes in ``spec.adoptable`` of a node, about 100 kB; the others follow once these are adopted."""

DECIDED: Final = frozenset({"ForeignRoute", "Shadowed", "GatewaysDown"})
"""Reasons of routes that are not in place although the agent has compared them with the kernel."""


def find_adoptable(
    static_routes: Iterable[StaticRoute],
    node: Node,
    overlay: NodeOverlay | None,
    find_desired: Callable[[NodeOverlay], Container[IpNetwork]],
) -> tuple[AdoptableRoute, ...]:
    """Return ``spec.adoptable`` of the node.

    ``find_desired`` returns the subnets of the desired routes that the agent has read.
    """
    present = overlay.adoptable if overlay is not None else ()
    proven = [(route, route.earlier[node.name]) for route in static_routes if node.name in route.earlier]
    if not proven and not present:
        return ()
    desired_subnets = find_desired(overlay) if overlay is not None and proven else ()
    named = {
        adoptable
        for route, entry in proven
        for adoptable in entry.routes(route.subnets)
        if _may_be_handed_over(route, node, adoptable, desired_subnets)
    }
    # A proof in both places is not forgotten yet: it would be handed over again.
    kept = [each for each in present if each in named or not _is_settled(each, overlay)]
    added = sorted(named.difference(kept), key=adoptable_order)
    return tuple(sorted((*kept, *added[: max(0, MAX_ADOPTABLE - len(kept))]), key=adoptable_order))


def find_unhanded(
    route: StaticRoute, nodes: Iterable[str], adoptable: Mapping[str, Container[AdoptableRoute]]
) -> Mapping[str, EarlierEntry]:
    """Return the entries of the earlier operator that must stay in the status of ``route``, by node.

    ``nodes`` are the nodes with an agent, and ``adoptable`` has what is handed over to each of them.
    """
    if not route.earlier:
        return {}
    return {
        name: route.earlier[name]
        for name in nodes
        if name in route.earlier and not _is_handed_over(route, route.earlier[name], adoptable.get(name, ()))
    }


def _may_be_handed_over(
    route: StaticRoute, node: Node, adoptable: AdoptableRoute, desired_subnets: Container[IpNetwork]
) -> bool:
    return adoptable.subnet in desired_subnets or route.deleting or not route.selects(node)


def _is_handed_over(route: StaticRoute, entry: EarlierEntry, adoptable: Container[AdoptableRoute]) -> bool:
    if route.problem and not route.deleting:
        # Its subnets may be known only after it is corrected.
        return False
    return all(each in adoptable for each in entry.routes(route.subnets))


def _is_settled(adoptable: AdoptableRoute, overlay: NodeOverlay | None) -> bool:
    """Return whether the agent has reported this generation, and nothing that keeps it from replacing the route.

    A route that it reports as foreign is not the proven one.
    """
    if overlay is None or not overlay.is_current:
        return False
    report = overlay.report
    listed_all = report.routes_failed <= len(report.failures)
    obstacles = (failure for failure in report.failures if failure.reason not in DECIDED)
    return listed_all and all(failure.subnet != adoptable.subnet for failure in obstacles)
