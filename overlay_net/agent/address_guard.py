"""Admits, announces and defends this node's overlay address (RFC 5227).

An address is probed on its link before it is configured (section 2.1.1), announced whenever neighbours must learn where
it is (2.3, domain.kernel.announcements), and defended (2.4). An address that this node used a moment ago is configured
again without a probe: the neighbours' caches still point to this node, and the probe would interrupt traffic for a
second.
"""

import errno
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NoReturn, Protocol

from overlay_net.domain.kernel.announcements import Announcement, addresses_in_use, find_announcements
from overlay_net.domain.kernel.link_types import can_have_conflicts
from overlay_net.domain.kernel.own_frames import MacConflict, OwnFrames, find_own_frames
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Desired, Observed, OwnershipMark
from overlay_net.model.kernel_actions import AddAddress
from overlay_net.model.net import IpAddress

log = logging.getLogger(__name__)

RECENTLY: Final = 10.0
"""Seconds after its last use for which an address is configured again without a probe."""

NOTICED_WITHIN: Final = 120.0
"""Maximum number of seconds between two observations for which an address counts as used until the later one.

A deletion is noticed within milliseconds. Only a process that was stopped notices it late, and then the address may
belong to another host.
"""

PROBE_AGAIN: Final = 20.0
"""Minimum number of seconds between two probes of an address that another host uses."""

ANNOUNCE_AGAIN: Final = 1.0
"""Seconds until the next attempt to send an announcement that the kernel refused, for example for a full queue."""


class Neighbours(Protocol):
    """The other hosts on the links. Every method raises KernelError if the result is unknown."""

    def recognise(self, own: OwnFrames) -> None: ...
    async def find_conflict(self, link: str, address: IpAddress) -> str | None: ...
    def announce(self, link: str, address: IpAddress) -> None: ...
    def watch(self, configured: Mapping[str, Iterable[IpAddress]], router: IpAddress | None) -> None: ...
    def take_gateway_change(self) -> bool: ...
    @property
    def conflicts(self) -> "tuple[Conflict, ...]": ...
    @property
    def mac_conflict(self) -> MacConflict | None: ...


class Conflict(Protocol):
    """Another host uses an address that is configured here."""

    @property
    def address(self) -> IpAddress: ...
    @property
    def mac(self) -> str: ...


class AddressInUse(Exception):
    """Another host uses the address assigned to this node, which is not configured yet; ``mac`` may be empty."""

    def __init__(self, address: IpAddress, mac: str) -> None:
        super().__init__(f"{address} is in use by {mac or 'another host'}")
        self.address = address
        self.mac = mac


class AddressGuard:
    """``detect`` enables the probe before an address is configured; if it is disabled, the gateway may use proxy ARP.

    ``announce_every`` is the announcement interval in seconds; 0 announces on changes only.
    """

    def __init__(
        self,
        neighbours: Neighbours,
        mark: OwnershipMark,
        clock: Callable[[], float],
        *,
        detect: bool = True,
        announce_every: float = 0.0,
    ) -> None:
        self._neighbours = neighbours
        self._mark = mark
        self._clock = clock
        self._detect = detect
        self._announce_every = announce_every
        self._announced_at = clock()
        self._announced: frozenset[Announcement] = frozenset()
        """What was announced and has been in every observation since."""
        self._announce_again_at: float | None = None
        self._last_used: dict[IpAddress, float] = {}
        self._in_use: frozenset[IpAddress] = frozenset()
        """The addresses in use at the last observation, at the time ``_observed_at``."""
        self._observed_at = clock()
        self._rejected: AddressInUse | None = None
        self._probe_again_at = 0.0

    @property
    def rejected(self) -> AddressInUse | None:
        """The assigned address that is not configured because another host uses it."""
        return self._rejected

    def conflicting_mac(self, address: IpAddress) -> str:
        """Return the MAC of another host that uses an address configured on this node, or an empty string."""
        return next((each.mac for each in self._neighbours.conflicts if each.address == address), "")

    @property
    def mac_conflict(self) -> MacConflict | None:
        """Another host that has the MAC of the overlay link."""
        return self._neighbours.mac_conflict

    @property
    def wait(self) -> float | None:
        """Seconds until the next probe of a rejected address or the next announcement; None if neither is due."""
        due = [self._probe_again_at] if self._rejected is not None else []
        if self._announce_again_at is not None:
            due.append(self._announce_again_at)
        if self._announce_every:
            due.append(self._announced_at + self._announce_every)
        return max(0.1, min(due) - self._clock()) if due else None

    async def admit(self, action: AddAddress, observed: Observed) -> None:
        """Return if the address may be configured. Raises AddressInUse, or KernelError if that is unknown."""
        address = action.interface.ip
        self._neighbours.recognise(find_own_frames(observed, action.link, self._mark, address))
        present = observed.address_index.at(address)
        if any(each.dad_failed for each in present):
            # The kernel's own duplicate address detection failed.
            self._reject(action, await self._find_mac(action.link, address))
        if present or self._was_used_recently(address):
            # Only the ownership mark or prefix length differs, or the neighbours' caches still point to this node.
            return
        if self._rejected is not None and self._rejected.address == address and self._clock() < self._probe_again_at:
            raise self._rejected
        probes = self._detect and can_have_conflicts(action.link, observed)
        mac = await self._neighbours.find_conflict(action.link, address) if probes else None
        if mac is not None:
            self._reject(action, mac)
        self._rejected = None

    def follow(self, desired: Desired, observed: Observed) -> None:
        """Defend the configured addresses, and announce what differs from the last observation.

        Call this after each observation, also of what is repaired next: what was missing once is announced again.
        """
        if self._rejected is not None and (desired.address is None or desired.address.ip != self._rejected.address):
            self._rejected = None
        configured = self._configured(observed)
        link, assigned = desired.link, desired.address
        self._neighbours.recognise(
            find_own_frames(observed, link.name if link else "", self._mark, assigned.ip if assigned else None)
        )
        self._record_use(configured)
        self._neighbours.watch(configured, None if self._detect else desired.gateway)
        self._announce(find_announcements(observed, self._mark))

    def _was_used_recently(self, address: IpAddress) -> bool:
        return self._clock() - self._last_used.get(address, float("-inf")) < RECENTLY

    async def _find_mac(self, link: str, address: IpAddress) -> str:
        """Return the MAC, or an empty string if the link cannot be probed or the other host no longer answers."""
        try:
            return await self._neighbours.find_conflict(link, address) or ""
        except KernelError:
            return ""

    def _reject(self, action: AddAddress, mac: str) -> NoReturn:
        self._rejected = AddressInUse(action.interface.ip, mac)
        # The jitter keeps two nodes that were assigned the same address from probing in step indefinitely.
        self._probe_again_at = self._clock() + PROBE_AGAIN * random.uniform(1, 1.5)
        log.warning(
            "address conflict; not configuring the address",
            extra={"address": str(action.interface.ip), "mac": mac, "link": action.link},
        )
        raise self._rejected

    def _configured(self, observed: Observed) -> dict[str, frozenset[IpAddress]]:
        """Return our addresses that are in use, by link."""
        configured: dict[str, frozenset[IpAddress]] = {}
        for link, address in addresses_in_use(observed, self._mark):
            configured[link.name] = configured.get(link.name, frozenset()) | {address.interface.ip}
        return configured

    def _record_use(self, configured: Mapping[str, frozenset[IpAddress]]) -> None:
        now = self._clock()
        in_use = frozenset[IpAddress]().union(*configured.values())
        lasted = self._in_use if now - self._observed_at < NOTICED_WITHIN else frozenset()
        self._last_used.update(dict.fromkeys(in_use | lasted, now))
        self._in_use, self._observed_at = in_use, now
        self._last_used = {address: at for address, at in self._last_used.items() if now - at < RECENTLY}

    def _announce(self, current: frozenset[Announcement]) -> None:
        """Announce what is new; announce everything after a gateway MAC change and at each interval."""
        now = self._clock()
        is_due = self._announce_every > 0 and now - self._announced_at >= self._announce_every
        if self._neighbours.take_gateway_change() or is_due:
            self._announced, self._announced_at = frozenset(), now
        self._announce_again_at = None
        sent = {each for each in current - self._announced if self._send(each)}
        self._announced = (self._announced & current) | sent

    def _send(self, announcement: Announcement) -> bool:
        """Send an announcement. Returns whether it was sent."""
        try:
            self._neighbours.announce(announcement.link, announcement.address)
        except KernelError as error:
            # The agent is woken when the carrier is back.
            if error.code != errno.ENETDOWN:
                self._announce_again_at = self._clock() + ANNOUNCE_AGAIN
            return False
        log.info(
            "address announced",
            extra={"address": str(announcement.address), "link": announcement.link, "mac": announcement.mac},
        )
        return True
