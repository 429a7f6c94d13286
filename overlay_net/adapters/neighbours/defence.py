"""Saying, and upholding, that addresses are here: announcements and the watch over configured addresses."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from typing import Final

from overlay_net.adapters.neighbours.packet import Mac
from overlay_net.model.errors import KernelError

log = logging.getLogger(__name__)

ANNOUNCE_INTERVAL: Final = 2.0
"""Seconds between two announcements (RFC 5227 1.1)."""
DEFEND_INTERVAL: Final = 10.0
"""Seconds between two defences of an address (RFC 5227 1.1): two hosts must not shout at each other for ever."""

OnConflict = Callable[[IPv4Address, Mac], None]


class Defence:
    """``send`` broadcasts one announcement of an address, and raises KernelError."""

    def __init__(self, send: Callable[[IPv4Address], None], on_conflict: OnConflict) -> None:
        self._send = send
        self._on_conflict = on_conflict
        self._addresses: frozenset[IPv4Address] = frozenset()
        self._defended: dict[IPv4Address, float] = {}
        self._repeats: dict[IPv4Address, asyncio.TimerHandle] = {}

    def __contains__(self, address: IPv4Address) -> bool:
        return address in self._addresses

    def set(self, addresses: Iterable[IPv4Address]) -> None:
        self._addresses = frozenset(addresses)
        for address in {*self._repeats, *self._defended} - self._addresses:
            self._cancel_repeat(address)
            self._defended.pop(address, None)

    def announce(self, address: IPv4Address, count: int) -> None:
        """The first at once, which may raise KernelError; the others while the address is among ours."""
        self._cancel_repeat(address)
        self._send(address)
        if count > 1:
            loop = asyncio.get_running_loop()
            self._repeats[address] = loop.call_later(ANNOUNCE_INTERVAL, self._announce_again, address, count - 1)

    def conflict(self, address: IPv4Address, mac: Mac) -> None:
        """RFC 5227 2.4 (c): the address is ours by the IPAM's word, so it is not given up."""
        now = asyncio.get_running_loop().time()
        if now - self._defended.get(address, -DEFEND_INTERVAL) >= DEFEND_INTERVAL:
            self._defended[address] = now
            try:
                self._send(address)
            except KernelError as error:
                log.debug("not defended: %s", error)
        self._on_conflict(address, mac)

    def stop(self) -> None:
        for address in list(self._repeats):
            self._cancel_repeat(address)

    def _announce_again(self, address: IPv4Address, count: int) -> None:
        self._repeats.pop(address, None)
        if address in self._addresses:
            try:
                self.announce(address, count)
            except KernelError as error:
                log.debug("not announced again: %s", error)

    def _cancel_repeat(self, address: IPv4Address) -> None:
        repeat = self._repeats.pop(address, None)
        if repeat is not None:
            repeat.cancel()
