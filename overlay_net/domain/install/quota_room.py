"""Decides whether the quotas of a namespace leave room for the pods of a release."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from overlay_net.model.api import JsonObject
from overlay_net.model.parse import find_name, find_object, find_objects
from overlay_net.model.quantity import format_quantity, parse_quantity

SHORT_NAMES: Final = {"cpu": "requests.cpu", "memory": "requests.memory", "count/pods": "pods"}
"""Resources of a quota that have two names."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Pods of one component that a release creates."""

    component: str
    count: int
    spec: JsonObject

    def amount(self, resource: str) -> Decimal | None:
        """Return how much all of them take of a resource of a quota; None for a resource that is not known."""
        if resource == "pods":
            return Decimal(self.count)
        section, _, name = resource.partition(".")
        if section not in ("requests", "limits") or name not in ("cpu", "memory"):
            return None
        each = sum(
            (_amount(container, section, name) for container in find_objects(self.spec, "containers")), Decimal()
        )
        return self.count * each


def _amount(container: JsonObject, section: str, name: str) -> Decimal:
    resources = find_object(container, "resources")
    # Without a request, the limit is the request.
    for each in (section, "limits"):
        value = find_object(resources, each).get(name)
        if value is not None:
            return parse_quantity(str(value))
    return Decimal()


def find_shortages(
    quotas: Sequence[JsonObject], demands: Sequence[Demand], ending: Sequence[Demand] = ()
) -> Iterator[str]:
    """Yield a sentence for each resource of a quota that has no room for all pods together.

    ``ending`` are pods that still count, but end before. Quotas with scopes apply to some pods only, and are left to
    the API server.
    """
    for quota in quotas:
        if not find_object(quota, "spec").keys() & {"scopes", "scopeSelector"}:
            yield from _find_in_quota(quota, demands, ending)


def _find_in_quota(quota: JsonObject, demands: Sequence[Demand], ending: Sequence[Demand]) -> Iterator[str]:
    name = find_name(quota)
    pods = " and ".join(f"{each.count} {each.component}s" for each in demands)
    used = find_object(find_object(quota, "status"), "used")
    for resource, hard in find_object(find_object(quota, "status"), "hard").items():
        needed = _sum(demands, resource)
        # What its controller has not counted yet is not freed either.
        stays = max(parse_quantity(str(used.get(resource, "0"))) - _sum(ending, resource), Decimal())
        left = max(parse_quantity(str(hard)) - stays, Decimal())
        if needed > left:
            yield (
                f"ResourceQuota {name} has no room: {pods} need {format_quantity(needed)} of {resource}, "
                f"and {format_quantity(left)} of {hard} is left: raise spec.hard of the quota"
            )


def _sum(demands: Sequence[Demand], resource: str) -> Decimal:
    amounts = (each.amount(SHORT_NAMES.get(resource, resource)) for each in demands)
    return sum((amount for amount in amounts if amount is not None), Decimal())
