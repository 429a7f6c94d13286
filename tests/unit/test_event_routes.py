"""Which nodes a change wakes: all of them, those that a route set fits, or those that wait for an address."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from overlay_net.controller.caches import Caches
from overlay_net.controller.event_routes import RECORD_DELAY, EventRoutes, Queues
from overlay_net.domain.routes.set_states import RouteSets, SharedSet, StagedRoute
from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.runtime.workqueue import WorkQueue
from tests.fakes.turns import Turns
from tests.fakes.virtual_time import VirtualTimeLoop
from tests.fakes.woken import wake_all, woken_nodes
from tests.unit.factories import raw_node, raw_pool, raw_static_route, static_route

ALL = {"served", "waiting"}


def raw_overlay(name: str, *, reserved: bool) -> JsonObject:
    condition = {"type": "Reserved", "status": str(reserved), "reason": "Reserved" if reserved else "Exhausted"}
    status: JsonObject = {"conditions": [condition]}
    if reserved:
        status["ipAddr"] = "192.168.100.2/24"
    return {"metadata": {"name": name, "uid": name, "resourceVersion": "1"}, "status": status}


def raw_record(address: str, node: str) -> JsonObject:
    return {"metadata": {"name": address, "uid": address}, "spec": {"address": address, "node": node, "pool": "p1"}}


def with_status(pool: JsonObject, version: int, **status: Any) -> JsonObject:
    return pool | {"metadata": {**pool["metadata"], "resourceVersion": str(version)}, "status": status}


class Woken:
    def __init__(self, caches: Caches, queues: Queues) -> None:
        self.caches = caches
        self.queues = queues
        self._routes = EventRoutes(caches, queues, batch=3600)

    async def nodes(self) -> set[str]:
        """The nodes woken since the last call."""
        return await woken_nodes(self._routes, self.queues)


@pytest.fixture
async def woken() -> Woken:
    return make_woken()


def make_woken() -> Woken:
    caches, queues = Caches(), Queues()
    caches.nodes.replace(Listing(tuple(raw_node(name) for name in sorted(ALL)), "1"))
    objects = (raw_overlay("served", reserved=True), raw_overlay("waiting", reserved=False))
    caches.overlays.replace(Listing(objects, "1"))
    caches.pools.replace(Listing((with_status(raw_pool(), 1, free=0),), "1"))
    caches.records.replace(Listing((raw_record("192.168.100.2", "served"), raw_record("192.168.100.9", "gone")), "1"))
    return Woken(caches, queues)


async def test_a_pool_with_room_again_wakes_the_nodes_without_a_reservation(woken: Woken) -> None:
    woken.caches.pools.apply(WatchEvent("MODIFIED", with_status(raw_pool(), 2, free=1)))
    assert await woken.nodes() == {"waiting"}


async def test_other_changes_of_a_pools_usage_wake_no_node(woken: Woken) -> None:
    woken.caches.pools.apply(WatchEvent("MODIFIED", with_status(raw_pool(), 2, free=1)))
    await woken.nodes()
    for version, free in ((3, 5), (4, 0)):
        woken.caches.pools.apply(WatchEvent("MODIFIED", with_status(raw_pool(), version, free=free)))
        assert await woken.nodes() == set()


async def test_a_pool_with_another_gateway_wakes_every_node(woken: Woken) -> None:
    woken.caches.pools.apply(WatchEvent("MODIFIED", with_status(raw_pool(gateway="192.168.100.254"), 2, free=0)))
    assert await woken.nodes() == ALL


async def test_a_deleted_record_wakes_its_node_and_those_without_a_reservation(woken: Woken) -> None:
    woken.caches.records.apply(WatchEvent("DELETED", raw_record("192.168.100.9", "gone")))
    assert await woken.nodes() == {"gone", "waiting"}


def test_a_new_record_wakes_its_node_a_moment_later_unless_the_node_has_got_the_address() -> None:
    async def scenario() -> None:
        woken = make_woken()
        for address, node in (("192.168.100.3", "served"), ("192.168.100.4", "waiting")):
            woken.caches.records.apply(WatchEvent("ADDED", raw_record(address, node)))
        assert await woken.nodes() == set()
        changed = raw_overlay("served", reserved=True)
        changed["metadata"]["resourceVersion"] = "2"
        changed["status"]["ipAddr"] = "192.168.100.3/24"
        woken.caches.overlays.apply(WatchEvent("MODIFIED", changed))
        assert await woken.nodes() == {"served"}
        await asyncio.sleep(2 * RECORD_DELAY)
        assert await woken.nodes() == {"waiting"}

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario())


async def test_a_deleted_object_with_an_address_wakes_the_nodes_without_a_reservation(woken: Woken) -> None:
    woken.caches.overlays.apply(WatchEvent("DELETED", raw_overlay("served", reserved=True)))
    assert await woken.nodes() == ALL


def recreated(raw: JsonObject, **spec: Any) -> JsonObject:
    """An object that was deleted and created again, with generation 1, while the watch was interrupted."""
    metadata = {**raw["metadata"], "uid": "later", "generation": 1, "resourceVersion": "9"}
    return raw | {"metadata": metadata, "spec": raw["spec"] | spec}


def fires_slices(woken: Woken) -> bool:
    return len(woken.queues.slices) == 1


async def take_slices(woken: Woken) -> None:
    while len(woken.queues.slices):
        woken.queues.slices.done(await woken.queues.slices.get())


async def test_a_static_route_wakes_no_node_and_the_slices_are_planned_at_once(woken: Woken) -> None:
    route = raw_static_route()
    edited = raw_static_route(generation=2, gateway="192.168.100.9")
    edited["metadata"]["resourceVersion"] = "2"
    for changed in (route, edited, recreated(route, subnet="10.7.0.0/16")):
        woken.caches.routes.apply(WatchEvent("MODIFIED", changed))
        assert fires_slices(woken)
        await take_slices(woken)
    woken.caches.routes.apply(WatchEvent("DELETED", route))
    assert fires_slices(woken)
    assert await woken.nodes() == set()


async def test_the_status_of_a_static_route_wakes_nothing(woken: Woken) -> None:
    woken.caches.routes.replace(Listing((raw_static_route(),), "1"))
    await take_slices(woken)
    shown = raw_static_route(status={"desired": 7})
    shown["metadata"]["resourceVersion"] = "2"
    woken.caches.routes.apply(WatchEvent("MODIFIED", shown))
    assert not fires_slices(woken)
    assert await woken.nodes() == set()


IN_ZONE = static_route("r1", labels={"topology.kubernetes.io/zone": "dal10"})
ELSEWHERE = static_route("r2", labels={"topology.kubernetes.io/zone": "wdc04"})


async def test_a_selector_that_appears_or_goes_wakes_the_nodes_that_it_fits(woken: Woken) -> None:
    one = RouteSets({"rs-1": SharedSet(IN_ZONE, open=True, known=False)})
    woken.caches.route_sets.replace(one, 0)
    assert await woken.nodes() == ALL
    both = RouteSets({**one.shared, "rs-2": SharedSet(ELSEWHERE, open=True, known=True)})
    woken.caches.route_sets.replace(both, 0)
    assert await woken.nodes() == set(), "no node is in that zone"
    woken.caches.route_sets.replace(RouteSets({**both.shared, "rs-1": SharedSet(IN_ZONE, open=True, known=True)}), 0)
    assert await woken.nodes() == ALL, "now the nodes can name the set"
    woken.caches.route_sets.replace(RouteSets({"rs-1": SharedSet(IN_ZONE, open=True, known=True)}), 0)
    assert await woken.nodes() == set()
    woken.caches.route_sets.replace(RouteSets(), 0)
    assert await woken.nodes() == ALL


async def test_a_revision_with_a_rollout_wakes_the_nodes_that_have_an_earlier_one(woken: Woken) -> None:
    staged = StagedRoute(ELSEWHERE, ELSEWHERE.revision, refused=False, place=None, known=False)
    named = raw_overlay("served", reserved=True) | {"spec": {"routeSets": [{"name": "ro-1"}]}}
    named["metadata"]["resourceVersion"] = "2"
    woken.caches.overlays.apply(WatchEvent("MODIFIED", named))
    await woken.nodes()
    woken.caches.route_sets.replace(RouteSets(staged={"r2": staged}, rollouts={"ro-1": "r2"}), 0)
    assert await woken.nodes() == {"served"}, "it is selected no more"


async def test_a_set_that_is_as_before_wakes_no_node(woken: Woken) -> None:
    for route in (IN_ZONE, static_route("r3", labels={"topology.kubernetes.io/zone": "dal10"})):
        woken.caches.route_sets.replace(RouteSets({"rs-1": SharedSet(route, open=True, known=True)}), 0)
        await woken.nodes()
    woken.caches.route_sets.replace(RouteSets({"rs-1": SharedSet(IN_ZONE, open=True, known=True)}, settled=True), 0)
    assert await woken.nodes() == set()


def raw_slice(version: int, *withdrawn: str) -> JsonObject:
    gone = [{"staticRoute": name, "sliceGeneration": version} for name in withdrawn]
    metadata = {"name": "rs-1-0", "resourceVersion": str(version)}
    spec = {"routeSet": "rs-1", "generation": version, "slices": [0], "withdrawn": gone}
    return {"metadata": metadata, "spec": spec}


def reporting(name: str, generation: int) -> JsonObject:
    raw = raw_overlay(name, reserved=True)
    raw["metadata"]["resourceVersion"] = "5"
    raw["status"]["observedSlices"] = {"rs-1-0": generation}
    return raw | {"spec": {"routeSets": [{"name": "rs-1"}]}}


async def test_only_agents_that_have_not_confirmed_a_removal_are_looked_at_again(woken: Woken) -> None:
    for name, generation in (("served", 2), ("waiting", 1)):
        woken.caches.overlays.apply(WatchEvent("MODIFIED", reporting(name, generation)))
    woken.caches.slices.apply(WatchEvent("ADDED", raw_slice(1)))
    assert await woken.nodes() == ALL, "of the reports"
    woken.caches.slices.apply(WatchEvent("MODIFIED", raw_slice(2, "gone")))
    assert await woken.nodes() == set(), "agents get time to confirm"
    woken.queues.wake.wake_delayed()
    assert await woken.nodes() == {"waiting"}


async def test_a_pool_recreated_between_two_lists_wakes_nodes_and_its_reconciler(woken: Woken) -> None:
    pool = raw_pool()
    pool["metadata"]["generation"] = 1
    woken.caches.pools.replace(Listing((with_status(pool, 2, free=1),), "2"))
    await woken.nodes()
    while len(woken.queues.pools):
        woken.queues.pools.done(await woken.queues.pools.get())
    woken.caches.pools.replace(Listing((with_status(recreated(pool, exclude=["192.168.100.9"]), 9, free=1),), "9"))
    assert await woken.nodes() == ALL
    assert len(woken.queues.pools) == 1


class CountingQueue(WorkQueue):
    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns = turns

    def add(self, key: str) -> None:
        self._turns.step()
        super().add(key)


def selectors_appeared(caches: Caches) -> None:
    shared = {f"rs-{number}": SharedSet(static_route(f"r{number}"), open=True, known=True) for number in range(10)}
    caches.route_sets.replace(RouteSets(shared), 0)


def gateway_changed(caches: Caches) -> None:
    caches.pools.apply(WatchEvent("MODIFIED", with_status(raw_pool(gateway="192.168.100.254"), 2, free=0)))


def address_freed(caches: Caches) -> None:
    caches.records.apply(WatchEvent("DELETED", raw_record("192.168.100.9", "gone")))


@pytest.mark.parametrize("change", [selectors_appeared, gateway_changed, address_freed])
async def test_a_change_that_concerns_all_nodes_gives_the_event_loop_a_turn_after_each(
    change: Callable[[Caches], None],
) -> None:
    names = [f"n{number}" for number in range(500)]
    turns, caches = Turns(), Caches()
    queues = Queues(nodes=CountingQueue(turns))
    caches.nodes.replace(Listing(tuple(map(raw_node, names)), "1"))
    caches.overlays.replace(Listing(tuple(raw_overlay(name, reserved=False) for name in names), "1"))
    caches.pools.replace(Listing((with_status(raw_pool(), 1, free=0),), "1"))
    caches.records.replace(Listing((raw_record("192.168.100.9", "gone"),), "1"))
    caches.protected.set_unknown("")
    routes = EventRoutes(caches, queues, batch=3600)
    async with turns.counted():
        change(caches)
        await wake_all(routes, queues)
    assert turns.total >= 500, "every node was woken"
    assert turns.longest <= 2, "the changed object itself, and one node"


async def test_changes_at_the_same_time_are_compared_with_the_nodes_together() -> None:
    turns, caches = Turns(), Caches()
    queues = Queues(nodes=CountingQueue(turns))
    caches.nodes.replace(Listing(tuple(raw_node(f"n{number}") for number in range(100)), "1"))
    routes = EventRoutes(caches, queues, batch=3600)
    for known in (False, True):
        caches.route_sets.replace(RouteSets({"rs-1": SharedSet(IN_ZONE, open=True, known=known)}), 0)
    await wake_all(routes, queues)
    assert turns.total == 100
