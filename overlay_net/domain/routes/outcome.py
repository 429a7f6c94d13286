"""The possible states of a StaticRoute on one node."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from overlay_net.model.net import IpNetwork

READY, PENDING, FAILED = "Ready", "Pending", "Failed"
NOT_NEEDED = "NotNeeded"
"""The only gateway of the route is the node itself."""

ROLLING_OUT = "RollingOut"
"""Reason for a node that keeps its previous generation for now."""


class Conflict(NamedTuple):
    static_route: str
    """Name of the older StaticRoute with the same route."""
    subnet: IpNetwork


@dataclass(frozen=True, slots=True)
class Outcome:
    state: str
    message: str = ""
    reason: str = ""
    """Reason of the condition ``Programmed`` if a probe or a rollout is why this node is not ready."""
    conflict: Conflict | None = None


IN_PLACE: Final = Outcome(READY)
NOT_REPORTED: Final = Outcome(PENDING, "the agent has not reported yet")
UNLISTED: Final = Outcome(PENDING, "more routes fail on this node than its report lists")


def conflict_outcome(older: str, subnet: IpNetwork) -> Outcome:
    """``older`` is the name of the StaticRoute that has the route to ``subnet``."""
    message = f"{subnet} is already routed by the older StaticRoute {older}"
    return Outcome(FAILED, message, conflict=Conflict(older, subnet))


def rolling_out(has: str) -> Outcome:
    return Outcome(PENDING, f"still has {has}; waiting for its turn in the rollout", ROLLING_OUT)
