"""Counts StaticRoutes by state, for metrics and alerts."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from overlay_net.model.conditions import ACCEPTED, READY, Condition, find_condition

STATES = ("ready", "pending", "refused", "conflict", "rolled_back", "rollout_stopped", "failing")

PROGRESSING = frozenset({"Pending", "Probing", "RollingOut", "NoNodes"})
"""Reasons of Ready=False that need no intervention; the other ones cause an event and an alert."""

_BY_REASON = {"RolledBack": "rolled_back", "ProbeFailed": "rolled_back", "RolloutStopped": "rollout_stopped"}


def count_static_routes(conditions: Iterable[Sequence[Condition]]) -> Mapping[str, int]:
    """Return the number of StaticRoutes in each of STATES; ``conditions`` has those of each StaticRoute."""
    counts = Counter(_state(each) for each in conditions)
    return {state: counts[state] for state in STATES}


def _state(conditions: Sequence[Condition]) -> str:
    accepted, ready = find_condition(conditions, ACCEPTED), find_condition(conditions, READY)
    if accepted is not None and accepted.status is False:
        return "conflict" if accepted.reason == "Conflict" else "refused"
    if ready is not None and ready.status:
        return "ready"
    if ready is None or ready.status is None or ready.reason in PROGRESSING:
        return "pending"
    return _BY_REASON.get(ready.reason, "failing")
