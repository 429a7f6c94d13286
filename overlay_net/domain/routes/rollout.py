"""Staged rollout: which nodes get the current generation of a StaticRoute now, and which keep the previous one.

Progress is read from the NodeOverlayIps, so a restarted controller resumes where it stopped. A node that has not
reported the generation in place, for any reason, counts as unavailable, so a generation that fails stops the rollout.
Removals (deleting a StaticRoute, or no longer selecting a node) are not staged, because they cannot fail on the node.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.node import Node
from overlay_net.model.node_actions import NodeRoutes
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import parse_time
from overlay_net.model.route_probe import Revision, RouteGeneration
from overlay_net.model.static_route import StaticRoute


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """The progress of one node with the current generation of one StaticRoute."""

    node: str
    updated: bool
    """The node's NodeOverlayIp has this generation."""
    in_place: bool
    """The agent has reported this generation in place."""
    failing: bool = False
    """Not updated yet, and the previous routes are not in place either, so an update cannot make it worse."""


def admit(progress: Collection[NodeProgress], admitted: Collection[str], limit: int) -> frozenset[str]:
    """Return the nodes that may have the generation now, including ``admitted`` ones that are still selected.

    At most ``limit`` of them are unavailable. Failing nodes are updated first, then the others by name.
    """
    updating = {each.node for each in progress if each.updated or each.node in admitted}
    unavailable = sum(each.node in updating and not each.in_place for each in progress)
    waiting = sorted(
        (each for each in progress if each.node not in updating), key=lambda each: (not each.failing, each.node)
    )
    return frozenset(updating | {each.node for each in waiting[: max(0, limit - unavailable)]})


@dataclass(frozen=True, slots=True)
class PreviousGeneration:
    """The routes of a node from a StaticRoute whose current generation is not rolled out to it yet."""

    routes: tuple[DesiredRoute, ...]
    generation: RouteGeneration | None


def find_held_back(
    static_routes: Iterable[StaticRoute],
    node: Node,
    overlay: NodeOverlay | None,
    admitted: Mapping[Revision, Collection[str]],
) -> Mapping[str, PreviousGeneration]:
    """Find the StaticRoutes, by name, whose previous generation ``node`` keeps for now.

    ``admitted`` has the admitted nodes by revision.
    """
    has = NodeRoutes(overlay.routes, overlay.generations) if overlay is not None else NodeRoutes()
    generations = {each.static_route: each for each in has.generations}
    held_back = {}
    for route in static_routes:
        if route.rollout is None or route.deleting:
            continue
        if _is_admitted(route, node, generations.get(route.name), admitted):
            continue
        previous = previous_generation(route.name, has)
        if not _has_nothing_to_lose(route, node, overlay, previous):
            held_back[route.name] = previous
    return held_back


def previous_generation(static_route: str, present: NodeRoutes) -> PreviousGeneration:
    """Return what a node that has the routes ``present`` has of a StaticRoute."""
    routes = tuple(each for each in present.routes if each.static_route == static_route)
    return PreviousGeneration(routes, next((e for e in present.generations if e.static_route == static_route), None))


def _is_admitted(
    route: StaticRoute, node: Node, present: RouteGeneration | None, admitted: Mapping[Revision, Collection[str]]
) -> bool:
    if present is not None and present.revision == route.revision:
        return True
    return node.name in admitted.get(route.revision, ())


def _has_nothing_to_lose(
    route: StaticRoute, node: Node, overlay: NodeOverlay | None, previous: PreviousGeneration
) -> bool:
    """Return whether a node has no routes of a previous generation to keep, so it gets the current one at once.

    That is the case if the node joined later, or if its NodeOverlayIp was re-created and what it had is unknown.
    """
    if previous.generation is not None or previous.routes:
        return False
    return is_later(node.created, route) or (overlay is not None and is_later(overlay.created, route))


def is_later(created: datetime | None, route: StaticRoute) -> bool:
    """Return whether something was created after the StaticRoute."""
    route_created = parse_time(route.created)
    return created is not None and route_created is not None and created > route_created
