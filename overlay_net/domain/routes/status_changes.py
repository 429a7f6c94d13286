"""The StaticRoutes whose status may be different now."""

from collections.abc import Iterable, Set


class StatusChanges:
    """In the order in which they were marked; new and edited ones, and those whose failures change, come first."""

    def __init__(self) -> None:
        self._urgent: dict[str, None] = {}
        self._usual: dict[str, None] = {}
        self._latest: set[str] = set()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._usual)

    @property
    def are_urgent(self) -> bool:
        """Whether any of them is new or edited, has a failure now, or none any more."""
        return bool(self._urgent)

    def mark(self, names: Iterable[str], *, urgent: bool = False) -> None:
        for name in names:
            self._latest.add(name)
            if urgent:
                self._usual.pop(name, None)
                self._urgent.setdefault(name)
            elif name not in self._urgent:
                self._usual.setdefault(name)

    def take(self, count: int, *, only_urgent: bool = False) -> tuple[str, ...]:
        """Remove and return the first ``count`` names."""
        taken: list[str] = []
        for marked in (self._urgent,) if only_urgent else (self._urgent, self._usual):
            while marked and len(taken) < count:
                name = next(iter(marked))
                del marked[name]
                taken.append(name)
        return tuple(taken)

    def take_latest(self) -> Set[str]:
        """Return the names that were marked since the last call, whether they were taken in the meantime or not."""
        latest, self._latest = self._latest, set()
        return latest
