"""Proves changes of StaticRoutes with a probe: probes the target once the kernel has the new routes.

domain.kernel.probe_rollback decides which changes to prove and what a result means. This module runs the probes, one
task for each change.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Protocol

from overlay_net.adapters.ping import connects, echo
from overlay_net.domain.kernel.probe_rollback import (
    applied_routes,
    conclude_probe,
    effective_routes,
    group_by_static_route,
    update_probes,
)
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel_actions import KernelPlan
from overlay_net.model.net import IpAddress
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_probe import Probe, RouteProbe

log = logging.getLogger(__name__)

ATTEMPT: Final = 1.0
"""Seconds that one attempt waits for an answer; a packet may be lost while neighbours are resolved."""
PAUSE: Final = 0.2
"""Seconds between two attempts."""


class ProbeTarget(Protocol):
    """Returns an empty string once the target answers, or why it did not answer within the probe's timeout."""

    async def __call__(self, probe: Probe, source: IpAddress | None) -> str: ...


async def probe_target(probe: Probe, source: IpAddress | None) -> str:
    """Probe the target along the kernel's routes, from ``source`` if that is of the target's address family."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + probe.timeout
    own = source if source is not None and source.version == probe.target.version else None
    kernel_error = ""
    while (left := deadline - loop.time()) > 0:
        try:
            if await _attempt(probe, own, min(left, ATTEMPT)):
                return ""
            kernel_error = ""
        except KernelError as error:
            kernel_error = f" ({error})"
        await asyncio.sleep(min(PAUSE, max(0.0, deadline - loop.time())))
    return f"{probe} did not answer within {probe.timeout:g} s{kernel_error}"


async def _attempt(probe: Probe, source: IpAddress | None, timeout: float) -> bool:
    if probe.port:
        return await connects(probe.target, probe.port, source, "", timeout)
    return await echo(probe.target, source, "", timeout)


@dataclass(frozen=True, slots=True)
class _Running:
    """A probe in progress."""

    route_probe: RouteProbe
    routes: frozenset[DesiredRoute]
    """The routes that the kernel had when the probe started."""
    complete: bool
    """Whether these are all routes of the change."""
    task: "asyncio.Task[str]"


class RouteProbes:
    """``changed`` is called when a probe has ended. An async context manager that cancels its tasks on exit.

    ``last_applied`` returns the object that an earlier run applied last, with its route probes, or None if unknown. It
    is called at most once, and only if there is something to prove.
    """

    def __init__(
        self,
        changed: Callable[[], None],
        last_applied: Callable[[], NodeOverlay | None],
        probe: ProbeTarget = probe_target,
    ) -> None:
        self._changed = changed
        self._probe_target = probe
        self._last_applied: Callable[[], NodeOverlay | None] | None = last_applied
        """None once it has been called or is no longer needed."""
        self._last: NodeOverlay | None = None
        """The object of the last call of ``follow``."""
        self._known = False
        """Whether ``_route_probes`` belong to ``_last``."""
        self._route_probes: tuple[RouteProbe, ...] = ()
        self._running: dict[str, _Running] = {}
        """Running probes by StaticRoute."""
        self._in_force: tuple[NodeOverlay, tuple[RouteProbe, ...], NodeOverlay] | None = None
        """The last arguments and result of ``effective_routes``."""

    async def __aenter__(self) -> "RouteProbes":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        self._running.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    def follow(self, overlay: NodeOverlay | None) -> tuple[RouteProbe, ...]:
        """Return the route probes for this desired state; ``overlay`` is None if the object is confirmed absent."""
        self._conclude_ended()
        if overlay is None or overlay.deleting:
            self._route_probes, self._last, self._known, self._last_applied = (), None, True, None
            return ()
        self._restore(overlay)
        before = self._route_probes if self._known else overlay.report.route_probes
        self._route_probes = update_probes(before, self._last, overlay, known=self._known)
        self._last, self._known = overlay, True
        return self._route_probes

    def in_force(self, overlay: NodeOverlay) -> NodeOverlay:
        """Return ``overlay`` with the routes currently in force; the same value as before if nothing has changed."""
        if self._in_force is None or self._in_force[0] is not overlay or self._in_force[1] != self._route_probes:
            routes = effective_routes(overlay.routes, self._route_probes)
            result = overlay if routes is overlay.routes else replace(overlay, routes=routes)
            self._in_force = (overlay, self._route_probes, result)
        return self._in_force[2]

    def settle(self, plan: KernelPlan, source: IpAddress | None) -> None:
        """Probe the routes that the kernel has. ``plan`` is what is left to do, ``source`` the overlay address."""
        to_prove = {each.static_route: each for each in self._route_probes if each.state == "Probing"}
        for name in self._running.keys() - to_prove.keys():
            self._cancel(name)
        for name, route_probe in to_prove.items():
            routes = applied_routes(name, plan)
            running = self._running.get(name)
            # A route that is missing for a moment is repaired; this does not restart the probe.
            if running is None or running.route_probe != route_probe or not routes <= running.routes:
                self._cancel(name)
                self._start(route_probe, routes, source)

    def _restore(self, overlay: NodeOverlay) -> None:
        """On the first object, resume from what an earlier run applied if there is something to prove."""
        last_applied, self._last_applied = self._last_applied, None
        if last_applied is not None and any(each.probe is not None for each in overlay.generations):
            self._last = last_applied()
            self._known = self._last is not None
            self._route_probes = self._last.report.route_probes if self._last is not None else ()

    def _start(self, route_probe: RouteProbe, routes: frozenset[DesiredRoute], source: IpAddress | None) -> None:
        """Start a probe, unless the kernel has none of the routes yet or the object no longer has the generation."""
        generations = self._last.generations if self._last is not None else ()
        generation = next((each for each in generations if route_probe.matches(each)), None)
        if generation is None or generation.probe is None or not routes:
            return
        task = asyncio.create_task(self._probe_target(generation.probe, source))
        task.add_done_callback(lambda task: None if task.cancelled() else self._changed())
        name = route_probe.static_route
        complete = routes == frozenset(group_by_static_route(self._last).get(name, ()))
        self._running[name] = _Running(route_probe, routes, complete, task)

    def _cancel(self, name: str) -> None:
        running = self._running.pop(name, None)
        if running is not None:
            running.task.cancel()

    def _conclude_ended(self) -> None:
        for running in self._running.values():
            if not running.task.done() or running.route_probe not in self._route_probes:
                continue
            error = running.task.exception()
            failure = f"the target could not be probed: {error}" if error else running.task.result()
            if not failure and not running.complete:
                # The other routes are probed when the kernel has them.
                continue
            self._route_probes = conclude_probe(self._route_probes, running.route_probe, failure)
            fields = {
                "static_route": running.route_probe.static_route,
                "generation": running.route_probe.generation,
            }
            if failure:
                log.warning("route probe failed", extra={**fields, "error": failure})
            else:
                log.info("route probe succeeded", extra=fields)
