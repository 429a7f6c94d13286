"""All objects -> one screen: how much is as it should be, and what is wrong, the most pressing first."""

from collections.abc import Iterable
from dataclasses import dataclass

from overlay_net.model.conditions import ADDRESS_CLAIMED, CONFIGURED, READY, RESERVED, Condition, find
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import parse_int
from overlay_net.model.pool import Pool
from overlay_net.model.static_route import StaticRoute


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    kind: str
    """``pool``, ``node`` or ``route``."""
    name: str
    message: str


@dataclass(frozen=True, slots=True)
class Overview:
    counts: tuple[str, ...]
    """How much there is and how much of it is well, a line a kind."""
    findings: tuple[Finding, ...]


def overview(
    nodes: Iterable[str], overlays: Iterable[NodeOverlay], routes: Iterable[StaticRoute], pools: Iterable[Pool]
) -> Overview:
    """``nodes`` are the names of the Nodes. Pools come first: what is wrong there shows at their nodes, too."""
    names, objects, static_routes, sources = set(nodes), list(overlays), list(routes), list(pools)
    at_pools = [finding for pool in sources for finding in _of_pool(pool)]
    absent = names - {overlay.name for overlay in objects}
    missing = "no NodeOverlayIp yet: does a controller run?"
    at_nodes = [Finding("node", name, missing) for name in sorted(absent)]
    at_nodes += [finding for overlay in objects for finding in _of_node(overlay, present=overlay.name in names)]
    at_routes = [finding for route in static_routes for finding in _of_route(route)]
    used, free = (sum(parse_int(pool.status.get(key)) for pool in sources) for key in ("used", "free"))
    return Overview(
        counts=(
            f"nodes   {len(names) - len({each.name for each in at_nodes} & names)} of {len(names)} ready",
            f"routes  {len(static_routes) - len({each.name for each in at_routes})} of {len(static_routes)} in place",
            f"pools   {len(sources) - len(at_pools)} of {len(sources)} usable, {used} addresses used, {free} free",
        ),
        findings=(*at_pools, *at_nodes, *at_routes),
    )


def _of_pool(pool: Pool) -> list[Finding]:
    ready = find(pool.conditions, READY)
    if ready is None:
        return [Finding("pool", pool.name, "nobody has looked at it yet: does a controller run?")]
    return [] if ready.status else [Finding("pool", pool.name, _said(ready))]


def _of_node(overlay: NodeOverlay, *, present: bool) -> list[Finding]:
    conditions = overlay.report.conditions
    reserved, configured, ready = overlay.assignment.reserved, find(conditions, CONFIGURED), find(conditions, READY)
    if overlay.routes_only and overlay.assignment.address is None:
        # That there is no address is as it should be.
        reserved = None
    said = []
    if overlay.deleting:
        said.append(f"is being deleted; {reserved.message if reserved else 'no controller has answered yet'}")
    elif not present:
        said.append("its Node is gone; the address is kept for a while")
    elif ready is None:
        said += [_said(reserved)] if reserved is not None and not reserved.status else []
        said.append("no agent has reported: does one run on it?")
    elif overlay.is_ready:
        # It works, though perhaps not for long.
        said += [_said(configured)] if configured is not None and configured.reason == ADDRESS_CLAIMED else []
    else:
        causes = [each for each in (reserved, configured) if each is not None and not each.status]
        said += [_said(each) for each in causes or [ready] if not each.status]
        if not overlay.current:
            said.append("its agent has not seen the latest change")
    return [Finding("node", overlay.name, "; ".join(said))] if said else []


def _of_route(route: StaticRoute) -> list[Finding]:
    if route.deleting:
        return [Finding("route", route.name, "is being deleted")]
    if not route.conditions:
        return [Finding("route", route.name, "nobody has looked at it yet: does a controller run?")]
    said = [_said(each) for each in route.conditions if not each.status]
    return [Finding("route", route.name, "; ".join(said))] if said else []


def _said(condition: Condition) -> str:
    prefix = "no address: " if condition.type == RESERVED else ""
    return f"{prefix}{condition.reason}: {condition.message}" if condition.message else f"{prefix}{condition.reason}"
