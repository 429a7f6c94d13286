"""Route probes and rollback: which routes of a StaticRoute a node has during and after the probe of a change.

Each change is probed once. A generation whose probe failed is not tried again until the object has a new generation,
neither by the next pass nor by a restarted agent. The target is not probed before the change: behind a new route it
could not answer, and if it was already down, the previous routes do no harm.

A generation without a RouteProbe is proven. Probes are stored before the kernel is changed, so an agent that crashes in
between finds an unproven change, and probes it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel_actions import KernelPlan
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_probe import RouteGeneration, RouteProbe

GATEWAYS_DOWN = "GatewaysDown"
"""Reason for a route that is withdrawn or rejects traffic as specified, because all gateways are down."""


def update_probes(
    route_probes: tuple[RouteProbe, ...], before: NodeOverlay | None, overlay: NodeOverlay, *, known: bool
) -> tuple[RouteProbe, ...]:
    """Return the probes for ``overlay`` as the desired state.

    ``before`` is the object that was applied last, and ``route_probes`` are its probes. If not ``known``, the agent has
    no checkpoint, and ``route_probes`` are those of its last report.
    """
    if overlay is before:
        return route_probes
    history = _History(
        probes={each.static_route: each for each in route_probes},
        generations=frozenset(before.generations if before is not None else ()),
        routes=group_by_static_route(before),
        known=known,
        reported=overlay.is_current and _has_observed(overlay.report, overlay.slices),
    )
    desired = group_by_static_route(overlay)
    updated = (
        history.next_probe(generation, desired.get(generation.static_route, ()))
        for generation in overlay.generations
        if generation.probe is not None
    )
    return tuple(route_probe for route_probe in updated if route_probe is not None)


def _has_observed(report: Report, slices: Mapping[str, int]) -> bool:
    """Return whether the report is about these slices, or later versions of them."""
    observed = report.observed_slices or {}
    return all(observed.get(name, 0) >= generation for name, generation in slices.items())


def group_by_static_route(overlay: NodeOverlay | None) -> Mapping[str, tuple[DesiredRoute, ...]]:
    """Return the routes of each StaticRoute."""
    found: dict[str, list[DesiredRoute]] = {}
    for route in overlay.routes if overlay is not None else ():
        found.setdefault(route.static_route, []).append(route)
    return {name: tuple(routes) for name, routes in found.items()}


@dataclass(frozen=True, slots=True)
class _History:
    """The state of the node before the present object."""

    probes: Mapping[str, RouteProbe]
    generations: frozenset[RouteGeneration]
    routes: Mapping[str, tuple[DesiredRoute, ...]]
    known: bool
    """Whether ``generations`` and ``routes`` are known."""
    reported: bool
    """Whether the last report is about the present object and slices."""

    def next_probe(self, generation: RouteGeneration, desired: tuple[DesiredRoute, ...]) -> RouteProbe | None:
        """Return the probe of a generation; None if the generation is proven."""
        last = self.probes.get(generation.static_route)
        present = last if last is not None and last.matches(generation) else None
        if present is not None and present.state != "Probing":
            return present
        if self._is_unchanged(generation, desired, present):
            return present
        known_routes = self.routes.get(generation.static_route, ()) if self.known else None
        previous = last.previous if last is not None else known_routes
        probe = generation.probe
        message = f"{probe} must answer within {probe.timeout:g} s" if probe else ""
        return RouteProbe(generation.static_route, generation.uid, generation.generation, "Probing", message, previous)

    def _is_unchanged(
        self, generation: RouteGeneration, desired: tuple[DesiredRoute, ...], present: RouteProbe | None
    ) -> bool:
        if self.known:
            return generation in self.generations and self.routes.get(generation.static_route, ()) == desired
        # A report names every generation that is not proven.
        return present is not None or self.reported


def conclude_probe(route_probes: tuple[RouteProbe, ...], ended: RouteProbe, failure: str) -> tuple[RouteProbe, ...]:
    """Return the probes after ``ended``; ``failure`` is empty if the target answered."""
    if ended not in route_probes:
        return route_probes
    others = tuple(route_probe for route_probe in route_probes if route_probe != ended)
    if not failure:
        return others
    if ended.previous is None:
        message = f"{failure}; the routes stay, because the previous ones are unknown"
        return (*others, replace(ended, state="ProbeFailed", message=message))
    message = f"{failure}; {_describe_rollback(len(ended.previous))}"
    return (*others, replace(ended, state="RolledBack", message=message))


def _describe_rollback(count: int) -> str:
    if not count:
        return "its routes are withdrawn"
    return "rolled back to the previous route" if count == 1 else f"rolled back to the {count} previous routes"


def effective_routes(routes: tuple[DesiredRoute, ...], route_probes: Iterable[RouteProbe]) -> tuple[DesiredRoute, ...]:
    """Return ``routes`` with the previous routes of StaticRoutes that were rolled back.

    A previous route that belongs to another StaticRoute by now is not restored.
    """
    rolled_back = {
        route_probe.static_route: route_probe.previous or ()
        for route_probe in route_probes
        if route_probe.state == "RolledBack"
    }
    if not rolled_back:
        return routes
    others = tuple(route for route in routes if route.static_route not in rolled_back)
    taken = {route.key for route in others}
    return (*others, *(route for previous in rolled_back.values() for route in previous if route.key not in taken))


def applied_routes(static_route: str, plan: KernelPlan) -> frozenset[DesiredRoute]:
    """Return the routes of a StaticRoute that are as they must be; ``plan`` is that of the last pass.

    A route that could not be installed proves nothing, because the kernel still has the previous one.
    """
    withdrawn = (problem.route for problem in plan.problems if problem.reason == GATEWAYS_DOWN)
    applied = (*(route for route, _ in (*plan.placed, *plan.not_needed)), *withdrawn)
    return frozenset(route for route in applied if route is not None and route.static_route == static_route)
