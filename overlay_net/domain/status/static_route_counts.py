"""Counts StaticRoutes by state, for metrics and alerts; a change of one costs no fold over all."""

from collections import Counter
from collections.abc import Mapping, Sequence

from overlay_net.model.conditions import ACCEPTED, READY, Condition, find_condition

STATES = ("ready", "pending", "refused", "conflict", "rolled_back", "rollout_stopped", "failing")

PROGRESSING = frozenset({"Pending", "Probing", "RollingOut", "NoNodes"})
"""Reasons of Ready=False that need no intervention; the other ones cause an event and an alert."""

_BY_REASON = {"RolledBack": "rolled_back", "ProbeFailed": "rolled_back", "RolloutStopped": "rollout_stopped"}


class StaticRouteCounts:
    def __init__(self) -> None:
        self._by_name: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def update(self, name: str, conditions: Sequence[Condition] | None) -> None:
        """Replace the conditions of a StaticRoute; None: it does not exist."""
        before = self._by_name.pop(name, None)
        if before is not None:
            self._counts[before] -= 1
        if conditions is not None:
            state = self._by_name[name] = find_state(conditions)
            self._counts[state] += 1

    @property
    def by_state(self) -> Mapping[str, int]:
        """The number of StaticRoutes in each of STATES."""
        return {state: self._counts[state] for state in STATES}


def find_state(conditions: Sequence[Condition]) -> str:
    """Return in which of STATES a StaticRoute with these conditions is."""
    accepted, ready = find_condition(conditions, ACCEPTED), find_condition(conditions, READY)
    if accepted is not None and accepted.status is False:
        return "conflict" if accepted.reason == "Conflict" else "refused"
    if ready is not None and ready.status:
        return "ready"
    if ready is None or ready.status is None or ready.reason in PROGRESSING:
        return "pending"
    return _BY_REASON.get(ready.reason, "failing")
