"""Converges the kernel to the desired state: observes, plans and applies until the plan is empty."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Final

from overlay_net.adapters.netlink import action_fields
from overlay_net.agent.address_guard import AddressGuard
from overlay_net.agent.apply import NodeKernel, PlanApplier, Refusals, count_kinds
from overlay_net.agent.gateway_watch import GatewayWatch
from overlay_net.agent.repairs import Repairs
from overlay_net.agent.route_follower import RouteFollower
from overlay_net.domain.kernel.desired import LinkConfig, desired_link, desired_state, link_config_for
from overlay_net.domain.kernel.plan import KernelPlanner
from overlay_net.domain.kernel.remembered_gateways import remembered_down, reported_down
from overlay_net.model.kernel import Desired, DesiredLink, Observed, OwnershipMark
from overlay_net.model.kernel_actions import KernelAction, KernelPlan, LinkFault
from overlay_net.model.net import IpAddress
from overlay_net.model.overlay import NodeOverlay
from overlay_net.ops.agent_metrics import AgentMetrics
from overlay_net.runtime.offload import offload

MAX_PASSES: Final = 4
"""Maximum number of plans in one reconciliation; if work is left, the next reconciliation follows soon."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One observation of the kernel, with the desired state and the plan derived from it."""

    observed: Observed
    link: DesiredLink
    """The link for the address; it depends on the existing interfaces."""
    desired: Desired
    plan: KernelPlan

    @property
    def source(self) -> IpAddress | None:
        """The overlay address, once the kernel has it."""
        address = self.desired.address
        if address is None or all(each.interface != address for each in self.observed.address_index.at(address.ip)):
            return None
        return address.ip


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of the passes of one reconciliation."""

    last: Pass
    refusals: Refusals = field(default_factory=dict)
    last_action: KernelAction | None = None
    """The last action that was attempted; None if there was nothing to do."""
    unfinished: bool = False
    """Each pass made progress, but there is still work left."""


class Convergence:
    def __init__(
        self,
        kernel: NodeKernel,
        config: LinkConfig,
        mark: OwnershipMark,
        metrics: AgentMetrics,
        guard: AddressGuard,
        gateways: GatewayWatch,
        repairs: Repairs,
        boot_id: str,
        route_follower: RouteFollower,
    ) -> None:
        self._kernel = kernel
        self._boot_id = boot_id
        self._resumed = False
        """Whether it was found out which gateways were down before this process started."""
        self._config = config
        self._mark = mark
        self._metrics = metrics
        self._guard = guard
        self._gateways = gateways
        self._repairs = repairs
        self._route_follower = route_follower
        self._planner = KernelPlanner(mark)
        self._applier = PlanApplier(kernel, guard, metrics)
        self._sysctl_links = {config.name}
        """The overlay link and every parent used so far."""
        self._settled: tuple[Desired, tuple[LinkFault, ...]] | None = None
        """The desired state and the state of the links after the last run; None if that run did not finish."""

    async def run(self, overlay: NodeOverlay | None) -> Outcome:
        """Converge the kernel to ``overlay``; None removes everything. Raises KernelError if it cannot be read."""
        began = asyncio.get_running_loop().time()
        # Before the first observation, so that no change is missed between the two.
        self._route_follower.follow(overlay)
        first = await self._plan(overlay)
        if first.plan.actions and (first.desired, first.plan.link_faults) == self._settled:
            # What is desired, and possible, is the same as in the last run, so another process changed the kernel.
            self._metrics.count_repairs(count_kinds(first.plan.actions))
        outcome = await self._apply_until_done(overlay, first)
        last = outcome.last
        self._settled = None if last.plan.actions else (last.desired, last.plan.link_faults)
        self._route_follower.record(last.plan.problems)
        if outcome.last_action is not None:
            self._metrics.converge_seconds.observe(asyncio.get_running_loop().time() - began)
            self._repairs.record(action_fields(outcome.last_action))
        return outcome

    async def _plan(self, overlay: NodeOverlay | None) -> Pass:
        observed = await self._observe()
        link = desired_link(link_config_for(overlay, self._config), observed, self._mark)
        if link.parent and link.parent not in self._sysctl_links:
            self._sysctl_links.add(link.parent)
            observed = await self._observe()
        desired = desired_state(overlay, link, self._config.fallback, self._config.source, self._config.private)
        if overlay is not None and not self._resumed:
            await self._resume(overlay, desired, observed)
        desired = replace(desired, down=self._gateways.down, held=self._gateways.held, node_ip=self._config.node_ip)
        self._guard.follow(desired, observed)
        # Pure, and a tenth of a second for ten thousand routes: gateway probes must not wait for it.
        plan = await offload(len(desired.routes) + len(observed.routes), self._planner.plan, desired, observed)
        return Pass(observed, link, desired, plan)

    async def _observe(self) -> Observed:
        changes = self._route_follower.observing()
        observed = await self._kernel.observe(self._sysctl_links, awaited=self._route_follower.awaited, changes=changes)
        self._route_follower.observed()
        return observed

    async def _resume(self, overlay: NodeOverlay, desired: Desired, observed: Observed) -> None:
        self._resumed = True
        reported = reported_down(overlay, self._boot_id)
        down = await offload(len(desired.routes), remembered_down, desired.routes, observed, self._mark, reported)
        self._gateways.resume(down, reported)

    async def _apply_until_done(self, overlay: NodeOverlay | None, current: Pass) -> Outcome:
        outcome = Outcome(current)
        for _ in range(MAX_PASSES):
            actions = outcome.last.plan.actions
            if not actions:
                return outcome
            last = outcome.last
            # Before, because the outcome is not known if this fails.
            self._route_follower.changing()
            refusals = await self._applier.apply(last.plan, last.desired, last.observed)
            outcome = Outcome(await self._plan(overlay), refusals, actions[-1])
            if outcome.last.plan.actions == actions:
                # The kernel refused these actions, and would refuse them again.
                return outcome
        return replace(outcome, unfinished=bool(outcome.last.plan.actions))
