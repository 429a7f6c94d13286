"""Slices that are deleted, late or unreadable, and upgrades: the real kernel loses no route, not even for a moment."""

import asyncio
import select
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from overlay_net.adapters.netlink import Kernel, Monitor
from overlay_net.model.api import JsonObject, Listing
from overlay_net.model.conditions import find_condition
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.runtime.store import Store
from overlay_net.runtime.worker import run_workers
from overlay_net.runtime.workqueue import WorkQueue
from tests.dataplane.conftest import MARK
from tests.dataplane.edge import OVERLAY, Edge, edge, make_config, netns, node_overlay_ip, observed_source, require
from tests.fakes.agent import make_agent
from tests.fakes.background import background
from tests.fakes.netns import ip
from tests.fakes.route_slices import FakeSlices, entry, raw_slice

__all__ = ["edge", "netns"]

MARKER = "203.0.113.0/24"
FAR, OTHER, THIRD = "192.168.0.0/24", "10.55.0.0/16", "10.66.0.0/16"
BOTH = (
    raw_slice("rs-1", 0, entry("far", FAR), slices=(0, 1)),
    raw_slice("rs-1", 1, entry("other", OTHER)),
)


class Node:
    """The agent with its queue on the real kernel; ``show`` is a new version of its object."""

    def __init__(self, slices: FakeSlices, wake: Any) -> None:
        self.slices = slices
        self.reports: list[Report] = []
        self.store: Store[NodeOverlay] = Store(NodeOverlay.parse)
        self._wake = wake
        self._version = 10

    def show(self, *sets: str, routes: list[JsonObject] | None = None) -> None:
        self._version += 1
        found = node_overlay_ip(str(OVERLAY))
        found["metadata"] |= {"resourceVersion": str(self._version), "generation": self._version}
        found["spec"] = {"routeSets": [{"name": name} for name in sets]} if sets else {}
        if routes is not None:
            found["spec"]["routes"] = routes
        self.store.replace(Listing((found,), str(self._version)))
        self._wake()

    def changed(self) -> None:
        self._wake()

    def problem(self) -> str:
        """The reason of RouteSetsKnown in the last report; empty: all sets are known."""
        found = find_condition(self.reports[-1].conditions, "RouteSetsKnown") if self.reports else None
        return found.reason if found is not None else ""

    async def until(self, observed: dict[str, int] | None, problem: str = "") -> None:
        async with asyncio.timeout(20):
            while not self.reports or (self.reports[-1].observed_slices, self.problem()) != (observed, problem):
                await asyncio.sleep(0.005)


@asynccontextmanager
async def running(slices: FakeSlices) -> AsyncIterator[Node]:
    require("macvlan")
    queue = WorkQueue()
    node = Node(slices, lambda: queue.add("n1"))
    async with Kernel(MARK) as kernel:
        agent = make_agent(kernel, node.store, node.reports, make_config(), MARK, slices=slices)
        monitor = Monitor(MARK.protocol, lambda: queue.add_after("n1", 0.005))
        async with background(monitor.run(), run_workers("agent", queue, agent.reconcile, workers=1)):
            yield node


@contextmanager
def no_route_deleted() -> Iterator[None]:
    """No route of ours is deleted, according to the notifications of the kernel."""
    command = ["ip", "-o", "monitor", "route"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as monitor:
        assert monitor.stdout is not None
        found = b""

        def read_until_marker() -> None:
            """A route of this test comes and goes until the monitor has reported it."""
            nonlocal found
            assert monitor.stdout is not None
            while b"Deleted " + MARKER.encode() not in found:
                for change in ("add", "delete"):
                    ip("route", change, MARKER, "dev", "lo")
                while select.select([monitor.stdout], [], [], 0.1)[0]:
                    found += monitor.stdout.read(65536)

        read_until_marker()
        found = b""
        yield
        read_until_marker()
        monitor.terminate()
    deleted = [line for line in found.decode().splitlines() if line.startswith("Deleted") and MARKER not in line]
    assert deleted == []


def ours() -> set[str]:
    return {line.split()[0] for line in ip("route", "show", "proto", str(MARK.protocol)).splitlines()}


def legacy(*subnets: str) -> list[JsonObject]:
    return [{"subnet": each, "staticRoute": each, "gateways": [{"address": "192.168.100.1"}]} for each in subnets]


async def test_a_deleted_slice_costs_no_route_and_is_named_until_it_is_back(edge: Edge) -> None:
    slices = FakeSlices(*BOTH)
    async with running(slices) as node:
        node.show("rs-1")
        await node.until({"rs-1-0": 1, "rs-1-1": 1})
        assert observed_source() == str(OVERLAY.ip)
        for index in (1, 0):
            with no_route_deleted():
                slices.remove("rs-1", index)
                node.changed()
                await node.until({"rs-1-0": 1, "rs-1-1": 1}, "SliceMissing")
                # Repairs go on meanwhile.
                assert observed_source() == str(OVERLAY.ip)
                slices.put(BOTH[index])
                node.changed()
                await node.until({"rs-1-0": 1, "rs-1-1": 1})
        assert ours() >= {FAR, OTHER}


async def test_sets_that_appear_and_go_on_a_live_node_touch_no_other_route(edge: Edge) -> None:
    slices = FakeSlices(raw_slice("rs-1", 0, entry("far", FAR)))
    async with running(slices) as node:
        node.show("rs-1")
        await node.until({"rs-1-0": 1})
        with no_route_deleted():
            node.show("rs-1", "rs-2")
            await node.until({"rs-1-0": 1}, "SliceMissing")
            slices.put(raw_slice("rs-2", 0, entry("other", OTHER)))
            node.changed()
            await node.until({"rs-1-0": 1, "rs-2-0": 1})
            # The StaticRoute moves to a set that is read late.
            node.show("rs-3", "rs-2")
            await node.until({"rs-1-0": 1, "rs-2-0": 1}, "SliceMissing")
            slices.put(raw_slice("rs-3", 0, entry("far", FAR, generation=2)))
            node.changed()
            await node.until({"rs-2-0": 1, "rs-3-0": 1})
        node.show("rs-3")
        await node.until({"rs-3-0": 1})
        assert FAR in ours()
        assert OTHER not in ours()


async def test_an_agent_that_starts_while_slices_are_unreadable_or_late_leaves_the_kernel_as_it_is(edge: Edge) -> None:
    first = FakeSlices(*BOTH)
    async with running(first) as node:
        node.show("rs-1")
        await node.until({"rs-1-0": 1, "rs-1-1": 1})
    ip("route", "add", THIRD, "via", "192.168.100.1", "proto", str(MARK.protocol))
    slices = FakeSlices()
    slices.is_awaited, slices.unread = True, frozenset({"rs-1"})
    async with running(slices) as node:
        with no_route_deleted():
            node.show("rs-1")
            slices.is_awaited, slices.problem = False, "403 Forbidden"
            node.changed()
            await node.until({}, "SlicesUnreadable")
            assert ours() >= {FAR, OTHER, THIRD}
            slices.unread, slices.problem = frozenset(), ""
            slices.put(BOTH[0], raw_slice("rs-1", 1, entry("other", OTHER), entry("third", THIRD)))
            node.changed()
            await node.until({"rs-1-0": 1, "rs-1-1": 1})
        slices.put(raw_slice("rs-1", 1, entry("other", OTHER), generation=2))
        node.changed()
        await node.until({"rs-1-0": 1, "rs-1-1": 2})
        assert THIRD not in ours()


async def test_upgrade_from_spec_routes_and_rollback_delete_no_route(edge: Edge) -> None:
    slices = FakeSlices()
    async with running(slices) as node:
        node.show(routes=legacy(FAR, OTHER))
        await node.until(None)
        with no_route_deleted():
            node.show("rs-1", routes=legacy(FAR, OTHER))
            await node.until({}, "SliceMissing")
            slices.put(raw_slice("rs-1", 0, entry(FAR, FAR), entry(OTHER, OTHER)))
            node.changed()
            await node.until({"rs-1-0": 1})
            node.show("rs-1")
            node.show()
            await node.until(None, "RouteSetsMissing")
            node.show(routes=legacy(FAR, OTHER))
            await node.until(None)
        assert ours() >= {FAR, OTHER}
