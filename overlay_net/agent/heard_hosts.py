"""The other hosts that were heard recently, one for each key, so that their number cannot grow without limit."""

from collections.abc import Container, Hashable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Host = TypeVar("Host", bound=Hashable)


@dataclass(frozen=True, slots=True)
class _Heard(Generic[Host]):
    host: Host
    at: float


class HeardHosts(Generic[Key, Host]):
    """A host counts for ``expiry`` seconds after it was heard; until then no other host takes its place.

    Packets can be forged with any number of senders. The first host stays, so that the report does not change with
    each packet.
    """

    def __init__(self, expiry: float) -> None:
        self._expiry = expiry
        self._heard: dict[Key, _Heard[Host]] = {}

    def record(self, key: Key, host: Host, now: float) -> bool:
        """Record a packet; return whether it is the first one of a host that counts from now on."""
        known = self._heard.get(key)
        if known is None or now - known.at > self._expiry:
            self._heard[key] = _Heard(host, now)
            return True
        if known.host == host:
            self._heard[key] = replace(known, at=now)
        return False

    def keep(self, keys: Container[Key]) -> None:
        """Forget the hosts of all other keys."""
        self._heard = {key: each for key, each in self._heard.items() if key in keys}

    def recent(self, now: float) -> tuple[Host, ...]:
        """Return the hosts that count, in the order of their first packets."""
        self._heard = {key: each for key, each in self._heard.items() if now - each.at <= self._expiry}
        return tuple(each.host for each in self._heard.values())
