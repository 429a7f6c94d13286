"""Watches whether the kernel uses our routes, in a task of its own: reconciliations never wait for the lookups."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Protocol, TypeAlias

from overlay_net.agent.paced import rest_after
from overlay_net.domain.kernel.shadowed_routes import LookupTarget, find_shadowed, lookup_targets, main_table_spans
from overlay_net.model.address_spans import AddressSpans
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Observed, OwnershipMark
from overlay_net.model.kernel_actions import KernelPlan, Problem
from overlay_net.model.route import Route
from overlay_net.model.route_lookup import RouteLookup
from overlay_net.runtime.offload import offload

log = logging.getLogger(__name__)

Placed: TypeAlias = tuple[tuple[DesiredRoute, str], ...]

FIRST_RESULT: Final = 1.0
"""Number of seconds after which a new agent reports without the result of its first check."""

SETTLE: Final = 0.1
"""Seconds after a change of the kernel: a repair, which such a change may need, goes first."""

STEP: Final = 1000
"""Number of lookups, about 10 ms, after which a reconciliation that has begun goes first."""


class RoutingKernel(Protocol):
    """Every method raises KernelError."""

    async def observe_rules(self) -> Observed: ...
    async def read_main_table(self, spans: AddressSpans) -> tuple[Route, ...]: ...
    async def look_up(self, lookups: Sequence[RouteLookup]) -> list[Route | None]: ...


class ShadowWatch:
    """``changed`` is called when ``known`` or ``shadowed`` has changed; ``clock`` is monotonic."""

    def __init__(
        self, kernel: RoutingKernel, mark: OwnershipMark, changed: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self._kernel = kernel
        self._mark = mark
        self._changed = changed
        self._clock = clock
        self._due = asyncio.Event()
        self._reconciled = asyncio.Event()
        """Set while no reconciliation runs; after one that failed, the next one decides."""
        self._reconciled.set()
        self._waited = 0.0
        """Seconds for which the present check has waited for reconciliations."""
        self._placed: Placed = ()
        self._observed = Observed()
        self._outdated = False
        """Whether links or rules may have changed since the last reconciliation started."""
        self._shadowed: tuple[Problem, ...] = ()
        self._not_before = clock()
        self._failing = False
        self._checked = False
        self._known_at: float | None = None

    @property
    def shadowed(self) -> tuple[Problem, ...]:
        """The routes that the kernel did not use when it was asked last."""
        return self._shadowed

    @property
    def known(self) -> bool:
        """Whether routes have been checked once, as far as the kernel answers."""
        return not self._placed or self._checked or (self._known_at is not None and self._clock() >= self._known_at)

    def reconciling(self) -> None:
        """Note that a reconciliation starts: it observes all changes so far, and ``follow`` ends it."""
        self._outdated = False
        self._reconciled.clear()

    def follow(self, plan: KernelPlan, observed: Observed) -> None:
        """Check the routes of this plan that are in place, after each reconciliation."""
        self._placed, self._observed = plan.placed, observed
        if self._known_at is None and plan.placed:
            self._known_at = self._clock() + FIRST_RESULT
        self._reconciled.set()
        self._due.set()

    def kernel_changed(self) -> None:
        """Check again, because routes or rules of any process have changed."""
        self._outdated = True
        if not self._due.is_set():
            self._not_before = max(self._not_before, self._clock() + SETTLE)
            self._due.set()

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await self._due.wait()
            await asyncio.sleep(max(0.0, self._not_before - self._clock()))
            await self._reconciled.wait()
            self._due.clear()
            began, self._waited = self._clock(), 0.0
            await self._check(self._placed)
            now = self._clock()
            self._not_before = now + rest_after(now - began - self._waited)

    async def _check(self, placed: Placed) -> None:
        """Update ``shadowed``; if the kernel cannot be asked, the last answers stay."""
        before = self._shadowed, self._checked
        try:
            self._shadowed = await self._find(placed) if placed else ()
        except KernelError as error:
            if not self._failing:
                log.warning("cannot look up which routes the kernel uses", extra={"error": str(error)})
            self._failing = True
        else:
            self._failing = False
        if self._shadowed != before[0]:
            log.info("routes in use changed", extra={"not_used": len(self._shadowed), "checked": len(placed)})
        self._checked = self._checked or bool(placed)
        if (self._shadowed, self._checked) != before:
            self._changed()

    async def _find(self, placed: Placed) -> tuple[Problem, ...]:
        observed = self._observed
        if self._outdated:
            self._outdated = False
            observed = await self._kernel.observe_rules()
        spans = await offload(len(placed), main_table_spans, placed)
        # A reconciliation reads those routes of other processes only that a plan needs.
        observed = replace(observed, routes=await self._kernel.read_main_table(spans))
        size = len(placed) + len(observed.routes)
        targets = await offload(size, lookup_targets, placed, observed, self._mark)
        answers = await self._look_up([target.lookup for target in targets])
        return await offload(len(targets), self._judge, targets, answers, observed)

    async def _look_up(self, lookups: Sequence[RouteLookup]) -> list[Route | None]:
        answers: list[Route | None] = []
        for first in range(0, len(lookups), STEP):
            began = self._clock()
            await self._reconciled.wait()
            self._waited += self._clock() - began
            answers += await self._kernel.look_up(lookups[first : first + STEP])
        return answers

    def _judge(
        self, targets: Sequence[LookupTarget], answers: Sequence[Route | None], observed: Observed
    ) -> tuple[Problem, ...]:
        return find_shadowed(targets, answers, observed, self._mark)
