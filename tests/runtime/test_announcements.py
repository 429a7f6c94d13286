"""Repetitions of announcements, in virtual time."""

import asyncio
from ipaddress import IPv6Address, ip_address

import pytest

from overlay_net.adapters.neighbours import Announcements
from overlay_net.adapters.neighbours.announcements import COUNT, INTERVAL
from overlay_net.model.errors import KernelError
from overlay_net.model.net import IpAddress
from tests.runtime.conftest import Run

IPV4, IPV6 = ip_address("192.168.100.4"), IPv6Address("fd00:7::4")


class Link:
    """Records what is sent, and when."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, IpAddress]] = []
        self.error: KernelError | None = None
        self.announcements = Announcements[IpAddress](self._send)
        self._began = asyncio.get_running_loop().time()

    def _send(self, address: IpAddress) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append((asyncio.get_running_loop().time() - self._began, address))


@pytest.mark.parametrize("address", [IPV4, IPV6])
def test_each_announcement_is_repeated(virtual_time: Run, address: IpAddress) -> None:
    async def main() -> None:
        link = Link()
        link.announcements.keep([address])
        link.announcements.announce(address)
        await asyncio.sleep(10 * INTERVAL)
        assert link.sent == [(INTERVAL * number, address) for number in range(COUNT)]

    virtual_time(main())


def test_removed_address_is_not_announced_again(virtual_time: Run) -> None:
    async def main() -> None:
        link = Link()
        link.announcements.keep([IPV4, IPV6])
        for address in (IPV4, IPV6):
            link.announcements.announce(address)
        link.announcements.keep([IPV6])
        await asyncio.sleep(10 * INTERVAL)
        assert [address for _, address in link.sent] == [IPV4, IPV6, IPV6]

    virtual_time(main())


def test_new_announcement_replaces_the_repetition_of_the_last_one(virtual_time: Run) -> None:
    async def main() -> None:
        link = Link()
        link.announcements.keep([IPV4])
        link.announcements.announce(IPV4)
        await asyncio.sleep(INTERVAL / 2)
        link.announcements.announce(IPV4)
        await asyncio.sleep(10 * INTERVAL)
        assert [at for at, _ in link.sent] == [0, INTERVAL / 2, 1.5 * INTERVAL]

    virtual_time(main())


def test_refused_announcement_is_an_error_and_a_refused_repetition_is_none(virtual_time: Run) -> None:
    async def main() -> None:
        link = Link()
        link.announcements.keep([IPV4])
        link.announcements.announce(IPV4)
        link.error = KernelError("tmp0 has no carrier")
        await asyncio.sleep(10 * INTERVAL)
        assert len(link.sent) == 1
        with pytest.raises(KernelError):
            link.announcements.announce(IPV4)

    virtual_time(main())


def test_nothing_is_sent_after_the_end(virtual_time: Run) -> None:
    async def main() -> None:
        link = Link()
        link.announcements.keep([IPV4])
        link.announcements.announce(IPV4)
        link.announcements.stop()
        await asyncio.sleep(10 * INTERVAL)
        assert len(link.sent) == 1

    virtual_time(main())
