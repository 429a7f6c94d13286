"""What agents of one process compute once: results that depend on identical input alone."""

import json
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from overlay_net.model.api import JsonObject
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import find_object, parse_text
from overlay_net.model.route_slice import RouteSlice
from overlay_net.model.route_spec import RouteParser

T = TypeVar("T")

KEPT = 512


class Memo(Generic[T]):
    """The last results by key; results are shared, so no one may change them."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._known: OrderedDict[Hashable, T] = OrderedDict()

    def find(self, key: Hashable) -> T | None:
        return self._known.get(key)

    def keep(self, key: Hashable, result: T) -> T:
        self._known[key] = result
        if len(self._known) > self._kept:
            self._known.popitem(last=False)
        return result

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        found = self.find(key)
        return self.keep(key, make()) if found is None else found


class Shared:
    """The memory of all agents of a process."""

    def __init__(self) -> None:
        self._routes: Memo[tuple[DesiredRoute, ...]] = Memo(16)
        self._slice_texts: Memo[Any] = Memo()
        self._slices: Memo[RouteSlice] = Memo()
        self._latest_slices: dict[str, RouteSlice] = {}
        self.resolved: Memo[NodeOverlay] = Memo()
        self._placed: Memo[tuple[object, tuple[tuple[DesiredRoute, str], ...]]] = Memo()

    def decode_slices(self, text: str) -> Any:
        """Decode JSON: the API server sends the same bytes to all agents."""
        return self._slice_texts.get(text, lambda: json.loads(text))

    def parse_slice(self, raw: JsonObject, before: RouteSlice | None) -> RouteSlice:
        """``before`` is not used: entries are shared with the last version that any agent has parsed."""
        metadata = find_object(raw, "metadata")
        name = parse_text(metadata.get("name"))

        def parse() -> RouteSlice:
            parsed = self._latest_slices[name] = RouteSlice.parse(raw, self._latest_slices.get(name))
            return parsed

        return self._slices.get((name, metadata.get("uid"), metadata.get("resourceVersion")), parse)

    def decode_overlay(self, text: str) -> Any:
        """Decode JSON as ``decode_overlays`` does: nodes of one pool and zone have the same routes."""
        value = json.loads(text)
        for item in value.get("items") or (value.get("object") or value,):
            spec = item.get("spec")
            if isinstance(spec, dict) and isinstance(spec.get("routes"), list):
                spec["routes"] = self._parse_routes(spec["routes"])
        return value

    def _parse_routes(self, routes: list[Any]) -> tuple[DesiredRoute, ...]:
        return self._routes.get(repr(routes), lambda: RouteParser().parse_all(routes))

    def placed(self, routes: tuple[DesiredRoute, ...], link: str) -> tuple[tuple[DesiredRoute, str], ...]:
        """All routes with their device, as in a plan that has nothing left to do."""
        # The tuple itself is kept with the result, so that no other one gets its id.
        return self._placed.get((id(routes), link), lambda: (routes, tuple((route, link) for route in routes)))[1]
