"""What goes on around this node's overlay address: is it free, who else claims it, which gateways answer.

An address is asked for on its link before it is used (RFC 5227, 2.1), announced once it is there, and defended. One
that this node used a moment ago is set again without asking: the neighbours still take it for ours, and asking would
cost a second of traffic.
"""

import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn, Protocol

from overlay_net.agent.gateway_prober import GatewayDown
from overlay_net.domain.kernel.address import is_ours
from overlay_net.domain.kernel.gateway_health import Target, probe_targets
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Desired, Observed, OwnershipMark
from overlay_net.model.kernel_actions import AddAddress
from overlay_net.model.net import IpAddress
from overlay_net.model.overlay import SilentGateway

log = logging.getLogger(__name__)

HELD_LATELY = 10.0
"""Seconds for which an address that was in use counts as ours still."""

ASK_AGAIN = 20.0
"""Seconds, at the least, between two questions whether an address that somebody uses has become free."""


class Neighbours(Protocol):
    """The other hosts on the links; every method but ``conflicts`` raises KernelError: not known."""

    async def find_conflict(self, link: str, address: IpAddress) -> str | None: ...
    def announce(self, link: str, address: IpAddress) -> None: ...
    def watch(self, configured: Mapping[str, Iterable[IpAddress]]) -> None: ...
    def take_gateway_change(self) -> bool: ...
    @property
    def conflicts(self) -> "tuple[Claim, ...]": ...


class Claim(Protocol):
    """Another host uses a configured address of ours."""

    @property
    def address(self) -> IpAddress: ...
    @property
    def mac(self) -> str: ...


class Prober(Protocol):
    def watch(self, wanted: Iterable[Target]) -> None: ...
    @property
    def down(self) -> frozenset[IpAddress]: ...
    @property
    def reports(self) -> tuple[GatewayDown, ...]: ...


class Duplicate(Exception):
    """Somebody else uses an address that this node was given and does not use yet."""

    def __init__(self, address: IpAddress, mac: str) -> None:
        super().__init__(f"{address} is in use by {mac or 'another host'}")
        self.address = address
        self.mac = mac


class Surroundings:
    """``detect``: ask before an address is used; ``announce_every`` seconds it is announced again, 0: never."""

    def __init__(
        self,
        neighbours: Neighbours,
        prober: Prober,
        mark: OwnershipMark,
        clock: Callable[[], float],
        *,
        detect: bool = True,
        announce_every: float = 0.0,
    ) -> None:
        self._neighbours = neighbours
        self._detect = detect
        self._announce_every = announce_every
        self._announced = clock()
        self._prober = prober
        self._marks = mark
        self._clock = clock
        self._held: dict[IpAddress, float] = {}
        self._up: dict[str, frozenset[IpAddress]] = {}
        self._duplicate: Duplicate | None = None
        self._ask_again = 0.0
        self._asked: frozenset[IpAddress] = frozenset()

    @property
    def down(self) -> frozenset[IpAddress]:
        """Gateways that do not answer."""
        return self._prober.down

    @property
    def gateways(self) -> Mapping[IpAddress, bool]:
        """Those that are asked, and whether they answer."""
        return {address: address not in self.down for address in self._asked}

    @property
    def silent(self) -> tuple[SilentGateway, ...]:
        return tuple(SilentGateway(each.address, each.since, each.reason) for each in self._prober.reports)

    @property
    def duplicate(self) -> Duplicate | None:
        """The address that is not used because somebody else does."""
        return self._duplicate

    @property
    def claims(self) -> Mapping[IpAddress, str]:
        """Addresses in use here that another host claims as well, and its MAC."""
        return {claim.address: claim.mac for claim in self._neighbours.conflicts}

    @property
    def wait(self) -> float | None:
        """Seconds until a duplicate is asked about again, or addresses are announced again."""
        due = [self._ask_again] if self._duplicate is not None else []
        if self._announce_every:
            due.append(self._announced + self._announce_every)
        return max(0.1, min(due) - self._clock()) if due else None

    async def admit(self, action: AddAddress, observed: Observed) -> None:
        """Whether the address may be set. Raises Duplicate, and KernelError: not known, so it may not."""
        address = action.interface.ip
        present = [each for each in observed.addresses if each.interface.ip == address]
        if any(each.dad_failed for each in present):
            # The kernel has asked, and somebody answered.
            self._refuse(action, await self._who_has(action.link, address))
        now = self._clock()
        if present or now - self._held.get(address, float("-inf")) < HELD_LATELY:
            # Only its mark or its prefix length is missing; or it was ours a moment ago.
            return
        if self._duplicate is not None and self._duplicate.address == address and now < self._ask_again:
            raise self._duplicate
        mac = await self._neighbours.find_conflict(action.link, address) if self._detect else None
        if mac is None:
            self._duplicate = None
            return
        self._refuse(action, mac)

    async def _who_has(self, link: str, address: IpAddress) -> str:
        """A MAC, or an empty text where nobody can be asked, or answers any more."""
        try:
            return await self._neighbours.find_conflict(link, address) or ""
        except KernelError:
            return ""

    def _refuse(self, action: AddAddress, mac: str) -> NoReturn:
        self._duplicate = Duplicate(action.interface.ip, mac)
        # Two nodes that were given one address at the same moment must not ask in step for ever.
        self._ask_again = self._clock() + ASK_AGAIN * random.uniform(1, 1.5)
        log.warning("the address is not used: %s", self._duplicate, extra={"link": action.link})
        raise self._duplicate

    def settle(self, desired: Desired, observed: Observed) -> None:
        """After the last look: defend and announce what is there, probe the gateways of what is wished."""
        if self._duplicate is not None and (desired.address is None or desired.address.ip != self._duplicate.address):
            self._duplicate = None
        names = {link.index: link.name for link in observed.links}
        running = {link.name for link in observed.links if link.up}
        configured: dict[str, set[IpAddress]] = {}
        for each in observed.addresses:
            if each.link in names and each.in_use and is_ours(each, observed, self._marks):
                configured.setdefault(names[each.link], set()).add(each.interface.ip)
        now = self._clock()
        for address in (address for addresses in configured.values() for address in addresses):
            self._held[address] = now
        self._held = {address: when for address, when in self._held.items() if now - when < HELD_LATELY}
        self._neighbours.watch(configured)
        again = self._announce_every and now - self._announced >= self._announce_every
        if self._neighbours.take_gateway_change() or again:
            self._up, self._announced = {}, now
        up = {link: frozenset(addresses) for link, addresses in configured.items() if link in running}
        for link, addresses in up.items():
            self._announce(link, addresses - self._up.get(link, frozenset()))
        self._up = up
        targets = probe_targets(desired.routes, observed, desired.link.name if desired.link else desired.interface)
        self._asked = frozenset(target.address for target in targets if target.check.kind != "none")
        self._prober.watch(targets)

    def _announce(self, link: str, addresses: Iterable[IpAddress]) -> None:
        for address in addresses:
            # No carrier yet: the link's coming up is looked at again.
            with contextlib.suppress(KernelError):
                self._neighbours.announce(link, address)
