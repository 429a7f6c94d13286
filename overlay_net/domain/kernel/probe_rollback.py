"""Probe and roll back: which routes of a StaticRoute a node has while, and after, a change of them is tried.

A change is tried once: what did not answer is not tried again before there is a new generation of the object, neither
by the next look nor by an agent that starts anew. Nothing asks whether the target answered before the change: a target
behind a new route cannot, and where it was down all along, the routes of before do no harm.

A generation that the node is told and that has no Trial is proven. Trials are kept before the kernel is changed, so
an agent that dies on the way finds a change that is not proven, and proves it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel_actions import KernelPlan
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_probe import RouteGeneration, RouteProbe

ACTED_ON = "GatewaysDown"
"""Reason of a problem that is the wish itself: the route is withdrawn, or refuses traffic, as its object says."""


def update_probes(
    route_probes: tuple[RouteProbe, ...], before: NodeOverlay | None, overlay: NodeOverlay, *, known: bool
) -> tuple[RouteProbe, ...]:
    """The trials once ``overlay`` is what the node must have.

    ``before`` is the object that was acted on last, and ``trials`` are its. Not ``known``: the agent remembers none,
    and ``trials`` are those of its last report.
    """
    if overlay is before:
        return route_probes
    told_before = frozenset(before.generations if before is not None else ())
    old = {each.static_route: each for each in route_probes}
    look = _Look(old, told_before, group_by_static_route(before), known=known, current=overlay.is_current)
    desired = group_by_static_route(overlay)
    followed = (
        _follow(look, told, desired.get(told.static_route, ()))
        for told in overlay.generations
        if told.probe is not None
    )
    return tuple(route_probe for route_probe in followed if route_probe is not None)


def group_by_static_route(overlay: NodeOverlay | None) -> Mapping[str, tuple[DesiredRoute, ...]]:
    """The routes of each StaticRoute."""
    found: dict[str, list[DesiredRoute]] = {}
    for route in overlay.routes if overlay is not None else ():
        found.setdefault(route.static_route, []).append(route)
    return {name: tuple(routes) for name, routes in found.items()}


@dataclass(frozen=True, slots=True)
class _Look:
    old: Mapping[str, RouteProbe]
    told: frozenset[RouteGeneration]
    had: Mapping[str, tuple[DesiredRoute, ...]]
    known: bool
    current: bool
    """Whether the last report speaks of the object as it is now."""


def _follow(look: _Look, told: RouteGeneration, desired: tuple[DesiredRoute, ...]) -> RouteProbe | None:
    old = look.old.get(told.static_route)
    present = old if old is not None and old.is_of(told) else None
    if present is not None and present.state != "Probing":
        return present
    had = look.had.get(told.static_route, ())
    # A report names all that is not proven.
    reported = present is not None or look.current
    unchanged = (told in look.told and had == desired) if look.known else reported
    if unchanged:
        return present
    last = had if look.known else None
    previous = old.previous if old is not None else last
    message = f"{told.probe} must answer within {told.probe.timeout:g} s" if told.probe else ""
    return RouteProbe(told.static_route, told.uid, told.generation, "Probing", message, previous)


def conclude_probe(route_probes: tuple[RouteProbe, ...], tried: RouteProbe, failure: str) -> tuple[RouteProbe, ...]:
    """The trials after ``tried`` ended; an empty ``failure``: the target answered."""
    if tried not in route_probes:
        return route_probes
    rest = tuple(route_probe for route_probe in route_probes if route_probe != tried)
    if not failure:
        return rest
    if tried.previous is None:
        message = f"{failure}; the routes stay, as it is not known what was before"
        return (*rest, replace(tried, state="ProbeFailed", message=message))
    back = f"{failure}; {len(tried.previous)} routes of before are back" if tried.previous else f"{failure}; withdrawn"
    return (*rest, replace(tried, state="RolledBack", message=back))


def effective_routes(routes: tuple[DesiredRoute, ...], route_probes: Iterable[RouteProbe]) -> tuple[DesiredRoute, ...]:
    """``routes``, those of StaticRoutes that were rolled back replaced by what they were before.

    A subnet that another StaticRoute has meanwhile stays with that one.
    """
    back = {
        route_probe.static_route: route_probe.previous or ()
        for route_probe in route_probes
        if route_probe.state == "RolledBack"
    }
    if not back:
        return routes
    standing = tuple(route for route in routes if route.static_route not in back)
    taken = {route.key for route in standing}
    return (*standing, *(route for previous in back.values() for route in previous if route.key not in taken))


def applied_routes(static_route: str, plan: KernelPlan) -> frozenset[DesiredRoute]:
    """The routes of a StaticRoute that the kernel has as wished now; ``plan`` is what the last look left to do.

    What cannot be placed proves nothing: the kernel still has what it had.
    """
    placed = {route for route, _ in plan.placed if route.static_route == static_route}
    meant = {each.route for each in plan.problems if each.route is not None and each.reason == ACTED_ON}
    return frozenset(placed | {route for route in meant if route.static_route == static_route})
