"""Remembers which subnets phpIPAM refuses to create rows in, as reading a subnet does not show that."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from overlay_net.adapters.phpipam.responses import AddressRefused
from overlay_net.model.errors import Refused

REMEMBERED_SECONDS = 300.0
"""Nodes that wait for an address try again more often: an older refusal has no one left to renew or clear it."""


class Refusals:
    """``clock`` is monotonic, in seconds; ``changed`` is called when a subnet is refused or accepted again."""

    def __init__(self, clock: Callable[[], float], changed: Callable[[], None]) -> None:
        self._clock = clock
        self._changed = changed
        self._refusals: dict[int, tuple[Refused, float]] = {}

    def find(self, subnet: int) -> Refused | None:
        """Return the answer to the last reservation in the subnet if it was a refusal."""
        error, since = self._refusals.get(subnet, (None, 0.0))
        return error if self._clock() - since < REMEMBERED_SECONDS else None

    @contextmanager
    def observe(self, subnet: int) -> Iterator[None]:
        """Context of one reservation. Neither a refused address nor a lost response concerns the whole subnet."""
        try:
            yield
        except AddressRefused:
            raise
        except Refused as error:
            self._record(subnet, error)
            raise
        self._record(subnet, None)

    def _record(self, subnet: int, error: Refused | None) -> None:
        before = self.find(subnet)
        if error is None:
            self._refusals.pop(subnet, None)
        else:
            self._refusals[subnet] = error, self._clock()
        if (before and before.message) != (error and error.message):
            self._changed()
