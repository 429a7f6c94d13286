"""This node: observe the kernel, plan, apply, observe again, report. The decisions are in domain."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Protocol

from overlay_net.adapters.netlink import action_fields
from overlay_net.agent.address_guard import Duplicate, Surroundings
from overlay_net.agent.route_probes import RouteProbes
from overlay_net.domain.kernel.desired import LinkConfig, desired_link, desired_state, link_config_for
from overlay_net.domain.kernel.next_hops import fallback_gateway
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.domain.kernel.repair_damping import RepairDamping
from overlay_net.domain.kernel.report import Around, configured_address, make_report
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import (
    Desired,
    DesiredLink,
    DesiredRoute,
    Observed,
    OwnershipMark,
)
from overlay_net.model.kernel_actions import (
    ROUTE_ACTIONS,
    AddAddress,
    KernelAction,
    KernelPlan,
    RouteAction,
    SetSysctl,
)
from overlay_net.model.net import IpAddress
from overlay_net.model.overlay import NodeOverlay, Report
from overlay_net.model.policy_rule import AddPolicyRule, DeletePolicyRule
from overlay_net.model.route_probe import RouteProbe
from overlay_net.ops.metrics import AgentMetrics
from overlay_net.runtime.offload import offload
from overlay_net.runtime.store import Store
from overlay_net.runtime.worker import Requeue

log = logging.getLogger(__name__)

MAX_PASSES = 4
"""Changes and looks in one reconciliation. What is not right even then is gone on with after a moment."""
AGAIN = 1.0
"""Seconds of that moment."""


class NodeKernel(Protocol):
    """The kernel of this network namespace; both methods raise KernelError."""

    async def observe(self, sysctl_links: Collection[str]) -> Observed: ...
    async def apply(self, action: KernelAction) -> None: ...
    async def apply_routes(self, actions: Sequence[RouteAction]) -> list[tuple[RouteAction, KernelError]]: ...


Publish = Callable[[NodeOverlay, Report], Awaitable[None]]


class Memory(Protocol):
    """Keeps what the node must have beyond the end of this process."""

    async def remember(self, overlay: NodeOverlay, route_probes: tuple[RouteProbe, ...]) -> None: ...
    async def forget(self) -> str:
        """An empty text, or why it is still kept."""
        ...


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the kernel, and what follows from it."""

    observed: Observed
    link: DesiredLink
    """Where the address belongs: it depends on which interfaces there are."""
    desired: Desired
    plan: KernelPlan


@dataclass(slots=True)
class Outcome:
    """Where the passes of one reconciliation ended."""

    last: Look
    changed: bool = False
    repaired: tuple[KernelAction, ...] = ()
    """What the last pass had to do."""
    errors: dict[DesiredRoute | None, str] = field(default_factory=dict)
    """What the kernel refused, by route (None: link or address)."""
    unfinished: bool = False
    """Each pass got further, and there was none left."""


def _source(look: Look) -> IpAddress | None:
    """The overlay address, where the kernel has it."""
    address = look.desired.address
    return (
        address.ip
        if address is not None and any(each.interface == address for each in look.observed.addresses)
        else None
    )


class NodeAgent:
    def __init__(
        self,
        kernel: NodeKernel,
        store: Store[NodeOverlay],
        publish: Publish,
        rules: LinkConfig,
        mark: OwnershipMark,
        metrics: AgentMetrics,
        resync: Callable[[], float],
        surroundings: Surroundings | None = None,
        memory: Memory | None = None,
        recall: Callable[[], NodeOverlay | None] = lambda: None,
        route_probes: RouteProbes | None = None,
    ) -> None:
        self._kernel = kernel
        self._store = store
        self._publish = publish
        self._rules = rules
        self._marks = mark
        self._metrics = metrics
        self._resync = resync
        self._sysctl_links = {rules.name}
        """The overlay link and every parent used so far."""
        self._surroundings = surroundings
        self._repairs = RepairDamping()
        self._settled: Desired | None = None
        """What the kernel was last seen to have."""
        self._memory = memory
        self._recall = recall
        self._trials = route_probes

    async def reconcile(self, name: str) -> Requeue | None:
        """Converge the kernel to the node's object and report; then again after the resync interval.

        Until the object was read, or its absence confirmed, the kernel is brought to the last known object if that may
        still be believed, and else left as it is.
        """
        if not self._store.synced:
            recalled = self._recall()
            if recalled is None:
                return Requeue(1)
            route_probes = self._trials.follow(recalled) if self._trials is not None else ()
            await self._keep(recalled, route_probes)
            return Requeue(self._wait(await self._converge(recalled)))
        overlay = self._store.get(name)
        route_probes = self._trials.follow(overlay) if self._trials is not None else ()
        # Before anything is changed or reported: what the controller gives away then must not come back from here, and
        # a change that is cut off must be known as one that is not proven.
        still_kept = await self._keep(overlay, route_probes)
        outcome = await self._converge(overlay)
        last = outcome.last
        around = self._around(last.desired)
        configured = configured_address(overlay, last.desired, last.observed, self._marks)
        self._metrics.configured.set(configured is not None and configured == last.desired.address)
        if overlay is not None:
            errors = {None: still_kept, **outcome.errors} if still_kept else outcome.errors
            now = datetime.now(UTC)
            report = make_report(
                overlay,
                last.desired,
                last.link,
                last.plan,
                errors,
                configured,
                now,
                around=around,
                fallback=self._fallback(last),
                route_probes=route_probes,
            )
            self._metrics.set_routes(report.routes_desired, report.routes_ready, report.routes_failed)
            if report != overlay.report:
                await self._publish(overlay, report)
        self._show(around)
        return Requeue(self._wait(outcome))

    def _show(self, around: Around) -> None:
        """In the metrics: it went well up to here, and what is going on around."""
        self._metrics.record_sync()
        gateways = self._surroundings.gateways if self._surroundings is not None else {}
        duplicate = around.duplicate is not None or bool(around.claimed_by)
        self._metrics.set_probe_results(duplicate, {str(address): up for address, up in gateways.items()})

    def _wait(self, outcome: Outcome) -> float:
        """Seconds until the next look that nobody asks for."""
        if outcome.unfinished:
            return AGAIN
        sooner = self._surroundings.wait if self._surroundings is not None else None
        return min(self._resync(), sooner) if sooner is not None else self._resync()

    def _fallback(self, look: Look) -> IpAddress | None:
        """The gateway of routes without one, on a node with routes only."""
        towards = look.desired.fallback
        return fallback_gateway(look.observed, towards, self._marks) if towards is not None else None

    def _around(self, desired: Desired) -> Around:
        if self._surroundings is None:
            return Around()
        duplicate = self._surroundings.duplicate
        own = desired.address.ip if desired.address is not None else None
        return Around(
            duplicate=duplicate.address if duplicate else None,
            duplicate_mac=duplicate.mac if duplicate else "",
            claimed_by=self._surroundings.claims.get(own, "") if own else "",
            silent=self._surroundings.silent,
        )

    async def _keep(self, overlay: NodeOverlay | None, route_probes: tuple[RouteProbe, ...]) -> str:
        """Remember the object, or forget it once it goes; why it could not be forgotten."""
        if self._memory is None:
            return ""
        if overlay is None or overlay.deleting:
            return await self._memory.forget()
        await self._memory.remember(overlay, route_probes)
        return ""

    async def _look(self, overlay: NodeOverlay | None) -> Look:
        observed = await self._kernel.observe(self._sysctl_links)
        link = desired_link(link_config_for(overlay, self._rules), observed, self._marks)
        if link.parent and link.parent not in self._sysctl_links:
            self._sysctl_links.add(link.parent)
            observed = await self._kernel.observe(self._sysctl_links)
        desired = desired_state(overlay, link, self._rules.fallback, self._rules.source)
        if self._surroundings is not None:
            desired = replace(desired, down=self._surroundings.down)
        # Pure, and a tenth of a second for ten thousand: the loop has probes to send meanwhile.
        plan = await offload(len(desired.routes), plan_kernel, desired, observed, self._marks)
        return Look(observed, link, desired, plan)

    async def _converge(self, overlay: NodeOverlay | None) -> Outcome:
        began = asyncio.get_running_loop().time()
        if overlay is not None and self._trials is not None:
            overlay = self._trials.in_force(overlay)
        outcome = Outcome(await self._look(overlay))
        first = outcome.last
        if first.plan.actions and first.desired == self._settled:
            # Nothing else is wished than what was there: somebody has changed it.
            self._metrics.repaired(_counted(first.plan.actions))
        for _ in range(MAX_PASSES):
            before = outcome.last.plan
            if not before.actions:
                break
            outcome.repaired = before.actions
            outcome.errors = await self._apply(outcome.last)
            outcome.changed = True
            outcome.last = await self._look(overlay)
            if outcome.last.plan.actions == before.actions:
                # The kernel refuses: the same again would be refused again.
                break
        else:
            outcome.unfinished = bool(outcome.last.plan.actions)
        self._settled = None if outcome.last.plan.actions else outcome.last.desired
        if self._surroundings is not None:
            self._surroundings.settle(outcome.last.desired, outcome.last.observed)
        if self._trials is not None:
            self._trials.settle(outcome.last.plan, _source(outcome.last))
        if outcome.changed:
            now = asyncio.get_running_loop().time()
            self._metrics.converge_seconds.observe(now - began)
            self._count(now, outcome)
        return outcome

    def _count(self, now: float, outcome: Outcome) -> None:
        peace = not self._repairs.pause(now)
        self._repairs = self._repairs.one_more(now)
        if peace and self._repairs.pause(now):
            last = action_fields(outcome.repaired[-1]) if outcome.repaired else {}
            log.warning("another process keeps reverting our changes; backing off", extra=last)

    @property
    def pause(self) -> float:
        """Seconds to wait before the next repair, because of a fight."""
        return self._repairs.pause(asyncio.get_running_loop().time())

    async def _apply(self, look: Look) -> dict[DesiredRoute | None, str]:
        """Apply the plan in its order, runs of routes in bulk.

        A refused link or address ends it, as later actions lean on earlier ones; routes, rules and sysctls stand alone.
        """
        errors: dict[DesiredRoute | None, str] = {}
        for _, run in groupby(look.plan.actions, key=lambda action: isinstance(action, ROUTE_ACTIONS)):
            actions = list(run)
            self._metrics.changed(_counted(actions))
            routes = [action for action in actions if isinstance(action, ROUTE_ACTIONS)]
            if routes:
                errors |= await self._apply_routes(look, routes)
                continue
            for action in actions:
                try:
                    if isinstance(action, AddAddress) and self._surroundings is not None:
                        await self._surroundings.admit(action, look.observed)
                    await self._kernel.apply(action)
                except Duplicate as duplicate:
                    errors[None] = str(duplicate)
                    return errors
                except KernelError as error:
                    log.warning("refused by the kernel: %s", error)
                    errors[None] = str(error)
                    if isinstance(action, SetSysctl | AddPolicyRule | DeletePolicyRule):
                        # Addresses and routes work without; the report says what is missing.
                        continue
                    return errors
                log.info("kernel changed", extra=action_fields(action))
        return errors

    async def _apply_routes(self, look: Look, routes: Sequence[RouteAction]) -> dict[DesiredRoute | None, str]:
        refused = await self._kernel.apply_routes(routes)
        counts = Counter(map(type, routes))
        log.info(
            "routes changed: %d added, %d replaced, %d deleted, %d of them refused",
            *(counts[kind] for kind in ROUTE_ACTIONS),
            len(refused),
        )
        owners = {route.route_key: route for route in look.desired.routes} if refused else {}
        for _, error in refused:
            log.warning("route refused by the kernel: %s", error)
        return {
            owners[action.route.route_key]: str(error) for action, error in refused if action.route.route_key in owners
        }


def _counted(actions: Iterable[KernelAction]) -> dict[str, int]:
    """Kind of action -> how many."""
    return {kind.__name__: count for kind, count in Counter(map(type, actions)).items()}
