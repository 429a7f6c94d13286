"""The nodes that wait for an address of a full pool, and the deleted nodes that still have one.

A decision goes through all of them, so the events of thousands of nodes lead to one decision at a time. Until the next
one it holds if only more nodes wait or are gone; any other change withdraws it, so no address is released for nothing.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from overlay_net.domain.allocation.early_release import GoneNode, Subnets, find_early_releases, subnets_for
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool
from overlay_net.runtime.store import Store

NEITHER: Final = (False, None, None)
"""The entry of a node that neither waits for an address nor is gone."""


class AddressDemand:
    """Follows the stores; ``pools_in_order`` returns all pools in order of preference."""

    def __init__(
        self, nodes: Store[Node], overlays: Store[NodeOverlay], pools_in_order: Callable[[], Sequence[Pool]]
    ) -> None:
        self._nodes = nodes
        self._pools_in_order = pools_in_order
        self._waiting: dict[str, Subnets | None] = {}
        """The waiting nodes with the subnets that serve them; None: not computed yet."""
        self._unreserved: set[str] = set()
        self._gone: dict[str, GoneNode] = {}
        self._fenced: dict[str, IpAddress] = {}
        self._pools: Sequence[Pool] = ()
        """The pools that the results are from."""
        self._early: frozenset[str] | None = None
        """The last decision; None: withdrawn."""
        self._more = False
        """Whether more nodes wait or are gone than at the last decision."""
        nodes.subscribe(self._node_changed)
        overlays.subscribe(self._overlay_changed)

    @property
    def unreserved(self) -> Collection[str]:
        """The nodes without a reservation, for whatever reason: an address that becomes free may be for them."""
        return self._unreserved

    def is_needed(self, name: str) -> bool:
        """Return whether this deleted node releases its address without the wait for its return, as decided last."""
        return self._early is not None and name in self._early

    @property
    def undecided(self) -> bool:
        """Whether a decision is due."""
        return bool(self._waiting and self._gone) and (self._early is None or self._more)

    def decide(self) -> frozenset[str]:
        """Return the deleted nodes whose address is released without the wait for their return."""
        pools = self._pools_in_order()
        if pools is not self._pools:
            self._pools, self._early = pools, None
            self._waiting = dict.fromkeys(self._waiting)
        if not self._waiting or not self._gone:
            self._early = None
        elif self.undecided:
            gone = (each for name, each in self._gone.items() if self._nodes.get(name) is None)
            self._early = find_early_releases(self._waiting_subnets(), gone, self._fenced.values())
        self._more = False
        return self._early or frozenset()

    def _waiting_subnets(self) -> Iterator[Subnets]:
        for name, subnets in self._waiting.items():
            node = self._nodes.get(name)
            if node is None:
                continue
            if subnets is None:
                subnets = self._waiting[name] = subnets_for(node, self._pools)
            yield subnets

    def _node_changed(self, name: str, old: Node | None, new: Node | None) -> None:
        subnets = self._waiting.get(name)
        if name in self._waiting and (new is None or subnets is None or subnets_for(new, self._pools) != subnets):
            self._early = self._waiting[name] = None
        if name in self._gone and None in (old, new):
            self._early = None

    def _overlay_changed(self, name: str, _: NodeOverlay | None, new: NodeOverlay | None) -> None:
        reserved = new.assignment.reserved if new is not None else None
        waits = reserved is not None and not reserved.status
        (self._unreserved.add if waits else self._unreserved.discard)(name)
        before = self._entry(name)
        subnets = self._waiting.pop(name, None)
        self._gone.pop(name, None)
        self._fenced.pop(name, None)
        if new is not None:
            self._add(name, new, subnets)
        if self._early is not None and name in self._early and name in self._fenced:
            # As decided, so the decision about all others stays.
            self._early -= {name}
        elif before != self._entry(name):
            self._more = True
            if before != NEITHER or name in self._fenced:
                self._early = None

    def _entry(self, name: str) -> tuple[bool, GoneNode | None, IpAddress | None]:
        return name in self._waiting, self._gone.get(name), self._fenced.get(name)

    def _add(self, name: str, overlay: NodeOverlay, subnets: Subnets | None) -> None:
        assignment = overlay.assignment
        if assignment.address is None:
            if assignment.reserved is not None and assignment.reserved.reason == "Exhausted":
                self._waiting[name] = subnets
        elif overlay.deleting:
            self._fenced[name] = assignment.address.ip
        elif assignment.node_gone_since is not None:
            self._gone[name] = GoneNode(name, assignment.address.ip, assignment.node_gone_since)
