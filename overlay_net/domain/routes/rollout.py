"""Staged roll-out: which nodes may get the present generation of a StaticRoute now, and what the others keep.

What a node has is read from its NodeOverlayIp, so a controller that starts anew goes on where it stood. A node that
has not reported the generation in place, or cannot have it, counts as unavailable: a generation that fails stops there.
Only nodes that are told something are staged: a route that goes, with its object or because a node is no longer meant,
cannot fail.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from overlay_net.model.kernel import DesiredRoute
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import parse_time
from overlay_net.model.route_probe import Revision, RouteGeneration
from overlay_net.model.static_route import StaticRoute


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """How far one node is with the present generation of one StaticRoute."""

    node: str
    reached: bool
    """The node's object has this generation."""
    in_place: bool
    """And its agent has reported it in place."""
    failing: bool = False
    """Not reached yet, and what the node has instead is not in place: nothing can be lost there."""


def admit(progress: Collection[NodeProgress], admitted: Collection[str], limit: int) -> frozenset[str]:
    """The nodes that may get the generation now, ``admitted`` ones included as far as they are still meant.

    At most ``limit`` of them are without it: failing nodes come first, then by name.
    """
    told = {each.node for each in progress if each.reached or each.node in admitted}
    unavailable = sum(each.node in told and not each.in_place for each in progress)
    waiting = sorted(
        (each for each in progress if each.node not in told), key=lambda each: (not each.failing, each.node)
    )
    return frozenset(told | {each.node for each in waiting[: max(0, limit - unavailable)]})


@dataclass(frozen=True, slots=True)
class PreviousGeneration:
    """What a node has of a StaticRoute whose present generation is not for it yet."""

    routes: tuple[DesiredRoute, ...]
    generation: RouteGeneration | None


def find_held_back(
    static_routes: Iterable[StaticRoute],
    node: Node,
    overlay: NodeOverlay | None,
    admitted: Mapping[Revision, Collection[str]],
) -> Mapping[str, PreviousGeneration]:
    """StaticRoutes, by name, of which the node keeps what it has. ``admitted``: nodes by revision.

    A node that joined after the StaticRoute was made and has nothing of it gets the newest at once: there is nothing
    to lose, and a roll-out that stands still must not leave new nodes without routes.
    """
    staged = [route for route in static_routes if route.rollout is not None and not route.deleting]
    if not staged:
        return {}
    has = {each.static_route: each for each in overlay.generations} if overlay is not None else {}
    kept = {}
    for route in staged:
        told = has.get(route.name)
        if told is not None and told.revision == route.revision:
            continue
        if node.name in admitted.get(route.revision, ()):
            continue
        routes = (
            tuple(each for each in overlay.routes if each.static_route == route.name) if overlay is not None else ()
        )
        if told is None and not routes and _is_younger(node, route):
            continue
        kept[route.name] = PreviousGeneration(routes, told)
    return kept


def _is_younger(node: Node, route: StaticRoute) -> bool:
    made = parse_time(route.created)
    return node.created is not None and made is not None and node.created > made
