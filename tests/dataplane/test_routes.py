"""Routes of every kind, written through netlink and compared with what `ip` shows and what we read back."""

import asyncio
import errno
from collections.abc import Callable, Coroutine
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overlay_net.adapters.netlink import Kernel
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.domain.kernel.routes import RoutePlanner
from overlay_net.model.desired_route import DesiredRoute, Gateway, RouteSpec
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Desired
from overlay_net.model.kernel_actions import AddRoute, DeleteRoute, ReplaceRoute
from overlay_net.model.route import NextHop, Route
from tests.dataplane.conftest import MARK
from tests.dataplane.routes import flush, index, numbered, prepare, routes, shown, unique
from tests.fakes.netns import ip, try_ip

GATEWAY, OTHER = "10.176.162.129", "10.176.162.130"

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture
def link(eth0: None) -> int:
    prepare()
    return index("eth0")


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    return asyncio.run if request.param == "asyncio" else uvloop.run


async def ours(kernel: Kernel) -> list[Route]:
    return [route for route in (await kernel.observe()).routes if route.protocol == MARK.protocol]


# --- Any route ------------------------------------------------------------------------------------------------------


def test_routes_of_any_kind_are_in_the_kernel_as_written(link: int, run: Run) -> None:
    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(routes(link), min_size=1, max_size=12), st.data())
    def check(desired: list[Route], data: st.DataObject) -> None:
        desired = unique(desired)
        changed = [
            data.draw(routes(link, (each.subnet.version,))).replace(
                subnet=each.subnet, table=each.table, metric=each.metric
            )
            for each in desired
        ]
        flush()
        run(write_change_and_delete(desired, changed))

    check()


async def write_change_and_delete(desired: list[Route], changed: list[Route]) -> None:
    async with Kernel(MARK) as kernel:
        assert not await kernel.apply_routes([AddRoute(route) for route in desired])
        assert shown() == set(desired)
        assert set(await ours(kernel)) == set(desired)
        assert len(await ours(kernel)) == len(desired)
        assert [e.code for _, e in await kernel.apply_routes([AddRoute(each) for each in desired])] == (
            [errno.EEXIST] * len(desired)
        )
        assert not await kernel.apply_routes([ReplaceRoute(route) for route in changed])
        now = {route.key: route for route in (*desired, *changed)}
        assert shown() == set(now.values()) == set(await ours(kernel))
        assert not await kernel.apply_routes([DeleteRoute(route) for route in (*now.values(), *now.values())])
        assert not shown()
        assert not await ours(kernel)


# --- Many -----------------------------------------------------------------------------------------------------------


def test_invalid_routes_among_twenty_thousand_are_refused_by_name(link: int, run: Run) -> None:
    async def check() -> None:
        desired = [numbered(number, GATEWAY, link) for number in range(20_000)]
        # At the beginning, at the end and within a batch, and the very last one.
        bad = {number: numbered(number, "10.99.0.1", link) for number in (0, 255, 256, 300, 19_999)}
        actions = [AddRoute(bad.get(number, route)) for number, route in enumerate(desired)]
        async with Kernel(MARK) as kernel:
            refused = await kernel.apply_routes(actions)
            assert [action.route for action, _ in refused] == list(bad.values())
            for action, error in refused:
                assert error.code == errno.ENETUNREACH
                assert str(error) == f"add route {action.route.subnet} via 10.99.0.1: Nexthop has invalid gateway"
            assert set(await ours(kernel)) == {each for each in desired if each.subnet not in _subnets(bad.values())}
            assert not await kernel.apply_routes([DeleteRoute(route) for route in desired])
            assert not shown()

    run(check())


def _subnets(some: Any) -> set[object]:
    return {route.subnet for route in some}


def test_batches_with_many_next_hops_are_split_by_size(link: int, run: Run) -> None:
    """The send buffer limits the bytes of a batch."""

    async def check() -> None:
        hops = tuple(NextHop(ip_address(f"10.98.{number}.1"), link, number + 1, True) for number in range(200))
        desired = [numbered(number, GATEWAY, link).replace(next_hops=hops) for number in range(64)]
        async with Kernel(MARK) as kernel:
            assert not await kernel.apply_routes([AddRoute(route) for route in desired])
            assert set(await ours(kernel)) == set(desired)

    run(check())


def test_a_thousand_refusals_fit_the_receive_buffer(link: int) -> None:
    async def check() -> None:
        async with Kernel(MARK) as kernel:
            bad = [AddRoute(numbered(number, "10.99.0.1", link)) for number in range(1000)]
            assert len(await kernel.apply_routes(bad)) == 1000

    asyncio.run(check())


# --- Keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subnet", ["10.1.0.0/16", "fd11::/64"])
def test_deletion_removes_only_the_route_of_its_key_and_protocol(link: int, subnet: str) -> None:
    async def check() -> None:
        network = ip_network(subnet)
        lowest = 0 if network.version == 4 else 1024
        gateway = NextHop(ip_address(GATEWAY if network.version == 4 else "fd00:7::1"), link)
        deleted = Route(network, (gateway,), 117, lowest)
        others = [deleted.replace(metric=5000), deleted.replace(table=77), deleted.replace(table=1000)]
        foreign = [deleted.replace(metric=6000, protocol=186), deleted.replace(table=78, protocol=186)]
        async with Kernel(MARK) as kernel:
            for route in (deleted, *others, *foreign):
                await kernel.apply(AddRoute(route))
            for _ in range(2):
                # The second deletion must not remove another route instead.
                await kernel.apply(DeleteRoute(deleted))
                assert shown() == set(others)
            await kernel.apply_routes([DeleteRoute(route.replace(protocol=117)) for route in foreign])
            assert shown(186) == set(foreign)
            await kernel.apply_routes([DeleteRoute(route.replace(next_hops=())) for route in others])
            assert not shown()

    asyncio.run(check())


def test_additions_are_applied_before_deletions(link: int) -> None:
    """The gateway of the added route is reachable only through the deleted one."""

    async def check() -> None:
        near = Route(ip_network("10.99.0.0/24"), (NextHop(None, link),), 117)
        async with Kernel(MARK) as kernel:
            await kernel.apply(AddRoute(near))
            far = AddRoute(numbered(1, "10.99.0.1", link))
            assert not await kernel.apply_routes([DeleteRoute(near), far])
            assert shown() == {far.route}

    asyncio.run(check())


@pytest.mark.parametrize(
    ("route", "message"),
    [
        (numbered(1, "fd00:7::1", 2, mtu=65521), "the MTU must be at most"),
        (Route(ip_network("fd11::/64"), (NextHop(ip_address(GATEWAY), 2),), 117), "cannot use the IPv4 gateway"),
        (numbered(1, GATEWAY, 2).replace(next_hops=()), "a route of kind unicast cannot have 0 next hops"),
        (numbered(1, GATEWAY, 2).replace(kind="blackhole"), "a route of kind blackhole cannot have 1 next hops"),
        (numbered(1, GATEWAY, 2).replace(kind=None), "of kind None"),
        (
            numbered(1, GATEWAY, 2).replace(next_hops=(NextHop(None, 2, 257), NextHop(None, 2))),
            "the weight of a next hop must",
        ),
    ],
)
def test_route_that_no_kernel_accepts_is_refused_without_the_others(eth0: None, route: Route, message: str) -> None:
    async def check() -> None:
        good = AddRoute(numbered(2, GATEWAY, index("eth0")))
        async with Kernel(MARK) as kernel:
            ((action, error),) = await kernel.apply_routes([AddRoute(route), good])
            assert action.route == route
            assert message in str(error)
            assert error.code == errno.EINVAL
            assert shown() == {good.route}

    asyncio.run(check())


# --- Foreign routes ---------------------------------------------------------------------------------------------------


FOREIGN = (
    "10.1.0.0/16 via 10.176.162.129 realm 7",
    "10.1.0.0/16 via 10.176.162.129 mtu lock 1400",
    "10.1.0.0/16 via 10.176.162.129 initcwnd 20",
    "10.1.0.0/16 nhid 9",
    "throw 10.1.0.0/16",
    "broadcast 10.1.0.0/16 dev eth0 table main",
    "fd11::/64 via fd00:7::1 expires 300",
    "fd11::/64 via fd00:7::1 pref high",
    "fd11::/64 nhid 10",
)


@pytest.mark.parametrize("arguments", FOREIGN)
def test_route_with_unsupported_attributes_equals_none_of_ours(link: int, arguments: str) -> None:
    """With our protocol number it is replaced; with another one it is foreign."""

    async def check() -> None:
        ip("nexthop", "add", "id", "9", "via", "10.176.162.129", "dev", "eth0")
        ip("nexthop", "add", "id", "10", "via", "fd00:7::1", "dev", "eth0")
        family = "-6" if "fd11" in arguments else "-4"
        if refused := try_ip(family, "route", "add", *arguments.split(), "proto", "117"):
            pytest.skip(f"the kernel has no such routes: {refused}")
        async with Kernel(MARK) as kernel:
            (odd,) = await ours(kernel)
            assert odd.kind is None
            gateway = ip_address("fd00:7::1" if family == "-6" else GATEWAY)
            state = Desired(routes=(DesiredRoute.to(odd.subnet, RouteSpec((Gateway(gateway),))),))
            (action,) = plan_kernel(state, await kernel.observe(), MARK).actions
            await kernel.apply(action)
            assert shown() == {Route(odd.subnet, (NextHop(gateway, link),), 117, odd.metric)}
            assert not plan_kernel(state, await kernel.observe(), MARK).actions

    asyncio.run(check())


def test_routes_whose_keys_never_collide_with_ours_are_not_observed(link: int) -> None:
    async def check() -> None:
        ip("route", "add", "10.1.0.0/16", "tos", "0x10", "via", GATEWAY, "proto", "117")
        ip("route", "add", "local", "10.2.0.0/16", "dev", "lo", "table", "local", "proto", "117")
        async with Kernel(MARK) as kernel:
            assert not await ours(kernel)
            await kernel.apply(AddRoute(Route(ip_network("10.1.0.0/16"), (NextHop(ip_address(OTHER), link),), 117)))
            assert len(await ours(kernel)) == 1

    asyncio.run(check())


# --- Observing --------------------------------------------------------------------------------------------------------


def test_unchanged_routes_are_the_same_tuple_and_any_change_is_observed(link: int, run: Run) -> None:
    async def check() -> None:
        async with Kernel(MARK) as kernel:
            await kernel.apply_routes([AddRoute(numbered(number, GATEWAY, link)) for number in range(2000)])
            observed, again = await kernel.observe(), await kernel.observe()
            first = observed.routes
            assert again.routes is first
            spec = RouteSpec((Gateway(ip_address(GATEWAY)),))
            state = Desired(routes=(DesiredRoute.to(ip_network("11.0.0.0/24"), spec),))
            planner = RoutePlanner(MARK)
            plan = planner.plan(state, observed, None)
            assert len(plan.deletions) == 1999
            assert planner.plan(state, again, None) is plan, "the plan is reused"
            assert planner.plan(replace(state, routes=()), again, None) is not plan
            for arguments, size in (
                ("route replace 11.0.0.0/24 via 10.176.162.130 proto 117", 0),
                ("route replace 11.7.207.0/24 via 10.176.162.129 proto 117 mtu 1400", 0),
                ("route delete 11.3.0.0/24", -1),
                ("route add 11.3.0.0/24 via 10.176.162.129 proto 186", 0),
                ("-6 route add fd11::/64 via fd00:7::1 proto 117", 1),
            ):
                ip(*arguments.split())
                now = (await kernel.observe()).routes
                assert len(now) == len(first) + size
                assert {route for route in now if route.protocol == 117} == shown()
            # Another Kernel, without cached routes, agrees.
            async with Kernel(MARK) as other:
                assert (await other.observe()).routes == now

    run(check())


async def test_event_loop_is_not_blocked(link: int) -> None:
    """Other tasks run meanwhile. The limit is wide, as machines are busy; the benchmark measures."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with Kernel(MARK) as kernel:
        task = asyncio.create_task(count())
        try:
            actions = [AddRoute(numbered(number, GATEWAY, link)) for number in range(20_000)]
            for step in (kernel.apply_routes(actions), kernel.observe()):
                turns = 0
                await step
                assert turns > 50
        finally:
            task.cancel()


async def test_cancelled_write_leaves_the_kernel_adapter_usable(link: int) -> None:
    async with Kernel(MARK) as kernel:
        actions = [AddRoute(numbered(number, GATEWAY, link)) for number in range(3000)]
        for pause in (0, 0.001, 0.003, 0.007, 0.02):
            task = asyncio.create_task(kernel.apply_routes(actions))
            await asyncio.sleep(pause)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await kernel.observe()
        assert all(error.code == errno.EEXIST for _, error in await kernel.apply_routes(actions))
        assert set(await ours(kernel)) == {action.route for action in actions}


async def test_concurrent_exchanges_are_serialised(link: int) -> None:
    async with Kernel(MARK) as kernel:
        writes = [kernel.apply(AddRoute(numbered(number, GATEWAY, link))) for number in range(40)]
        observations = [kernel.observe() for _ in range(40)]
        await asyncio.gather(*writes, *observations)
        assert len(await ours(kernel)) == 40


async def test_refusal_has_the_kernels_message(link: int) -> None:
    async with Kernel(MARK) as kernel:
        with pytest.raises(KernelError, match=r"add route 11\.0\.1\.0/24 via 10\.99\.0\.1 table 77: .*gateway") as bad:
            await kernel.apply(AddRoute(numbered(1, "10.99.0.1", link, table=77)))
        assert bad.value.code == errno.ENETUNREACH
