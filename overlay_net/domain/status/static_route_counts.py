"""Counts StaticRoutes by state, for metrics and alerts."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from overlay_net.model.conditions import ACCEPTED, READY, Condition, find_condition

STATES = ("ready", "pending", "refused", "conflict", "rolled_back", "rollout_stopped", "failing")

_BY_REASON = {
    "RolledBack": "rolled_back",
    "ProbeFailed": "rolled_back",
    "RolloutStopped": "rollout_stopped",
    "Failing": "failing",
    "GatewayDown": "failing",
}


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
    return _BY_REASON.get(ready.reason if ready is not None else "", "pending")
