"""Policy rules through netlink as `ip` sees them, and where packets from the overlay address go."""

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
from overlay_net.adapters.netlink.rule_messages import encode_rule, parse_rule
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel import Desired
from overlay_net.model.policy_rule import AddPolicyRule, DeletePolicyRule, PolicyRule, SourceRouting, SourceTable
from tests.dataplane.conftest import LINKS, MARKS
from tests.dataplane.neighbours import Lan, lan
from tests.dataplane.test_netlink import converge, desired, route
from tests.fakes.netns import ip

__all__ = ["lan"]

OWN = "192.168.100.4"
PORT = 7117


def wish(*routes: DesiredRoute, address: str = f"{OWN}/24", gateway: str = "192.168.100.1") -> Desired:
    return replace(
        desired(*routes, address=address),
        source=SourceRouting(SourceTable(117, 11700, 8), ip_address(gateway)),
    )


def shown(family: str = "-4") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ip(family, "-j", "-d", "-N", "rule"))
    return found


# --- The codec -------------------------------------------------------------------------------------------------------


def some_rules(version: int) -> Iterator[PolicyRule]:
    chance = random.Random(version)
    sources = ("172.31.0.0/24", "192.168.100.4/32") if version == 4 else ("2001:db8::/48", "2001:db8::4/128")
    for number in range(40):
        source = chance.choice((None, *sources))
        yield PolicyRule(
            4 if version == 4 else 6,
            1000 + number,
            ip_network(source) if source else None,
            chance.choice((7, 117, 254, 256, 2**32 - 1)),
            chance.choice((117, 186)),
            chance.choice((None, 0, 8)),
        )


def as_ip_shows(each: PolicyRule) -> dict[str, Any]:
    entry: dict[str, Any] = {"priority": each.priority, "src": "all", "table": str(each.table)}
    if each.source is not None:
        entry["src"] = str(each.source.network_address)
        if each.source.prefixlen < each.source.max_prefixlen:
            entry["srclen"] = each.source.prefixlen
    if each.suppress is not None:
        entry["suppress_prefixlen"] = each.suppress
    return entry | {"protocol": str(each.protocol)}


@pytest.mark.parametrize("version", [4, 6])
async def test_rules_are_written_and_read_as_ip_shows_them(kernel: Kernel, version: int) -> None:
    wanted = list(some_rules(version))
    for each in wanted:
        await kernel.apply(AddPolicyRule(each))
    assert [as_ip_shows(each) for each in wanted] == [
        each for each in shown(f"-{version}") if each["priority"] in range(1000, 2000)
    ]
    observed = await kernel.observe(LINKS)
    assert [each for each in observed.rules if each in wanted] == wanted
    for each in wanted:
        await kernel.apply(DeletePolicyRule(each))
        await kernel.apply(DeletePolicyRule(each))
    assert not [each for each in shown(f"-{version}") if each["priority"] in range(1000, 2000)]


@pytest.mark.parametrize(
    "words",
    [
        "from 192.168.100.4 iif eth0 lookup 117",
        "from 192.168.100.4 to 10.0.0.0/8 lookup 117",
        "from 192.168.100.4 fwmark 7 lookup 117",
        "from 192.168.100.4 tos 0x10 lookup 117",
        "from 192.168.100.4 ipproto tcp lookup 117",
        "from 192.168.100.4 blackhole",
        "from 192.168.100.4 goto 32766",
        "not from 192.168.100.4 lookup 117",
        "from 192.168.100.4 lookup 117 suppress_ifgroup 7",
    ],
)
async def test_what_a_rule_of_ours_never_says_makes_it_another_one(kernel: Kernel, words: str) -> None:
    ip("rule", "add", *words.split(), "priority", "11701", "protocol", "117")
    (found,) = [each for each in (await kernel.observe(LINKS)).rules if each.priority == 11701]
    assert not found.plain
    before = shown()
    await converge(kernel, wish())
    assert len([each for each in shown() if each["protocol"] == "117"]) == 2, "it had our mark, and nobody wants it"
    assert shown() != before
    await converge(kernel, Desired())
    assert not [each for each in shown() if each["protocol"] == "117"]


def test_a_rule_of_another_family_is_none() -> None:
    assert parse_rule(bytes([socket.AF_INET6 + 118]) + bytes(11)) is None
    one = PolicyRule(4, 5, ip_network("10.0.0.0/8"), 300, 117, 0)
    assert parse_rule(encode_rule(one)) == one


async def test_other_peoples_rules_stay_even_where_they_say_the_same(kernel: Kernel) -> None:
    for words in (
        f"from {OWN} lookup 117 priority 11701",
        f"from {OWN} lookup 117 priority 11700 protocol 186",
        "from 172.31.0.0/24 lookup 117 priority 11701",
        f"from {OWN} lookup main suppress_prefixlength 8 priority 11702",
    ):
        ip("rule", "add", *words.split())
    before = shown()
    plan = await converge(kernel, wish())
    assert not plan.problems
    assert [each for each in shown() if each["protocol"] != "117"] == before
    assert [each["priority"] for each in shown() if each["protocol"] == "117"] == [11700, 11701]
    await converge(kernel, Desired())
    assert shown() == before


async def test_a_rule_that_somebody_deleted_comes_back_and_a_setting_switched_off_leaves_nothing(
    kernel: Kernel,
) -> None:
    before = shown()
    await converge(kernel, wish(route("192.168.0.0/24")))
    made = shown()
    assert made != before
    ip("rule", "delete", "priority", "11700")
    ip("route", "delete", "default", "table", "117")
    await converge(kernel, wish(route("192.168.0.0/24")))
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
"""A host of an on-premise network behind the overlay gateway, which the main table looks for at the private gateway."""
LISTEN = f"""
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(({FAR!r}, {PORT}))
print("ready", flush=True)
if sys.argv[1:]:
    s.sendto(b"ask", ({OWN!r}, {PORT}))
s.recv(99)
print("answer", flush=True)
"""


@pytest.fixture
def node(lan: Lan) -> Lan:
    """As on a cloud: everything of 10/8 goes to the private gateway, everything else to a public one."""
    ip("link", "delete", "tmp0")
    ip("address", "add", "10.176.162.151/26", "dev", "eth0")
    ip("route", "add", "10.0.0.0/8", "via", "10.176.162.129")
    ip("route", "add", "default", "via", "10.176.162.130")
    for words in ("link add pod0 type veth peer name pod1", "link set pod0 up", "link set pod1 up"):
        ip(*words.split())
    ip("route", "add", "10.244.1.5/32", "dev", "pod0")
    ip("route", "add", "10.244.2.0/24", "via", "10.176.162.152")
    return lan


def gateways(lan: Lan) -> tuple[Namespace, Namespace]:
    """The overlay's and the private network's; the far host is behind both."""
    overlay, private = lan.machine("overlay", "192.168.100.1/24"), lan.machine("private", "10.176.162.129/26")
    for each in (overlay, private):
        each.ip("address", "add", f"{FAR}/32", "dev", "lo")
        for link in ("all", "eth0"):
            each.sysctl(f"net.ipv4.conf.{link}.rp_filter", 0)
    return overlay, private


def answered_through(overlay: Namespace, private: Namespace) -> str:
    """Which gateway gets the answer to a packet that came in on the overlay."""
    with ExitStack() as stack, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((OWN, PORT))
        server.settimeout(20)
        chosen = stack.enter_context(selectors.DefaultSelector())
        for name, machine, words in (("private", private, ()), ("overlay", overlay, ("ask",))):
            client = stack.enter_context(machine.popen(sys.executable, "-c", LISTEN, *words))
            stack.callback(client.kill)
            assert client.stdout
            assert client.stdout.readline() == "ready\n"
            chosen.register(client.stdout, selectors.EVENT_READ, name)
        data, sender = server.recvfrom(99)
        server.sendto(data, sender)
        found = chosen.select(20)
        assert found, "nobody got the answer"
        return str(found[0][0].data)


async def test_what_came_in_on_the_overlay_leaves_on_it(node: Lan) -> None:
    overlay, private = gateways(node)
    async with Kernel(MARKS) as kernel:
        await converge(kernel, desired())
        assert answered_through(overlay, private) == "private", "without the setting the main table answers"
        await converge(kernel, wish())
        assert answered_through(overlay, private) == "overlay"
        await converge(kernel, desired())
        assert answered_through(overlay, private) == "private"


@pytest.mark.parametrize(
    ("destination", "way"),
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
async def test_where_packets_from_the_overlay_address_go(node: Lan, destination: str, way: str) -> None:
    """Pods, neighbours and StaticRoutes are more specific; the private network's wide routes do not count."""
    async with Kernel(MARKS) as kernel:
        static = (route("10.1.0.0/16", "192.168.100.254"), route("11.0.0.0/8", "192.168.100.254"))
        await converge(kernel, wish(*static))
    (found,) = json.loads(ip("-j", "route", "get", destination, "from", OWN))
    assert f"{found['dev']} {found.get('gateway', '')}" == way


async def test_ipv6_packets_from_the_overlay_address(node: Lan) -> None:
    """Beyond both, in a specific route of the main table, and in the overlay subnet."""
    ip("address", "add", "fd00:7::2/64", "dev", "eth0", "nodad")
    for subnet in ("2000::/3", "2001:db8::/32"):
        ip("route", "add", subnet, "via", "fd00:7::1")
    wished = wish(address="fd00:100::4/64", gateway="fd00:100::1")
    async with Kernel(MARKS) as kernel:
        await converge(kernel, wished)
        async with asyncio.timeout(20):
            while "tentative" in ip("-6", "address", "show", "tmp0"):
                await asyncio.sleep(0.02)
        await converge(kernel, wished)
    destinations = ("2600::1", "2001:db8::1", "fd00:100::9")
    found = [json.loads(ip("-j", "-6", "route", "get", each, "from", "fd00:100::4"))[0] for each in destinations]
    ways = [f"{each['dev']} {each.get('gateway', '')}" for each in found]
    assert ways == ["tmp0 fd00:100::1", "eth0 fd00:7::1", "tmp0 "]
