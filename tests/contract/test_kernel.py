"""The fake kernel of the property tests and the real one give the same answers to the same requests."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from overlay_net.adapters.netlink import Kernel
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import (
    AddAddress,
    AddLink,
    AddRoute,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    KernelAction,
    Marks,
    NextHop,
    Observed,
    ReplaceRoute,
    Route,
    SetLinkUp,
    SetSysctl,
)
from tests.fakes.kernel import FakeKernel
from tests.fakes.netns import eth0, ip, netns

__all__ = ["eth0", "netns"]

MARKS = Marks(117, "overlay-net")
ETH0_ADDRESS = ip_interface("10.176.162.151/26")
FIRST, SECOND = ip_interface("192.168.100.4/24"), ip_interface("192.168.100.9/24")


class Subject:
    """One of the two kernels, asked in the same way."""

    def __init__(
        self,
        observe: Callable[[], Awaitable[Observed]],
        apply: Callable[[KernelAction], Awaitable[None]],
        set_down: Callable[[str], Awaitable[None]],
    ) -> None:
        self.observe, self.apply, self.set_down = observe, apply, set_down

    async def index(self, name: str) -> int:
        return next(link.index for link in (await self.observe()).links if link.name == name)

    async def errno(self, action: KernelAction) -> int:
        """0, or the code of the refusal."""
        try:
            await self.apply(action)
        except KernelError as error:
            return error.code
        return 0

    async def route(self, subnet: str, gateway: str | None, **more: Any) -> Route:
        hop = NextHop(ip_address(gateway) if gateway else None, await self.index(more.pop("link", "tmp0")))
        return Route(ip_network(subnet), (hop,), more.pop("protocol", 117), **more)

    async def routes(self) -> set[tuple[str, str, int]]:
        """(subnet, gateways, protocol) of IPv4, but for what the fake does not have: loopback."""
        return {
            (str(each.subnet), " ".join(str(hop.gateway) for hop in each.next_hops), each.protocol)
            for each in (await self.observe()).routes
            if each.subnet.version == 4
        }


@pytest.fixture(params=["fake", "real"])
async def kernel(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """tmp0 over eth0, up, with one address."""
    request.getfixturevalue("eth0")
    async with Kernel(MARKS, ("tmp0", "eth0")) as real:
        if request.param == "real":

            async def down(name: str) -> None:
                ip("link", "set", name, "down")

            subject = Subject(real.observe, real.apply, down)
        else:
            observed = await real.observe()
            fake = FakeKernel(
                MARKS, replace(observed, routes=tuple(r for r in observed.routes if r.subnet.version == 4))
            )

            async def observe() -> Observed:
                return fake.observe()

            async def apply(action: KernelAction) -> None:
                fake.apply(action)

            async def set_down(name: str) -> None:
                fake.set_down(await subject.index(name))

            subject = Subject(observe, apply, set_down)
        for action in (AddLink("tmp0", "eth0"), SetLinkUp("tmp0"), AddAddress("tmp0", FIRST)):
            await subject.apply(action)
        yield subject


PRIVATE = ("10.176.162.128/26", "None", 2)
OVERLAY = ("192.168.100.0/24", "None", 2)


async def test_a_link_is_made_marked_and_only_once(kernel: Subject) -> None:
    (link,) = [link for link in (await kernel.observe()).links if link.name == "tmp0"]
    assert (link.kind, link.parent, link.alias, link.up) == ("macvlan", await kernel.index("eth0"), "overlay-net", True)
    assert await kernel.errno(AddLink("tmp0", "eth0")) == 17
    assert await kernel.errno(AddLink("tmp1", "eth9")) == 19
    assert await kernel.errno(SetLinkUp("eth9")) == 19


async def test_an_address_brings_its_subnet_and_takes_it_away(kernel: Subject) -> None:
    assert await kernel.routes() == {PRIVATE, OVERLAY}
    assert await kernel.errno(AddAddress("tmp0", FIRST)) == 0
    await kernel.apply(DeleteAddress("tmp0", FIRST))
    assert await kernel.routes() == {PRIVATE}
    assert await kernel.errno(DeleteAddress("tmp0", FIRST)) == 0


async def test_what_a_route_needs(kernel: Subject) -> None:
    assert await kernel.errno(AddRoute(await kernel.route("10.1.0.0/16", "10.99.0.1"))) == 101
    foreign_source = await kernel.route("10.1.0.0/16", "192.168.100.1", source=SECOND.ip)
    assert await kernel.errno(AddRoute(foreign_source)) == 22
    good = await kernel.route("10.1.0.0/16", "192.168.100.1", source=FIRST.ip)
    assert await kernel.errno(AddRoute(good)) == 0
    assert await kernel.errno(AddRoute(good)) == 17
    other = await kernel.route("10.1.0.0/16", "192.168.100.254", protocol=186)
    assert await kernel.errno(AddRoute(other)) == 17, "the key is taken, whoever asks"
    assert await kernel.errno(AddRoute(replace(other, metric=5))) == 0
    await kernel.set_down("tmp0")
    assert await kernel.errno(AddRoute(await kernel.route("10.2.0.0/16", "192.168.100.1"))) in (100, 101)


async def test_replacing_and_deleting_by_protocol(kernel: Subject) -> None:
    await kernel.apply(AddRoute(await kernel.route("10.1.0.0/16", "192.168.100.1")))
    await kernel.apply(ReplaceRoute(await kernel.route("10.1.0.0/16", "192.168.100.254")))
    assert ("10.1.0.0/16", "192.168.100.254", 117) in await kernel.routes()
    await kernel.apply(DeleteRoute(await kernel.route("10.1.0.0/16", "192.168.100.254", protocol=186)))
    assert ("10.1.0.0/16", "192.168.100.254", 117) in await kernel.routes(), "not of that protocol"
    await kernel.apply(DeleteRoute(await kernel.route("10.1.0.0/16", "192.168.100.254")))
    await kernel.apply(DeleteRoute(await kernel.route("10.1.0.0/16", "192.168.100.254")))
    assert await kernel.routes() == {PRIVATE, OVERLAY}


async def test_a_deleted_address_takes_the_routes_that_name_it(kernel: Subject) -> None:
    await kernel.apply(SetSysctl("tmp0", "promote_secondaries", "1"))
    await kernel.apply(AddAddress("tmp0", SECOND))
    await kernel.apply(AddRoute(await kernel.route("10.1.0.0/16", "192.168.100.1", source=FIRST.ip)))
    await kernel.apply(AddRoute(await kernel.route("10.2.0.0/16", "192.168.100.1", source=SECOND.ip)))
    await kernel.apply(DeleteAddress("tmp0", FIRST))
    assert await kernel.routes() == {PRIVATE, OVERLAY, ("10.2.0.0/16", "192.168.100.1", 117)}


async def test_a_link_that_goes_down_or_away_takes_its_routes(kernel: Subject) -> None:
    await kernel.apply(AddRoute(await kernel.route("10.1.0.0/16", "192.168.100.1")))
    await kernel.set_down("tmp0")
    assert await kernel.routes() == {PRIVATE}
    await kernel.apply(SetLinkUp("tmp0"))
    assert await kernel.routes() == {PRIVATE, OVERLAY}
    await kernel.apply(DeleteLink(await kernel.index("tmp0"), "tmp0"))
    assert await kernel.routes() == {PRIVATE}
    assert not [each for each in (await kernel.observe()).addresses if each.interface == FIRST]
