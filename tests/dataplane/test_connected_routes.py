"""What the kernel derives from the overlay address, changed by other processes: the agent restores or reports it."""

import asyncio
import contextlib
import json
import subprocess
from ipaddress import ip_interface
from pathlib import Path

import pytest

from overlay_net.adapters.netlink import Kernel
from overlay_net.model.conditions import find_condition
from overlay_net.model.node_report import Report
from tests.dataplane.conftest import MARK
from tests.dataplane.edge import NODE_IP, OVERLAY, ROUTE, Edge, edge, make_config, netns, node_overlay_ip, require
from tests.dataplane.test_agent import running
from tests.fakes.netns import ip
from tests.fakes.until import until

__all__ = ["edge", "netns"]

V6 = ip_interface("fd00:100::4/64")
ROUTE_V6 = {"subnet": "fd00:1::/48", "staticRoute": "r", "gateways": [{"address": "fd00:100::1"}]}
OBJECTS = {4: node_overlay_ip(str(OVERLAY), ROUTE), 6: node_overlay_ip(str(V6), ROUTE_V6)}


def routes_over(link: str) -> set[str]:
    """Our routes over a link, and those that the kernel derived from our address, except for broadcasts."""
    lines = [*ip("route", "show", "table", "all", "dev", link).splitlines()]
    lines += ip("-6", "route", "show", "table", "all", "dev", link).splitlines()
    derived = tuple(f"{start} " for each in (OVERLAY, V6) for start in (each.network, f"local {each.ip}"))
    return {" ".join(line.split()) for line in lines if line.startswith(derived) or "proto 117" in line}


def shows(reports: list[Report], kind: str, reason: str) -> bool:
    found = find_condition(reports[-1].conditions, kind) if reports else None
    return found is not None and found.reason == reason


def chosen(address: str) -> tuple[str, str]:
    """Link and source of a packet to an address; empty if there is no route."""
    with contextlib.suppress(subprocess.CalledProcessError):
        (found,) = json.loads(ip("-j", "route", "get", address))
        return found["dev"], found["prefsrc"]
    return "", ""


@pytest.mark.parametrize("mode", ["macvlan", "address"])
@pytest.mark.parametrize(
    ("version", "change"),
    [
        (4, "route flush dev LINK"),
        (4, "route delete 192.168.100.0/24 dev LINK"),
        (4, "route delete local 192.168.100.4 dev LINK table local"),
        (4, "route flush table all 192.168.100.0/24"),
        (6, "-6 route flush dev LINK"),
        (6, "-6 route delete fd00:100::/64 dev LINK"),
        (6, "-6 route delete local fd00:100::4 dev LINK table local"),
        (6, "-6 route flush dev LINK table all"),
    ],
)
async def test_derived_routes_that_another_process_deletes_are_restored(
    edge: Edge, mode: str, version: int, change: str
) -> None:
    require("macvlan")
    edge.gateway.ip("address", "add", "fd00:100::1/64", "dev", "inner")
    link = "tmp0" if mode == "macvlan" else "eth0"
    async with Kernel(MARK) as kernel, running(kernel, make_config(mode), OBJECTS[version]) as reports:
        await until(lambda: shows(reports, "Ready", "Ready"))
        before = routes_over(link)
        assert len(before) == 3
        for _ in range(3):
            ip(*change.replace("LINK", link).split())
            await until(lambda: before <= routes_over(link) and shows(reports, "Ready", "Ready"))


async def test_routes_that_are_flushed_again_and_again_are_restored_when_that_ends(edge: Edge) -> None:
    require("macvlan")
    async with Kernel(MARK) as kernel, running(kernel, make_config(), OBJECTS[4]) as reports:
        await until(lambda: shows(reports, "Ready", "Ready"))
        before = routes_over("tmp0")
        for _ in range(30):
            ip("route", "flush", "dev", "tmp0")
            await asyncio.sleep(0)
        await until(lambda: before <= routes_over("tmp0") and shows(reports, "Ready", "Ready"))


async def test_route_of_another_process_in_place_of_the_connected_one_is_reported_and_kept(edge: Edge) -> None:
    require("macvlan")
    async with Kernel(MARK) as kernel, running(kernel, make_config(), OBJECTS[4]) as reports:
        await until(lambda: shows(reports, "Ready", "Ready"))
        ip("route", "replace", "192.168.100.0/24", "dev", "eth0")
        await until(lambda: shows(reports, "Configured", "ConnectedRouteShadowed"))
        assert chosen("192.168.100.200")[0] == "eth0"
        assert shows(reports, "Ready", "NotConfigured")


@pytest.mark.parametrize("version", [4, 6])
async def test_address_added_while_ours_was_missing_is_reported_until_it_is_removed(edge: Edge, version: int) -> None:
    require("macvlan")
    ours, theirs = {4: (OVERLAY, "192.168.100.77/24"), 6: (V6, "fd00:100::77/64")}[version]
    async with Kernel(MARK) as kernel, running(kernel, make_config(), OBJECTS[version]) as reports:
        await until(lambda: shows(reports, "Ready", "Ready"))
    if version == 4:
        ip("address", "delete", str(ours), "dev", "tmp0")
    ip("address", "add", theirs, "dev", "tmp0", *(["nodad"] if version == 6 else []))
    async with Kernel(MARK) as kernel, running(kernel, make_config(), OBJECTS[version]) as reports:
        await until(lambda: shows(reports, "Configured", "AddressNotPreferred"))
        assert shows(reports, "Ready", "NotConfigured")
        assert theirs in ip("address", "show", "dev", "tmp0")
        ip("address", "delete", theirs, "dev", "tmp0")
        await until(lambda: shows(reports, "Ready", "Ready"))
        assert chosen("192.168.100.200" if version == 4 else "fd00:100::200") == ("tmp0", str(ours.ip))


def node_in_the_overlay_subnet() -> None:
    ip("address", "add", "192.168.100.7/24", "dev", "eth0")
    ip("address", "add", "fd00:100::7/64", "dev", "eth0", "nodad")


@pytest.mark.parametrize("version", [4, 6])
async def test_traffic_of_a_node_in_the_overlay_subnet_keeps_its_link_after_flaps(edge: Edge, version: int) -> None:
    require("macvlan")
    ip("link", "set", "eth0", "addrgenmode", "none")
    node_in_the_overlay_subnet()
    neighbour, own, remote, overlay = {
        4: ("192.168.100.200", "192.168.100.7", "192.168.0.10", str(OVERLAY.ip)),
        6: ("fd00:100::200", "fd00:100::7", "fd00:1::10", str(V6.ip)),
    }[version]

    def separate() -> bool:
        return (chosen(neighbour), chosen(remote)) == (("eth0", own), ("tmp0", overlay))

    async with Kernel(MARK) as kernel, running(kernel, make_config(), OBJECTS[version]) as reports:
        await until(lambda: shows(reports, "Ready", "Ready"))
        assert separate()
        for link in ("eth0", "tmp0", "eth0"):
            ip("link", "set", link, "down")
            ip("link", "set", link, "up")
            if version == 6 and link == "eth0":
                # The kernel removes IPv6 addresses from a link that goes down.
                ip("address", "replace", "fd00:100::7/64", "dev", "eth0", "nodad")
            await until(lambda: separate() and shows(reports, "Ready", "Ready"))


def promote_secondaries() -> None:
    Path("/proc/sys/net/ipv4/conf/eth0/promote_secondaries").write_text("1")


async def test_address_of_the_node_stays_the_primary_one_on_its_interface(edge: Edge) -> None:
    """With link_mode ``address``, when DHCP removes the address of the node and adds it again."""
    found = node_overlay_ip("10.176.162.140/26", {**ROUTE, "gateways": [{"address": "10.176.162.129"}]})
    promote_secondaries()
    async with Kernel(MARK) as kernel, running(kernel, make_config("address"), found) as reports:
        await until(lambda: shows(reports, "Ready", "Ready"))
        assert chosen("10.176.162.150") == ("eth0", NODE_IP)
        ip("address", "delete", f"{NODE_IP}/26", "dev", "eth0")
        ip("address", "add", f"{NODE_IP}/26", "dev", "eth0")
        await until(lambda: chosen("10.176.162.150") == ("eth0", NODE_IP))
        await until(lambda: chosen("192.168.0.10") == ("eth0", "10.176.162.140"))
        await until(lambda: shows(reports, "Ready", "Ready"))
