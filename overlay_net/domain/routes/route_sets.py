"""Route sets: StaticRoutes with the same selector share one, and a revision with a staged rollout is one of its own."""

import json
from hashlib import sha256
from typing import Final

from overlay_net.model.selectors import Requirement
from overlay_net.model.static_route import StaticRoute

MAX_SELECTOR: Final = 1024
"""Maximum length of the selector as text; in the schema, too."""


def route_set_name(route: StaticRoute) -> str:
    """Return the name of the set that the StaticRoute belongs to."""
    return rollout_set_name(route) if route.rollout is not None else shared_set_name(route)


def shared_set_name(route: StaticRoute) -> str:
    """Return the name of the set of all StaticRoutes with this selector.

    The order of labels, expressions and values does not matter, nor how a requirement is written.
    """
    canonical = [route.zone, [(each.key, each.operator, each.values) for each in _requirements(route)]]
    return f"rs-{_digest(json.dumps(canonical), 12)}"


def rollout_set_name(route: StaticRoute) -> str:
    """Return the name of the set of this revision alone."""
    return f"{rollout_set_prefix(route.name)}{_digest(route.uid, 8)}-{route.generation}"


def rollout_set_prefix(static_route: str) -> str:
    """Return what the names of all sets of this StaticRoute alone begin with."""
    return f"ro-{_digest(static_route, 10)}-"


def is_rollout_set(name: str) -> bool:
    """Return whether this is the name of a set of one revision alone."""
    return name.startswith("ro-")


def describe_selector(route: StaticRoute) -> str:
    """Return the selector in the syntax of ``kubectl -l``, with the zone first; ``*`` selects every node."""
    zone = [f"zone:{route.zone}"] if route.zone else []
    return ",".join([*zone, *map(_describe, _requirements(route))])[:MAX_SELECTOR] or "*"


def _requirements(route: StaticRoute) -> list[Requirement]:
    return sorted(
        {Requirement(each.key, each.operator, tuple(sorted(set(each.values)))) for each in route.selector.requirements},
        key=lambda each: (each.key, each.operator, each.values),
    )


def _describe(each: Requirement) -> str:
    values = ",".join(each.values)
    match each.operator:
        case "In" if len(each.values) == 1:
            return f"{each.key}={values}"
        case "In":
            return f"{each.key} in ({values})"
        case "NotIn":
            return f"{each.key} notin ({values})"
        case "Exists":
            return each.key
        case "DoesNotExist":
            return f"!{each.key}"
        case _:
            return f"{each.key} {each.operator} ({values})"


def _digest(text: str, length: int) -> str:
    return sha256(text.encode()).hexdigest()[:length]
