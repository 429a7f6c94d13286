"""Reconciles this node's kernel with its NodeOverlayIp and reports the result."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, Protocol

from overlay_net.agent.address_guard import AddressGuard
from overlay_net.agent.apply import NodeKernel
from overlay_net.agent.checkpoint import NodeCheckpoint
from overlay_net.agent.convergence import Convergence, Outcome
from overlay_net.agent.gateway_watch import GatewayWatch
from overlay_net.agent.heartbeat import Heartbeat
from overlay_net.agent.repairs import Repairs
from overlay_net.agent.route_follower import FollowRoutes, RouteFollower, follow_none
from overlay_net.agent.route_probes import RouteProbes
from overlay_net.agent.route_sets import RouteResolver
from overlay_net.domain.kernel.agent_conditions import NeighbourState
from overlay_net.domain.kernel.checkpoint import CheckpointHealth
from overlay_net.domain.kernel.desired import LinkConfig
from overlay_net.domain.kernel.next_hops import fallback_gateway
from overlay_net.domain.kernel.report import configured_address, make_report
from overlay_net.domain.kernel.reverse_path import private_address_condition
from overlay_net.model.kernel import Desired, Observed, OwnershipMark
from overlay_net.model.kernel_actions import KernelPlan, Problem
from overlay_net.model.net import IpAddress
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_probe import RouteProbe
from overlay_net.ops.agent_metrics import AgentMetrics
from overlay_net.runtime.store import Store
from overlay_net.runtime.worker import Requeue

UNFINISHED_RETRY: Final = 1.0
"""Seconds until the next reconciliation if this one made progress but did not finish."""

UNKNOWN_RETRY: Final = 1.0
"""Seconds until the next reconciliation while the desired state is unknown."""


class Reports(Protocol):
    """Writes reports without being waited for."""

    @property
    def idle(self) -> bool: ...
    def latest(self, overlay: NodeOverlay) -> Report: ...
    def submit(self, overlay: NodeOverlay, report: Report) -> None: ...


class Shadows(Protocol):
    """Checks whether the kernel uses the routes that are in place."""

    @property
    def known(self) -> bool: ...
    @property
    def shadowed(self) -> tuple[Problem, ...]: ...
    def reconciling(self) -> None: ...
    def follow(self, plan: KernelPlan, observed: Observed) -> None: ...


class Translations(Protocol):
    """Keeps the source addresses of flows in step with the routes."""

    def follow(self, desired: Desired, observed: Observed, *, changed: bool) -> None: ...


class NodeAgent:
    """``resync`` returns the seconds until the next reconciliation without an event.

    ``follow_routes`` is called with the routes of other processes whose changes must start a reconciliation.
    ``metrics_problem`` returns why no metrics are served, or an empty string; ``boot_id`` is that of the machine.
    """

    def __init__(
        self,
        kernel: NodeKernel,
        store: Store[NodeOverlay],
        reports: Reports,
        config: LinkConfig,
        mark: OwnershipMark,
        metrics: AgentMetrics,
        resync: Callable[[], float],
        *,
        guard: AddressGuard,
        gateways: GatewayWatch,
        shadows: Shadows,
        translations: Translations,
        route_probes: RouteProbes,
        checkpoint: NodeCheckpoint,
        route_sets: RouteResolver,
        repairs: Repairs,
        follow_routes: FollowRoutes = follow_none,
        metrics_problem: Callable[[], str] = lambda: "",
        boot_id: str = "",
        heartbeat: Heartbeat,
    ) -> None:
        self._store = store
        self._reports = reports
        self._mark = mark
        self._metrics = metrics
        self._resync = resync
        self._guard = guard
        self._gateways = gateways
        self._shadows = shadows
        self._translations = translations
        self._route_probes = route_probes
        self._checkpoint = checkpoint
        self._route_sets = route_sets
        self._metrics_problem = metrics_problem
        self._boot_id = boot_id
        self._heartbeat = heartbeat
        self._applied: NodeOverlay | None = None
        """The desired state that was applied last; None: nothing."""
        self._has_applied = False
        self._convergence = Convergence(
            kernel, config, mark, metrics, guard, gateways, repairs, boot_id, RouteFollower(config, follow_routes)
        )

    async def reconcile(self, name: str) -> Requeue:
        """Converge the kernel to the node's object, report, and requeue after the resync interval.

        Until the object has been read or is known to be absent, the kernel is converged to the checkpoint if that is
        still valid, and otherwise left unchanged. Waits for nothing but the kernel: neither for the API server nor for
        a disk.
        """
        is_known = self._store.synced
        overlay = self._store.get(name) if is_known else self._checkpoint.usable()
        if not self._checkpoint.is_read or (overlay is None and not is_known):
            return Requeue(UNKNOWN_RETRY)
        if is_known:
            if not self._route_sets.follow(overlay):
                # Their slices arrive within milliseconds, and wake the agent.
                return await self._keep_applied()
            overlay = await self._route_sets.resolve(overlay) if overlay is not None else None
        route_probes = self._route_probes.follow(overlay)
        may_follow = self._checkpoint.may_follow(overlay, route_probes)
        if not may_follow and not self._checkpoint.update(overlay, route_probes):
            return await self._keep_applied()
        try:
            outcome = await self._converge(None if overlay is None else self._route_probes.in_force(overlay))
        finally:
            if may_follow:
                self._checkpoint.update(overlay, route_probes, awaited=False)
        self._route_probes.settle(outcome.last.plan, outcome.last.source)
        if not self._shadows.known:
            # The check takes milliseconds, and wakes the agent.
            return Requeue(UNKNOWN_RETRY)
        if is_known:
            # Otherwise there is no API server to report to.
            self._report(overlay, outcome, route_probes)
        return Requeue(self._wait(outcome))

    async def _keep_applied(self) -> Requeue:
        """Repair what was applied last, until a new desired state is known and its checkpoint is on disk."""
        if self._has_applied:
            await self._converge(self._applied)
        return Requeue(UNKNOWN_RETRY)

    async def _converge(self, overlay: NodeOverlay | None) -> Outcome:
        """Converge the kernel, then probe the gateways that it has."""
        self._applied, self._has_applied = overlay, True
        self._shadows.reconciling()
        outcome = await self._convergence.run(overlay)
        last = outcome.last
        self._gateways.follow(last.desired, last.observed, last.plan)
        self._shadows.follow(last.plan, last.observed)
        self._translations.follow(last.desired, last.observed, changed=outcome.last_action is not None)
        return outcome

    def _report(self, overlay: NodeOverlay | None, outcome: Outcome, route_probes: tuple[RouteProbe, ...]) -> None:
        """Submit the report, and set the metrics."""
        last = outcome.last
        neighbours = self._neighbour_state(last.desired)
        # The object may not have the last report yet.
        reported = None if overlay is None else replace(overlay, report=self._reports.latest(overlay))
        configured = configured_address(reported, last.desired, last.observed, self._mark)
        self._metrics.configured.set(configured is not None and configured == last.desired.address)
        if overlay is not None and reported is not None:
            report = make_report(
                reported,
                last.desired,
                last.link,
                # A problem of the plan counts more than one of an earlier check.
                replace(last.plan, problems=(*self._shadows.shadowed, *last.plan.problems)),
                outcome.refusals,
                configured,
                datetime.now(UTC),
                neighbours=neighbours,
                fallback=self._fallback(outcome),
                route_probes=route_probes,
                metrics_problem=self._metrics_problem(),
                boot_id=self._boot_id,
                lease=self._heartbeat.lease,
                checkpoint=CheckpointHealth(self._checkpoint.problem, self._checkpoint.is_outdated),
                warnings=private_address_condition(last.desired, last.observed, last.plan, self._mark),
            )
            self._metrics.set_routes(report.routes_desired, report.routes_ready, report.routes_failed)
            self._reports.submit(overlay, report)
        if self._reports.idle:
            self._metrics.record_sync()
            self._heartbeat.reconciled()
        conflict = neighbours.conflict is not None or bool(neighbours.claimed_by)
        self._metrics.set_conflict(conflict)
        self._metrics.mac_conflict.set(neighbours.mac_conflict is not None)
        self._metrics.checkpoint_stored.set(self._checkpoint.problem is None)
        self._metrics.routes_unknown.set(overlay is not None and overlay.unknown_sets is not None)
        self._metrics.set_gateways(
            {str(address): up for address, up in self._gateways.states.items()},
            {str(address): count for address, count in self._gateways.dead_routes.items()},
        )

    def _neighbour_state(self, desired: Desired) -> NeighbourState:
        rejected = self._guard.rejected
        own = desired.address.ip if desired.address is not None else None
        return NeighbourState(
            conflict=rejected.address if rejected else None,
            conflict_mac=rejected.mac if rejected else "",
            claimed_by=self._guard.conflicting_mac(own) if own else "",
            mac_conflict=self._guard.mac_conflict,
            silent=self._gateways.failures,
            probes=self._gateways.result,
            unproven=self._gateways.unproven,
            link_down=self._gateways.link_down,
        )

    def _fallback(self, outcome: Outcome) -> IpAddress | None:
        """The gateway for routes without one, on a node with routes only."""
        towards = outcome.last.desired.fallback
        return fallback_gateway(outcome.last.observed, towards, self._mark) if towards is not None else None

    def _wait(self, outcome: Outcome) -> float:
        """Seconds until the next reconciliation without an event."""
        if outcome.unfinished:
            return UNFINISHED_RETRY
        sooner = (each for each in (self._guard.wait, self._gateways.wait) if each is not None)
        return min((self._resync(), *sooner))
