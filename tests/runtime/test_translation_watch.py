"""When outdated source translations are looked for, in virtual time."""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from overlay_net.agent.paced import CHECK_INTERVAL, REST
from overlay_net.agent.translation_watch import RETRY, TranslationWatch
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Address, Desired, DesiredLink, Observed
from overlay_net.model.route import NextHop, Route
from overlay_net.model.route_lookup import RouteLookup
from overlay_net.model.translation import SelectTranslations, Translation
from tests.runtime.conftest import Run

OVERLAY, PRIVATE = ip_interface("192.168.100.4/24"), ip_interface("10.176.162.151/26")
DESIRED = Desired(DesiredLink("eth0", "eth0", "address"), OVERLAY)
OBSERVED = Observed(addresses=(Address(2, PRIVATE, None), Address(2, OVERLAY, 117)))
STALE = Translation(ip_address("192.168.0.10"), PRIVATE.ip, 17, b"stale")
FITTING = Translation(ip_address("192.168.0.10"), OVERLAY.ip, 17, b"fitting")
PRIVATE_FLOW = Translation(ip_address("198.51.100.1"), PRIVATE.ip, 17, b"private")


class Kernel:
    """Routes 192.168.0.10 over the overlay."""

    def __init__(self) -> None:
        self.flows = [STALE, FITTING, PRIVATE_FLOW]
        self.lists = 0
        self.duration = 0.0
        self.error: KernelError | None = None
        self.watch = TranslationWatch(self, self)

    async def list_translations(self, select: SelectTranslations) -> Sequence[Translation]:
        self.lists += 1
        await asyncio.sleep(self.duration)
        if self.error is not None:
            raise self.error
        return select(self.flows)

    async def delete(self, translations: Sequence[Translation]) -> None:
        self.flows = [each for each in self.flows if each not in translations]

    async def look_up(self, lookups: Sequence[RouteLookup]) -> list[Route | None]:
        hop = (NextHop(None, 2),)
        overlay = Route(ip_network("192.168.0.0/24"), hop, 117, source=OVERLAY.ip)
        private = Route(ip_network("0.0.0.0/0"), hop, 4)
        return [overlay if each.destination == STALE.destination else private for each in lookups]

    async def run_for(self, seconds: float) -> None:
        task = asyncio.create_task(self.watch.run())
        await asyncio.sleep(seconds)
        task.cancel()


def test_only_stale_flows_are_deleted(virtual_time: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.watch.follow(DESIRED, OBSERVED, changed=False)
        await kernel.run_for(100)
        assert (kernel.flows, kernel.lists) == ([FITTING, PRIVATE_FLOW], 1)

    virtual_time(main())


def test_flows_are_not_looked_for_again_until_the_kernel_was_changed(virtual_time: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        for changed in (False, False, True):
            kernel.watch.follow(DESIRED, OBSERVED, changed=changed)
            await kernel.run_for(100)
        assert kernel.lists == 2

    virtual_time(main())


def test_a_node_without_an_overlay_address_does_not_list_its_flows(virtual_time: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.watch.follow(Desired(), OBSERVED, changed=True)
        await kernel.run_for(100)
        assert kernel.lists == 0

    virtual_time(main())


def test_many_changes_cause_one_check_in_a_second(virtual_time: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        running = asyncio.create_task(kernel.run_for(10.5 * CHECK_INTERVAL))
        for _ in range(1000):
            kernel.watch.follow(DESIRED, OBSERVED, changed=True)
            await asyncio.sleep(0.01)
        await running
        assert kernel.lists == 11

    virtual_time(main())


def test_a_check_of_very_many_flows_is_followed_by_a_long_rest(virtual_time: Run) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.duration = CHECK_INTERVAL
        running = asyncio.create_task(kernel.run_for(3.5 * (REST + 1) * CHECK_INTERVAL))
        while not running.done():
            kernel.watch.follow(DESIRED, OBSERVED, changed=True)
            await asyncio.sleep(0.1)
        assert kernel.lists == 4

    virtual_time(main())


def test_an_error_is_logged_once_and_the_flows_are_looked_for_later(
    virtual_time: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        kernel = Kernel()
        kernel.error = KernelError("read connection tracking: Operation not permitted")
        kernel.watch.follow(DESIRED, OBSERVED, changed=True)
        await kernel.run_for(2.5 * RETRY)
        assert kernel.lists == 3
        assert STALE in kernel.flows
        kernel.error = None
        await kernel.run_for(1)
        assert STALE not in kernel.flows

    virtual_time(main())
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "flows may keep an outdated source address"
    ]
