"""The StaticRoutes whose status may be different now, by how long their status may wait."""

from collections.abc import Collection, Iterable, Set
from enum import IntEnum


class Priority(IntEnum):
    """A StaticRoute has that of its most important change."""

    URGENT = 0
    """It is new or edited, begins or ceases to fail."""
    USUAL = 1
    """It makes progress on nodes that it is for."""
    GRADUAL = 2
    """It is for more or fewer nodes: one has joined or left, or its agent has reported for the first time.

    Each node concerns all StaticRoutes that are for it, and more nodes are likely to follow.
    """


class StatusChanges:
    """In the order of their priority, and in which they were marked."""

    def __init__(self) -> None:
        self._marked: dict[Priority, dict[str, None]] = {each: {} for each in Priority}
        self._latest: set[str] = set()
        self._was_gradual = False

    def __len__(self) -> int:
        return sum(map(len, self._marked.values()))

    def has(self, priority: Priority) -> bool:
        """Return whether any StaticRoute has this priority."""
        return bool(self._marked[priority])

    def mark(self, names: Iterable[str], priority: Priority = Priority.USUAL) -> None:
        new = dict.fromkeys(names)
        self._latest.update(new)
        for each, marked in self._marked.items():
            if each < priority and marked:
                new = {name: None for name in new if name not in marked}
            elif each > priority and marked:
                for name in new:
                    marked.pop(name, None)
        self._marked[priority].update(new)
        self._was_gradual |= bool(new) and priority is Priority.GRADUAL

    def end_wait(self) -> None:
        """Give the usual priority to all StaticRoutes that have a gradual one."""
        gradual = self._marked[Priority.GRADUAL]
        self._marked[Priority.USUAL].update(gradual)
        gradual.clear()

    def take(self, count: int, priorities: Collection[Priority] = tuple(Priority)) -> tuple[str, ...]:
        """Remove and return the first ``count`` names with one of these priorities."""
        taken: list[str] = []
        for marked in (self._marked[each] for each in sorted(priorities)):
            while marked and len(taken) < count:
                name = next(iter(marked))
                del marked[name]
                taken.append(name)
        return tuple(taken)

    def take_latest(self) -> Set[str]:
        """Return the names that were marked since the last call, whether they were taken in the meantime or not."""
        latest, self._latest = self._latest, set()
        return latest

    def take_gradual(self) -> bool:
        """Return whether any was marked as gradual since the last call."""
        was_gradual, self._was_gradual = self._was_gradual, False
        return was_gradual
