"""Compares the content that slices must have with the slices in the cache, and plans the writes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from overlay_net.domain.routes.entry_keys import find_keys
from overlay_net.domain.routes.set_users import SetUsers
from overlay_net.domain.routes.slice_layout import Layout, SliceLayout, Spot
from overlay_net.model.route_slice import FIRST, RouteSlice, SliceContent, slice_name
from overlay_net.model.slice_entry import SliceEntry, SliceWithdrawal

MOST_WITHDRAWN: Final = 256
"""Of more StaticRoutes listed as withdrawn, the oldest are dropped even if a silent agent has not observed them."""


@dataclass(frozen=True, slots=True)
class SliceWrite:
    """Create, update or delete one slice, on condition that it is still ``present``."""

    name: str
    index: int
    content: SliceContent | None
    """None: delete the slice."""
    present: RouteSlice | None
    """The slice that the write is based on; None: it does not exist."""


def compare(layout: SliceLayout, present: RouteSlice | None) -> None:
    """Note which entries the slice in the cache has as they must be."""
    if present is layout.compared:
        return
    layout.changed = True
    layout.compared = present
    layout.generations = {}
    layout.written = frozenset()
    if present is None or present.deleting:
        return
    layout.latest = max(layout.latest, present.generation)
    layout.written = frozenset().union(*map(find_keys, present.content.retained))
    for entry in present.content.entries:
        desired = layout.entries.get(entry.name)
        plausible = 0 < entry.slice_generation <= present.generation
        if desired is not None and plausible and replace(entry, slice_generation=0) == desired:
            layout.generations[entry.name] = entry.slice_generation


def plan_writes(
    layout: Layout, present: Mapping[str, RouteSlice], selectors: Mapping[str, str], users: SetUsers, now: datetime
) -> Iterator[SliceWrite]:
    """Yield the writes for the slices whose content differs. ``selectors`` are texts for people, by set."""
    for spot in layout:
        name, found = slice_name(*spot), layout.get(spot)
        before = present.get(name)
        if not found.changed or (before is not None and before.deleting):
            continue
        # An agent may report what it has read of a slice of this name that was deleted, so no generation is used twice.
        latest = max(found.latest, before.generation if before is not None else 0)
        following = max(latest + 1, int(now.timestamp()))
        content = _build(layout, spot, before, following, selectors.get(spot[0], ""))
        if before is not None and before.intact and (before.content, before.label) == (content, spot[0]):
            found.changed = False
            continue
        _prune(found, content, spot[0], name, users)
        withdrawn = tuple(_withdrawals(found, before, following))
        content = replace(content, withdrawn=withdrawn, generation=following)
        yield SliceWrite(name, spot[1], content, before)


def _build(layout: Layout, spot: Spot, present: RouteSlice | None, following: int, selector: str) -> SliceContent:
    """Return the content, of the present generation; what differs in it is of the ``following`` one."""
    route_set, index = spot
    found = layout.get(spot)
    # What a person has changed in a text that is only for people is corrected with the next write, if it is unknown.
    selector = selector or (present.content.selector if present is not None else "")
    return SliceContent(
        route_set,
        selector,
        layout.indices(route_set) if index == FIRST else (),
        tuple(_entries(found, present, following)),
        tuple(_retained(found, present, following)),
        tuple(_withdrawals(found, present, following)),
        present.generation if present is not None else 0,
    )


def _entries(found: SliceLayout, present: RouteSlice | None, following: int) -> Iterator[SliceEntry]:
    same = {entry.name: entry for entry in present.content.entries} if present is not None else {}
    for name in sorted(found.entries):
        generation = found.generations.get(name)
        if generation is None:
            yield replace(found.entries[name], slice_generation=following)
        else:
            yield same[name]


def _retained(found: SliceLayout, present: RouteSlice | None, following: int) -> Iterator[SliceEntry]:
    written = present.content.retained if present is not None else ()
    for entry in found.retained:
        same = (each for each in written if replace(each, slice_generation=0) == entry)
        yield next(same, replace(entry, slice_generation=following))


def _withdrawals(found: SliceLayout, present: RouteSlice | None, following: int) -> Iterator[SliceWithdrawal]:
    written = {(each.static_route, each.since): each for each in present.content.withdrawn} if present else {}
    for name, since in sorted(found.withdrawn.items()):
        yield written.get((name, since)) or SliceWithdrawal(name, since, following)


def _prune(found: SliceLayout, content: SliceContent, route_set: str, name: str, users: SetUsers) -> None:
    """Drop what every node has observed: all nodes read the slice again for each change of it."""
    if not content.withdrawn:
        return
    observed = min(
        ((user.overlay.report.observed_slices or {}).get(name, 0) for user in users.users(route_set)), default=None
    )
    for each in content.withdrawn:
        if observed is None or each.slice_generation <= observed:
            del found.withdrawn[each.static_route]
    for _ in range(len(found.withdrawn) - MOST_WITHDRAWN):
        del found.withdrawn[next(iter(found.withdrawn))]
