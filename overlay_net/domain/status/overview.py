"""The summary that `overlay-net status` prints: the numbers of ready objects, and the problems, pools first."""

from collections.abc import Iterable
from dataclasses import dataclass

from overlay_net.model.conditions import ADDRESS_CLAIMED, CONFIGURED, READY, RESERVED, Condition, find_condition
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import parse_int
from overlay_net.model.pool import Pool
from overlay_net.model.static_route import StaticRoute

NOT_RECONCILED = "not reconciled yet; is the controller running?"


@dataclass(frozen=True, slots=True)
class Finding:
    """One object that is not ready, and why."""

    kind: str
    """``pool``, ``node`` or ``route``."""
    name: str
    message: str


@dataclass(frozen=True, slots=True)
class Overview:
    counts: tuple[str, ...]
    """The numbers of all and of ready objects, one line for each kind."""
    findings: tuple[Finding, ...]


def overview(
    nodes: Iterable[str], overlays: Iterable[NodeOverlay], routes: Iterable[StaticRoute], pools: Iterable[Pool]
) -> Overview:
    """``nodes`` are the names of the Nodes. Pools come first, because their problems cause problems on nodes."""
    names, objects, static_routes, sources = set(nodes), list(overlays), list(routes), list(pools)
    at_pools = [finding for pool in sources for finding in _check_pool(pool)]
    missing = sorted(names - {overlay.name for overlay in objects})
    at_nodes = [Finding("node", name, "no NodeOverlayIp yet; is the controller running?") for name in missing]
    at_nodes += [finding for overlay in objects for finding in _check_node(overlay, present=overlay.name in names)]
    at_routes = [finding for route in static_routes for finding in _check_route(route)]
    used, free = (sum(parse_int(pool.status.get(key)) for pool in sources) for key in ("used", "free"))
    return Overview(
        counts=(
            f"nodes   {len(names) - len({each.name for each in at_nodes} & names)} of {len(names)} ready",
            f"routes  {len(static_routes) - len({each.name for each in at_routes})} of {len(static_routes)} in place",
            f"pools   {len(sources) - len(at_pools)} of {len(sources)} usable, {used} addresses used, {free} free",
        ),
        findings=(*at_pools, *at_nodes, *at_routes),
    )


def _check_pool(pool: Pool) -> list[Finding]:
    ready = find_condition(pool.conditions, READY)
    if ready is None:
        return [Finding("pool", pool.name, NOT_RECONCILED)]
    return [] if ready.status else [Finding("pool", pool.name, _describe(ready))]


def _check_node(overlay: NodeOverlay, *, present: bool) -> list[Finding]:
    if overlay.deleting:
        reserved = overlay.assignment.reserved
        problems = [f"is being deleted; {reserved.message if reserved else NOT_RECONCILED}"]
    elif not present:
        problems = ["the Node is deleted, or no agent runs on it; its address is released after release_after"]
    else:
        problems = _node_problems(overlay)
    return [Finding("node", overlay.name, "; ".join(problems))] if problems else []


def _node_problems(overlay: NodeOverlay) -> list[str]:
    reserved, configured = _failed_reservation(overlay), find_condition(overlay.report.conditions, CONFIGURED)
    ready = find_condition(overlay.report.conditions, READY)
    if ready is None:
        return [*_describe_failed(reserved), "no report from its agent; is it running?"]
    if overlay.is_ready:
        # The address is in use, but another host claims it as well.
        return [_describe(configured)] if configured is not None and configured.reason == ADDRESS_CLAIMED else []
    problems = _describe_failed(reserved, configured) or _describe_failed(ready)
    return problems if overlay.is_current else [*problems, "its agent has not observed the latest change"]


def _describe_failed(*conditions: Condition | None) -> list[str]:
    return [_describe(each) for each in conditions if each is not None and not each.status]


def _failed_reservation(overlay: NodeOverlay) -> Condition | None:
    reserved = overlay.assignment.reserved
    if overlay.routes_only and overlay.assignment.address is None:
        # The node has no address on purpose.
        return None
    return reserved if reserved is not None and not reserved.status else None


def _check_route(route: StaticRoute) -> list[Finding]:
    if route.deleting:
        return [Finding("route", route.name, "is being deleted")]
    if not route.conditions:
        return [Finding("route", route.name, NOT_RECONCILED)]
    problems = _describe_failed(*route.conditions)
    return [Finding("route", route.name, "; ".join(problems))] if problems else []


def _describe(condition: Condition) -> str:
    prefix = "no address: " if condition.type == RESERVED else ""
    return f"{prefix}{condition.reason}: {condition.message}" if condition.message else f"{prefix}{condition.reason}"
