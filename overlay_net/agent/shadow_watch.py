"""Watches whether the kernel uses our routes, in a task of its own: reconciliations never wait for the lookups."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias

from overlay_net.domain.kernel.shadowed_routes import LookupTarget, find_shadowed, lookup_targets
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Observed, OwnershipMark
from overlay_net.model.kernel_actions import KernelPlan, Problem
from overlay_net.model.route import Route
from overlay_net.model.route_lookup import RouteLookup
from overlay_net.runtime.offload import offload

log = logging.getLogger(__name__)

Placed: TypeAlias = tuple[tuple[DesiredRoute, str], ...]

INTERVAL: Final = 1.0
"""Minimum number of seconds between two checks."""

FIRST_RESULT: Final = 1.0
"""Maximum number of seconds that a new agent waits for its first check before it reports."""

REST: Final = 20.0
"""How many times as long as a check took to wait before the next one: other daemons may change routes all the time."""


class RoutingKernel(Protocol):
    """Both methods raise KernelError."""

    async def observe_routing(self) -> Observed: ...
    async def look_up(self, lookups: Sequence[RouteLookup]) -> list[Route | None]: ...


class ShadowWatch:
    """``changed`` is called when ``shadowed`` has changed; ``clock`` is monotonic."""

    def __init__(
        self, kernel: RoutingKernel, mark: OwnershipMark, changed: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self._kernel = kernel
        self._mark = mark
        self._changed = changed
        self._clock = clock
        self._due = asyncio.Event()
        self._placed: Placed = ()
        self._observed = Observed()
        self._outdated = False
        """Whether routes or rules may have changed since that observation."""
        self._shadowed: tuple[Problem, ...] = ()
        self._not_before = clock()
        self._failing = False
        self._checked = asyncio.Event()
        """Set once routes have been checked, even if the kernel could not be asked."""

    @property
    def shadowed(self) -> tuple[Problem, ...]:
        """The routes that the kernel did not use when it was asked last."""
        return self._shadowed

    def follow(self, plan: KernelPlan, observed: Observed) -> None:
        """Check the routes of this plan that are in place, after each reconciliation."""
        self._placed, self._observed = plan.placed, observed
        self._due.set()

    def kernel_changed(self) -> None:
        """Check again, because routes or rules of any process have changed."""
        self._outdated = True
        self._due.set()

    async def first_result(self) -> None:
        """Wait until the routes in place have been checked once, for at most ``FIRST_RESULT`` seconds."""
        if self._placed and not self._checked.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._checked.wait(), FIRST_RESULT)

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await self._due.wait()
            await asyncio.sleep(max(0.0, self._not_before - self._clock()))
            self._due.clear()
            began = self._clock()
            placed = self._placed
            await self._check(placed)
            if placed:
                self._checked.set()
            now = self._clock()
            self._not_before = now + max(INTERVAL, REST * (now - began))

    async def _check(self, placed: Placed) -> None:
        """Update ``shadowed``; if the kernel cannot be asked, the last answers stay."""
        try:
            shadowed = await self._find(placed) if placed else ()
        except KernelError as error:
            if not self._failing:
                log.warning("cannot look up which routes the kernel uses", extra={"error": str(error)})
            self._failing = True
            return
        self._failing = False
        if shadowed != self._shadowed:
            self._shadowed = shadowed
            log.info("routes in use changed", extra={"not_used": len(shadowed), "checked": len(placed)})
            self._changed()

    async def _find(self, placed: Placed) -> tuple[Problem, ...]:
        observed = self._observed
        if self._outdated:
            self._outdated = False
            observed = await self._kernel.observe_routing()
        targets = await offload(len(placed), lookup_targets, placed, observed, self._mark)
        answers = await self._kernel.look_up([target.lookup for target in targets])
        return await offload(len(targets), self._judge, targets, answers, observed)

    def _judge(
        self, targets: Sequence[LookupTarget], answers: Sequence[Route | None], observed: Observed
    ) -> tuple[Problem, ...]:
        return find_shadowed(targets, answers, observed, self._mark)
