"""The schedule and the state of the gateway prober, on virtual time and with simulated gateways."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from ipaddress import ip_address
from itertools import pairwise
from typing import Any

import pytest

from overlay_net.agent.gateway_prober import GatewayProber
from overlay_net.domain.kernel.gateway_health import Target
from overlay_net.model.desired_route import CheckKind, HealthCheck
from overlay_net.model.errors import KernelError
from tests.fakes.virtual_time import VirtualTimeLoop

GATEWAY = Target(ip_address("192.168.100.1"), HealthCheck(), ip_address("192.168.100.4"), "tmp0")
OTHER = replace(GATEWAY, address=ip_address("192.168.100.2"))


class Gateways:
    """Simulated gateways: silent ones use up the whole timeout, as real ones do."""

    def __init__(self) -> None:
        self.silent: set[Target] = set()
        self.error: Exception | None = None
        self.probed: list[tuple[Target, float]] = []
        self.changes = 0

    async def probe(self, target: Target, timeout: float) -> bool:
        self.probed.append((target, asyncio.get_running_loop().time()))
        if self.error:
            raise self.error
        if target in self.silent:
            await asyncio.sleep(timeout)
        return target not in self.silent

    def changed(self) -> None:
        self.changes += 1


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main)


@pytest.mark.parametrize("moment", [number / 10 for number in range(12)])
def test_dead_gateway_is_down_within_two_and_a_half_seconds(moment: float) -> None:
    async def main() -> None:
        gateways = Gateways()
        async with GatewayProber(gateways.probe, gateways.changed) as prober:
            prober.watch([GATEWAY])
            await asyncio.sleep(10 + moment)
            assert (gateways.changes, prober.down) == (1, frozenset()), "one change: the gateway is known"
            gateways.silent.add(GATEWAY)
            await asyncio.sleep(2.5)
            assert (gateways.changes, prober.down) == (2, frozenset({GATEWAY.address}))
            assert prober.reports[0].reason == "no answer to ARP on tmp0"
            gateways.silent.clear()
            await asyncio.sleep(8)
            assert (gateways.changes, prober.down, prober.reports) == (3, frozenset(), ())

    run(main())


def test_gateways_are_known_once_each_has_answered_or_is_down() -> None:
    async def main() -> None:
        gateways = Gateways()
        async with GatewayProber(gateways.probe, gateways.changed) as prober:
            assert (gateways.changes, prober.known) == (0, True), "there is nothing to wait for"
            gateways.error = KernelError("tmp0 has no carrier")
            prober.watch([GATEWAY, OTHER])
            await asyncio.sleep(60)
            assert (gateways.changes, prober.known) == (0, False), "a probe that was not sent has no result"
            gateways.error = None
            gateways.silent.add(OTHER)
            await asyncio.sleep(1.05)
            assert (gateways.changes, prober.known) == (0, False), "one answer is missing"
            await asyncio.sleep(3)
            assert (gateways.changes, prober.known, prober.down) == (1, True, frozenset({OTHER.address}))
            added = replace(GATEWAY, address=ip_address("192.168.100.3"))
            prober.watch([GATEWAY, OTHER, added])
            assert (gateways.changes, prober.known) == (1, False)
            await asyncio.sleep(3)
            assert (gateways.changes, prober.known) == (2, True)
            gateways.error = KernelError("tmp0 has no carrier")
            await asyncio.sleep(60)
            assert (gateways.changes, prober.known) == (2, True)

    run(main())


def test_watching_the_same_targets_again_keeps_their_schedule() -> None:
    async def main() -> None:
        gateways = Gateways()
        async with GatewayProber(gateways.probe, gateways.changed) as prober:
            for _ in range(600):
                prober.watch([GATEWAY, OTHER])
                await asyncio.sleep(0.1)
            for target in (GATEWAY, OTHER):
                times = [moment for probed, moment in gateways.probed if probed == target]
                assert 55 <= len(times) <= 70
                assert max(later - earlier for earlier, later in pairwise(times)) <= 1.01
            prober.watch([OTHER])
            await asyncio.sleep(0)
            gateways.probed.clear()
            await asyncio.sleep(3)
            assert {target for target, _ in gateways.probed} == {OTHER}
            assert gateways.changes == 1, "both gateways became known together"
        gateways.probed.clear()
        await asyncio.sleep(5)
        assert not gateways.probed
        assert len(asyncio.all_tasks()) == 1

    run(main())


@pytest.mark.parametrize("broken", [KernelError("tmp0 is down"), RuntimeError("a bug")])
def test_failing_probe_keeps_the_state_and_is_logged_once(broken: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        gateways = Gateways()
        async with GatewayProber(gateways.probe, gateways.changed) as prober:
            prober.watch([GATEWAY, OTHER])
            gateways.silent.add(OTHER)
            await asyncio.sleep(4)
            assert prober.down == {OTHER.address}
            gateways.error = broken
            await asyncio.sleep(600)
            assert (gateways.changes, prober.down) == (1, frozenset({OTHER.address}))
            assert caplog.text.count("cannot probe a gateway") == 2
            gateways.error = None
            await asyncio.sleep(4)
            assert prober.down == {OTHER.address}

    run(main())


def test_down_gateway_stays_down_when_only_its_check_or_our_address_changes() -> None:
    async def main() -> None:
        gateways = Gateways()
        async with GatewayProber(gateways.probe, gateways.changed) as prober:
            prober.watch([GATEWAY])
            gateways.silent.add(GATEWAY)
            await asyncio.sleep(4)
            since = prober.reports[0].since
            moved = replace(GATEWAY, source=ip_address("192.168.100.5"), check=HealthCheck(interval=2))
            prober.watch([moved])
            assert (gateways.changes, prober.down, prober.reports[0].since) == (1, frozenset({GATEWAY.address}), since)
            await asyncio.sleep(20)
            assert (gateways.changes, prober.down) == (2, frozenset())
            gateways.silent.add(moved)
            await asyncio.sleep(10)
            prober.watch([])
            assert (gateways.changes, prober.down, prober.reports) == (4, frozenset(), ())

    run(main())


def test_gateway_with_two_checks_is_down_when_one_fails_and_check_none_is_not_probed() -> None:
    async def main() -> None:
        gateways = Gateways()
        by_tcp = replace(GATEWAY, check=HealthCheck("tcp", 179))
        async with GatewayProber(gateways.probe, gateways.changed) as prober:
            prober.watch([GATEWAY, by_tcp, replace(OTHER, check=HealthCheck("none"))])
            gateways.silent.add(by_tcp)
            await asyncio.sleep(4)
            assert prober.down == {GATEWAY.address}
            assert [report.reason for report in prober.reports] == ["no TCP connection to port 179 on tmp0"]
            assert {target for target, _ in gateways.probed} == {GATEWAY, by_tcp}

    run(main())


def test_probes_missed_while_the_process_was_paused_are_not_caught_up() -> None:
    async def main() -> None:
        gateways = Gateways()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        async with GatewayProber(gateways.probe, gateways.changed) as prober:
            prober.watch([GATEWAY])
            await asyncio.sleep(3)
            loop._virtual.skipped += 60
            gateways.probed.clear()
            await asyncio.sleep(2)
            assert len(gateways.probed) <= 4

    run(main())


# --- The kernel reports a gateway as failed ---------------------------------------------------------------------------

SLOW = replace(GATEWAY, check=HealthCheck(interval=30))


def test_gateway_reported_by_the_kernel_is_probed_at_once_and_then_on_its_schedule() -> None:
    async def main() -> None:
        gateways = Gateways()
        async with GatewayProber(gateways.probe, gateways.changed) as prober:
            prober.watch([SLOW, OTHER])
            await asyncio.sleep(100)
            gateways.silent.add(SLOW)
            gateways.probed.clear()
            now = asyncio.get_running_loop().time()
            prober.probe_now(SLOW.address)
            await asyncio.sleep(40)
            first, second = (moment - now for target, moment in gateways.probed if target == SLOW)
            assert first < 0.1
            assert 27 <= second <= 30.1, "one extra probe, not several"
            assert (gateways.changes, prober.down) == (2, frozenset({SLOW.address})), "it takes all failures"

    run(main())


def test_repeated_kernel_reports_at_most_double_the_probes_and_skip_gateways_that_are_down() -> None:
    async def main() -> None:
        gateways = Gateways()
        async with GatewayProber(gateways.probe, gateways.changed) as prober:

            async def storm(seconds: int) -> int:
                gateways.probed.clear()
                for _ in range(seconds * 10):
                    prober.probe_now(SLOW.address)
                    await asyncio.sleep(0.1)
                return len(gateways.probed)

            prober.watch([SLOW])
            await asyncio.sleep(100)
            assert await storm(600) <= 2 * 600 / 27
            assert gateways.changes == 1, "the gateway became known"
            gateways.silent.add(SLOW)
            await asyncio.sleep(100)
            assert prober.down == {SLOW.address}
            gateways.silent.clear()
            prober.probe_now(SLOW.address)
            assert await storm(20) <= 1, "a gateway that is down is probed on its schedule"

    run(main())


@pytest.mark.parametrize("kind", ["icmp", "tcp"])
def test_checks_that_use_the_neighbour_table_are_not_probed_early(kind: CheckKind) -> None:
    async def main() -> None:
        gateways = Gateways()
        target = replace(SLOW, check=HealthCheck(kind, 179, interval=30))
        async with GatewayProber(gateways.probe, gateways.changed) as prober:
            prober.watch([target])
            await asyncio.sleep(100)
            gateways.probed.clear()
            for _ in range(200):
                prober.probe_now(target.address)
                await asyncio.sleep(0.1)
            assert len(gateways.probed) <= 1

    run(main())


def test_first_answer_on_a_link_is_known_and_stays_known() -> None:
    async def main() -> None:
        gateways = Gateways()
        gateways.silent.add(GATEWAY)
        async with GatewayProber(gateways.probe, gateways.changed) as prober:
            prober.watch([GATEWAY])
            await asyncio.sleep(10)
            assert (prober.has_answer("tmp0"), prober.reports[0].answered) == (False, False)
            gateways.silent.clear()
            await asyncio.sleep(20)
            assert (prober.has_answer("tmp0"), prober.has_answer("eth0"), gateways.changes) == (True, False, 2)
            gateways.silent.add(GATEWAY)
            await asyncio.sleep(10)
            assert (prober.has_answer("tmp0"), prober.reports[0].answered) == (True, True)

    run(main())


def test_answer_from_another_source_address_proves_nothing() -> None:
    async def main() -> None:
        gateways = Gateways()
        async with GatewayProber(gateways.probe, gateways.changed) as prober:
            prober.watch([GATEWAY])
            await asyncio.sleep(2)
            gateways.silent = {GATEWAY, moved := replace(GATEWAY, source=ip_address("192.168.100.5"))}
            await asyncio.sleep(5)
            prober.watch([moved])
            assert (prober.down, prober.has_answer("tmp0")) == (frozenset({GATEWAY.address}), False)

    run(main())
