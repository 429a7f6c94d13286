"""Asks the gateways, each at its own pace, and knows which are down; domain.gateway_health decides.

A gateway that dies just after it answered is found ``failures`` intervals and one time-out later: 2.4 s by default.
Where the kernel gives a gateway up, it is asked at once instead of at its next time.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Protocol

from overlay_net.adapters.neighbours import Mac, is_running
from overlay_net.adapters.ping import connects, echo
from overlay_net.domain.kernel.gateway_health import GatewayHealth, Target, after
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import HealthCheck
from overlay_net.model.net import IpAddress

log = logging.getLogger(__name__)

TIMEOUT_SHARE: Final = 0.4
SHORTEST_TIMEOUT: Final = 0.1
LONGEST_TIMEOUT: Final = 2.0
JITTER: Final = 0.1
"""Share of the interval by which a probe may come too early. Never too late: the time to find a failure is promised."""


class Resolve(Protocol):
    """The MAC that answers for ``target`` on the link, or None; raises KernelError: not known."""

    async def __call__(self, link: str, target: IpAddress, source: IpAddress, timeout: float) -> Mac | None: ...


class Ask(Protocol):
    """Whether the gateway answered; raises KernelError: not known, because of this node itself."""

    async def __call__(self, target: Target, timeout: float) -> bool: ...


def asking(resolve: Resolve) -> Ask:
    """By ARP (IPv6: neighbour solicitation), ICMP echo or TCP connect, as the target's check says."""

    async def ask(target: Target, timeout: float) -> bool:
        require_running(target.link)
        match target.check.kind:
            case "arp":
                answered = await resolve(target.link, target.address, target.source, timeout) is not None
            case "icmp":
                answered = await echo(target.address, target.source, target.link, timeout)
            case "tcp":
                answered = await connects(target.address, target.check.port, target.source, target.link, timeout)
            case "none":
                return True
        if not answered:
            # The link may have gone down meanwhile, which is not the gateway's fault.
            require_running(target.link)
        return answered

    return ask


def require_running(link: str) -> None:
    if not is_running(link):
        raise KernelError(f"{link} is down or has no carrier")


@dataclass(frozen=True, slots=True)
class GatewayDown:
    address: IpAddress
    since: datetime
    reason: str


@dataclass(slots=True)
class _Probing:
    health: GatewayHealth = field(default_factory=GatewayHealth)
    report: GatewayDown | None = None
    unknown: str = ""
    """Why the gateway cannot be asked now, as logged."""
    task: "asyncio.Task[None] | None" = None
    pause: "asyncio.Future[None] | None" = None
    """While it waits for its next time."""
    hurried: float = float("-inf")
    """When it was last asked before its time, on the event loop's clock."""


class GatewayProber:
    """``changed`` is called on each change of ``down``. An async context manager, which ends its tasks."""

    def __init__(self, ask: Ask, changed: Callable[[], None]) -> None:
        self._ask = ask
        self._changed = changed
        self._probings: dict[Target, _Probing] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._down: frozenset[IpAddress] = frozenset()

    async def __aenter__(self) -> "GatewayProber":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for probing in self._probings.values():
            self._end(probing)
        self._probings.clear()
        await asyncio.gather(*self._ending, return_exceptions=True)

    @property
    def down(self) -> frozenset[IpAddress]:
        """Gateways that do not answer: to one of their checks, where routes have different ones for it."""
        return self._down

    @property
    def reports(self) -> tuple[GatewayDown, ...]:
        reports = [probing.report for probing in self._probings.values() if probing.report is not None]
        return tuple(sorted(reports, key=lambda report: (report.address.version, int(report.address), report.reason)))

    def watch(self, desired: Iterable[Target]) -> None:
        """Ask these from now on, and no others; idempotent.

        A gateway that is down stays so when only its check, our address or its link changes.
        """
        targets = {target for target in desired if target.check.kind != "none"}
        gone = {target: self._probings.pop(target) for target in self._probings.keys() - targets}
        for probing in gone.values():
            self._end(probing)
        for target in targets - self._probings.keys():
            before = next((old for each, old in gone.items() if each.address == target.address and old.report), None)
            probing = _Probing(before.health, before.report) if before else _Probing()
            probing.task = asyncio.create_task(self._run(target, probing))
            self._probings[target] = probing
        self._tell()

    def hurry(self, address: IpAddress) -> None:
        """Ask a gateway that counts as up at once, as the kernel gave it up.

        That is one probe like any other: it takes as many failures as ever. Once in an interval at the most, and not
        for checks by ICMP or TCP: those go through the kernel's neighbours, so a probe would bring on the next one.
        """
        now = asyncio.get_running_loop().time()
        for target, probing in self._probings.items():
            if target.address != address or target.check.kind != "arp" or probing.health.down:
                continue
            if probing.pause is not None and now - probing.hurried >= target.check.interval:
                probing.hurried = now
                _end_pause(probing.pause)

    async def _run(self, target: Target, probing: _Probing) -> None:
        loop = asyncio.get_running_loop()
        # Nodes that start together must not ask together for ever.
        await asyncio.sleep(random.uniform(0, target.check.interval))
        due = loop.time()
        while True:
            await self._once(target, probing)
            # After a pause of the whole process, probes are not made up for: that would be failures in a row at once.
            due = max(loop.time(), due + target.check.interval * random.uniform(1 - JITTER, 1))
            await self._pause(probing, due - loop.time())
            due = min(due, loop.time())

    async def _pause(self, probing: _Probing, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        probing.pause = loop.create_future()
        timer = loop.call_later(seconds, _end_pause, probing.pause)
        try:
            await probing.pause
        finally:
            timer.cancel()
            probing.pause = None

    async def _once(self, target: Target, probing: _Probing) -> None:
        try:
            alive = await self._ask(target, timeout_of(target.check))
        except Exception as error:
            if probing.unknown != str(error):
                unexpected = not isinstance(error, KernelError)
                log.warning("gateway %s cannot be asked: %s", target.address, error, exc_info=unexpected)
            probing.unknown = str(error)
            return
        probing.unknown = ""
        was_down = probing.health.down
        probing.health = after(probing.health, target.check, alive, asyncio.get_running_loop().time())
        if probing.health.down == was_down:
            return
        where = {"gateway": str(target.address), "link": target.link}
        if probing.health.down:
            probing.report = GatewayDown(target.address, datetime.now(UTC), reason_of(target))
            log.warning("gateway is down: %s", probing.report.reason, extra=where)
        else:
            probing.report = None
            log.info("gateway is up again", extra=where)
        self._tell()

    def _tell(self) -> None:
        down = frozenset(target.address for target, probing in self._probings.items() if probing.health.down)
        if down != self._down:
            self._down = down
            self._changed()

    def _end(self, probing: _Probing) -> None:
        if probing.task is not None:
            probing.task.cancel()
            self._ending.add(probing.task)
            probing.task.add_done_callback(self._ending.discard)


def _end_pause(pause: "asyncio.Future[None]") -> None:
    if not pause.done():
        pause.set_result(None)


def timeout_of(check: HealthCheck) -> float:
    return min(max(check.interval * TIMEOUT_SHARE, SHORTEST_TIMEOUT), LONGEST_TIMEOUT)


def reason_of(target: Target) -> str:
    match target.check.kind:
        case "tcp":
            return f"no TCP connection to port {target.check.port} on {target.link}"
        case "icmp":
            return f"no answer to ICMP echo on {target.link}"
        case _:
            return f"no answer to {'ARP' if target.address.version == 4 else 'neighbour solicitation'} on {target.link}"
