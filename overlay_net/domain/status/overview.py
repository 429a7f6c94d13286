"""The summary that `overlay-net status` prints: the numbers of ready objects, and the problems, pools first.

Every condition that is False is a problem, unless it only repeats another one of the same object. An object may be
ready and have a problem: while a standby gateway carries the traffic, the first one is down.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from overlay_net.model.conditions import (
    ACCEPTED,
    ADDRESS_CLAIMED,
    CONFIGURED,
    READY,
    RESERVED,
    Condition,
    find_condition,
)
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import parse_int
from overlay_net.model.pool import Pool
from overlay_net.model.static_route import StaticRoute

KINDS = ("pool", "node", "route")
"""In the order in which problems of one kind cause those of the next."""

NOT_RECONCILED = "not reconciled yet; is the controller running?"

CONSEQUENCES = frozenset({"NotConfigured", "NotAccepted", "NoAddress"})
"""Reasons of conditions that another condition of the same object explains."""

ROUTE_REASONS = frozenset({"RoutesFailing", "RoutesLeft", "Probing", "RolledBack", "ProbeFailed", "WaitingForAgent"})
"""Reasons of conditions of a node that its list of routes explains."""

NO_NODES = "no Node that an agent runs on; check the labels of the Nodes and --node-selector"

NO_PREFIXES: Mapping[str, str] = MappingProxyType({})


class Problem(NamedTuple):
    """What is wrong with one object."""

    message: str
    reason: str = ""
    """Reason of the condition that reports it; empty: no condition does."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem, and the objects of one kind that have it."""

    kind: str
    """``pool``, ``node`` or ``route``."""
    names: tuple[str, ...]
    """Empty: there is none that could be healthy."""
    message: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """The findings of one kind with the same reason."""

    findings: tuple[Finding, ...]

    @property
    def kind(self) -> str:
        return self.findings[0].kind

    @property
    def reason(self) -> str:
        return self.findings[0].reason

    @property
    def names(self) -> tuple[str, ...]:
        """All objects with this cause, each once."""
        return tuple(dict.fromkeys(name for each in self.findings for name in each.names))

    @property
    def next_command(self) -> str:
        """What to type next, about the first object; ``overlay-net`` stands for the name of the program."""
        if not self.names:
            return "kubectl get nodes --show-labels"
        first = self.names[0]
        match self.kind:
            case "node" if self.reason in ROUTE_REASONS:
                return f"overlay-net routes {first}"
            case "node":
                return f"overlay-net doctor {first}"
            case "pool":
                return f"kubectl describe overlaypool {first}"
            case _:
                return f"kubectl describe staticroute {first}"


@dataclass(frozen=True, slots=True)
class Overview:
    counts: tuple[str, ...]
    """The numbers of all and of ready objects, one line for each kind."""
    findings: tuple[Finding, ...]

    @property
    def causes(self) -> tuple[Cause, ...]:
        """The findings by kind and reason, the cause of the most objects first; those of pools come before nodes."""
        groups: dict[tuple[str, str], list[Finding]] = {}
        for each in self.findings:
            groups.setdefault((each.kind, each.reason or each.message), []).append(each)
        causes = [Cause(tuple(group)) for group in groups.values()]
        return tuple(sorted(causes, key=lambda cause: (KINDS.index(cause.kind), -len(cause.names))))


def overview(
    nodes: Iterable[str], overlays: Iterable[NodeOverlay], routes: Iterable[StaticRoute], pools: Iterable[Pool]
) -> Overview:
    """``nodes`` are the names of the Nodes. Pools come first, because their problems cause problems on nodes."""
    names, objects, static_routes, sources = set(nodes), list(overlays), list(routes), list(pools)
    at_pools = {pool.name: _pool_problems(pool) for pool in sources}
    at_nodes = {name: [Problem("no NodeOverlayIp yet; is the controller running?")] for name in sorted(names)}
    at_nodes |= {overlay.name: _node_problems(overlay, present=overlay.name in names) for overlay in objects}
    at_routes = {route.name: _route_problems(route) for route in static_routes}
    ready = {overlay.name for overlay in objects if overlay.is_ready and not overlay.deleting}
    in_place = {route.name for route in static_routes if _is_ready(route.conditions) and not route.deleting}
    usable = {pool.name for pool in sources if _is_ready(pool.conditions)}
    used, free = (sum(parse_int(pool.status.get(key)) for pool in sources) for key in ("used", "free"))
    return Overview(
        counts=(
            f"nodes   {_count({name: at_nodes[name] for name in names}, ready, 'ready')}",
            f"routes  {_count(at_routes, in_place, 'in place')}",
            f"pools   {_count(at_pools, usable, 'usable')}, {used} addresses used, {free} free",
        ),
        findings=(
            *_group("pool", at_pools),
            *(() if names else (Finding("node", (), NO_NODES),)),
            *_group("node", at_nodes),
            *_group("route", at_routes),
        ),
    )


def _count(problems: Mapping[str, Sequence[Problem]], reported: Set[str], state: str) -> str:
    """Return how many objects have no problem or, by their condition ``Ready``, are ``reported`` ready all the same."""
    without = sum(not each for each in problems.values())
    with_problem = sum(bool(each) and name in reported for name, each in problems.items())
    total = f"{without + with_problem} of {len(problems)} {state}"
    return f"{total} ({with_problem} with problems)" if with_problem else total


def _is_ready(conditions: Iterable[Condition]) -> bool:
    ready = find_condition(conditions, READY)
    return ready is not None and ready.status is True


def _group(kind: str, problems: Mapping[str, Sequence[Problem]]) -> Iterator[Finding]:
    """Yield each problem once, with all objects that have it."""
    names: dict[Problem, list[str]] = {}
    for name, found in problems.items():
        for problem in dict.fromkeys(found):
            names.setdefault(problem, []).append(name)
    return (Finding(kind, tuple(each), problem.message, problem.reason) for problem, each in names.items())


def _pool_problems(pool: Pool) -> list[Problem]:
    if find_condition(pool.conditions, READY) is None:
        return [Problem(NOT_RECONCILED)]
    return _describe_problems(pool.conditions)


def _node_problems(overlay: NodeOverlay, *, present: bool) -> list[Problem]:
    reserved = overlay.assignment.reserved
    if overlay.deleting:
        return [Problem(f"is being deleted; {reserved.message if reserved else NOT_RECONCILED}")]
    if not present:
        return [Problem("the Node is deleted, or no agent runs on it; its address is released after release_after")]
    lacks = "" if overlay.assignment.address else "no address: "
    problems = _describe_problems(_node_conditions(overlay), {RESERVED: lacks})
    if overlay.assignment.ready is not None:
        # Its message is why the report does not count.
        return problems
    if find_condition(overlay.report.conditions, READY) is None:
        return [*problems, Problem("no report from its agent; is it running?")]
    if not overlay.has_own_report:
        message = "its agent has not reported since the Node, or this object, was created or the node booted"
        problems.append(Problem(message))
    elif not overlay.is_current:
        problems.append(Problem("its agent has not observed the latest change"))
    return problems


def _node_conditions(overlay: NodeOverlay) -> Iterator[Condition]:
    assignment = overlay.assignment
    for condition in (*assignment.conditions, *overlay.report.conditions):
        # A node with routes only has no reservation on purpose.
        on_purpose = condition is assignment.reserved and overlay.routes_only and not assignment.address
        if not on_purpose:
            yield condition


def _route_problems(route: StaticRoute) -> list[Problem]:
    if route.deleting:
        return [Problem("is being deleted")]
    if find_condition(route.conditions, ACCEPTED) is None:
        return [Problem(NOT_RECONCILED)]
    return _describe_problems(route.conditions)


def _describe_problems(conditions: Iterable[Condition], prefixes: Mapping[str, str] = NO_PREFIXES) -> list[Problem]:
    """Describe each condition that reports a problem, without those that are only consequences of another one.

    ``prefixes`` has the beginning of the description by the type of the condition.
    """
    problems = [condition for condition in conditions if _is_problem(condition)]
    causes = [condition for condition in problems if condition.reason not in CONSEQUENCES]
    return [
        Problem(prefixes.get(condition.type, "") + _describe(condition), condition.reason)
        for condition in causes or problems
    ]


def _is_problem(condition: Condition) -> bool:
    if condition.type == CONFIGURED and condition.reason == ADDRESS_CLAIMED:
        # The address is in use, but another host claims it as well.
        return True
    return not condition.status if condition.type == READY else condition.status is False


def _describe(condition: Condition) -> str:
    return f"{condition.reason}: {condition.message}" if condition.message else condition.reason
