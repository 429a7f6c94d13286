"""How far the nodes of a route set are with one of its slices.

Only nodes that differ from the slice's present generation are stored, by what they have: usually that is no node.
"""

from collections.abc import Iterable, Set
from typing import Final

NOT_NAMED: Final = -2
"""The NodeOverlayIp does not name the set."""

NOT_OBSERVED: Final = -1
"""The agent has not reported any generation of the slice."""


class SliceProgress:
    """``generation`` is that of the slice.

    The position of a node is the generation that it has reported, or one of the values above.
    """

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self._others: dict[int, set[str]] = {}
        """By position, the nodes that are not at ``generation``."""

    def move(self, node: str, before: int | None, after: int | None) -> None:
        """Move a node from one position to another; None: it is not a node of the set."""
        if before is not None and before != self.generation:
            nodes = self._others[before]
            nodes.discard(node)
            if not nodes:
                del self._others[before]
        if after is not None and after != self.generation:
            self._others.setdefault(after, set()).add(node)

    def advance(self, generation: int, nodes: Iterable[str]) -> None:
        """Replace ``generation``; ``nodes`` are all nodes of the set."""
        if generation == self.generation:
            return
        left = set(nodes).difference(*self._others.values())
        if left:
            self._others[self.generation] = left
        self.generation = generation
        self._others.pop(generation, None)

    @property
    def not_named(self) -> Set[str]:
        return self._others.get(NOT_NAMED, frozenset())

    def behind(self, generation: int) -> Set[str]:
        """Return the nodes that name the set and have not reported ``generation`` or a later one."""
        found = [nodes for position, nodes in self._others.items() if NOT_NAMED < position < generation]
        return found[0] if len(found) == 1 else frozenset().union(*found)
