"""The agent reads its own routes and those of other processes that it needs, and no others."""

import socket
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_network

import pytest

from overlay_net.adapters.netlink import Kernel
from overlay_net.adapters.netlink.bulk.socket import NETLINK_GET_STRICT_CHK, SOL_NETLINK, open_netlink_socket
from overlay_net.adapters.netlink.sockets import KernelSockets
from overlay_net.domain.kernel.awaited_routes import find_awaited_routes
from overlay_net.domain.kernel.desired import LinkConfig
from overlay_net.domain.kernel.parent_interface import ByName
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Observed
from overlay_net.model.kernel_actions import AddLocalRoute, AddRoute
from overlay_net.model.kernel_changes import EVERYTHING, UNKNOWN
from overlay_net.model.route import Route
from tests.dataplane.conftest import LINKS, MARK
from tests.dataplane.desired import OVERLAY, converge, desired, route
from tests.dataplane.routes import prepare
from tests.fakes.netns import ip

GATEWAY = "10.176.162.129"
STATE = desired(route("192.168.0.0/24"), route("fd01::/64", "fd00:7::1"))
AWAITED = find_awaited_routes(STATE.routes, STATE.address, LinkConfig(ByName(("eth0",))))
OURS = {("192.168.0.0/24", 117), ("fd01::/64", 117)}
CONNECTED = ("192.168.100.0/24", 2)


async def observe(kernel: Kernel, *, appeared: bool = False) -> Observed:
    return await kernel.observe(LINKS, awaited=AWAITED, changes=UNKNOWN if appeared else EVERYTHING)


def found(routes: Iterable[Route]) -> set[tuple[str, int]]:
    return {(str(each.subnet), each.protocol) for each in routes}


@pytest.fixture
async def converged(kernel: Kernel) -> Kernel:
    prepare()
    await converge(kernel, STATE)
    for number in range(100):
        ip("route", "add", f"11.0.{number}.0/24", "via", GATEWAY, "proto", "bird")
    ip("-6", "route", "add", "fd11::/64", "via", "fd00:7::1", "proto", "static")
    return kernel


async def test_routes_of_others_are_not_read_unless_they_are_needed(converged: Kernel) -> None:
    first = await observe(converged, appeared=True)
    assert found(first.routes) == OURS | {CONNECTED}
    assert (await observe(converged)).routes is first.routes
    assert found((await converged.observe()).routes) > OURS | {CONNECTED, ("11.0.7.0/24", 12), ("fd11::/64", 4)}


async def test_our_own_routes_are_read_whatever_has_appeared(converged: Kernel) -> None:
    await observe(converged, appeared=True)
    ip("route", "delete", "192.168.0.0/24")
    ip("route", "add", "172.16.0.0/16", "via", GATEWAY, "proto", "117")
    changed = OURS - {("192.168.0.0/24", 117)} | {("172.16.0.0/16", 117), CONNECTED}
    assert found((await observe(converged)).routes) == changed
    ip("route", "delete", "192.168.100.0/24")
    assert CONNECTED not in found((await observe(converged)).routes)


async def test_our_routes_are_found_in_every_table(converged: Kernel) -> None:
    await observe(converged, appeared=True)
    for number in (7, 300):
        ip("route", "add", f"172.{number % 16 + 16}.0.0/16", "via", GATEWAY, "proto", "117", "table", str(number))
    present = OURS | {("172.23.0.0/16", 117), ("172.28.0.0/16", 117), CONNECTED}
    assert found((await observe(converged, appeared=True)).routes) == present
    assert found((await observe(converged)).routes) == present
    ip("route", "flush", "table", "300")
    assert found((await observe(converged)).routes) == present - {("172.28.0.0/16", 117)}


async def test_a_needed_route_is_read_until_it_is_gone(converged: Kernel) -> None:
    await observe(converged, appeared=True)
    ip("route", "add", "192.168.0.0/24", "via", GATEWAY, "proto", "static", "metric", "7")
    ip("route", "add", "192.168.100.0/24", "via", GATEWAY, "proto", "bird", "metric", "7")
    needed = {("192.168.100.0/24", 12)}
    assert found((await observe(converged, appeared=True)).routes) == OURS | {CONNECTED} | needed
    assert found((await observe(converged)).routes) == OURS | {CONNECTED} | needed
    ip("route", "delete", "192.168.100.0/24", "proto", "bird")
    assert found((await observe(converged)).routes) == OURS | {CONNECTED}


async def test_routes_with_the_key_of_ours_are_in_the_order_of_the_kernel(converged: Kernel) -> None:
    await observe(converged, appeared=True)
    ip("route", "prepend", "192.168.0.0/24", "via", GATEWAY, "proto", "bird")
    for appeared in (True, False):
        assert protocols(await observe(converged, appeared=appeared)) == [12, 117]
    ip("route", "delete", "192.168.0.0/24", "proto", "bird")
    ip("route", "append", "192.168.0.0/24", "via", GATEWAY, "proto", "kernel")
    assert protocols(await observe(converged)) == [117, 2]


def protocols(observed: Observed) -> list[int]:
    return [each.protocol for each in observed.routes if each.subnet == ip_network("192.168.0.0/24")]


async def test_a_route_that_made_the_kernel_refuse_ours_is_read(converged: Kernel) -> None:
    await observe(converged, appeared=True)
    ip("route", "replace", "192.168.0.0/24", "via", GATEWAY, "proto", "static")
    (ours,) = (each for each in plan_kernel(STATE, await observe(converged), MARK).actions)
    assert isinstance(ours, AddRoute)
    with pytest.raises(KernelError, match="File exists"):
        await converged.apply(ours)
    plan = plan_kernel(STATE, await observe(converged), MARK)
    assert not plan.actions
    assert [each.reason for each in plan.problems] == ["ForeignRoute"]


async def test_a_local_route_of_another_process_counts(converged: Kernel) -> None:
    await observe(converged, appeared=True)
    ip("route", "delete", "local", str(OVERLAY.ip), "dev", "tmp0", "table", "local")
    ip("route", "add", "local", str(OVERLAY.ip), "dev", "tmp0", "table", "local", "proto", "static")
    assert not plan_kernel(STATE, await observe(converged), MARK).actions
    ip("route", "delete", "local", str(OVERLAY.ip), "dev", "tmp0", "table", "local")
    (action,) = plan_kernel(STATE, await observe(converged), MARK).actions
    assert isinstance(action, AddLocalRoute)


async def test_a_local_route_counts_whatever_rule_precedes_it(converged: Kernel) -> None:
    ip("rule", "add", "to", str(OVERLAY.ip), "lookup", "77", "priority", "0")
    ip("route", "add", "default", "via", GATEWAY, "table", "77")
    ip("rule", "add", "lookup", "local", "priority", "5")
    ip("rule", "delete", "lookup", "local", "priority", "0")
    assert not plan_kernel(STATE, await observe(converged), MARK).actions


async def test_other_desired_routes_need_other_routes(converged: Kernel) -> None:
    await observe(converged, appeared=True)
    more = replace(STATE, routes=(*STATE.routes, route("11.0.7.0/24")))
    awaited = find_awaited_routes(more.routes, more.address, LinkConfig(ByName(("eth0",))))
    observed = await converged.observe(LINKS, awaited=awaited, changes=EVERYTHING)
    assert found(observed.routes) == OURS | {CONNECTED, ("11.0.7.0/24", 12)}


async def test_a_kernel_that_cannot_filter_gives_the_same_routes(converged: Kernel) -> None:
    def connect() -> socket.socket:
        opened = open_netlink_socket()
        opened.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 0)
        return opened

    ip("route", "add", "192.168.100.0/24", "via", GATEWAY, "proto", "bird", "metric", "7")
    filtered = await observe(converged, appeared=True)
    async with Kernel(MARK, connect=lambda: KernelSockets(connect)) as old:
        for appeared in (True, False):
            unfiltered = await observe(old, appeared=appeared)
            assert set(unfiltered.routes) == set(filtered.routes)
            assert unfiltered.addresses == filtered.addresses
        assert not plan_kernel(STATE, unfiltered, MARK).actions
