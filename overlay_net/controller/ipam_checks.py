"""Tracks the nodes whose reservations must be read from the IPAM again although their NodeOverlayIp appears settled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from overlay_net.controller.caches import Caches


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

    def request(self, name: str) -> None:
        """Request a check of this node, regardless of its object."""
        self._requested.add(name)
        self.enqueue(name)

    def needed(self, name: str) -> bool:
        return name in self._requested or self._caches.has_unexpected_records(name)

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
