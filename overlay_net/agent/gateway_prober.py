"""Probes each gateway at its own interval and tracks which gateways are down.

domain.kernel.gateway_health decides when a gateway is down. A gateway that fails just after an answer is detected after
``failures`` intervals and one timeout: 2.4 s by default. A gateway that the kernel finds unreachable is probed at once.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Final

from overlay_net.agent.gateway_probe import GatewayProbe, describe_failure, probe_timeout
from overlay_net.domain.kernel.gateway_health import GatewayHealth, Target, next_health
from overlay_net.model.errors import KernelError
from overlay_net.model.net import IpAddress

log = logging.getLogger(__name__)

JITTER: Final = 0.1
"""Fraction of the interval by which a probe may be early; never late, as the detection time is documented."""


@dataclass(frozen=True, slots=True)
class GatewayDown:
    address: IpAddress
    since: datetime
    reason: str
    link: str
    answered: bool
    """It has answered before, on this link and from this source address."""


@dataclass(slots=True)
class _Probing:
    health: GatewayHealth = field(default_factory=GatewayHealth)
    report: GatewayDown | None = None
    logged_error: str = ""
    """The last logged reason why the gateway cannot be probed."""
    task: "asyncio.Task[None] | None" = None
    pause: "asyncio.Future[None] | None" = None
    """Completes when the next probe is due."""
    early_at: float = float("-inf")
    """Time of the last early probe, on the event loop's clock."""


class GatewayProber:
    """``changed`` is called on each change of ``down``, and when all gateways have become ``known``.

    An async context manager that cancels its tasks on exit.
    """

    def __init__(self, probe: GatewayProbe, changed: Callable[[], None]) -> None:
        self._send_probe = probe
        self._changed = changed
        self._probings: dict[Target, _Probing] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._down: frozenset[IpAddress] = frozenset()
        self._assumed: frozenset[IpAddress] = frozenset()
        """Gateways that count as down because they were down before this process started."""
        self._known = True

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
        """Gateways that fail a check. If routes check one gateway differently, one failing check is enough."""
        return self._down

    def has_answer(self, link: str) -> bool:
        """Return whether a gateway that is probed on this link has answered since it is probed."""
        return any(target.link == link and probing.health.answered for target, probing in self._probings.items())

    @property
    def known(self) -> bool:
        """Whether every gateway has answered or gone down since it is probed."""
        return self._known

    @property
    def reports(self) -> tuple[GatewayDown, ...]:
        reports = [probing.report for probing in self._probings.values() if probing.report is not None]
        return tuple(sorted(reports, key=lambda report: (report.address.version, int(report.address), report.reason)))

    def assume_down(self, gateways: Iterable[IpAddress]) -> None:
        """Count these gateways as down until they have a result. Call this before the first ``watch``."""
        self._assumed = frozenset(gateways)
        self._down |= self._assumed

    def watch(self, targets: Iterable[Target]) -> None:
        """Probe exactly these targets from now on. Idempotent.

        A gateway that is down stays down if only its check, source address or link changes.
        """
        probed = {target for target in targets if target.check.kind != "none"}
        removed = {target: self._probings.pop(target) for target in self._probings.keys() - probed}
        for probing in removed.values():
            self._end(probing)
        down = {target.address: probing for target, probing in removed.items() if probing.report is not None}
        for target in probed - self._probings.keys():
            before = down.get(target.address)
            # An answer from another source address or link proves nothing about this one.
            probing = _Probing(replace(before.health, answered=False), before.report) if before else _Probing()
            probing.task = asyncio.create_task(self._run(target, probing))
            self._probings[target] = probing
        self._update()

    def probe_now(self, address: IpAddress) -> None:
        """Probe a gateway that the kernel found unreachable at once, unless it is already down.

        The result counts as one probe, so the gateway still needs ``failures`` of them to go down. A gateway is probed
        early at most once per interval, and never by ICMP or TCP: these checks use the kernel's neighbour table, so
        each probe would trigger the next one.
        """
        now = asyncio.get_running_loop().time()
        for target, probing in self._probings.items():
            if target.address != address or target.check.kind != "arp" or probing.health.down:
                continue
            if probing.pause is not None and now - probing.early_at >= target.check.interval:
                probing.early_at = now
                _end_pause(probing.pause)

    async def _run(self, target: Target, probing: _Probing) -> None:
        loop = asyncio.get_running_loop()
        # Nodes that start together must not probe in step indefinitely.
        await asyncio.sleep(random.uniform(0, target.check.interval))
        due = loop.time()
        while True:
            await self._probe(target, probing)
            # Skip the probes missed while the process was paused: in quick succession, all of them could fail.
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

    async def _probe(self, target: Target, probing: _Probing) -> None:
        try:
            alive = await self._send_probe(target, probe_timeout(target.check))
        except Exception as error:
            if probing.logged_error != str(error):
                log.warning(
                    "cannot probe a gateway",
                    extra={**_log_fields(target), "error": str(error)},
                    exc_info=not isinstance(error, KernelError),
                )
            probing.logged_error = str(error)
            return
        probing.logged_error = ""
        before = probing.health
        probing.health = next_health(probing.health, target.check, alive, asyncio.get_running_loop().time())
        if probing.health.down != before.down:
            self._report_change(target, probing)
        if (probing.health.down, probing.health.known) != (before.down, before.known):
            self._update()

    def _report_change(self, target: Target, probing: _Probing) -> None:
        if probing.health.down:
            reason, answered = describe_failure(target), probing.health.answered
            probing.report = GatewayDown(target.address, datetime.now(UTC), reason, target.link, answered)
            log.warning("gateway is down", extra={**_log_fields(target), "reason": probing.report.reason})
        else:
            probing.report = None
            log.info("gateway is up again", extra=_log_fields(target))

    def _update(self) -> None:
        # A gateway that is not probed must not stay down.
        unknown = {target.address for target, probing in self._probings.items() if not probing.health.known}
        self._assumed &= unknown
        down = self._assumed | {target.address for target, probing in self._probings.items() if probing.health.down}
        known = all(probing.health.known for probing in self._probings.values())
        became_known = known and not self._known
        if down != self._down or became_known:
            self._down, self._known = down, known
            self._changed()
        self._known = known

    def _end(self, probing: _Probing) -> None:
        if probing.task is not None:
            probing.task.cancel()
            self._ending.add(probing.task)
            probing.task.add_done_callback(self._ending.discard)


def _end_pause(pause: "asyncio.Future[None]") -> None:
    if not pause.done():
        pause.set_result(None)


def _log_fields(target: Target) -> dict[str, object]:
    return {"gateway": str(target.address), "link": target.link}
