"""Tracks the nodes whose reservations must be read from the IPAM again although their NodeOverlayIp appears settled.

And those for which a read of the cache is enough.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from overlay_net.controller.caches import Caches
from overlay_net.model.overlay import NodeOverlay


class IpamChecks:
    """Pending requests to check a node in the IPAM, and the queue of the workers that do so.

    A plan queries the IPAM by itself if the object shows that something is missing. A check is needed if it does
    not: the audit found a difference, the watch reports an unexpected record, or an earlier attempt failed half-way. A
    request remains pending until an attempt succeeds.
    """

    def __init__(self, caches: Caches, enqueue: Callable[[str], None]) -> None:
        self._caches = caches
        self.enqueue = enqueue
        """Wake the worker that checks the node in the IPAM."""
        self._requested: set[str] = set()
        self._created: dict[str, str] = {}
        """The uids of the objects that this process has created and that have no address yet, by node."""
        caches.overlays.subscribe(self._overlay_changed)

    def request(self, name: str) -> None:
        """Request a check of this node, regardless of its object."""
        self._requested.add(name)
        self.enqueue(name)

    def needed(self, name: str) -> bool:
        return name in self._requested or self._caches.has_unexpected_records(name)

    def created(self, name: str, uid: str) -> None:
        """Note that this process has created the node's object."""
        self._created[name] = uid

    def cache_suffices(self, name: str, overlay: NodeOverlay | None) -> bool:
        """Return whether the watched records are all that count: the node has just joined, and no attempt has failed.

        Records are reserved for an object that exists, and the process that created this one is the leader since: it
        knows what it has written. Only a record of an earlier node of this name may be missing, if its watch lags. Then
        the node gets another address, and once the watch reports that record, it is released as one that the object
        does not show. Two nodes never get one address, as each creates the record before it uses the address.
        """
        return overlay is not None and self._created.get(name) == overlay.uid and name not in self._requested

    def _overlay_changed(self, name: str, _: NodeOverlay | None, new: NodeOverlay | None) -> None:
        if new is None or new.assignment.address is not None:
            self._created.pop(name, None)

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Context of one attempt to reconcile the IPAM with the object; after an exception a request remains pending.

        The exception determines the time of the next attempt, so nothing is enqueued here.
        """
        try:
            yield
        except BaseException:
            self._requested.add(name)
            raise
        self._requested.discard(name)
