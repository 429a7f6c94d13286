"""Proves changes of StaticRoutes that have a probe: asks the target once the kernel has the new routes.

domain.trials decides what is tried and what an answer means; here are the questions, one task for each change.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Protocol

from overlay_net.adapters.ping import connects, echo
from overlay_net.domain.kernel.probe_rollback import acted_on, conclude, follow, in_force, routes_by_owner
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import DesiredRoute
from overlay_net.model.kernel_actions import KernelPlan
from overlay_net.model.net import IpAddress
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_probe import Probe, RouteProbe

log = logging.getLogger(__name__)

ATTEMPT: Final = 1.0
"""Seconds that one question waits: a packet may be lost while neighbours are looked for."""
PAUSE: Final = 0.2


class Ask(Protocol):
    """An empty text once the target answers, or why it did not within the probe's time."""

    async def __call__(self, probe: Probe, source: IpAddress | None) -> str: ...


async def ask(probe: Probe, source: IpAddress | None) -> str:
    """From ``source`` where that is an address of the target's family, on the way that the kernel's routes lead."""
    loop = asyncio.get_running_loop()
    until = loop.time() + probe.timeout
    own = source if source is not None and source.version == probe.target.version else None
    refused = ""
    while (left := until - loop.time()) > 0:
        wait = min(left, ATTEMPT)
        try:
            if await (connects(probe.target, probe.port, own, "", wait) if probe.port else _echo(probe, own, wait)):
                return ""
            refused = ""
        except KernelError as error:
            refused = f" ({error})"
        await asyncio.sleep(min(PAUSE, max(0.0, until - loop.time())))
    return f"{probe} did not answer within {probe.timeout:g} s{refused}"


async def _echo(probe: Probe, source: IpAddress | None, wait: float) -> bool:
    return await echo(probe.target, source, "", wait)


@dataclass(slots=True)
class _Question:
    route_probe: RouteProbe
    routes: frozenset[DesiredRoute]
    """Those that the kernel had."""
    complete: bool
    """Whether they are all of the change's."""
    task: "asyncio.Task[str]"


class RouteProbes:
    """``changed`` is called when a question was answered. An async context manager, which ends its tasks.

    ``kept`` reads the object that an earlier run acted on last, with its trials, once, and only if there is something
    to prove; None: nobody knows.
    """

    def __init__(self, changed: Callable[[], None], kept: Callable[[], NodeOverlay | None], ask: Ask = ask) -> None:
        self._changed = changed
        self._ask = ask
        self._kept: Callable[[], NodeOverlay | None] | None = kept
        self._known = False
        self._last: NodeOverlay | None = None
        self._trials: tuple[RouteProbe, ...] = ()
        self._questions: dict[str, _Question] = {}
        self._in_force: tuple[NodeOverlay, tuple[RouteProbe, ...], NodeOverlay] | None = None

    async def __aenter__(self) -> "RouteProbes":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [question.task for question in self._questions.values()]
        for task in tasks:
            task.cancel()
        self._questions.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    def follow(self, overlay: NodeOverlay | None) -> tuple[RouteProbe, ...]:
        """The trials now that the node must have this (None: it must have nothing, and that is certain)."""
        self._conclude()
        if overlay is None or overlay.deleting:
            self._trials, self._last, self._known, self._kept = (), None, True, None
            return ()
        if self._kept is not None and any(each.probe is not None for each in overlay.generations):
            self._last = self._kept()
            self._known = self._last is not None
            self._trials = self._last.report.route_probes if self._last is not None else ()
        self._kept = None
        route_probes = self._trials if self._known else overlay.report.route_probes
        self._trials = follow(route_probes, self._last, overlay, known=self._known)
        self._last, self._known = overlay, True
        return self._trials

    def in_force(self, overlay: NodeOverlay) -> NodeOverlay:
        """``overlay`` with the routes that the node has for now: the same value while nothing changes."""
        if self._in_force is None or self._in_force[0] is not overlay or self._in_force[1] != self._trials:
            routes = in_force(overlay.routes, self._trials)
            standing = overlay if routes is overlay.routes else replace(overlay, routes=routes)
            self._in_force = (overlay, self._trials, standing)
        return self._in_force[2]

    def settle(self, plan: KernelPlan, source: IpAddress | None) -> None:
        """After the last look at the kernel, which left ``plan``: ask about what it has. ``source``: our address."""
        open_trials = {
            route_probe.static_route: route_probe for route_probe in self._trials if route_probe.state == "Probing"
        }
        for name in self._questions.keys() - open_trials.keys():
            self._questions.pop(name).task.cancel()
        for name, route_probe in open_trials.items():
            routes = acted_on(name, plan)
            told = (
                next((each for each in self._last.generations if route_probe.is_of(each)), None) if self._last else None
            )
            before = self._questions.get(name)
            if before is not None and before.route_probe == route_probe and routes <= before.routes:
                # A route that is lost for a moment is repaired, and no reason to begin anew.
                continue
            if before is not None:
                self._questions.pop(name).task.cancel()
            if told is None or told.probe is None or not routes:
                continue
            task = asyncio.create_task(self._ask(told.probe, source))
            task.add_done_callback(lambda task: None if task.cancelled() else self._changed())
            complete = routes == frozenset(routes_by_owner(self._last).get(name, ()))
            self._questions[name] = _Question(route_probe, routes, complete, task)

    def _conclude(self) -> None:
        for question in self._questions.values():
            if not question.task.done() or question.route_probe not in self._trials:
                continue
            error = question.task.exception()
            failure = f"the target could not be asked: {error}" if error else question.task.result()
            if not failure and not question.complete:
                # The rest is asked about when the kernel has it.
                continue
            told = {"static_route": question.route_probe.static_route, "generation": question.route_probe.generation}
            self._trials = conclude(self._trials, question.route_probe, failure)
            if failure:
                log.warning("a change is rolled back: %s", failure, extra=told)
            else:
                log.info("a change is proven", extra=told)
