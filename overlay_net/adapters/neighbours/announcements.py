"""Repeats announcements of addresses, as the first one may be lost (RFC 5227 2.3, RFC 4861 7.2.6)."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

from overlay_net.model.errors import KernelError
from overlay_net.model.net import IpAddress

log = logging.getLogger(__name__)

A = TypeVar("A", bound=IpAddress)

COUNT: Final = 2
"""Announcements of an address (ANNOUNCE_NUM of RFC 5227 1.1; at most 3 by RFC 4861 10)."""
INTERVAL: Final = 2.0
"""Seconds between two announcements (ANNOUNCE_INTERVAL of RFC 5227 1.1)."""


class Announcements(Generic[A]):
    """Announcements on one link. ``send`` sends one of an address, and may raise KernelError."""

    def __init__(self, send: Callable[[A], None]) -> None:
        self._send = send
        self._addresses: frozenset[A] = frozenset()
        self._repeats: dict[A, asyncio.TimerHandle] = {}

    def __contains__(self, address: object) -> bool:
        return address in self._addresses

    def keep(self, addresses: Iterable[A]) -> None:
        """Repeat announcements of these addresses only: a removed address must not be announced again."""
        self._addresses = frozenset(addresses)
        for address in self._repeats.keys() - self._addresses:
            self._cancel(address)

    def announce(self, address: A, count: int = COUNT) -> None:
        """Announce at once, which may raise KernelError, and again every INTERVAL while the address is kept."""
        self._cancel(address)
        self._send(address)
        if count > 1:
            loop = asyncio.get_running_loop()
            self._repeats[address] = loop.call_later(INTERVAL, self._repeat, address, count - 1)

    def stop(self) -> None:
        for address in list(self._repeats):
            self._cancel(address)

    def _repeat(self, address: A, count: int) -> None:
        self._repeats.pop(address, None)
        if address in self._addresses:
            try:
                self.announce(address, count)
            except KernelError as error:
                log.debug("announcement not repeated", extra={"address": str(address), "error": str(error)})

    def _cancel(self, address: A) -> None:
        repeat = self._repeats.pop(address, None)
        if repeat is not None:
            repeat.cancel()
