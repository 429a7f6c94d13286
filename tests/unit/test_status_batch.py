"""The status of thousands of nodes is computed without blocking the event loop."""

import asyncio
from typing import Any, cast

from overlay_net.controller.caches import Caches
from overlay_net.controller.status_reconciler import ROUTES, StatusReconciler
from overlay_net.model.api import JsonObject, Listing
from overlay_net.model.names import STATIC_ROUTES
from overlay_net.model.node import Node
from overlay_net.model.static_route import StaticRoute
from overlay_net.ops.controller_metrics import ControllerMetrics
from overlay_net.runtime.store import Store
from tests.fakes.kube import InMemoryKube
from tests.fakes.turns import Turns
from tests.unit.factories import raw_node, raw_static_route

NODES = 3000
ROUTES_PER_CLUSTER = 5
TURNS = Turns()


class CountedRoute(StaticRoute):
    """Counts the nodes that it is compared with."""

    def selects(self, node: Node) -> bool:
        TURNS.step()
        return super().selects(node)


async def test_the_status_of_thousands_of_nodes_does_not_block_the_event_loop() -> None:
    kube, caches = InMemoryKube(), Caches()
    caches.routes = cast("Store[StaticRoute]", Store(CountedRoute.parse))
    names = [f"n{number}" for number in range(NODES)]
    caches.nodes.replace(Listing(tuple(map(raw_node, names)), "1"))
    caches.overlays.replace(Listing(tuple(raw_overlay(name) for name in names), "1"))
    for number in range(ROUTES_PER_CLUSTER):
        await kube.create(STATIC_ROUTES, raw_static_route(f"r{number}", f"10.{number}.0.0/16"))
    caches.routes.replace(await kube.list(STATIC_ROUTES))
    caches.protected.set_unknown("")
    for store in (caches.slices, caches.pools, caches.records):
        store.replace(Listing((), "1"))
    api: Any = kube
    events: Any = None
    reconciler = StatusReconciler(api, caches, ControllerMetrics(), events, lambda name: None)
    async with TURNS.counted():
        await asyncio.wait_for(reconciler.reconcile(ROUTES), 60)
    assert TURNS.total >= NODES * ROUTES_PER_CLUSTER
    assert TURNS.longest == 0, "it was all done in another thread"
    found = (await kube.list(STATIC_ROUTES)).items
    assert [raw["status"]["desired"] for raw in found] == [NODES] * ROUTES_PER_CLUSTER


def raw_overlay(name: str) -> JsonObject:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": "1", "generation": 1}}
