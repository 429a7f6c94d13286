"""Staged rollout: which nodes get the current generation of a StaticRoute now, and which keep the previous one.

Progress is read from the NodeOverlayIps, so a restarted controller resumes where it stopped. A node that has not
reported the generation in place, for any reason, counts as unavailable, so a generation that fails stops the rollout.
Removals (deleting a StaticRoute, or no longer selecting a node) are not staged, because they cannot fail on the node.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from overlay_net.model.parse import parse_time
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


def is_later(created: datetime | None, route: StaticRoute) -> bool:
    """Return whether something was created after the StaticRoute."""
    route_created = parse_time(route.created)
    return created is not None and route_created is not None and created > route_created
