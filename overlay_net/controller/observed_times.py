"""How long this process has observed a fact about a node, on its own monotonic clock.

Times that another machine wrote are never subtracted from the present: its clock may be wrong by any amount. A process
that starts observes from its start, so a wait takes longer after a restart and never less.
"""

import time
from collections.abc import Callable, Hashable
from datetime import timedelta

from overlay_net.controller.caches import Caches
from overlay_net.model.node import Node
from overlay_net.model.node_actions import FactKind
from overlay_net.model.overlay import NodeOverlay


class ObservedTimes:
    """``clock`` is in seconds. It need not run while the machine is suspended, as nothing is observed meanwhile."""

    def __init__(self, caches: Caches, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._facts: dict[str, dict[FactKind, tuple[Hashable, float]]] = {}
        """By node and kind: the present fact, and when it was first observed."""
        caches.nodes.subscribe(self._node_changed)
        caches.overlays.subscribe(self._overlay_changed)

    def elapsed(self, node: str, kind: FactKind, fact: Hashable) -> timedelta:
        """Return for how long ``fact`` has been the observed one of its kind; another fact starts at zero."""
        facts = self._facts.setdefault(node, {})
        now = self._clock()
        observed, since = facts.get(kind, (None, now))
        if observed != fact:
            since = now
        facts[kind] = fact, since
        return timedelta(seconds=now - since)

    def _node_changed(self, name: str, old: Node | None, new: Node | None) -> None:
        if old is None and new is not None:
            # A Node that is back for a moment only was not gone all the time.
            self._facts.get(name, {}).pop("NodeGone", None)

    def _overlay_changed(self, name: str, _: NodeOverlay | None, new: NodeOverlay | None) -> None:
        if new is None:
            self._facts.pop(name, None)
