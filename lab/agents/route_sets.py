"""The routes of a simulated agent from its route sets; agents with the same slices share the result."""

from dataclasses import replace

from lab.agents.shared import Memo
from overlay_net.agent.route_sets import RouteResolver
from overlay_net.agent.slice_follower import SliceFollower
from overlay_net.model.overlay import NodeOverlay

Key = tuple[object, ...]


class SharedRouteResolver:
    """The RouteResolver of one agent; ``resolved`` has what other agents have merged from the same slices."""

    def __init__(self, slices: SliceFollower, resolved: Memo[NodeOverlay]) -> None:
        self._slices = slices
        self._shared = resolved
        self._own = self._make()
        self._last: tuple[NodeOverlay, int, NodeOverlay] | None = None
        """The last object, the version of the slices, and the result."""

    def follow(self, overlay: NodeOverlay | None) -> bool:
        return self._own.follow(overlay)

    async def resolve(self, overlay: NodeOverlay) -> NodeOverlay:
        """Return the object with its routes; the same value as before if nothing has changed."""
        version = self._slices.version
        if self._last is None or self._last[0] is not overlay or self._last[1] != version:
            self._last = (overlay, version, await self._resolve(overlay))
        return self._last[2]

    async def _resolve(self, overlay: NodeOverlay) -> NodeOverlay:
        key = self._key(overlay)
        known = self._shared.find(key) if key is not None else None
        if known is None:
            resolved = await self._own.resolve(overlay)
            if key is not None and resolved.unknown_sets is None:
                self._shared.keep(key, resolved)
            return resolved
        # What its own one knows of before is outdated from now on.
        self._own = self._make()
        return replace(overlay, routes=known.routes, generations=known.generations, slices=known.slices)

    def _make(self) -> RouteResolver:
        return RouteResolver(self._slices, lambda: self._last[2] if self._last is not None else None)

    def _key(self, overlay: NodeOverlay) -> Key | None:
        """Everything that the routes depend on; None if they may depend on what this agent had before."""
        named, known = overlay.route_sets, self._slices.known()
        if named is None or overlay.deleting or known.problem or not {each.name for each in named} <= set(known.listed):
            return None
        versions = (
            (found.name, found.uid, found.resource_version)
            for each in named
            for found in known.slices.get(each.name, {}).values()
        )
        return (named, overlay.assignment.gateway, overlay.routes_only, *sorted(versions))
