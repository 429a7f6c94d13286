"""What a network manager of the node removes when it starts or configures an interface again: the agent restores it."""

import json
from collections.abc import Iterable
from dataclasses import replace

import pytest

from overlay_net.adapters.netlink import Kernel
from overlay_net.model.policy_rule import PrivateTable, SourceTable
from tests.dataplane.conftest import MARK
from tests.dataplane.edge import NODE_IP, OVERLAY, ROUTE, Edge, edge, make_config, netns, node_overlay_ip, require
from tests.dataplane.test_agent import running
from tests.dataplane.test_connected_routes import shows
from tests.fakes.netns import ip
from tests.fakes.until import until

__all__ = ["edge", "netns"]


def shown(*command: str, keys: Iterable[str]) -> list[list[object]]:
    return [[each.get(key) for key in keys] for each in json.loads(ip("-j", "-d", "-N", *command))]


def managed() -> tuple[list[list[object]], ...]:
    """Our routes and policy rules, and the addresses of all links."""
    routes = shown("route", "show", "table", "all", "proto", "117", keys=("dst", "gateway", "dev", "table", "prefsrc"))
    rules = shown("rule", keys=("priority", "src", "table", "protocol"))
    addresses = [
        [link["ifname"], each["local"], each["prefixlen"]]
        for link in json.loads(ip("-j", "-4", "address"))
        for each in link["addr_info"]
    ]
    return sorted(routes, key=str), rules, addresses


@pytest.mark.parametrize("mode", ["macvlan", "address"])
async def test_what_systemd_networkd_removes_at_its_restart_is_restored(edge: Edge, mode: str) -> None:
    """All addresses and routes of its interfaces, and all policy rules, that it has not configured itself."""
    require("macvlan")
    found = node_overlay_ip(str(OVERLAY), ROUTE)
    found["status"]["gateway"] = "192.168.100.1"
    private = PrivateTable(118, 11720) if mode == "macvlan" else None
    config = replace(make_config(mode), source=SourceTable(117, 11700, 8), private=private)
    async with Kernel(MARK) as kernel, running(kernel, config, found) as reports:
        await until(lambda: shows(reports, "Ready", "Ready"))
        before = managed()
        assert {each[3] for each in before[1]} == {"2", "117"}, "there are rules"
        for _ in range(3):
            for priority, _, _, protocol in before[1]:
                if protocol == "117":
                    ip("rule", "delete", "priority", str(priority))
            ip("route", "flush", "table", "all", "proto", "117")
            ip("address", "flush", "dev", "eth0", "scope", "global")
            ip("address", "add", f"{NODE_IP}/26", "dev", "eth0")
            ip("route", "add", "10.0.0.0/8", "via", "10.176.162.129")
            await until(lambda: managed() == before and shows(reports, "Ready", "Ready"))
