"""Applies a plan to the kernel in order, and collects the actions that the kernel refused."""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Final, Protocol, TypeAlias

from overlay_net.adapters.netlink import action_fields
from overlay_net.agent.address_guard import AddressGuard, AddressInUse
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Desired, Observed
from overlay_net.model.kernel_actions import (
    ROUTE_ACTIONS,
    AddAddress,
    AddRoute,
    DeleteRoute,
    KernelAction,
    KernelPlan,
    ReplaceRoute,
    RouteAction,
    SetSysctl,
)
from overlay_net.model.kernel_changes import KernelChanges
from overlay_net.model.policy_rule import AddPolicyRule, DeletePolicyRule
from overlay_net.ops.agent_metrics import AgentMetrics

log = logging.getLogger(__name__)

Refusals: TypeAlias = Mapping[DesiredRoute | None, str]
"""Error text by refused route; the key None stands for a link, address, policy rule or sysctl."""

INDEPENDENT: Final = (AddPolicyRule, DeletePolicyRule)
"""Actions that addresses and routes do not depend on; if one fails, the plan continues and the report names it."""


class NodeKernel(Protocol):
    """The kernel of this network namespace; every method raises KernelError."""

    async def observe(
        self, sysctl_links: Collection[str], *, awaited: AwaitedRoutes, changes: KernelChanges
    ) -> Observed: ...
    async def apply(self, action: KernelAction) -> None: ...
    async def apply_sysctls(self, actions: Sequence[SetSysctl]) -> list[tuple[SetSysctl, KernelError]]: ...
    async def apply_routes(self, actions: Sequence[RouteAction]) -> list[tuple[RouteAction, KernelError]]: ...


class PlanApplier:
    def __init__(self, kernel: NodeKernel, guard: AddressGuard, metrics: AgentMetrics) -> None:
        self._kernel = kernel
        self._guard = guard
        self._metrics = metrics

    async def apply(self, plan: KernelPlan, desired: Desired, observed: Observed) -> Refusals:
        """Apply consecutive actions on routes, and those on sysctls, in bulk and all other actions one by one.

        A refused link or address action stops the plan, because later actions depend on it. Raises KernelError if the
        outcome of a bulk of routes is unknown.
        """
        refusals: dict[DesiredRoute | None, str] = {}
        for _, run in groupby(plan.actions, key=_bulk):
            actions = list(run)
            self._metrics.count_changes(count_kinds(actions))
            if routes := [action for action in actions if isinstance(action, ROUTE_ACTIONS)]:
                refusals |= await self._apply_routes(routes, desired)
                continue
            if sysctls := [action for action in actions if isinstance(action, SetSysctl)]:
                refusals |= await self._apply_sysctls(sysctls)
                continue
            for action in actions:
                error = await self._apply_one(action, observed)
                if error:
                    refusals[None] = error
                    if not isinstance(action, INDEPENDENT):
                        return refusals
        return refusals

    async def _apply_one(self, action: KernelAction, observed: Observed) -> str:
        """Apply one action. Returns an error text, or an empty string on success."""
        try:
            if isinstance(action, AddAddress):
                await self._guard.admit(action, observed)
            await self._kernel.apply(action)
        except AddressInUse as conflict:
            return str(conflict)
        except KernelError as error:
            log.warning("kernel refused a change", extra={**action_fields(action), "error": str(error)})
            return str(error)
        log.info("kernel changed", extra=action_fields(action))
        return ""

    async def _apply_sysctls(self, sysctls: Sequence[SetSysctl]) -> Refusals:
        # A new link needs more than a dozen; one by one, they would take most of the time of its repair.
        refused = await self._kernel.apply_sysctls(sysctls)
        errors = {action: str(error) for action, error in refused}
        for action, error in errors.items():
            log.warning("kernel refused a change", extra={**action_fields(action), "error": error})
        if changed := [f"{each.link}.{each.key}={each.value}" for each in sysctls if each not in errors]:
            log.info("sysctls changed", extra={"sysctls": " ".join(changed)})
        return {None: next(reversed(errors.values()))} if errors else {}

    async def _apply_routes(self, routes: Sequence[RouteAction], desired: Desired) -> Refusals:
        refused = await self._kernel.apply_routes(routes)
        counts = Counter(map(type, routes))
        log.info(
            "routes changed",
            extra={
                "added": counts[AddRoute],
                "replaced": counts[ReplaceRoute],
                "deleted": counts[DeleteRoute],
                "refused": len(refused),
            },
        )
        desired_routes = {route.key: route for route in desired.routes} if refused else {}
        for action, error in refused:
            log.warning("kernel refused a route", extra={**action_fields(action), "error": str(error)})
        return {
            # Routes that no StaticRoute specifies: that of the overlay subnet, and those of source routing.
            desired_routes.get(action.route.key): str(error)
            for action, error in refused
            if action.route.key in desired_routes or not isinstance(action, DeleteRoute)
        }


def _bulk(action: KernelAction) -> str:
    """Return what the action is applied in bulk with; empty: nothing."""
    if isinstance(action, ROUTE_ACTIONS):
        return "routes"
    return "sysctls" if isinstance(action, SetSysctl) else ""


def count_kinds(actions: Iterable[KernelAction]) -> dict[str, int]:
    """Count the actions by kind."""
    return {kind.__name__: count for kind, count in Counter(map(type, actions)).items()}
