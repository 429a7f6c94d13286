"""The kernel observed and changed through netlink, compared with what `ip` shows."""

import asyncio
import errno
import json
import socket
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from overlay_net.adapters.netlink import Kernel
from overlay_net.adapters.netlink.iproute import IpRoute
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Desired
from overlay_net.model.kernel_actions import (
    AddAddress,
    AddLink,
    AddRoute,
    DeleteLink,
    DeleteRoute,
    KernelAction,
    SetLinkUp,
    SetMtu,
    SetSysctl,
)
from overlay_net.model.route import NextHop, Route
from tests.dataplane.conftest import LINKS, MARK
from tests.dataplane.desired import OVERLAY, converge, desired, route
from tests.fakes.netns import ip, sysctl


def shown(*arguments: str) -> Any:
    return json.loads(ip("-d", "-j", *arguments))


async def list_addresses(kernel: Kernel, name: str) -> set[tuple[object, int | None]]:
    """(address, protocol) of the global addresses on a link; not every `ip` shows the protocol."""
    observed = await kernel.observe(LINKS)
    (index,) = [link.index for link in observed.links if link.name == name]
    return {
        (each.interface, each.protocol) for each in observed.addresses if each.link == index and not each.link_local
    }


async def test_link_address_and_route_are_as_ip_shows_them(kernel: Kernel) -> None:
    plan = await converge(kernel, desired(route("192.168.0.0/24")))
    assert plan.placed == ((route("192.168.0.0/24"), "tmp0"),)
    (link,) = shown("link", "show", "tmp0")
    assert link["ifalias"] == "overlay-net"
    assert link["link"] == "eth0"
    assert link["linkinfo"]["info_data"]["mode"] == "bridge"
    assert "UP" in link["flags"]
    assert await list_addresses(kernel, "tmp0") == {(OVERLAY, 117)}
    (found,) = shown("route", "show", "192.168.0.0/24")
    expected = {"gateway": "192.168.100.1", "dev": "tmp0", "protocol": "117", "prefsrc": "192.168.100.4"}
    assert {key: found[key] for key in expected} == expected
    keys = ("rp_filter", "arp_ignore", "arp_announce", "promote_secondaries")
    assert [sysctl("tmp0", key) for key in keys] == ["2", "1", "2", "1"]
    assert sysctl("eth0", "arp_ignore") == "1"


async def test_every_action_can_be_applied_twice(kernel: Kernel) -> None:
    state = desired(route("192.168.0.0/24"))
    actions: list[KernelAction] = []
    for _ in range(4):
        plan = plan_kernel(state, await kernel.observe(LINKS), MARK)
        for action in plan.actions:
            await kernel.apply(action)
        actions += plan.actions
    for action in actions:
        if not isinstance(action, AddLink | AddRoute):
            await kernel.apply(action)
    assert not plan_kernel(state, await kernel.observe(LINKS), MARK).actions
    for action in plan_kernel(Desired(), await kernel.observe(LINKS), MARK).actions:
        await kernel.apply(action)
        await kernel.apply(action)
    assert "tmp0" not in ip("link")


async def test_second_address_of_a_subnet_survives_deletion_of_the_first(kernel: Kernel) -> None:
    """Linux deletes secondary addresses with their primary unless promote_secondaries is set."""
    await converge(kernel, desired(route("192.168.0.0/24")))
    await converge(kernel, desired(route("192.168.0.0/24"), address="192.168.100.9/24"))
    (address,) = shown("-4", "address", "show", "tmp0")[0]["addr_info"]
    assert address["local"] == "192.168.100.9"
    (found,) = shown("route", "show", "192.168.0.0/24")
    assert found["prefsrc"] == "192.168.100.9"


async def test_changed_prefix_length_keeps_the_address_and_its_routes(kernel: Kernel) -> None:
    await converge(kernel, desired(route("192.168.0.0/24")))
    await converge(kernel, desired(route("192.168.0.0/24"), address="192.168.100.4/25"))
    (address,) = shown("-4", "address", "show", "tmp0")[0]["addr_info"]
    assert (address["local"], address["prefixlen"]) == ("192.168.100.4", 25)
    assert shown("route", "show", "192.168.0.0/24")


async def test_change_of_gateways_replaces_the_route_without_a_gap(kernel: Kernel) -> None:
    await converge(kernel, desired(route("10.1.0.0/16")))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE) as monitor:
        monitor.bind((0, 0x40))
        for gateways in (("192.168.100.1", "192.168.100.3"), ("192.168.100.254",), ("10.176.162.129",)):
            await converge(kernel, desired(route("10.1.0.0/16", *gateways)))
            (found,) = shown("route", "show", "10.1.0.0/16")
            hops = [hop["gateway"] for hop in found.get("nexthops", [found])]
            assert tuple(hops) == gateways
        kinds = [data[4] for data in _drain(monitor)]
    assert 24 in kinds
    assert 25 not in kinds, "the route was deleted instead of replaced"


def _drain(monitor: socket.socket) -> list[bytes]:
    messages = []
    while True:
        try:
            messages.append(monitor.recv(65536))
        except BlockingIOError:
            return messages


async def test_ipv4_and_ipv6_routes_together(kernel: Kernel) -> None:
    ip("address", "add", "fd00:7::2/64", "dev", "eth0", "nodad")
    state = desired(
        route("192.168.0.0/24"), route("fd00:8::/64", "fd00:7::1"), route("fd00:9::/64", "fd00:7::1", metric=7)
    )
    plan = await converge(kernel, state)
    assert len(plan.placed) == 3
    assert {each["dst"] for each in shown("-6", "route", "show", "proto", "117")} == {"fd00:8::/64", "fd00:9::/64"}


async def test_foreign_links_addresses_and_routes_stay_unchanged(kernel: Kernel) -> None:
    ip("link", "add", "other0", "type", "veth", "peer", "name", "other1")
    ip("address", "add", "172.31.0.1/24", "dev", "other0")
    ip("link", "set", "other0", "up")
    ip("link", "set", "other1", "up")
    ip("address", "add", "172.31.9.1/32", "dev", "eth0")
    ip("route", "add", "172.31.5.0/24", "via", "172.31.0.2", "proto", "186")
    ip("route", "add", "10.1.0.0/16", "via", "10.176.162.129", "proto", "static")

    def foreign() -> tuple[object, ...]:
        links = [each for each in shown("-4", "address") if each["ifname"] != "tmp0"]
        routes = [each for each in shown("-4", "route", "show", "table", "all") if each.get("dev") != "tmp0"]
        return links, routes

    before = foreign()
    state = desired(route("10.1.0.0/16"), route("10.2.0.0/16"))
    plan = await converge(kernel, state)
    assert [(problem.reason, problem.route) for problem in plan.problems] == [("ForeignRoute", route("10.1.0.0/16"))]
    ip("address", "add", "192.168.100.77/24", "dev", "tmp0")
    await converge(kernel, desired())
    assert "192.168.100.77" in ip("address", "show", "tmp0"), "an address without our mark is foreign, also on our link"
    await converge(kernel, Desired())
    assert foreign() == before


async def test_link_of_the_earlier_operator_is_adopted_and_kept(kernel: Kernel) -> None:
    ip("link", "add", "tmp0", "link", "eth0", "type", "macvlan", "mode", "bridge")
    ip("address", "add", "192.168.100.4/24", "dev", "tmp0")
    ip("link", "set", "tmp0", "up")
    index = shown("link", "show", "tmp0")[0]["ifindex"]
    await converge(kernel, desired(route("192.168.0.0/24")))
    assert shown("link", "show", "tmp0")[0]["ifindex"] == index, "the link was not re-created"
    assert await list_addresses(kernel, "tmp0") == {(OVERLAY, 117)}


async def test_foreign_link_of_our_name_is_left_unchanged(kernel: Kernel) -> None:
    ip("link", "add", "tmp0", "type", "bridge")
    plan = await converge(kernel, desired(route("192.168.0.0/24")))
    assert {problem.reason for problem in plan.problems} == {"LinkNameTaken", "GatewayNotOnLink"}
    assert shown("link", "show", "tmp0")[0]["linkinfo"]["info_kind"] == "bridge"


@pytest.mark.parametrize("mark", [("group", str(MARK.group)), ("alias", MARK.alias)], ids=["group", "alias"])
async def test_link_whose_creation_was_interrupted_is_replaced(kernel: Kernel, mark: tuple[str, str]) -> None:
    ip("link", "add", "tmp0.1f2e3d", "link", "eth0", "type", "macvlan", "mode", "bridge")
    ip("link", "set", "tmp0.1f2e3d", *mark)
    await converge(kernel, desired(route("192.168.0.0/24")))
    names = {each["ifname"] for each in shown("link")}
    assert names == {"lo", "eth0", "peer0", "tmp0"}
    assert shown("link", "show", "tmp0")[0]["group"] == "default"


async def test_creation_that_fails_halfway_leaves_only_what_is_removed(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent may end before each of the three requests; each has to leave a link that the next run recognises."""
    apply = IpRoute.change
    for allowed in (1, 2):
        remaining = allowed

        def change(*arguments: Any, **more: Any) -> None:
            nonlocal remaining
            if remaining == 0:
                raise KernelError("interrupted")
            remaining -= 1
            apply(*arguments, **more)

        with monkeypatch.context() as patched, pytest.raises(KernelError, match="interrupted"):
            patched.setattr(IpRoute, "change", change)
            await kernel.apply(AddLink("tmp0", "eth0"))
        assert len(shown("link")) == 4
        await converge(kernel, desired())
        assert {each["ifname"] for each in shown("link")} == {"lo", "eth0", "peer0", "tmp0"}
        await converge(kernel, Desired())
        assert {each["ifname"] for each in shown("link")} == {"lo", "eth0", "peer0"}


async def test_foreign_link_with_the_name_of_an_unfinished_one_is_left_alone(kernel: Kernel) -> None:
    ip("link", "add", "tmp0.new", "link", "eth0", "type", "macvlan", "mode", "bridge")
    ip("address", "add", "192.0.2.9/24", "dev", "tmp0.new")
    before = shown("address", "show", "tmp0.new")
    await converge(kernel, desired(route("192.168.0.0/24")))
    assert shown("address", "show", "tmp0.new") == before
    assert await list_addresses(kernel, "tmp0") == {(OVERLAY, 117)}
    await converge(kernel, Desired())
    assert shown("address", "show", "tmp0.new") == before


async def test_deleted_parent_is_reported_and_everything_returns_with_it(kernel: Kernel) -> None:
    state = desired(route("192.168.0.0/24"))
    await converge(kernel, state)
    ip("link", "delete", "eth0")
    plan = await converge(kernel, state)
    assert plan.problems[0].reason == "ParentMissing"
    ip("link", "add", "eth0", "type", "veth", "peer", "name", "peer0")
    ip("link", "set", "eth0", "up")
    ip("link", "set", "peer0", "up")
    plan = await converge(kernel, state)
    assert len(plan.placed) == 1


async def test_refusals_carry_errno_and_the_kernels_message(kernel: Kernel) -> None:
    with pytest.raises(KernelError, match=r"add link tmp0 type macvlan on eth9: no link eth9") as missing:
        await kernel.apply(AddLink("tmp0", "eth9"))
    assert missing.value.code == errno.ENODEV
    index = shown("link", "show", "eth0")[0]["ifindex"]
    bad = Route(ip_network("10.3.0.0/16"), (NextHop(ip_address("10.99.0.1"), index),), 117)
    with pytest.raises(KernelError, match=r"add route 10\.3\.0\.0/16 via 10\.99\.0\.1: .*gateway") as unreachable:
        await kernel.apply(AddRoute(bad))
    assert unreachable.value.code == errno.ENETUNREACH
    with pytest.raises(KernelError, match=r"net\.ipv4\.conf\.eth9\.rp_filter"):
        await kernel.apply(SetSysctl("eth9", "rp_filter", "2"))
    with pytest.raises(KernelError, match="bring up link eth9"):
        await kernel.apply(SetLinkUp("eth9"))
    with pytest.raises(KernelError, match=r"set mtu 42 on eth0: .*less than.*minimum") as mtu:
        await kernel.apply(SetMtu("eth0", 42))
    assert mtu.value.code == errno.EINVAL
    await kernel.apply(DeleteLink(4711, "eth9"))
    await kernel.apply(DeleteRoute(bad))


async def test_invalid_route_among_thousands_is_refused_and_the_others_are_added(kernel: Kernel) -> None:
    await converge(kernel, desired())
    index = shown("link", "show", "tmp0")[0]["ifindex"]

    def numbered(number: int, gateway: str) -> Route:
        subnet = ip_network((int(ip_address("11.0.0.0")) + number * 256, 24))
        return Route(subnet, (NextHop(ip_address(gateway), index),), 117, source=OVERLAY.ip)

    actions = [AddRoute(numbered(number, "192.168.100.1")) for number in range(2000)]
    bad = AddRoute(numbered(3000, "10.99.0.1"))
    refused = await kernel.apply_routes([*actions[:1000], bad, *actions[1000:]])
    assert [(action, error.code) for action, error in refused] == [(bad, errno.ENETUNREACH)]
    assert len(shown("route", "show", "proto", "117")) == 2000
    observed = await kernel.observe(LINKS)
    assert {action.route for action in actions} <= set(observed.routes)
    assert not await kernel.apply_routes([DeleteRoute(action.route) for action in actions])
    assert not shown("route", "show", "proto", "117")


async def test_cancelled_observation_does_not_affect_the_next_one(kernel: Kernel) -> None:
    await converge(kernel, desired())
    for turns in range(12):
        task = asyncio.create_task(kernel.observe(LINKS))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert any(link.name == "tmp0" for link in (await kernel.observe(LINKS)).links)


async def test_prefix_length_of_an_ipv6_address_is_changed(kernel: Kernel) -> None:
    """The kernel cannot change the prefix length of an address: it must be deleted and added again."""
    for interface in ("fd00:7::4/64", "fd00:7::4/80"):
        state = desired(route("fd11::/64", "fd00:7::1"), address=interface)
        async with asyncio.timeout(30):
            while (await converge(kernel, state)).problems:
                # Duplicate address detection is running.
                await asyncio.sleep(0.05)
        found = [
            each for each in shown("-6", "address", "show", "dev", "tmp0")[0]["addr_info"] if each["scope"] == "global"
        ]
        assert [f"{each['local']}/{each['prefixlen']}" for each in found] == [interface]
        (there,) = shown("-6", "route", "show", "fd11::/64")
        assert (there["gateway"], there["prefsrc"]) == ("fd00:7::1", "fd00:7::4")


async def test_routes_dropped_with_a_link_that_went_down_are_restored(kernel: Kernel) -> None:
    state = desired(route("192.168.0.0/24"))
    await converge(kernel, state)
    ip("link", "set", "tmp0", "down")
    assert not shown("route", "show", "192.168.0.0/24")
    await converge(kernel, state)
    assert shown("route", "show", "192.168.0.0/24")


async def test_existing_address_without_mark_gets_our_mark(kernel: Kernel) -> None:
    await converge(kernel, desired())
    ip("address", "delete", "192.168.100.4/24", "dev", "tmp0")
    ip("address", "add", "192.168.100.4/24", "dev", "tmp0")
    await kernel.apply(AddAddress("tmp0", OVERLAY))
    assert await list_addresses(kernel, "tmp0") == {(OVERLAY, 117)}
