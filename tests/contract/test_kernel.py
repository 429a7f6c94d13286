"""The fake kernel of the property tests and the real one behave alike."""

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from overlay_net.adapters.netlink import Kernel
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import (
    AddAddress,
    AddLink,
    AddRoute,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    KernelAction,
    ReplaceRoute,
    SetLinkUp,
    SetMacvlanMode,
    SetMtu,
    SetSysctl,
)
from overlay_net.model.net import IpInterface
from overlay_net.model.policy_rule import AddPolicyRule, DeletePolicyRule, PolicyRule
from overlay_net.model.route import MAIN_TABLE, RTPROT_KERNEL, NextHop, Route, RouteKind
from tests.fakes.kernel import FakeKernel
from tests.fakes.netns import eth0, ip, netns

__all__ = ["eth0", "netns"]

MARK = OwnershipMark(117, "overlay-net")
LINKS = ("tmp0", "eth0")
ETH0_ADDRESS = ip_interface("10.176.162.151/26")
FIRST, SECOND = ip_interface("192.168.100.4/24"), ip_interface("192.168.100.9/24")
V6 = ip_interface("fd00:100::4/64")


class Subject:
    """One of the two kernels, behind one interface."""

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
        """The errno of a refusal, or 0."""
        try:
            await self.apply(action)
        except KernelError as error:
            return error.code
        return 0

    async def route(self, subnet: str, gateway: str | None, **more: Any) -> Route:
        hop = NextHop(ip_address(gateway) if gateway else None, await self.index(more.pop("link", "tmp0")))
        return Route(ip_network(subnet), (hop,), more.pop("protocol", 117), **more)

    async def routes(self) -> set[tuple[str, str, int]]:
        """(subnet, gateways, protocol) of IPv4 routes; the fake has no loopback routes."""
        return {
            (str(each.subnet), " ".join(str(hop.gateway) for hop in each.next_hops), each.protocol)
            for each in (await self.observe()).routes
            if each.subnet.version == 4
        }


@pytest.fixture(params=["fake", "real"])
async def kernel(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    """With tmp0 on eth0, up, with one address."""
    request.getfixturevalue("eth0")
    async with Kernel(MARK) as real:
        if request.param == "real":

            async def down(name: str) -> None:
                ip("link", "set", name, "down")

            subject = Subject(partial(real.observe, LINKS), real.apply, down)
        else:
            observed = await real.observe(LINKS)
            fake = FakeKernel(
                MARK, replace(observed, routes=tuple(r for r in observed.routes if r.subnet.version == 4))
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


async def test_link_is_created_with_its_mark_and_only_once(kernel: Subject) -> None:
    (link,) = [link for link in (await kernel.observe()).links if link.name == "tmp0"]
    assert (link.kind, link.parent, link.alias, link.up) == ("macvlan", await kernel.index("eth0"), "overlay-net", True)
    assert await kernel.errno(AddLink("tmp0", "eth0")) == 17
    assert await kernel.errno(AddLink("tmp1", "eth9")) == 19
    assert await kernel.errno(SetLinkUp("eth9")) == 19


async def test_of_two_macvlans_with_one_mac_only_the_first_is_brought_up(kernel: Subject) -> None:
    (mac,) = [link.mac for link in (await kernel.observe()).links if link.name == "tmp0"]
    await kernel.apply(AddLink("tmp1", "eth0", mac=mac))
    assert await kernel.errno(SetLinkUp("tmp1")) == errno.EADDRINUSE
    await kernel.apply(DeleteLink(await kernel.index("tmp0"), "tmp0"))
    assert await kernel.errno(SetLinkUp("tmp1")) == 0


async def test_link_properties_are_set_and_changed(kernel: Subject) -> None:
    async def link(name: str) -> Link:
        return next(link for link in (await kernel.observe()).links if link.name == name)

    parent, first = await link("eth0"), await link("tmp0")
    assert (first.mtu, first.mode) == (parent.mtu, "bridge")
    assert first.mac != parent.mac
    await kernel.apply(AddLink("tmp1", "eth0", mode="private", mac="02:1b:00:00:00:07"))
    second = await link("tmp1")
    assert (second.mac, second.mode, second.up) == ("02:1b:00:00:00:07", "private", False)
    await kernel.apply(SetMtu("tmp1", 1400))
    await kernel.apply(SetMacvlanMode("tmp1", "vepa"))
    assert await link("tmp1") == replace(second, mtu=1400, mode="vepa")
    assert await kernel.errno(SetMtu("eth9", 1400)) == 19
    assert await kernel.errno(SetMacvlanMode("eth9", "vepa")) == 19


async def test_address_adds_and_removes_the_route_to_its_subnet(kernel: Subject) -> None:
    assert await kernel.routes() == {PRIVATE, OVERLAY}
    assert await kernel.errno(AddAddress("tmp0", FIRST)) == 0
    await kernel.apply(DeleteAddress("tmp0", FIRST))
    assert await kernel.routes() == {PRIVATE}
    assert await kernel.errno(DeleteAddress("tmp0", FIRST)) == 0


async def connected(kernel: Subject, subnet: str) -> list[tuple[str, str, int]]:
    """Link, source and metric of the connected routes of a subnet, in the order of the kernel."""
    observed = await kernel.observe()
    names = {link.index: link.name for link in observed.links}
    return [
        (names[each.next_hops[0].link], str(each.source), each.metric)
        for each in observed.routes
        if each.subnet == ip_network(subnet) and each.protocol == RTPROT_KERNEL and each.table == MAIN_TABLE
    ]


@pytest.mark.parametrize(("address", "source", "default"), [(FIRST, str(FIRST.ip), 0), (V6, "None", 256)])
async def test_connected_route_has_the_metric_of_its_address(
    kernel: Subject, address: IpInterface, source: str, default: int
) -> None:
    subnet = str(address.network)
    for metric in (0, 5000, 1_000_000, 0):
        await kernel.apply(AddAddress("tmp0", address, metric))
        assert await connected(kernel, subnet) == [("tmp0", source, metric or default)]
        (found,) = [each for each in (await kernel.observe()).addresses if each.interface == address]
        assert (found.metric, found.protocol) == (metric, 117)
    await kernel.apply(DeleteAddress("tmp0", address))
    assert await connected(kernel, subnet) == []


@pytest.mark.parametrize("address", [FIRST, V6])
async def test_connected_route_that_was_added_again_is_deleted_with_its_address(
    kernel: Subject, address: IpInterface
) -> None:
    await kernel.apply(AddAddress("tmp0", address))
    (derived,) = [each for each in (await kernel.observe()).routes if each.subnet == address.network]
    await kernel.apply(DeleteRoute(derived))
    assert await connected(kernel, str(address.network)) == []
    await kernel.apply(AddRoute(derived))
    assert [each for each in (await kernel.observe()).routes if each.subnet == address.network] == [derived]
    await kernel.apply(DeleteAddress("tmp0", address))
    assert await connected(kernel, str(address.network)) == []


async def test_connected_route_of_a_subnet_on_two_links_is_first_that_of_the_link_that_came_up_first(
    kernel: Subject,
) -> None:
    await kernel.apply(AddAddress("eth0", SECOND))
    subnet = str(SECOND.network)
    tmp0, eth0 = ("tmp0", str(FIRST.ip), 0), ("eth0", str(SECOND.ip), 0)
    assert await connected(kernel, subnet) == [tmp0, eth0]
    await kernel.set_down("tmp0")
    await kernel.apply(SetLinkUp("tmp0"))
    assert await connected(kernel, subnet) == [eth0, tmp0]


async def test_secondary_address_has_no_connected_route_of_its_own(kernel: Subject) -> None:
    await kernel.apply(SetSysctl("tmp0", "promote_secondaries", "1"))
    await kernel.apply(AddAddress("tmp0", SECOND))
    assert await connected(kernel, str(FIRST.network)) == [("tmp0", str(FIRST.ip), 0)]
    await kernel.apply(DeleteAddress("tmp0", FIRST))
    assert await connected(kernel, str(FIRST.network)) == [("tmp0", str(SECOND.ip), 0)]


async def test_route_needs_a_reachable_gateway_a_local_source_and_a_free_key(kernel: Subject) -> None:
    assert await kernel.errno(AddRoute(await kernel.route("10.1.0.0/16", "10.99.0.1"))) == 101
    foreign_source = await kernel.route("10.1.0.0/16", "192.168.100.1", source=SECOND.ip)
    assert await kernel.errno(AddRoute(foreign_source)) == 22
    good = await kernel.route("10.1.0.0/16", "192.168.100.1", source=FIRST.ip)
    assert await kernel.errno(AddRoute(good)) == 0
    assert await kernel.errno(AddRoute(good)) == 17
    other = await kernel.route("10.1.0.0/16", "192.168.100.254", protocol=186)
    assert await kernel.errno(AddRoute(other)) == 17, "the key is taken by another protocol"
    assert await kernel.errno(AddRoute(other.replace(metric=5))) == 0
    await kernel.set_down("tmp0")
    assert await kernel.errno(AddRoute(await kernel.route("10.2.0.0/16", "192.168.100.1"))) in (100, 101)


async def test_replace_ignores_the_protocol_and_delete_matches_it(kernel: Subject) -> None:
    await kernel.apply(AddRoute(await kernel.route("10.1.0.0/16", "192.168.100.1")))
    await kernel.apply(ReplaceRoute(await kernel.route("10.1.0.0/16", "192.168.100.254")))
    assert ("10.1.0.0/16", "192.168.100.254", 117) in await kernel.routes()
    await kernel.apply(DeleteRoute(await kernel.route("10.1.0.0/16", "192.168.100.254", protocol=186)))
    assert ("10.1.0.0/16", "192.168.100.254", 117) in await kernel.routes(), "its protocol differs"
    await kernel.apply(DeleteRoute(await kernel.route("10.1.0.0/16", "192.168.100.1")))
    assert ("10.1.0.0/16", "192.168.100.254", 117) in await kernel.routes(), "its next hop differs"
    await kernel.apply(DeleteRoute(await kernel.route("10.1.0.0/16", "192.168.100.254")))
    await kernel.apply(DeleteRoute(await kernel.route("10.1.0.0/16", "192.168.100.254")))
    assert await kernel.routes() == {PRIVATE, OVERLAY}


async def test_deleting_an_address_removes_routes_with_it_as_source(kernel: Subject) -> None:
    await kernel.apply(SetSysctl("tmp0", "promote_secondaries", "1"))
    await kernel.apply(AddAddress("tmp0", SECOND))
    await kernel.apply(AddRoute(await kernel.route("10.1.0.0/16", "192.168.100.1", source=FIRST.ip)))
    await kernel.apply(AddRoute(await kernel.route("10.2.0.0/16", "192.168.100.1", source=SECOND.ip)))
    await kernel.apply(DeleteAddress("tmp0", FIRST))
    assert await kernel.routes() == {PRIVATE, OVERLAY, ("10.2.0.0/16", "192.168.100.1", 117)}


async def test_routes_are_removed_when_their_link_goes_down_or_is_deleted(kernel: Subject) -> None:
    await kernel.apply(AddRoute(await kernel.route("10.1.0.0/16", "192.168.100.1")))
    await kernel.set_down("tmp0")
    assert await kernel.routes() == {PRIVATE}
    await kernel.apply(SetLinkUp("tmp0"))
    assert await kernel.routes() == {PRIVATE, OVERLAY}
    await kernel.apply(DeleteLink(await kernel.index("tmp0"), "tmp0"))
    assert await kernel.routes() == {PRIVATE}
    assert not [each for each in (await kernel.observe()).addresses if each.interface == FIRST]


# --- Routes of other kinds, with weights, in other tables -------------------------------------------------------------


async def ours(kernel: Subject) -> set[Route]:
    return {each for each in (await kernel.observe()).routes if each.protocol == 117}


async def ecmp(kernel: Subject, subnet: str, *gateways: tuple[str, int], on_link: bool = False) -> Route:
    link = await kernel.index("tmp0")
    hops = (NextHop(ip_address(gateway), link, weight, on_link) for gateway, weight in gateways)
    return Route(ip_network(subnet), tuple(hops), 117)


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit"])
async def test_route_without_next_hops(kernel: Subject, kind: RouteKind) -> None:
    unroutable = Route(ip_network("10.1.0.0/16"), (), 117, kind=kind)
    unicast = await kernel.route("10.1.0.0/16", "192.168.100.1")
    await kernel.apply(AddRoute(unroutable))
    assert await ours(kernel) == {unroutable}
    assert await kernel.errno(AddRoute(unicast)) == 17, "the key is taken by another kind"
    await kernel.apply(ReplaceRoute(unicast))
    assert await ours(kernel) == {unicast}
    await kernel.apply(ReplaceRoute(unroutable))
    await kernel.apply(AddRoute(unicast.replace(metric=7)))
    await kernel.set_down("tmp0")
    assert await ours(kernel) == {unroutable}, "it does not depend on a link"
    await kernel.apply(DeleteRoute(unicast))
    assert await ours(kernel) == {unroutable}, "its next hop differs"
    await kernel.apply(DeleteRoute(unroutable))
    assert not await ours(kernel)


async def test_ecmp_route_with_weights(kernel: Subject) -> None:
    first = await ecmp(kernel, "10.1.0.0/16", ("192.168.100.1", 3), ("192.168.100.2", 256))
    await kernel.apply(AddRoute(first))
    assert await ours(kernel) == {first}
    second = await ecmp(kernel, "10.1.0.0/16", ("192.168.100.1", 4), ("192.168.100.2", 1), ("192.168.100.3", 1))
    await kernel.apply(ReplaceRoute(second))
    assert await ours(kernel) == {second}
    one_unreachable = await ecmp(kernel, "10.1.0.0/16", ("10.99.0.1", 1), ("192.168.100.1", 1))
    assert await kernel.errno(ReplaceRoute(one_unreachable)) == 101
    assert await ours(kernel) == {second}, "the previous route is kept"
    await kernel.apply(DeleteRoute(await ecmp(kernel, "10.1.0.0/16", ("192.168.100.9", 1))))
    assert await ours(kernel) == {second}, "its next hop differs"
    await kernel.apply(DeleteRoute(await ecmp(kernel, "10.1.0.0/16", ("192.168.100.9", 1), ("192.168.100.8", 1))))
    assert not await ours(kernel), "several next hops are not compared"


async def test_gateway_outside_the_subnets_of_the_link_needs_on_link(kernel: Subject) -> None:
    assert await kernel.errno(AddRoute(await ecmp(kernel, "10.1.0.0/16", ("10.99.0.1", 1)))) == 101
    alone = await ecmp(kernel, "10.1.0.0/16", ("10.99.0.1", 1), on_link=True)
    both = await ecmp(kernel, "10.2.0.0/16", ("10.99.0.1", 1), ("10.99.0.2", 2), on_link=True)
    for route in (alone, both):
        assert await kernel.errno(AddRoute(route)) == 0
    assert await ours(kernel) == {alone, both}


async def test_routes_in_tables_with_metric_mtu_and_mss(kernel: Subject) -> None:
    plain = await kernel.route("10.1.0.0/16", "192.168.100.1", mtu=1400, advmss=1360)
    others = {plain.replace(table=77), plain.replace(table=1000), plain.replace(metric=5, mtu=0)}
    for route in (plain, *others):
        assert await kernel.errno(AddRoute(route)) == 0
    assert await ours(kernel) == {plain, *others}
    await kernel.apply(ReplaceRoute(plain.replace(mtu=1300)))
    assert await ours(kernel) == {plain.replace(mtu=1300), *others}
    for _ in range(2):
        # The second deletion must not remove another route instead.
        await kernel.apply(DeleteRoute(plain))
        assert await ours(kernel) == others


async def test_ipv6_route_without_metric_gets_one(kernel: Subject) -> None:
    link = await kernel.index("tmp0")
    bare = Route(ip_network("fd11::/64"), (NextHop(ip_address("fe80::1"), link),), 117)
    stored = bare.replace(metric=1024)
    await kernel.apply(AddRoute(bare))
    assert await kernel.errno(AddRoute(stored)) == 17
    assert await ours(kernel) == {stored}
    unroutable = Route(ip_network("fd12::/64"), (), 117, 1024, kind="unreachable")
    await kernel.apply(AddRoute(unroutable))
    assert await ours(kernel) == {stored, unroutable}
    await kernel.apply(DeleteRoute(bare))
    assert await ours(kernel) == {unroutable}


# --- Policy rules -----------------------------------------------------------------------------------------------------


async def test_rules_are_ordered_unique_and_deleted_by_protocol(kernel: Subject) -> None:
    before = (await kernel.observe()).rules

    async def rules() -> list[PolicyRule]:
        return [each for each in (await kernel.observe()).rules if each not in before]

    own = ip_network("192.168.100.4/32")
    second, first = PolicyRule(4, 11701, own, 117, 117), PolicyRule(4, 11700, own, 254, 117, 8)
    foreign = replace(first, protocol=186)
    for rule in (second, first, first, foreign):
        assert await kernel.errno(AddPolicyRule(rule)) == 0
    assert await rules() == [first, foreign, second]
    await kernel.apply(DeletePolicyRule(replace(second, protocol=186)))
    await kernel.apply(DeletePolicyRule(replace(first, suppress=0)))
    assert await rules() == [first, foreign, second]
    for rule in (first, first, second):
        assert await kernel.errno(DeletePolicyRule(rule)) == 0
    assert await rules() == [foreign]
