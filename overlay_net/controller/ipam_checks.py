"""Which nodes the IPAM must be asked about again although their NodeOverlayIp appears settled."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from overlay_net.controller.caches import Caches


class IpamChecks:
    """Requests to ask the IPAM, and the queue whose workers do so.

    A plan asks by itself where the object shows that something is missing. A check is needed where it does not show
    it: the audit found a difference, the watch of records shows an unexpected one, or an earlier attempt failed
    half-way. A request is kept until an attempt succeeds.
    """

    def __init__(self, caches: Caches, enqueue: Callable[[str], None]) -> None:
        self._caches = caches
        self.enqueue = enqueue
        """Wake the worker that asks the IPAM about the node."""
        self._requested: set[str] = set()

    def request(self, name: str) -> None:
        """Ask the IPAM about this node, whatever its object shows."""
        self._requested.add(name)
        self.enqueue(name)

    def needed(self, name: str) -> bool:
        return name in self._requested or self._caches.has_unexpected_records(name)

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """One attempt to bring the IPAM and the object together; an exception leaves a request behind.

        The exception decides when the next attempt follows, so nothing is enqueued here.
        """
        try:
            yield
        except BaseException:
            self._requested.add(name)
            raise
        self._requested.discard(name)
