"""The status of a StaticRoute on a node whose agent is of the version before route slices.

Such an agent reads ``spec.routes``, which stays as it was until an agent of this version has replaced it. A StaticRoute
is in place if ``spec.routes`` has its routes as they are specified now, and the report on it lists no failure.
"""

from overlay_net.domain.routes.node_table import EarlierAgent, NodeTable
from overlay_net.domain.routes.occurrences import route_keys
from overlay_net.domain.routes.outcome import (
    FAILED,
    IN_PLACE,
    NOT_NEEDED,
    NOT_REPORTED,
    PENDING,
    UNLISTED,
    Outcome,
    conflict_outcome,
    rolling_out,
)
from overlay_net.domain.routes.route_sets import route_set_name
from overlay_net.model.net import IpNetwork
from overlay_net.model.route_key import RouteKey
from overlay_net.model.route_probe import RouteGeneration
from overlay_net.model.static_route import StaticRoute

OUTDATED = Outcome(PENDING, "the agent is of an earlier version and keeps its routes until it is replaced")


def has_updated(route: StaticRoute, table: NodeTable, earlier: EarlierAgent) -> bool:
    """Return whether the node has the current generation of a StaticRoute with a staged rollout, or will get it."""
    present = earlier.generations.get(route.name)
    return route_set_name(route) in table.sets or (present is not None and present.revision == route.revision)


def has_entries(route: StaticRoute, earlier: EarlierAgent) -> bool:
    """Return whether ``spec.routes`` has a route of this StaticRoute."""
    entries = (earlier.routes.get(key) for key in route_keys(route))
    return any(entry is not None and entry.static_route == route.name for entry in entries)


def earlier_outcome(route: StaticRoute, table: NodeTable, earlier: EarlierAgent) -> Outcome:
    return (
        _generation_outcome(route, table, earlier)
        or _routes_outcome(route, table, earlier)
        or _report_outcome(route, table)
    )


def _generation_outcome(route: StaticRoute, table: NodeTable, earlier: EarlierAgent) -> Outcome | None:
    present = earlier.generations.get(route.name)
    if route.rollout is not None and not has_updated(route, table, earlier):
        return rolling_out(_describe(present))
    if present is None or present.revision != route.revision:
        return OUTDATED if route.probe is not None and has_entries(route, earlier) else None
    route_probe = table.route_probes.get(route.name)
    if route_probe is None or not route_probe.matches(present):
        return None
    return Outcome(PENDING if route_probe.state == "Probing" else FAILED, route_probe.message, route_probe.state)


def _describe(present: RouteGeneration | None) -> str:
    return "its previous routes" if present is None else f"generation {present.generation}"


def _routes_outcome(route: StaticRoute, table: NodeTable, earlier: EarlierAgent) -> Outcome | None:
    """Return the first conflict or failure, else Pending if a route is not there as it is specified, else None."""
    outdated = False
    for subnet, key in zip(route.subnets, route_keys(route), strict=True):
        problem = _problem(route, table, earlier, subnet, key)
        if problem is OUTDATED:
            outdated = True
        elif problem is not None:
            return problem
    return OUTDATED if outdated else None


def _problem(
    route: StaticRoute, table: NodeTable, earlier: EarlierAgent, subnet: IpNetwork, key: RouteKey
) -> Outcome | None:
    entry, failure = earlier.routes.get(key), table.failures.get(key)
    if entry is None:
        return OUTDATED
    if entry.spec != route.spec_for(entry.version, table.overlay_gateway):
        return OUTDATED if entry.static_route == route.name else conflict_outcome(entry.static_route, subnet)
    if failure is not None and table.is_current:
        return Outcome(PENDING if failure.reason == "Pending" else FAILED, f"{subnet}: {failure.message}")
    return None


def _report_outcome(route: StaticRoute, table: NodeTable) -> Outcome:
    if not table.is_current:
        return NOT_REPORTED
    not_needed = table.not_needed.get(route.name)
    if not_needed is not None:
        return Outcome(NOT_NEEDED, not_needed.message)
    return UNLISTED if table.has_unlisted_failures else IN_PLACE
