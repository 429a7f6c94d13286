"""The gateway of a network where it may answer ARP for every address (proxy ARP), so that its answers claim none."""

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Final

from overlay_net.adapters.neighbours.arp_packet import ArpPacket, Mac

ANSWER_TIME: Final = 1.0
"""Seconds for which an answer of the gateway is awaited; until then its MAC may be any."""
ASK_AGAIN: Final = 60.0
"""Seconds between two requests while the gateway does not answer."""


class ProxyRouter:
    """``ask(router, source)`` sends an ARP request for the gateway. Times are in seconds of one monotonic clock."""

    def __init__(self, ask: Callable[[IPv4Address, IPv4Address], None]) -> None:
        self._ask = ask
        self._router: IPv4Address | None = None
        self._mac: Mac | None = None
        self._asked_at = float("-inf")

    def set(self, router: IPv4Address | None) -> None:
        """Set the gateway; None: no MAC is that of a gateway that answers for other hosts."""
        if router != self._router:
            self._router, self._mac, self._asked_at = router, None, float("-inf")

    def heard(self, packet: ArpPacket) -> None:
        """Learn the MAC of the gateway."""
        if packet.sender == self._router:
            self._mac = packet.sender_mac

    def may_have_sent(self, packet: ArpPacket, now: float) -> bool:
        """Return whether the sender of a claim answers for the gateway, or may do so: the gateway is asked then."""
        if self._router is None or self._mac is not None:
            return self._router is not None and packet.sender_mac == self._mac
        if now - self._asked_at >= ASK_AGAIN:
            self._asked_at = now
            self._ask(self._router, packet.sender)
        return now - self._asked_at < ANSWER_TIME
