"""Decides which StaticRoutes a node has by its route sets, and what it keeps while a set is unknown."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from overlay_net.domain.routes.merge import select_entries
from overlay_net.model.desired_route import DesiredRoute, RouteSpec
from overlay_net.model.overlay import NodeOverlay, UnknownSets
from overlay_net.model.route_probe import RouteGeneration
from overlay_net.model.route_slice import RouteSlice
from overlay_net.model.slice_entry import SliceEntry

SLICE_MISSING: Final = "SliceMissing"
SLICES_UNREADABLE: Final = "SlicesUnreadable"
ROUTE_SETS_MISSING: Final = "RouteSetsMissing"


@dataclass(frozen=True, slots=True)
class KnownSlices:
    """The slices that an agent has read."""

    slices: Mapping[str, Mapping[int, RouteSlice]]
    """By set and index."""
    listed: Collection[str]
    """The sets that were part of the last complete list."""
    problem: str = ""
    """Why slices cannot be read now; empty: they can."""


@dataclass(frozen=True, slots=True)
class NodeStaticRoutes:
    """The StaticRoutes of a node."""

    entries: tuple[SliceEntry, ...]
    """Also the retained ones."""
    slices: Mapping[str, int]
    """Generations, by name, of the slices that the node has everything of."""
    is_complete: bool
    """Whether all sets of the node are known."""
    unknown: UnknownSets | None = None
    """Set also if they are known, but their changes are not noticed."""


def find_static_routes(overlay: NodeOverlay, known: KnownSlices) -> NodeStaticRoutes:
    """Return the StaticRoutes of a node whose object names route sets, or no routes at all."""
    listed = {name: slices for name, slices in known.slices.items() if name in known.listed}
    selection = select_entries(overlay.route_sets or (), listed)
    return NodeStaticRoutes(
        selection.applied,
        selection.slices,
        is_complete=overlay.route_sets is not None and not selection.missing,
        unknown=_find_problem(overlay, selection.missing, known),
    )


def keep_earlier(found: NodeStaticRoutes, before: NodeStaticRoutes | None, *, since_start: bool) -> NodeStaticRoutes:
    """Return what a node has while a set of it is unknown: no route is removed, and later revisions apply.

    ``before`` is what it had earlier, or None if that is unknown. ``since_start``: as in UnknownSets.
    """
    unknown = replace(found.unknown, since_start=since_start, without_routes=before is None) if found.unknown else None
    if before is None:
        return replace(found, slices={}, unknown=unknown)
    known = {each.name: each for each in found.entries if not each.retained}
    kept, superseded = _find_earlier(known, [each for each in before.entries if not each.retained])
    retained = [each for each in found.entries if each.retained]
    retained += [each for each in before.entries if each.retained and each not in retained]
    for each in kept:
        known.pop(each.name, None)
    slices = before.slices if kept else found.slices
    return replace(found, entries=(*known.values(), *kept, *retained, *superseded), slices=slices, unknown=unknown)


def _find_earlier(
    known: Mapping[str, SliceEntry], earlier: Iterable[SliceEntry]
) -> tuple[list[SliceEntry], list[SliceEntry]]:
    """Return which earlier entries a node keeps, and those of which it only retains the routes."""
    kept, superseded = [], []
    for each in earlier:
        other = known.get(each.name)
        # A StaticRoute that was removed from a known set is kept as well, because the unknown one may have it now. A
        # known set may still have an earlier version of one that is moving.
        if other is None or other.version_key < each.version_key:
            kept.append(each)
        elif each != other:
            # What the later revision lacks may be a route of the unknown set now.
            superseded.append(replace(each, retained=True))
    return kept, superseded


def _find_problem(overlay: NodeOverlay, missing: Mapping[str, str], known: KnownSlices) -> UnknownSets | None:
    """Return why sets are unknown, or why changes of them are not seen."""
    if overlay.route_sets is None:
        message = (
            "spec has neither routeSets nor routes; the CustomResourceDefinition of NodeOverlayIps may be of an "
            "earlier version; the routes of the node stay as they are"
        )
        return UnknownSets(ROUTE_SETS_MISSING, message)
    unread = next((name for name in missing if name not in known.listed), "")
    if known.problem or unread:
        what = f"the OverlayRouteSlices of route set {unread}" if unread else "OverlayRouteSlices"
        why = known.problem or "no answer yet"
        return UnknownSets(SLICES_UNREADABLE, f"cannot read {what}: {why}; the routes of the node stay as they are")
    for name, absent in missing.items():
        message = (
            f"OverlayRouteSlice {absent} of route set {name} does not exist or was edited; its routes stay as they are"
        )
        return UnknownSets(SLICE_MISSING, message)
    return None


def earlier_static_routes(overlay: NodeOverlay) -> NodeStaticRoutes:
    """Return what a node has had according to ``spec.routes``; on conflict, these StaticRoutes win over all others."""
    revisions = {each.static_route: each for each in overlay.generations}
    found: dict[tuple[str, RouteSpec], list[DesiredRoute]] = {}
    for route in overlay.routes:
        found.setdefault((route.static_route, route.spec), []).append(route)
    entries = tuple(_entry(name, spec, each, revisions.get(name)) for (name, spec), each in found.items())
    return NodeStaticRoutes(entries, {}, is_complete=True)


def _entry(name: str, spec: RouteSpec, routes: Iterable[DesiredRoute], revision: RouteGeneration | None) -> SliceEntry:
    return SliceEntry(
        name=name,
        uid=revision.uid if revision is not None else "",
        generation=revision.generation if revision is not None else 0,
        created="",
        subnets=tuple(route.subnet for route in routes),
        spec=spec,
        probe=revision.probe if revision is not None else None,
    )


def find_generations(entries: Iterable[SliceEntry], routes: Iterable[DesiredRoute]) -> tuple[RouteGeneration, ...]:
    """Return the generations of those StaticRoutes with a probe that have routes on the node."""
    probed = {each.name: each for each in entries if each.probe is not None}
    if not probed:
        return ()
    present = {route.static_route for route in routes}
    return tuple(
        RouteGeneration(name, entry.uid, entry.generation, entry.probe)
        for name, entry in sorted(probed.items())
        if name in present
    )
