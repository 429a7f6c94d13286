"""Announces configured IPv4 addresses and defends them in an address conflict (RFC 5227)."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from typing import Final

from overlay_net.adapters.neighbours.announcements import Announcements
from overlay_net.adapters.neighbours.arp_packet import Mac
from overlay_net.model.errors import KernelError

log = logging.getLogger(__name__)

DEFEND_INTERVAL: Final = 10.0
"""Seconds between two defences of an address (RFC 5227 1.1), so that two hosts do not answer each other endlessly."""

OnConflict = Callable[[IPv4Address, Mac], None]


class AddressDefence:
    """``announce`` broadcasts one announcement of an address, and may raise KernelError."""

    def __init__(self, announce: Callable[[IPv4Address], None], on_conflict: OnConflict) -> None:
        self._announce_once = announce
        self._on_conflict = on_conflict
        self._announcements = Announcements(announce)
        self._defended: dict[IPv4Address, float] = {}

    def __contains__(self, address: IPv4Address) -> bool:
        return address in self._announcements

    def set(self, addresses: Iterable[IPv4Address]) -> None:
        """Defend exactly these addresses."""
        self._announcements.keep(addresses)
        self._defended = {address: at for address, at in self._defended.items() if address in self}

    def announce(self, address: IPv4Address, count: int) -> None:
        """Announce at once, which may raise KernelError; repeat for as long as the address is defended."""
        self._announcements.announce(address, count)

    def conflict(self, address: IPv4Address, mac: Mac) -> None:
        """Defend an address that another host uses. It is kept (RFC 5227 2.4 (c)), as the IPAM assigned it to us."""
        now = asyncio.get_running_loop().time()
        if now - self._defended.get(address, -DEFEND_INTERVAL) >= DEFEND_INTERVAL:
            self._defended[address] = now
            try:
                self._announce_once(address)
            except KernelError as error:
                log.debug("address not defended", extra={"address": str(address), "error": str(error)})
        self._on_conflict(address, mac)

    def stop(self) -> None:
        self._announcements.stop()
