"""The routes of other programs whose changes concern this node, so that the agent reacts to no others."""

from collections.abc import Set
from dataclasses import dataclass

from overlay_net.model.route_key import RouteKey


@dataclass(frozen=True, slots=True)
class AwaitedRoutes:
    keys: Set[RouteKey] = frozenset()
    """Keys that our routes have or need: a route of another program with such a key replaces ours or is in its place.
    """
    destinations: Set[int] = frozenset()
    """Destinations in the main table (see ``decode_destination``) that decide on an interface or a gateway of ours."""
