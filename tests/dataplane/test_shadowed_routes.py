"""Routes that are in the kernel but not used, because another process has a rule or route that wins."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from overlay_net.adapters.netlink import Kernel, Monitor
from overlay_net.agent.shadow_watch import ShadowWatch
from overlay_net.domain.kernel.shadowed_routes import find_shadowed, lookup_targets
from overlay_net.model.desired_route import DesiredRoute, Gateway, RouteSpec
from overlay_net.model.kernel import Desired
from overlay_net.model.policy_rule import SourceRouting, SourceTable
from overlay_net.model.route_lookup import RouteLookup
from tests.dataplane.conftest import LINKS, MARK
from tests.dataplane.desired import converge, desired, route
from tests.fakes.netns import ip
from tests.fakes.until import until

GATEWAY, OTHER = "10.176.162.129", "192.168.100.254"
V6 = "fd00:100::4/64"


async def shadowed(kernel: Kernel, state: Desired) -> dict[str, str]:
    """Subnet -> message of each route of ``state`` that the kernel does not use."""
    plan = await converge(kernel, state)
    observed = await kernel.observe(LINKS)
    targets = lookup_targets(plan.placed, observed, MARK)
    answers = await kernel.look_up([target.lookup for target in targets])
    problems = find_shadowed(targets, answers, observed, MARK)
    assert {problem.reason for problem in problems} <= {"Shadowed"}
    return {str(problem.route.subnet): problem.message for problem in problems if problem.route}


@pytest.fixture
async def ipv6(kernel: Kernel) -> Kernel:
    """A kernel whose eth0 has an IPv6 address."""
    ip("address", "add", "fd00:7::2/64", "dev", "eth0", "nodad")
    return kernel


WINNERS = {
    "a longer prefix": (
        "route add 192.168.0.0/25 via 10.176.162.129 proto static",
        "192.168.0.0/25 via 10.176.162.129 on eth0 (protocol 4, metric 0)",
    ),
    "a longer prefix at the end of the subnet": (
        "route add 192.168.0.240/28 dev eth0 proto bird",
        "192.168.0.240/28 on eth0 (protocol 12, metric 0)",
    ),
    "a single host": (
        "route add 192.168.0.77 via 10.176.162.130 proto 186",
        "192.168.0.77/32 via 10.176.162.130 on eth0 (protocol 186, metric 0)",
    ),
    "a lower metric": (
        "route add 192.168.0.0/24 via 10.176.162.129 metric 10",
        "192.168.0.0/24 via 10.176.162.129 on eth0 (protocol 3, metric 10)",
    ),
    "another gateway on the same link": (
        "route add 192.168.0.0/24 via 192.168.100.254 metric 10",
        "192.168.0.0/24 via 192.168.100.254 on tmp0 (protocol 3, metric 10)",
    ),
    "a blackhole": (
        "route add blackhole 192.168.0.64/26 proto 186",
        "192.168.0.64/26 blackhole (protocol 186, metric 0)",
    ),
    "an unreachable subnet of a lower metric": (
        "route add unreachable 192.168.0.0/24 metric 5",
        "192.168.0.0/24 unreachable (protocol 3, metric 5)",
    ),
    "ECMP": (
        "route add 192.168.0.0/25 nexthop via 10.176.162.129 nexthop via 192.168.100.1",
        "192.168.0.0/25 via 10.176.162.129 on eth0 (protocol 3, metric 0)",
    ),
}


@pytest.mark.parametrize(("added", "winner"), WINNERS.values(), ids=WINNERS.keys())
async def test_route_of_another_process_that_wins_is_named(kernel: Kernel, added: str, winner: str) -> None:
    state = desired(route("192.168.0.0/24", metric=100), route("192.168.9.0/24"))
    assert await shadowed(kernel, state) == {}
    ip(*added.split())
    assert await shadowed(kernel, state) == {
        "192.168.0.0/24": f"in the kernel but not used: {winner} takes precedence; remove it, or change subnet or "
        "metric of the StaticRoute"
    }
    ip(*added.replace("route add", "route delete").split())
    assert await shadowed(kernel, state) == {}


RULES = {
    "for all traffic": "from all lookup 52 priority 5270",
    "for the subnet": "to 192.168.0.0/24 lookup 52 priority 99",
    "for the overlay address": "from 192.168.100.4 lookup 52 priority 12000",
    "for packets of this node": "iif lo lookup 52 priority 32765",
    "with a protocol": "from all lookup 52 priority 5270 protocol 186",
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
async def test_policy_rule_of_another_process_that_wins_is_named(kernel: Kernel, rule: str) -> None:
    state = desired(route("192.168.0.0/24"))
    await converge(kernel, state)
    ip("route", "add", "192.168.0.0/16", "via", GATEWAY, "table", "52")
    ip("rule", "add", *rule.split())
    priority = rule.split("priority ")[1].split()[0]
    (message,) = (await shadowed(kernel, state)).values()
    expected = f"192.168.0.0/16 via {GATEWAY} on eth0 (protocol 3, metric 0, table 52, policy rule {priority})"
    assert f"not used: {expected} takes precedence" in message
    ip("rule", "delete", *rule.split())
    assert await shadowed(kernel, state) == {}


UNUSED_RULES = {
    "a firewall mark": "fwmark 7 lookup 52 priority 99",
    "another source": "from 10.176.162.151 lookup 52 priority 99",
    "forwarded packets": "iif eth0 lookup 52 priority 99",
    "a table without a route": "from all lookup 53 priority 99",
    "after main": "from all lookup 52 priority 32767",
}


@pytest.mark.parametrize("rule", UNUSED_RULES.values(), ids=UNUSED_RULES.keys())
async def test_rule_that_traffic_of_the_route_does_not_match_is_no_shadow(kernel: Kernel, rule: str) -> None:
    state = desired(route("192.168.0.0/24"))
    await converge(kernel, state)
    ip("route", "add", "192.168.0.0/16", "via", GATEWAY, "table", "52")
    ip("rule", "add", *rule.split())
    assert await shadowed(kernel, state) == {}


async def test_own_routes_that_win_by_intention_are_no_shadows(kernel: Kernel) -> None:
    """Longer prefixes, lower metrics, a blackhole, two halves that cover a subnet, and a route in another table."""
    blackhole = DesiredRoute.to(ip_network("192.168.1.0/25"), RouteSpec(kind="blackhole"), "b")
    elsewhere = DesiredRoute.to(ip_network("192.168.5.0/24"), RouteSpec((Gateway(ip_address(OTHER)),), table=70), "t")
    state = desired(
        route("192.168.0.0/16"),
        route("192.168.0.0/24", OTHER),
        route("192.168.0.0/24", metric=50),
        route("192.168.1.0/24"),
        blackhole,
        route("192.168.2.0/24"),
        route("192.168.2.0/25", OTHER),
        route("192.168.2.128/25", GATEWAY),
        route("192.168.3.0/24", GATEWAY),
        elsewhere,
    )
    assert await shadowed(kernel, state) == {}
    ip("route", "add", "192.168.5.0/24", "via", GATEWAY, "metric", "7")
    assert "192.168.5.0/24" not in await shadowed(kernel, state), "only routes of the table main are judged"


async def test_routes_of_others_that_take_the_same_path_are_no_shadows(kernel: Kernel) -> None:
    """The same gateway, and the subnets of links of this node, which no StaticRoute replaces."""
    state = desired(route("192.168.0.0/16"), route("10.0.0.0/8"), route("172.16.0.0/12"))
    await converge(kernel, state)
    ip("route", "add", "192.168.7.0/24", "via", "192.168.100.1", "proto", "static")
    ip("link", "add", "docker0", "type", "veth", "peer", "name", "docker1")
    ip("address", "add", "172.17.0.1/16", "dev", "docker0")
    ip("link", "set", "docker0", "up")
    assert await shadowed(kernel, state) == {}


async def test_wide_route_leaves_precedence_to_more_specific_ones(kernel: Kernel) -> None:
    """A default route and 10.0.0.0/8 are for what no other route covers; a rule that takes that is a shadow."""
    state = desired(route("0.0.0.0/0", metric=50), route("10.0.0.0/8", metric=50))
    await converge(kernel, state)
    for subnet in ("1.0.0.0/8", "10.0.0.0/16", "10.2.0.0/16", "172.16.0.0/12"):
        ip("route", "add", subnet, "via", GATEWAY)
    assert await shadowed(kernel, state) == {}
    ip("route", "add", "default", "via", GATEWAY, "metric", "20")
    assert list(await shadowed(kernel, state)) == ["0.0.0.0/0"]


async def test_source_routing_uses_our_routes(kernel: Kernel) -> None:
    """Wide routes are suppressed in main and used from the table of source routing."""
    source = SourceRouting(SourceTable(117, 11700, 8), ip_address("192.168.100.1"))
    routes = (route("11.0.0.0/8", OTHER), route("192.168.0.0/24"), route("12.0.0.0/8", GATEWAY))
    state = replace(desired(*routes), source=source)
    assert await shadowed(kernel, state) == {}
    ip("route", "add", "11.1.0.0/16", "via", GATEWAY)
    ip("rule", "add", "from", "192.168.100.4", "to", "11.0.0.0/8", "lookup", "53", "priority", "900")
    ip("route", "add", "11.0.0.0/8", "via", GATEWAY, "table", "53")
    assert list(await shadowed(kernel, state)) == ["11.0.0.0/8"]


async def test_route_through_the_private_network_is_looked_up_without_the_overlay_address(kernel: Kernel) -> None:
    state = desired(route("192.168.0.0/24", GATEWAY))
    await converge(kernel, state)
    ip("route", "add", "192.168.0.0/24", "via", OTHER, "table", "52")
    ip("rule", "add", "from", "192.168.100.4", "lookup", "52", "priority", "99")
    assert await shadowed(kernel, state) == {}
    ip("rule", "add", "from", "all", "lookup", "52", "priority", "100")
    assert list(await shadowed(kernel, state)) == ["192.168.0.0/24"]


@pytest.mark.parametrize(
    ("added", "winner"),
    [
        ("route add fd00:9:0:8::/64 via fd00:7::1", "fd00:9:0:8::/64 via fd00:7::1 on eth0 (protocol 3, metric 1024)"),
        ("route add fd00:9::/48 via fd00:7::1 metric 9", "fd00:9::/48 via fd00:7::1 on eth0 (protocol 3, metric 9)"),
        ("route add blackhole fd00:9:0:1::/64", "fd00:9:0:1::/64 blackhole (protocol 3, metric 1024)"),
        (
            "route add fd00::/16 via fd00:7::1 table 52",
            "fd00::/16 via fd00:7::1 on eth0 (protocol 3, metric 1024, table 52, policy rule 900)",
        ),
    ],
    ids=["longer prefix", "lower metric", "blackhole", "policy rule"],
)
async def test_ipv6_winner_is_named(ipv6: Kernel, added: str, winner: str) -> None:
    state = desired(route("fd00:9::/48", "fd00:100::1"), address=V6)
    await converge(ipv6, state)
    await until(lambda: "tentative" not in ip("-6", "address", "show", "tmp0"), "duplicate address detection")
    assert await shadowed(ipv6, state) == {}
    ip("-6", *added.split())
    ip("-6", "rule", "add", "from", "fd00:100::4", "lookup", "52", "priority", "900")
    (message,) = (await shadowed(ipv6, state)).values()
    assert f"not used: {winner} takes precedence" in message


async def test_lookup_that_the_kernel_refuses_is_unknown(kernel: Kernel) -> None:
    """A foreign source, no route at all, and a rule that rejects: the others are answered."""
    await converge(kernel, desired(route("192.168.0.0/24")))
    ip("rule", "add", "to", "192.168.8.0/24", "prohibit", "priority", "70")
    own = ip_interface("192.168.100.4/24").ip
    lookups = [
        RouteLookup(ip_address("192.168.0.1"), ip_address("192.168.100.99")),
        RouteLookup(ip_address("8.8.8.8"), own),
        RouteLookup(ip_address("192.168.8.1"), own),
        RouteLookup(ip_address("192.168.0.1"), own),
        RouteLookup(ip_address("192.168.100.4"), own),
        RouteLookup(ip_address("fd00:9::1")),
    ]
    answers = await kernel.look_up(lookups)
    assert [answer and str(answer.subnet) for answer in answers] == [None, None, None, "192.168.0.0/24", None, None]


async def test_thousands_of_lookups_are_answered_as_ip_shows_them(kernel: Kernel) -> None:
    """More than fit into one datagram, refused ones between them."""
    state = desired(*(route(f"172.16.{number}.0/24") for number in range(0, 256, 2)))
    await converge(kernel, state)
    lookups = [
        RouteLookup(ip_address(f"172.16.{number % 256}.{1 + number // 256}"), ip_address("192.168.100.4"))
        for number in range(2560)
    ]
    answers = await kernel.look_up(lookups)
    for number in (0, 1, 255, 256, 1000, 1001, 2558, 2559):
        shown = ip("-j", "route", "show", "match", str(lookups[number].destination), "root", "172.16.0.0/12")
        expected = [each["dst"] for each in json.loads(shown)]
        answer = answers[number]
        assert [str(answer.subnet)] == expected if answer else not expected


# --- The watch --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def watching(kernel: Kernel, state: Desired) -> AsyncIterator[list[list[str]]]:
    """The subnets of shadowed routes after each change that the watch reports."""
    changes: list[list[str]] = []
    watch = ShadowWatch(
        kernel,
        MARK,
        lambda: changes.append([str(each.route.subnet) for each in watch.shadowed if each.route]),
        asyncio.get_running_loop().time,
    )
    monitor = Monitor(MARK.protocol, lambda: None)
    monitor.watch_routing(watch.kernel_changed)
    watch.follow(await converge(kernel, state), await kernel.observe(LINKS))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(monitor.run()), group.create_task(watch.run())]
        await until(lambda: watch.known, "the first check")
        assert len(changes) == 1, "the agent is woken to report"
        yield changes
        for task in tasks:
            task.cancel()


async def test_shadows_are_noticed_when_they_come_and_when_they_go(kernel: Kernel) -> None:
    async with watching(kernel, desired(route("192.168.0.0/24"), route("192.168.1.0/24"))) as changes:
        ip("route", "add", "192.168.0.128/25", "via", GATEWAY, "proto", "static")
        await until(lambda: changes == [[], ["192.168.0.0/24"]], "a route that wins")
        ip("route", "delete", "192.168.0.128/25")
        await until(lambda: changes[2:] == [[]], "its deletion")
        ip("route", "add", "192.168.0.0/16", "via", GATEWAY, "table", "52")
        ip("rule", "add", "from", "all", "lookup", "52", "priority", "99")
        await until(lambda: changes[3:] == [["192.168.0.0/24", "192.168.1.0/24"]], "a rule that wins")
        ip("rule", "delete", "priority", "99")
        await until(lambda: changes[4:] == [[]], "its deletion")


async def test_shadow_that_exists_at_the_start_is_known_to_the_first_report(kernel: Kernel) -> None:
    state = desired(route("192.168.0.0/24"))
    await converge(kernel, state)
    ip("route", "add", "192.168.0.0/25", "via", GATEWAY)
    async with watching(kernel, state) as changes:
        assert changes == [["192.168.0.0/24"]]
