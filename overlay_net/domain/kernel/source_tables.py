"""Plans the policy rules and routing tables by which packets with certain source addresses are routed.

While a part of the desired state cannot be planned, its rules and routes in the kernel are left unchanged.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Final

from overlay_net.domain.kernel.ownership import owns_policy_rule, owns_route
from overlay_net.model.kernel import Desired, Observed, OwnershipMark
from overlay_net.model.kernel_actions import AddRoute, DeleteRoute, Problem, ReplaceRoute
from overlay_net.model.policy_rule import AddPolicyRule, DeletePolicyRule, PolicyRule
from overlay_net.model.route import Route
from overlay_net.model.route_key import RouteKey, decode_version

SOURCE_TABLE_TAKEN: Final = "SourceTableTaken"
"""Problem reason for a route that is not managed by us in a table of source routing."""

DEFAULT_ROUTE: Final = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


@dataclass(frozen=True, slots=True)
class SourcePart:
    """Rules that refer to one table, and the routes of the table."""

    setting: str
    """The setting with the number of the table, for messages."""
    table: int
    versions: tuple[int, ...]
    """The IP versions whose routes of the table belong to this part."""
    rules: tuple[PolicyRule, ...] = ()
    routes: Mapping[RouteKey, Route] | None = field(default_factory=dict)
    """None: not known now."""
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class SourcePlan:
    changes: tuple[AddRoute | ReplaceRoute, ...]
    add: tuple[AddPolicyRule, ...]
    drop: tuple[DeletePolicyRule, ...]
    deletions: tuple[DeleteRoute, ...]
    problems: tuple[Problem, ...]


def source_tables(desired: Desired) -> frozenset[int]:
    """Return the tables whose routes are planned here."""
    overlay = () if desired.source is None else (desired.source.config.table,)
    private = () if desired.private is None else (desired.private.table,)
    return frozenset((*overlay, *private))


def plan_source_tables(parts: Sequence[SourcePart], observed: Observed, mark: OwnershipMark) -> SourcePlan:
    """Plan the parts; managed rules of no part are deleted. Tables of no part have obsolete routes like any other."""
    managed = [rule for rule in observed.rules if owns_policy_rule(rule, mark)]
    checked = [_check_table(part, observed, mark) for part in parts]
    desired = {rule for part in checked for rule in part.rules}
    planned = [
        _plan_routes(part.routes, [route for route in observed.routes if _belongs(route, part, mark)])
        for part in checked
        if part.routes is not None
    ]
    possible = [rule for part in checked if part.routes is not None for rule in part.rules]
    return SourcePlan(
        changes=tuple(change for changes, _ in planned for change in changes),
        add=tuple(AddPolicyRule(rule) for rule in possible if rule not in managed),
        drop=tuple(DeletePolicyRule(rule) for rule in managed if rule not in desired),
        deletions=tuple(deletion for _, deletions in planned for deletion in deletions),
        problems=tuple(part.problem for part in checked if part.problem is not None),
    )


def _belongs(route: Route, part: SourcePart, mark: OwnershipMark) -> bool:
    return route.table == part.table and decode_version(route.key) in part.versions and owns_route(route, mark)


def _plan_routes(
    routes: Mapping[RouteKey, Route], present: Sequence[Route]
) -> tuple[list[AddRoute | ReplaceRoute], list[DeleteRoute]]:
    return list(_changes(routes, present)), [DeleteRoute(route) for route in present if route.key not in routes]


def _check_table(part: SourcePart, observed: Observed, mark: OwnershipMark) -> SourcePart:
    """Return the part without routes if another process has a route with a key that it needs."""
    routes = part.routes or {}
    same_key = (route for route in observed.routes if route.key in routes)
    foreign = next((route for route in same_key if not owns_route(route, mark)), None)
    if foreign is None:
        return part
    message = (
        f"table {foreign.table} has a route of protocol {foreign.protocol} to {foreign.subnet} that is not managed "
        f"by us; choose another {part.setting}"
    )
    problem = Problem(SOURCE_TABLE_TAKEN, message)
    return SourcePart(part.setting, part.table, part.versions, part.rules, routes=None, problem=problem)


def _changes(routes: Mapping[RouteKey, Route], present: Iterable[Route]) -> Iterator[AddRoute | ReplaceRoute]:
    by_key = {route.key: route for route in present}
    for key, route in routes.items():
        if key not in by_key:
            yield AddRoute(route)
        elif by_key[key] != route:
            yield ReplaceRoute(route)
