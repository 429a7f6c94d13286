"""This node: observe the kernel, plan, apply, observe again, report. The decisions are in domain."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from overlay_net.domain.desired import desired_state
from overlay_net.domain.kernel_plan import plan_kernel
from overlay_net.domain.report import configured_address, report_of
from overlay_net.domain.route_plan import kernel_key
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import (
    AddRoute,
    DeleteRoute,
    Desired,
    DesiredLink,
    DesiredRoute,
    KernelAction,
    KernelPlan,
    Marks,
    Observed,
    ReplaceRoute,
    SetSysctl,
)
from overlay_net.model.overlay import NodeOverlay, Report
from overlay_net.ops.metrics import Metrics
from overlay_net.runtime.store import Store
from overlay_net.runtime.worker import Requeue

log = logging.getLogger(__name__)

MAX_PASSES = 4
"""Looks at the kernel in one reconciliation. What is still not right then waits for the next event or resync."""


class NodeKernel(Protocol):
    """The kernel of this network namespace; both methods raise KernelError."""

    async def observe(self) -> Observed: ...
    async def apply(self, action: KernelAction) -> None: ...
    async def apply_routes(
        self, actions: Sequence[AddRoute | ReplaceRoute | DeleteRoute]
    ) -> list[tuple[AddRoute | ReplaceRoute | DeleteRoute, KernelError]]: ...


Publish = Callable[[NodeOverlay, Report], Awaitable[None]]


class NodeAgent:
    def __init__(
        self,
        kernel: NodeKernel,
        store: Store[NodeOverlay],
        publish: Publish,
        link: DesiredLink,
        marks: Marks,
        metrics: Metrics,
        resync: Callable[[], float],
    ) -> None:
        self._kernel = kernel
        self._store = store
        self._publish = publish
        self._link = link
        self._marks = marks
        self._metrics = metrics
        self._resync = resync

    async def reconcile(self, name: str) -> Requeue | None:
        """Converge the kernel to the node's object and report; then again after the resync interval.

        Until the object was read, or its absence confirmed, the kernel is left as it is.
        """
        if not self._store.synced:
            return Requeue(1)
        overlay = self._store.get(name)
        desired = desired_state(overlay, self._link)
        began = asyncio.get_running_loop().time()
        changed, observed, plan, errors = await self._converge(desired)
        if changed:
            self._metrics.converge_seconds.observe(asyncio.get_running_loop().time() - began)
        configured = configured_address(overlay, desired, observed, self._marks)
        self._metrics.configured.set(configured is not None and configured == desired.address)
        if overlay is not None:
            report = report_of(overlay, desired, self._link, plan, errors, configured, datetime.now(UTC))
            for state, count in (("ready", report.routes_ready), ("failed", report.routes_failed)):
                self._metrics.routes.labels(state).set(count)
            if report != overlay.report:
                await self._publish(overlay, report)
        return Requeue(self._resync())

    async def _converge(self, desired: Desired) -> tuple[bool, Observed, KernelPlan, dict[DesiredRoute | None, str]]:
        """Whether anything was changed, the last look, what it left to do, and what the kernel refused."""
        changed = False
        errors: dict[DesiredRoute | None, str] = {}
        observed = await self._kernel.observe()
        plan = plan_kernel(desired, observed, self._marks)
        for _ in range(MAX_PASSES):
            if not plan.actions:
                break
            errors = await self._apply(plan, desired)
            changed = True
            observed = await self._kernel.observe()
            before, plan = plan, plan_kernel(desired, observed, self._marks)
            if plan.actions == before.actions:
                # The kernel refuses: the same again would be refused again.
                break
        return changed, observed, plan, errors

    async def _apply(self, plan: KernelPlan, desired: Desired) -> dict[DesiredRoute | None, str]:
        """Apply the plan in its order, runs of routes in bulk.

        A refused link or address ends it, as later actions lean on earlier ones; routes and sysctls stand alone.
        """
        owners = {kernel_key(route): route for route in desired.routes}
        errors: dict[DesiredRoute | None, str] = {}
        routes: list[AddRoute | ReplaceRoute | DeleteRoute] = []

        async def flush() -> None:
            if not routes:
                return
            for action, error in await self._kernel.apply_routes(routes):
                log.warning("route refused by the kernel: %s", error)
                owner = owners.get(action.route.key)
                if owner is not None:
                    errors[owner] = str(error)
            routes.clear()

        for action in plan.actions:
            self._metrics.kernel_changes.labels(type(action).__name__).inc()
            if isinstance(action, AddRoute | ReplaceRoute | DeleteRoute):
                routes.append(action)
                continue
            await flush()
            try:
                await self._kernel.apply(action)
            except KernelError as error:
                log.warning("refused by the kernel: %s", error)
                errors[None] = str(error)
                if isinstance(action, SetSysctl):
                    # Addresses and routes work without; the report says what is missing.
                    continue
                return errors
            log.info("kernel changed", extra={"action": str(action)})
        await flush()
        return errors
