"""The prober's pace and its bookkeeping, on a clock that jumps and with gateways that answer as a test says."""

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


class World:
    """Gateways that are silent use up the whole time-out, as real ones do."""

    def __init__(self) -> None:
        self.silent: set[Target] = set()
        self.broken: Exception | None = None
        self.asked: list[tuple[Target, float]] = []
        self.changes = 0

    async def ask(self, target: Target, timeout: float) -> bool:
        self.asked.append((target, asyncio.get_running_loop().time()))
        if self.broken:
            raise self.broken
        if target in self.silent:
            await asyncio.sleep(timeout)
        return target not in self.silent

    def changed(self) -> None:
        self.changes += 1


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main)


@pytest.mark.parametrize("moment", [number / 10 for number in range(12)])
def test_a_dead_gateway_is_found_within_two_and_a_half_seconds(moment: float) -> None:
    async def main() -> None:
        world = World()
        async with GatewayProber(world.ask, world.changed) as prober:
            prober.watch([GATEWAY])
            await asyncio.sleep(10 + moment)
            assert (world.changes, prober.down) == (0, frozenset())
            world.silent.add(GATEWAY)
            await asyncio.sleep(2.5)
            assert (world.changes, prober.down) == (1, frozenset({GATEWAY.address}))
            assert prober.reports[0].reason == "no answer to ARP on tmp0"
            world.silent.clear()
            await asyncio.sleep(8)
            assert (world.changes, prober.down, prober.reports) == (2, frozenset(), ())

    run(main())


def test_watching_the_same_again_disturbs_nothing() -> None:
    async def main() -> None:
        world = World()
        async with GatewayProber(world.ask, world.changed) as prober:
            for _ in range(600):
                prober.watch([GATEWAY, OTHER])
                await asyncio.sleep(0.1)
            for target in (GATEWAY, OTHER):
                times = [moment for asked, moment in world.asked if asked == target]
                assert 55 <= len(times) <= 70
                assert max(later - earlier for earlier, later in pairwise(times)) <= 1.01
            prober.watch([OTHER])
            await asyncio.sleep(0)
            world.asked.clear()
            await asyncio.sleep(3)
            assert {asked for asked, _ in world.asked} == {OTHER}
            assert world.changes == 0
        world.asked.clear()
        await asyncio.sleep(5)
        assert not world.asked
        assert len(asyncio.all_tasks()) == 1

    run(main())


@pytest.mark.parametrize("broken", [KernelError("tmp0 is down"), RuntimeError("a bug")])
def test_what_cannot_be_asked_stays_as_it_is_and_is_logged_once(
    broken: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        world = World()
        async with GatewayProber(world.ask, world.changed) as prober:
            prober.watch([GATEWAY, OTHER])
            world.silent.add(OTHER)
            await asyncio.sleep(4)
            assert prober.down == {OTHER.address}
            world.broken = broken
            await asyncio.sleep(600)
            assert (world.changes, prober.down) == (1, frozenset({OTHER.address}))
            assert caplog.text.count("cannot probe a gateway") == 2
            world.broken = None
            await asyncio.sleep(4)
            assert prober.down == {OTHER.address}

    run(main())


def test_a_gateway_that_is_down_stays_so_when_only_its_check_or_our_address_changes() -> None:
    async def main() -> None:
        world = World()
        async with GatewayProber(world.ask, world.changed) as prober:
            prober.watch([GATEWAY])
            world.silent.add(GATEWAY)
            await asyncio.sleep(4)
            since = prober.reports[0].since
            moved = replace(GATEWAY, source=ip_address("192.168.100.5"), check=HealthCheck(interval=2))
            prober.watch([moved])
            assert (world.changes, prober.down, prober.reports[0].since) == (1, frozenset({GATEWAY.address}), since)
            await asyncio.sleep(20)
            assert (world.changes, prober.down) == (2, frozenset())
            world.silent.add(moved)
            await asyncio.sleep(10)
            prober.watch([])
            assert (world.changes, prober.down, prober.reports) == (4, frozenset(), ())

    run(main())


def test_a_gateway_with_two_checks_is_down_when_one_fails_and_none_is_not_asked() -> None:
    async def main() -> None:
        world = World()
        by_tcp = replace(GATEWAY, check=HealthCheck("tcp", 179))
        async with GatewayProber(world.ask, world.changed) as prober:
            prober.watch([GATEWAY, by_tcp, replace(OTHER, check=HealthCheck("none"))])
            world.silent.add(by_tcp)
            await asyncio.sleep(4)
            assert prober.down == {GATEWAY.address}
            assert [report.reason for report in prober.reports] == ["no TCP connection to port 179 on tmp0"]
            assert {asked for asked, _ in world.asked} == {GATEWAY, by_tcp}

    run(main())


def test_a_pause_of_the_whole_process_is_not_made_up_for() -> None:
    async def main() -> None:
        world = World()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        async with GatewayProber(world.ask, world.changed) as prober:
            prober.watch([GATEWAY])
            await asyncio.sleep(3)
            loop._virtual.skipped += 60
            world.asked.clear()
            await asyncio.sleep(2)
            assert len(world.asked) <= 4

    run(main())


# --- The kernel gives a gateway up -----------------------------------------------------------------------------------

SLOW = replace(GATEWAY, check=HealthCheck(interval=30))


def test_a_gateway_that_the_kernel_gave_up_is_asked_at_once_and_then_at_its_own_pace() -> None:
    async def main() -> None:
        world = World()
        async with GatewayProber(world.ask, world.changed) as prober:
            prober.watch([SLOW, OTHER])
            await asyncio.sleep(100)
            world.silent.add(SLOW)
            world.asked.clear()
            now = asyncio.get_running_loop().time()
            prober.probe_now(SLOW.address)
            await asyncio.sleep(40)
            first, second = (moment - now for asked, moment in world.asked if asked == SLOW)
            assert first < 0.1
            assert 27 <= second <= 30.1, "one probe, not a row of them"
            assert (world.changes, prober.down) == (1, frozenset({SLOW.address})), "as many failures as ever"

    run(main())


def test_however_often_the_kernel_gives_up_probes_do_not_double_nor_touch_what_is_down() -> None:
    async def main() -> None:
        world = World()
        async with GatewayProber(world.ask, world.changed) as prober:

            async def storm(seconds: int) -> int:
                world.asked.clear()
                for _ in range(seconds * 10):
                    prober.probe_now(SLOW.address)
                    await asyncio.sleep(0.1)
                return len(world.asked)

            prober.watch([SLOW])
            await asyncio.sleep(100)
            assert await storm(600) <= 2 * 600 / 27
            assert not world.changes
            world.silent.add(SLOW)
            await asyncio.sleep(100)
            assert prober.down == {SLOW.address}
            world.silent.clear()
            prober.probe_now(SLOW.address)
            assert await storm(20) <= 1, "a gateway that is down comes back at its own pace"

    run(main())


@pytest.mark.parametrize("kind", ["icmp", "tcp"])
def test_checks_that_use_the_kernels_neighbours_are_not_hurried(kind: CheckKind) -> None:
    async def main() -> None:
        world = World()
        target = replace(SLOW, check=HealthCheck(kind, 179, interval=30))
        async with GatewayProber(world.ask, world.changed) as prober:
            prober.watch([target])
            await asyncio.sleep(100)
            world.asked.clear()
            for _ in range(200):
                prober.probe_now(target.address)
                await asyncio.sleep(0.1)
            assert len(world.asked) <= 1

    run(main())
