"""Policy rules through netlink compared with what `ip` shows, and the routing of packets from the overlay address."""

import asyncio
import json
import random
import selectors
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from lab.net.namespaces import Namespace
from overlay_net.adapters.netlink import Kernel
from overlay_net.adapters.netlink.policy_rules import parse_rule
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel import Desired
from overlay_net.model.policy_rule import AddPolicyRule, DeletePolicyRule, PolicyRule, SourceRouting, SourceTable
from tests.dataplane.conftest import LINKS, MARK
from tests.dataplane.desired import converge, desired, route
from tests.dataplane.neighbours import Lan, lan
from tests.fakes.netns import ip

__all__ = ["lan"]

OWN = "192.168.100.4"
PORT = 7117


def with_source_routing(*routes: DesiredRoute, address: str = f"{OWN}/24", gateway: str = "192.168.100.1") -> Desired:
    return replace(
        desired(*routes, address=address),
        source=SourceRouting(SourceTable(117, 11700, 8), ip_address(gateway)),
    )


def shown(family: str = "-4") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ip(family, "-j", "-d", "-N", "rule"))
    return found


# --- Messages ---------------------------------------------------------------------------------------------------------


def some_rules(version: int) -> Iterator[PolicyRule]:
    rng = random.Random(version)
    sources = ("172.31.0.0/24", "192.168.100.4/32") if version == 4 else ("2001:db8::/48", "2001:db8::4/128")
    for number in range(40):
        source = rng.choice((None, *sources))
        yield PolicyRule(
            4 if version == 4 else 6,
            1000 + number,
            ip_network(source) if source else None,
            rng.choice((7, 117, 254, 256, 2**32 - 1)),
            rng.choice((117, 186)),
            rng.choice((None, 0, 8)),
            rng.choice((None, None, 5, MARK.group)),
        )


def as_ip_shows(rule: PolicyRule) -> dict[str, Any]:
    entry: dict[str, Any] = {"priority": rule.priority, "src": "all", "table": str(rule.table)}
    if rule.source is not None:
        entry["src"] = str(rule.source.network_address)
        if rule.source.prefixlen < rule.source.max_prefixlen:
            entry["srclen"] = rule.source.prefixlen
    if rule.suppress is not None:
        entry["suppress_prefixlen"] = rule.suppress
    if rule.suppress_group is not None:
        entry["suppress_ifgroup"] = str(rule.suppress_group)
    return entry | {"protocol": str(rule.protocol)}


@pytest.mark.parametrize("version", [4, 6])
async def test_rules_are_added_observed_and_deleted_as_ip_shows_them(kernel: Kernel, version: int) -> None:
    rules = list(some_rules(version))
    for each in rules:
        await kernel.apply(AddPolicyRule(each))
    assert [as_ip_shows(each) for each in rules] == [
        each for each in shown(f"-{version}") if each["priority"] in range(1000, 2000)
    ]
    observed = await kernel.observe(LINKS)
    assert [each for each in observed.rules if each in rules] == rules
    for each in rules:
        await kernel.apply(DeletePolicyRule(each))
        await kernel.apply(DeletePolicyRule(each))
    assert not [each for each in shown(f"-{version}") if each["priority"] in range(1000, 2000)]


@pytest.mark.parametrize(
    "arguments",
    [
        "from 192.168.100.4 iif eth0 lookup 117",
        "from 192.168.100.4 to 10.0.0.0/8 lookup 117",
        "from 192.168.100.4 fwmark 7 lookup 117",
        "from 192.168.100.4 tos 0x10 lookup 117",
        "from 192.168.100.4 ipproto tcp lookup 117",
        "from 192.168.100.4 blackhole",
        "from 192.168.100.4 goto 32766",
        "not from 192.168.100.4 lookup 117",
        "from 192.168.100.4 lookup 117 suppress_ifgroup 7 fwmark 7",
    ],
)
async def test_rule_with_conditions_that_ours_never_have_is_replaced(kernel: Kernel, arguments: str) -> None:
    ip("rule", "add", *arguments.split(), "priority", "11701", "protocol", "117")
    (found,) = [each for each in (await kernel.observe(LINKS)).rules if each.priority == 11701]
    assert not found.plain
    before = shown()
    await converge(kernel, with_source_routing())
    assert len([each for each in shown() if each["protocol"] == "117"]) == 2, "the rule had our mark and is not desired"
    assert shown() != before
    await converge(kernel, Desired())
    assert not [each for each in shown() if each["protocol"] == "117"]


async def test_rule_that_suppresses_a_group_which_ours_do_not_is_replaced(kernel: Kernel) -> None:
    await converge(kernel, with_source_routing())
    before = shown()
    ip("rule", "add", "from", OWN, "lookup", "117", "suppress_ifgroup", "7", "priority", "11701", "protocol", "117")
    assert shown() != before
    await converge(kernel, with_source_routing())
    assert shown() == before


@pytest.mark.parametrize(("source", "network"), [("10.0.0.5/24", "10.0.0.0/24"), ("2001:db8::5/64", "2001:db8::/64")])
async def test_rule_for_an_address_with_a_short_prefix_is_observed_as_the_kernel_applies_it(
    kernel: Kernel, source: str, network: str
) -> None:
    """The kernel stores the whole address."""
    ip("-6" if ":" in source else "-4", "rule", "add", "from", source, "lookup", "100", "priority", "77")
    observed = await kernel.observe(LINKS)
    assert [str(each.source) for each in observed.rules if each.priority == 77] == [network]


def test_rule_of_another_family_is_not_parsed() -> None:
    assert parse_rule(bytes([socket.AF_INET6 + 118]) + bytes(11)) is None
    assert parse_rule(bytes([socket.AF_INET6]) + bytes(11)) is not None


async def test_foreign_rules_stay_even_if_identical_to_ours(kernel: Kernel) -> None:
    for arguments in (
        f"from {OWN} lookup 117 priority 11701",
        f"from {OWN} lookup 117 priority 11700 protocol 186",
        "from 172.31.0.0/24 lookup 117 priority 11701",
        f"from {OWN} lookup main suppress_prefixlength 8 priority 11702",
    ):
        ip("rule", "add", *arguments.split())
    before = shown()
    plan = await converge(kernel, with_source_routing())
    assert not plan.problems
    assert [each for each in shown() if each["protocol"] != "117"] == before
    assert [each["priority"] for each in shown() if each["protocol"] == "117"] == [11700, 11701]
    await converge(kernel, Desired())
    assert shown() == before


async def test_deleted_rule_is_restored_and_disabling_source_routing_removes_everything(
    kernel: Kernel,
) -> None:
    before = shown()
    await converge(kernel, with_source_routing(route("192.168.0.0/24")))
    made = shown()
    assert made != before
    ip("rule", "delete", "priority", "11700")
    ip("route", "delete", "default", "table", "117")
    await converge(kernel, with_source_routing(route("192.168.0.0/24")))
    assert shown() == made
    assert ip("route", "show", "default", "table", "117").split()[:5] == [
        "default",
        "via",
        "192.168.100.1",
        "dev",
        "tmp0",
    ]
    await converge(kernel, desired(route("192.168.0.0/24")))
    assert shown() == before
    routes = json.loads(ip("-j", "-N", "route", "show", "table", "all"))
    assert [each["dst"] for each in routes if "117" in (each.get("table"), each.get("protocol"))] == ["192.168.0.0/24"]


# --- Packets ---------------------------------------------------------------------------------------------------------

FAR = "10.50.0.1"
"""A host behind the overlay gateway; the main table has a route to it via the private gateway."""
LISTEN = f"""
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(({FAR!r}, {PORT}))
print("ready", flush=True)
if sys.argv[1:]:
    s.sendto(b"request", ({OWN!r}, {PORT}))
s.recv(99)
print("answer", flush=True)
"""


@pytest.fixture
def node(lan: Lan) -> Lan:
    """Routes as on a cloud: 10/8 via the private gateway, everything else via a public one."""
    ip("link", "delete", "tmp0")
    ip("address", "add", "10.176.162.151/26", "dev", "eth0")
    ip("route", "add", "10.0.0.0/8", "via", "10.176.162.129")
    ip("route", "add", "default", "via", "10.176.162.130")
    for arguments in ("link add pod0 type veth peer name pod1", "link set pod0 up", "link set pod1 up"):
        ip(*arguments.split())
    ip("route", "add", "10.244.1.5/32", "dev", "pod0")
    ip("route", "add", "10.244.2.0/24", "via", "10.176.162.152")
    return lan


def gateways(lan: Lan) -> tuple[Namespace, Namespace]:
    """The overlay gateway and the private gateway; the far host is behind both."""
    overlay, private = lan.machine("overlay", "192.168.100.1/24"), lan.machine("private", "10.176.162.129/26")
    for each in (overlay, private):
        each.ip("address", "add", f"{FAR}/32", "dev", "lo")
        for link in ("all", "eth0"):
            each.sysctl(f"net.ipv4.conf.{link}.rp_filter", 0)
    return overlay, private


def answered_through(overlay: Namespace, private: Namespace) -> str:
    """The gateway that receives the answer to a packet from the overlay."""
    with ExitStack() as stack, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((OWN, PORT))
        server.settimeout(20)
        selector = stack.enter_context(selectors.DefaultSelector())
        for name, machine, arguments in (("private", private, ()), ("overlay", overlay, ("request",))):
            client = stack.enter_context(machine.popen(sys.executable, "-c", LISTEN, *arguments))
            stack.callback(client.kill)
            assert client.stdout
            assert client.stdout.readline() == "ready\n"
            selector.register(client.stdout, selectors.EVENT_READ, name)
        data, sender = server.recvfrom(99)
        server.sendto(data, sender)
        found = selector.select(20)
        assert found, "no gateway received the answer"
        return str(found[0][0].data)


async def test_answers_to_overlay_traffic_leave_through_the_overlay_gateway(node: Lan) -> None:
    overlay, private = gateways(node)
    async with Kernel(MARK) as kernel:
        await converge(kernel, desired())
        assert answered_through(overlay, private) == "private", "without source routing the main table decides"
        await converge(kernel, with_source_routing())
        assert answered_through(overlay, private) == "overlay"
        await converge(kernel, desired())
        assert answered_through(overlay, private) == "private"


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        (FAR, "tmp0 192.168.100.1"),
        ("8.8.8.8", "tmp0 192.168.100.1"),
        ("192.168.100.9", "tmp0 "),
        ("10.176.162.140", "eth0 "),
        ("10.244.1.5", "pod0 "),
        ("10.244.2.7", "eth0 10.176.162.152"),
        ("10.1.2.3", "tmp0 192.168.100.254"),
        ("11.1.2.3", "tmp0 192.168.100.254"),
    ],
)
async def test_route_of_packets_from_the_overlay_address(node: Lan, destination: str, expected: str) -> None:
    """Pods, neighbours and StaticRoutes are more specific; wide routes of the private network are suppressed."""
    async with Kernel(MARK) as kernel:
        static = (route("10.1.0.0/16", "192.168.100.254"), route("11.0.0.0/8", "192.168.100.254"))
        await converge(kernel, with_source_routing(*static))
    (found,) = json.loads(ip("-j", "route", "get", destination, "from", OWN))
    assert f"{found['dev']} {found.get('gateway', '')}" == expected


async def test_route_of_ipv6_packets_from_the_overlay_address(node: Lan) -> None:
    """Via the default route, via a specific route of the main table, and within the overlay subnet."""
    ip("address", "add", "fd00:7::2/64", "dev", "eth0", "nodad")
    for subnet in ("2000::/3", "2001:db8::/32"):
        ip("route", "add", subnet, "via", "fd00:7::1")
    state = with_source_routing(address="fd00:100::4/64", gateway="fd00:100::1")
    async with Kernel(MARK) as kernel:
        await converge(kernel, state)
        async with asyncio.timeout(20):
            while "tentative" in ip("-6", "address", "show", "tmp0"):
                await asyncio.sleep(0.02)
        await converge(kernel, state)
    destinations = ("2600::1", "2001:db8::1", "fd00:100::9")
    found = [json.loads(ip("-j", "-6", "route", "get", each, "from", "fd00:100::4"))[0] for each in destinations]
    routes = [f"{each['dev']} {each.get('gateway', '')}" for each in found]
    assert routes == ["tmp0 fd00:100::1", "eth0 fd00:7::1", "tmp0 "]
