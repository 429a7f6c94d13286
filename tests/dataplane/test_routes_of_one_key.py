"""Foreign routes beside ours with the same subnet, metric and table: reported, and never replaced or deleted."""

import asyncio
import json
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from overlay_net.adapters.netlink import Kernel, Monitor
from overlay_net.domain.kernel.awaited_routes import find_awaited_routes
from overlay_net.domain.kernel.desired import LinkConfig
from overlay_net.domain.kernel.parent_interface import ByName
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel import Desired
from overlay_net.model.kernel_actions import KernelPlan
from tests.dataplane.conftest import LINKS, MARK
from tests.dataplane.desired import desired, route
from tests.dataplane.routes import prepare
from tests.fakes.netns import ip

V4, V6 = "192.168.0.0/24", "fd01::/64"
OURS, OTHER, FOREIGN = "192.168.100.1", "192.168.100.2", "10.176.162.129"
OURS6, OTHER6, THIRD6, FOREIGN6 = "fd00:7::1", "fd00:7::3", "fd00:7::4", "fd00:7::9"


async def settle(kernel: Kernel, state: Desired) -> KernelPlan:
    """Apply plans as the agent does, until there is nothing to do, or a plan does not change anything."""
    last: KernelPlan | None = None
    awaited = find_awaited_routes(state.routes, state.address, LinkConfig(ByName(("eth0",))))
    for _ in range(8):
        plan = plan_kernel(state, await kernel.observe(LINKS, awaited=awaited), MARK)
        if not plan.actions or plan == last:
            return plan
        last = plan
        for action in plan.actions:
            await kernel.apply(action)
    raise AssertionError(f"does not settle: {plan}")


def shown(subnet: str) -> list[tuple[str, ...]]:
    """(protocol, gateways or link) of each route to the subnet, in the kernel's order."""
    family = "-6" if ":" in subnet else "-4"
    entries: list[dict[str, Any]] = json.loads(ip(family, "-j", "-N", "route", "show", subnet))
    return [
        (each["protocol"], *(hop.get("gateway") or hop.get("dev", "") for hop in each.get("nexthops", [each])))
        for each in entries
    ]


def used(address: str) -> str:
    (found,) = json.loads(ip("-j", "route", "get", address))
    return str(found["gateway"])


def foreign_problems(plan: KernelPlan) -> list[DesiredRoute | None]:
    assert all(problem.reason == "ForeignRoute" for problem in plan.problems), plan.problems
    return [problem.route for problem in plan.problems]


async def test_foreign_route_before_ours_is_reported_and_never_replaced(kernel: Kernel) -> None:
    await settle(kernel, desired(route(V4, OURS), route("172.16.0.0/16", OURS)))
    ip("route", "prepend", V4, "via", FOREIGN, "proto", "static")
    assert used("192.168.0.7") == FOREIGN
    before = shown(V4)
    for gateways in ((OURS,), (OTHER,), (OURS, OTHER)):
        state = desired(route(V4, *gateways), route("172.16.0.0/16", *gateways))
        plan = await settle(kernel, state)
        assert plan.actions == ()
        assert foreign_problems(plan) == [route(V4, *gateways)]
        assert [each.subnet for each, _ in plan.placed] == [ip_network("172.16.0.0/16")]
        assert shown(V4) == before
    ip("route", "delete", V4, "proto", "static")
    assert (await settle(kernel, state)).problems == ()
    assert shown(V4) == [("117", OURS, OTHER)]


async def test_foreign_route_behind_ours_is_not_used_and_never_replaced(kernel: Kernel) -> None:
    await settle(kernel, desired(route(V4, OURS)))
    ip("route", "append", V4, "via", FOREIGN, "proto", "static")
    for gateways in ((OURS,), (OTHER,), (OURS, OTHER), (OURS,)):
        assert (await settle(kernel, desired(route(V4, *gateways)))).problems == ()
        assert shown(V4) == [("117", *gateways), ("4", FOREIGN)]
        assert used("192.168.0.7") in gateways
    await settle(kernel, desired())
    assert shown(V4) == [("4", FOREIGN)]


@pytest.mark.parametrize("command", ["prepend", "append"])
async def test_withdrawn_route_leaves_foreign_ones_of_its_key(kernel: Kernel, command: str) -> None:
    await settle(kernel, desired(route(V4, OURS)))
    for gateway in (FOREIGN, "10.176.162.130"):
        ip("route", command, V4, "via", gateway, "proto", "static")
    assert len(shown(V4)) == 3
    assert (await settle(kernel, desired())).problems == ()
    assert sorted(shown(V4)) == [("4", FOREIGN), ("4", "10.176.162.130")]


@pytest.mark.parametrize("command", ["prepend", "append"])
@pytest.mark.parametrize("gateways", [(OURS,), (OTHER,)], ids=["same", "changed"])
async def test_one_of_two_routes_with_our_protocol_remains(
    kernel: Kernel, command: str, gateways: tuple[str, ...]
) -> None:
    await settle(kernel, desired(route(V4, OURS)))
    ip("route", command, V4, "via", OTHER, "dev", "tmp0", "src", "192.168.100.4", "proto", "117")
    assert len(shown(V4)) == 2
    assert (await settle(kernel, desired(route(V4, *gateways)))).problems == ()
    assert shown(V4) == [("117", *gateways)]


async def test_next_hop_appended_to_an_ipv6_route_stays_foreign(kernel: Kernel) -> None:
    prepare()
    await settle(kernel, desired(route(V6, OURS6)))
    ip("-6", "route", "append", V6, "via", FOREIGN6, "proto", "static", "metric", "1024")
    assert shown(V6) == [("117", OURS6, FOREIGN6)], "the kernel joined them"
    plan = await settle(kernel, desired(route(V6, OURS6)))
    assert foreign_problems(plan) == [route(V6, OURS6)]
    assert FOREIGN6 in plan.problems[0].message
    assert shown(V6) == [("117", OURS6, FOREIGN6)]
    ip("-6", "route", "delete", V6, "via", FOREIGN6, "proto", "static")
    assert (await settle(kernel, desired(route(V6, OURS6)))).problems == ()


@pytest.mark.parametrize("gateways", [(OTHER6,), (OTHER6, THIRD6), (OURS6, OTHER6), ()], ids=len)
async def test_change_of_an_ipv6_route_never_replaces_an_appended_next_hop(
    kernel: Kernel, gateways: tuple[str, ...]
) -> None:
    prepare()
    await settle(kernel, desired(route(V6, OURS6)))
    ip("-6", "route", "append", V6, "via", FOREIGN6, "proto", "static", "metric", "1024")
    await settle(kernel, desired(*([route(V6, *gateways)] if gateways else [])))
    (protocol, *hops), *more = shown(V6)
    assert FOREIGN6 in hops
    assert more == []
    if not gateways:
        assert (protocol, hops) == ("4", [FOREIGN6])
    ip("-6", "route", "delete", V6, "via", FOREIGN6, "proto", "static")
    await settle(kernel, desired(*([route(V6, *gateways)] if gateways else [])))
    assert shown(V6) == ([("117", *gateways)] if gateways else [])


async def test_next_hops_of_our_ipv6_routes_change_freely(kernel: Kernel) -> None:
    prepare()
    for gateways in (
        (OURS6, OTHER6),
        (OURS6,),
        (OURS6, OTHER6, THIRD6),
        (THIRD6,),
        (OURS6, OTHER6),
        (THIRD6, FOREIGN6),
    ):
        plan = await settle(kernel, desired(route(V6, *gateways)))
        assert (plan.problems, plan.actions) == ((), ())
        assert shown(V6) == [("117", *gateways)]


@pytest.mark.parametrize("foreign", [("dev", "eth0"), ("type", "blackhole")], ids=["on-link", "blackhole"])
async def test_separate_ipv6_route_of_our_key_is_reported_and_never_replaced(
    kernel: Kernel, foreign: tuple[str, ...]
) -> None:
    prepare()
    reject = replace(route(V6, OURS6).spec, kind="blackhole", gateways=())
    await settle(kernel, desired(route(V6, OURS6)))
    words = ("blackhole", V6) if foreign == ("type", "blackhole") else (V6, *foreign)
    ip("-6", "route", "append", *words, "proto", "static", "metric", "1024")
    assert len(shown(V6)) == 2
    before = shown(V6)
    for changed in (route(V6, OURS6), route(V6, OTHER6), DesiredRoute.to(ip_network(V6), reject, "r")):
        plan = await settle(kernel, desired(changed))
        assert foreign_problems(plan) == [changed]
        assert shown(V6) == before
    await settle(kernel, desired())
    assert [each[0] for each in shown(V6)] == ["4"]


@pytest.mark.parametrize("command", ["prepend", "append"])
@pytest.mark.parametrize("version", [4, 6])
async def test_agent_is_woken_by_a_route_beside_one_of_ours(kernel: Kernel, command: str, version: int) -> None:
    prepare()
    subnet, gateway, foreign = (V4, OURS, FOREIGN) if version == 4 else (V6, OURS6, FOREIGN6)
    await settle(kernel, desired(route(subnet, gateway)))
    woken = asyncio.Event()
    task = asyncio.create_task(Monitor(117, woken.set).run())
    try:
        async with asyncio.timeout(10):
            # The start of the monitor wakes as well.
            await woken.wait()
            while "tentative" in ip("-6", "address"):
                await asyncio.sleep(0.05)
            woken.clear()
            ip(f"-{version}", "route", "add", "fd02::/64" if version == 6 else "10.9.0.0/16", "via", foreign)
            ip(f"-{version}", "route", command, subnet, "via", foreign, "metric", "1024" if version == 6 else "0")
            await woken.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
