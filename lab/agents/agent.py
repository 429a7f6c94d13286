"""One simulated agent: the watches, the merge and the reports of the real one; every route is in place at once."""

import asyncio
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from lab.agents.route_sets import SharedRouteResolver
from lab.agents.shared import Shared
from overlay_net.adapters.kube import KubeApi
from overlay_net.agent.heartbeat import Heartbeat
from overlay_net.agent.own_object import OwnObjectSource, watch_versions
from overlay_net.agent.reconciler import UNKNOWN_RETRY
from overlay_net.agent.reporter import Reporter
from overlay_net.agent.run import slice_source
from overlay_net.agent.slice_follower import SliceFollower
from overlay_net.agent.status_writer import StatusWriter
from overlay_net.domain.kernel.agent_conditions import NeighbourState, ProbeResult
from overlay_net.domain.kernel.desired import desired_state
from overlay_net.domain.kernel.report import make_report
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel import Desired, DesiredLink
from overlay_net.model.kernel_actions import KernelPlan, Problem
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.runtime.reflector import Reflector
from overlay_net.runtime.store import Store

LINK = DesiredLink("tmp0", "eth0")
RESYNC = 300.0


@dataclass(frozen=True, slots=True)
class Clients:
    """Clients of the same API server, which differ in how they decode."""

    overlays: KubeApi
    slices: KubeApi
    writing: KubeApi


class SimulatedAgent:
    """``clients`` are those of all agents; ``progress`` follows each step."""

    def __init__(
        self,
        name: str,
        clients: Clients,
        shared: Shared,
        progress: Callable[["SimulatedAgent"], None],
        lease_namespace: str = "",
    ) -> None:
        self.name = name
        self.routes: tuple[DesiredRoute, ...] = ()
        """The routes that a kernel would have now."""
        self._failing: Set[str] = frozenset()
        self._shared = shared
        self._progress = progress
        self._store: Store[NodeOverlay] = Store(NodeOverlay.parse, NodeOverlay.parse)
        self._store.subscribe(self._object_changed)
        status_writer = StatusWriter(clients.writing, self._store)
        source = watch_versions(clients.overlays, name)
        self._reflector = Reflector(
            OwnObjectSource(source, clients.writing, name, self._store, status_writer.wait_answer), self._store
        )
        self._reporter = Reporter(status_writer.write, self._written)
        self._slices = SliceFollower(partial(slice_source, clients.slices), self.wake, shared.parse_slice)
        self._route_sets = SharedRouteResolver(self._slices, shared.resolved)
        self._heartbeat = Heartbeat(
            clients.writing,
            lease_namespace,
            name,
            partial(self._store.get, name),
            RESYNC,
            asyncio.get_running_loop().time,
            self.wake,
        )
        self._changed = asyncio.Event()

    @property
    def overlay(self) -> NodeOverlay | None:
        return self._store.get(self.name)

    @property
    def report(self) -> Report | None:
        """The last report about the present object; None while it is not written."""
        overlay = self.overlay
        return self._reporter.latest(overlay) if overlay is not None and self._reporter.idle else None

    async def run(self) -> None:
        """Run until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reflector.run())
            group.create_task(self._reporter.run())
            group.create_task(self._slices.run())
            await self._store.wait_synced()
            self.wake()
            group.create_task(self._work())
            group.create_task(self._heartbeat.run())

    async def wait_synced(self) -> None:
        await self._store.wait_synced()

    def _object_changed(self, _: str, old: NodeOverlay | None, new: NodeOverlay | None) -> None:
        if self._reporter.is_shown(old, new):
            self._progress(self)
        else:
            self.wake()

    def wake(self) -> None:
        """Reconcile soon, once for all changes until then."""
        self._changed.set()

    def fail(self, static_routes: Set[str]) -> None:
        """From now on a kernel would refuse the routes of these StaticRoutes, and no others."""
        self._failing = static_routes
        self.wake()

    async def _work(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not await self._reconcile():
                with suppress(TimeoutError):
                    async with asyncio.timeout(UNKNOWN_RETRY):
                        await self._changed.wait()
                self._changed.set()

    async def _reconcile(self) -> bool:
        """Returns False while the slices of a new route set are awaited."""
        overlay = self.overlay
        if not self._route_sets.follow(overlay):
            return False
        if overlay is not None:
            overlay = await self._route_sets.resolve(overlay)
        desired = desired_state(overlay, LINK)
        self.routes = desired.routes
        if overlay is not None:
            self._reporter.submit(overlay, self._report(overlay, desired))
        self._heartbeat.reconciled()
        self._progress(self)
        return True

    def _report(self, overlay: NodeOverlay, desired: Desired) -> Report:
        return make_report(
            # The object may not have the last report yet.
            replace(overlay, report=self._reporter.latest(overlay)),
            desired,
            LINK,
            self._plan(desired.routes),
            {},
            desired.address,
            datetime.now(UTC),
            neighbours=NeighbourState(probes=ProbeResult.KNOWN if desired.routes else ProbeResult.NONE),
            boot_id=overlay.node.boot_id,
            lease=self._heartbeat.lease,
        )

    def _plan(self, routes: tuple[DesiredRoute, ...]) -> KernelPlan:
        """What the last pass of a kernel would leave to do."""
        placed = self._shared.placed(routes, LINK.name)
        if not self._failing:
            return KernelPlan(placed=placed)
        refused = [route for route in routes if route.static_route in self._failing]
        return KernelPlan(
            problems=tuple(Problem("KernelRefused", "Network is unreachable", route) for route in refused),
            placed=tuple(each for each in placed if each[0].static_route not in self._failing),
        )

    def _written(self) -> None:
        self._heartbeat.reconciled()
        self._progress(self)
