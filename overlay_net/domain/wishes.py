"""Wished routes, sorted out once for the many looks at the kernel that ask for them."""

from collections.abc import Sequence
from dataclasses import dataclass

from overlay_net.model.kernel import DesiredRoute
from overlay_net.model.route_key import QuickKey, version_of


@dataclass(frozen=True, slots=True)
class Alike:
    """Wishes that differ in nothing but their subnet and their owner: one decision is good for all of them."""

    like: DesiredRoute
    """Any of them."""
    wishes: list[DesiredRoute]


@dataclass(frozen=True, slots=True)
class Wishes:
    alike: tuple[Alike, ...]
    repeated: tuple[DesiredRoute, ...]
    """Those whose key an earlier one has."""


def sorted_out(routes: Sequence[DesiredRoute]) -> Wishes:
    groups: dict[tuple[object, ...], Alike] = {}
    repeated: list[DesiredRoute] = []
    seen: set[QuickKey] = set()
    for wish in routes:
        key = wish.quick_key
        if key in seen:
            repeated.append(wish)
            continue
        seen.add(key)
        # Thousands of routes share their gateways and checks as the very same values, and addresses are slow to hash.
        sort = (
            id(wish.gateways),
            id(wish.check),
            version_of(key),
            wish.metric,
            wish.table,
            wish.kind,
            wish.mtu,
            wish.advmss,
            wish.on_link,
            wish.on_all_down,
        )
        group = groups.get(sort)
        if group is None:
            group = groups[sort] = Alike(wish, [])
        group.wishes.append(wish)
    return Wishes(tuple(groups.values()), tuple(repeated))
