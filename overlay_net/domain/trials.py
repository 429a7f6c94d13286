"""Probe and roll back: which routes of a StaticRoute a node has while, and after, a change of them is tried.

A change is tried once: what did not answer is not tried again before there is a new generation of the object, neither
by the next look nor by an agent that starts anew. Nothing asks whether the target answered before the change: a target
behind a new route cannot, and where it was down all along, the routes of before do no harm.

A generation that the node is told and that has no Trial is proven. Trials are kept before the kernel is changed, so
an agent that dies on the way finds a change that is not proven, and proves it.
"""

from collections.abc import Iterable
from dataclasses import replace

from overlay_net.model.kernel import DesiredRoute, KernelPlan
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.trial import RouteGeneration, Trial

ACTED_ON = "GatewaysDown"
"""Reason of a problem that is the wish itself: the route is withdrawn, or refuses traffic, as its object says."""


def follow(
    trials: tuple[Trial, ...], before: NodeOverlay | None, overlay: NodeOverlay, *, known: bool
) -> tuple[Trial, ...]:
    """The trials once ``overlay`` is what the node must have.

    ``before`` is the object that was acted on last, and ``trials`` are its. Not ``known``: the agent remembers none,
    and ``trials`` are those of its last report.
    """
    if overlay is before:
        return trials
    old = {trial.static_route: trial for trial in trials}
    followed = (
        _follow(old.get(told.static_route), before, overlay, told, known=known)
        for told in overlay.generations
        if told.probe is not None
    )
    return tuple(trial for trial in followed if trial is not None)


def _follow(
    old: Trial | None, before: NodeOverlay | None, overlay: NodeOverlay, told: RouteGeneration, *, known: bool
) -> Trial | None:
    if old is not None and old.is_of(told) and old.state != "Probing":
        return old
    if _unchanged(old, before, overlay, told, known=known):
        return old if old is not None and old.is_of(told) else None
    last = routes_of(before, told.static_route) if known else None
    previous = old.previous if old is not None else last
    message = f"{told.probe} must answer within {told.probe.timeout:g} s" if told.probe else ""
    return Trial(told.static_route, told.uid, told.generation, "Probing", message, previous)


def _unchanged(
    old: Trial | None, before: NodeOverlay | None, overlay: NodeOverlay, told: RouteGeneration, *, known: bool
) -> bool:
    """Whether the node had these very routes, of this generation, already."""
    if not known:
        # The report names what is not proven, and speaks of the object as it is now.
        return (old is not None and old.is_of(told)) or overlay.report.observed_generation >= overlay.generation
    if before is None or told not in before.generations:
        return False
    return routes_of(before, told.static_route) == routes_of(overlay, told.static_route)


def conclude(trials: tuple[Trial, ...], tried: Trial, failure: str) -> tuple[Trial, ...]:
    """The trials after ``tried`` ended; an empty ``failure``: the target answered."""
    if tried not in trials:
        return trials
    rest = tuple(trial for trial in trials if trial != tried)
    if not failure:
        return rest
    if tried.previous is None:
        message = f"{failure}; the routes stay, as it is not known what was before"
        return (*rest, replace(tried, state="ProbeFailed", message=message))
    back = f"{failure}; {len(tried.previous)} routes of before are back" if tried.previous else f"{failure}; withdrawn"
    return (*rest, replace(tried, state="RolledBack", message=back))


def routes_of(overlay: NodeOverlay | None, static_route: str) -> tuple[DesiredRoute, ...]:
    return tuple(route for route in overlay.routes if route.owner == static_route) if overlay is not None else ()


def in_force(routes: tuple[DesiredRoute, ...], trials: Iterable[Trial]) -> tuple[DesiredRoute, ...]:
    """``routes``, those of StaticRoutes that were rolled back replaced by what they were before.

    A subnet that another StaticRoute has meanwhile stays with that one.
    """
    back = {trial.static_route: trial.previous or () for trial in trials if trial.state == "RolledBack"}
    if not back:
        return routes
    standing = tuple(route for route in routes if route.owner not in back)
    taken = {route.quick_key for route in standing}
    return (*standing, *(route for previous in back.values() for route in previous if route.quick_key not in taken))


def acted_on(static_route: str, plan: KernelPlan) -> frozenset[DesiredRoute]:
    """The routes of a StaticRoute that the kernel has as wished now; ``plan`` is what the last look left to do.

    What cannot be placed proves nothing: the kernel still has what it had.
    """
    placed = {route for route, _ in plan.placed if route.owner == static_route}
    meant = {each.route for each in plan.problems if each.route is not None and each.reason == ACTED_ON}
    return frozenset(placed | {route for route in meant if route.owner == static_route})
