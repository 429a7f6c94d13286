"""The nodes that wait for an address of a full pool, and the deleted nodes that still have one."""

from collections.abc import Callable, Collection, Iterator, Sequence

from overlay_net.domain.allocation.early_release import GoneNode, Subnets, find_early_releases, subnets_for
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool
from overlay_net.runtime.store import Store


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
        nodes.subscribe(self._node_changed)
        overlays.subscribe(self._overlay_changed)

    @property
    def unreserved(self) -> Collection[str]:
        """The nodes without a reservation, for whatever reason: an address that becomes free may be for them."""
        return self._unreserved

    @property
    def early_releases(self) -> frozenset[str]:
        """The deleted nodes whose address is released without the wait for their return."""
        if not self._waiting or not self._gone:
            return frozenset()
        pools = self._pools_in_order()
        if pools is not self._pools:
            self._pools, self._early = pools, None
            self._waiting = dict.fromkeys(self._waiting)
        if self._early is None:
            gone = (each for name, each in self._gone.items() if self._nodes.get(name) is None)
            self._early = find_early_releases(self._waiting_subnets(), gone, self._fenced.values())
        return self._early

    def _waiting_subnets(self) -> Iterator[Subnets]:
        for name, subnets in self._waiting.items():
            node = self._nodes.get(name)
            if node is None:
                continue
            if subnets is None:
                subnets = self._waiting[name] = subnets_for(node, self._pools)
            yield subnets

    def _node_changed(self, name: str, _: Node | None, __: Node | None) -> None:
        if name in self._waiting or name in self._gone:
            self._early = None
            if name in self._waiting:
                self._waiting[name] = None

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
