"""OverlayRouteSlices for tests, as the API has them, and an agent's view of them."""

from collections.abc import Collection
from typing import Any

from overlay_net.domain.routes.node_routes import KnownSlices
from overlay_net.model.api import JsonObject
from overlay_net.model.names import ROUTE_SET_LABEL
from overlay_net.model.route_slice import RouteSlice, by_set, slice_checksum, slice_name

GATEWAY = "192.168.100.1"


def entry(name: str, *subnets: str, **fields: Any) -> JsonObject:
    """A StaticRoute in a slice, created in the order of the names."""
    own = {"name": name, "uid": f"route-{name}", "generation": 1, "created": f"2026-01-01T00:00:00Z-{name}"}
    return own | {"sliceGeneration": 1, "subnets": list(subnets), "gateways": [{"address": GATEWAY}], **fields}


def raw_slice(
    route_set: str, index: int, *entries: JsonObject, generation: int = 1, slices: Collection[int] = (0,)
) -> JsonObject:
    spec: JsonObject = {"routeSet": route_set, "selector": "*", "staticRoutes": list(entries)}
    spec["generation"] = generation
    name = slice_name(route_set, index)
    metadata = {"name": name, "uid": f"uid-{name}", "labels": {ROUTE_SET_LABEL: route_set}}
    metadata["resourceVersion"] = str(generation)
    if index == 0:
        spec["slices"] = list(slices)
    return {"metadata": metadata, "spec": spec | {"checksum": slice_checksum(spec)}}


class FakeSlices:
    """The slices that an agent has read, without a server: each is of a selected set, and ``put`` is an event."""

    def __init__(self, *slices: JsonObject) -> None:
        self.version = 0
        self.is_awaited = False
        self.problem = ""
        self.unread: frozenset[str] = frozenset()
        """Sets that no list has contained yet."""
        self.selected: frozenset[str] = frozenset()
        self._slices: dict[str, RouteSlice] = {}
        self.put(*slices)

    def put(self, *slices: JsonObject) -> None:
        for raw in slices:
            name = raw["metadata"]["name"]
            self._slices[name] = RouteSlice.parse(raw, self._slices.get(name))
        self.version += 1

    def replace(self, *slices: JsonObject) -> None:
        """These slices, instead of those there are."""
        names = {raw["metadata"]["name"] for raw in slices}
        self._slices = {name: found for name, found in self._slices.items() if name in names}
        self.put(*slices)

    def remove(self, route_set: str, index: int) -> None:
        del self._slices[slice_name(route_set, index)]
        self.version += 1

    def known(self) -> KnownSlices:
        return KnownSlices(by_set(self._slices.values()), self.selected - self.unread, self.problem)

    def select(self, names: Collection[str]) -> None:
        self.selected = frozenset(names)
