"""The records that this process has released, and the pools in which it must release none."""

from collections import defaultdict
from collections.abc import Callable
from typing import TypeAlias

from overlay_net.domain.allocation.shared_cluster_id import MESSAGE, has_shared_id
from overlay_net.model.errors import SharedClusterId
from overlay_net.model.ipam import CLUSTER_IPAM, Owner, Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.pool import Pool
from overlay_net.runtime.store import Store

_Key: TypeAlias = tuple[str, IpAddress]
"""Pool and address."""


class ReleasedRecords:
    """``pools`` has the conditions that an earlier process has written."""

    def __init__(self, pools: Store[Pool]) -> None:
        self._pools = pools
        # The last owner of each address that was released; at most one entry for each address.
        self._owners: dict[_Key, Owner] = {}
        self._keys: defaultdict[str, set[_Key]] = defaultdict(set)
        self._shared: frozenset[str] | None = None

    @property
    def shared(self) -> frozenset[str]:
        """The names of the pools whose records another cluster creates again; until the first audit, as in status."""
        if self._shared is not None:
            return self._shared
        return frozenset(pool.name for pool in self._pools.values() if has_shared_id(pool))

    def set_shared(self, names: frozenset[str]) -> None:
        self._shared = names

    def check(self, reservation: Reservation) -> None:
        """Raise SharedClusterId if no record of the pool must be released."""
        if reservation.pool in self.shared:
            raise SharedClusterId(MESSAGE)

    def released(self, reservation: Reservation) -> None:
        # Records of the in-cluster IPAM are objects of this cluster: one that comes back was restored from a backup.
        if reservation.ipam != CLUSTER_IPAM:
            key = _key(reservation)
            self._forget(key)
            self._owners[key] = reservation.owner
            self._keys[reservation.owner.node].add(key)

    def reserving(self, owner: Owner) -> None:
        """This process itself creates a record of the node, even if the response is lost."""
        for key in tuple(self._keys.get(owner.node, ())):
            self._forget(key)

    def watch_returns(self) -> Callable[[Reservation], bool]:
        """Return a check whether a record, read from now on, is one that was released, owner and all.

        One that is released only while records are read may still be among them, as may one that this process creates.
        """
        before = dict(self._owners)

        def has_returned(reservation: Reservation) -> bool:
            key = _key(reservation)
            return before.get(key) == reservation.owner == self._owners.get(key)

        return has_returned

    def _forget(self, key: _Key) -> None:
        before = self._owners.pop(key, None)
        if before is not None:
            self._keys[before.node].discard(key)
            if not self._keys[before.node]:
                del self._keys[before.node]


def _key(reservation: Reservation) -> _Key:
    return reservation.pool, reservation.address.ip
