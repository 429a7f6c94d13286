"""Each problem ends as soon as the kernel has what it waits for, long before the next resync."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_network

import pytest

from overlay_net.adapters.netlink import Kernel, Monitor
from overlay_net.agent.repairs import Repairs
from overlay_net.domain.kernel.desired import LinkConfig
from overlay_net.model.api import JsonObject, Listing
from overlay_net.model.conditions import find_condition
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.policy_rule import PrivateTable, SourceTable
from overlay_net.runtime.store import Store
from overlay_net.runtime.worker import Requeue, run_workers
from overlay_net.runtime.workqueue import WorkQueue
from tests.dataplane.conftest import MARK
from tests.dataplane.edge import OVERLAY, ROUTE, Edge, edge, make_config, netns, node_overlay_ip, require
from tests.fakes.agent import make_agent
from tests.fakes.background import background
from tests.fakes.netns import ip
from tests.fakes.until import until

__all__ = ["edge", "netns"]

CONFIG = make_config()
ROUTES_ONLY = replace(make_config("none"), fallback=ip_network("10.0.0.0/8"))
SOURCE_ROUTING = replace(make_config(), source=SourceTable(117, 11700, 8))
PRIVATE_ROUTING = replace(make_config(), private=PrivateTable(118, 11800))
DIRECT = {"subnet": "172.20.0.0/16", "staticRoute": "r", "gateways": [{"address": "172.30.0.1"}]}
IPV6 = {"subnet": "fd01::/64", "staticRoute": "r", "gateways": [{"address": "fd00:7::1"}]}


class Running:
    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.reconciliations = 0

    @property
    def reasons(self) -> set[str]:
        """Why something is not in place; empty: everything is, or nothing is reported yet."""
        return reasons(self.reports[-1]) if self.reports else set()

    async def calm(self) -> None:
        """Wait until every change of the kernel so far was handled."""
        # The end of duplicate address detection for link-local addresses wakes the agent.
        await until(lambda: "tentative" not in ip("-6", "address"))
        before = self.reconciliations
        ip("address", "add", "172.31.99.1/32", "dev", "lo")
        await until(lambda: self.reconciliations > before)


@asynccontextmanager
async def running(config: LinkConfig, overlay: JsonObject) -> AsyncIterator[Running]:
    """The agent with its monitor, pacing and queue, but without an API server; its resync is due after a minute."""
    store: Store[NodeOverlay] = Store(NodeOverlay.parse)
    store.replace(Listing((overlay,), "7"))
    found = Running()
    queue = WorkQueue()
    queue.add("n1")
    repairs = Repairs(lambda delay: queue.add_after("n1", delay), asyncio.get_running_loop().time)
    monitor = Monitor(MARK.protocol, repairs.schedule, repairs.schedule_for_foreign_route)
    async with Kernel(MARK, opened=monitor.ignore) as kernel:
        agent = make_agent(kernel, store, found.reports, config, MARK, follow_routes=monitor.follow)

        async def reconcile(name: str) -> Requeue:
            requeue = await agent.reconcile(name)
            found.reconciliations += 1
            return requeue

        async with background(monitor.run(), run_workers("agent", queue, reconcile, workers=1)):
            yield found


def reasons(report: Report) -> set[str]:
    """Why something is not in place; empty: everything is."""
    configured = find_condition(report.conditions, "Configured")
    assert configured is not None
    found = {failure.reason for failure in report.failures}
    return found | (set() if configured.status or configured.reason == "RoutesOnly" else {configured.reason})


@dataclass(frozen=True, slots=True)
class Case:
    reason: str
    before: tuple[str, ...]
    """Commands of ``ip`` that cause the problem."""
    change: tuple[str, ...]
    """Commands that end it."""
    routes: tuple[JsonObject, ...] = (ROUTE,)
    config: LinkConfig = CONFIG


FOREIGN = "route add 192.168.0.0/24 via 10.176.162.129 proto static"
SIX = ("-6 address add fd00:7::2/64 dev eth0 nodad", "-6 route add fd01::/64 via fd00:7::9 proto static")
CASES = {
    "a foreign route is deleted": Case("ForeignRoute", (FOREIGN,), ("route delete 192.168.0.0/24",)),
    "a foreign route with our metric and table is deleted": Case(
        "ForeignRoute",
        (f"{FOREIGN} metric 50 table 200", FOREIGN),
        ("route delete 192.168.0.0/24 metric 50 table 200",),
        ({**ROUTE, "metric": 50, "table": 200},),
    ),
    "a foreign route that rejects is deleted": Case(
        "ForeignRoute", ("route add unreachable 192.168.0.0/24",), ("route delete unreachable 192.168.0.0/24",)
    ),
    "a foreign IPv6 route is deleted": Case(
        "ForeignRoute", SIX, ("-6 route delete fd01::/64",), ({**IPV6, "gateways": [{"address": "fd00:7::9"}]},)
    ),
    "the link of a foreign route is deleted": Case(
        "ForeignRoute",
        ("link add other0 type bridge", "link set other0 up", "route add 192.168.0.0/24 dev other0 proto static"),
        ("link delete other0",),
    ),
    "the nexthop object of a foreign route is deleted": Case(
        "ForeignRoute",
        ("nexthop add id 7 via 10.176.162.129 dev eth0", "route add 192.168.0.0/24 nhid 7 proto static"),
        ("nexthop delete id 7",),
    ),
    "a foreign default route is deleted": Case(
        "ForeignRoute",
        ("route add default via 10.176.162.130",),
        ("route delete default",),
        ({**ROUTE, "subnet": "0.0.0.0/0"},),
    ),
    "the node gets a route to the fallback subnet": Case(
        "NoGateway",
        ("route delete 10.0.0.0/8",),
        ("route add 10.0.0.0/8 via 10.176.162.129",),
        ({**ROUTE, "gateways": []},),
        ROUTES_ONLY,
    ),
    "the node gets a default route": Case(
        "NoGateway",
        ("route delete 10.0.0.0/8",),
        ("route add default via 10.176.162.129 proto dhcp metric 100",),
        ({**ROUTE, "gateways": []},),
        ROUTES_ONLY,
    ),
    "the node gets a route to the address that selects its interface": Case(
        "ParentMissing",
        ("route delete 10.0.0.0/8",),
        ("route add 10.0.0.0/9 via 10.176.162.129",),
        config=make_config(parent="route:10.1.1.1"),
    ),
    "the interface appears": Case(
        "ParentMissing",
        ("link set eth0 down", "link set eth0 name eth5"),
        ("link set eth5 name eth0", "link set eth0 up"),
    ),
    "a foreign link gets another name": Case(
        "LinkNameTaken", ("link add tmp0 type bridge",), ("link set tmp0 name other0",)
    ),
    "a foreign link is deleted": Case("LinkNameTaken", ("link add tmp0 type bridge",), ("link delete tmp0",)),
    "the node gets an address in the subnet of the gateway": Case(
        "GatewayNotOnLink", (), ("address add 172.30.0.9/24 dev eth0",), (DIRECT,)
    ),
    "a foreign route leaves the table of source routing": Case(
        "SourceTableTaken",
        ("route add default via 10.176.162.129 table 117 proto static",),
        ("route delete default table 117",),
        config=SOURCE_ROUTING,
    ),
    "the node gets a default route for its private addresses": Case(
        "NoPrivateGateway",
        ("route delete 10.0.0.0/8",),
        ("route add default via 10.176.162.129 proto dhcp",),
        config=PRIVATE_ROUTING,
    ),
    "a foreign copy of a wide route leaves the table of source routing": Case(
        "SourceTableTaken",
        ("route add 172.0.0.0/8 via 10.176.162.129 table 117 proto static",),
        ("route delete 172.0.0.0/8 table 117",),
        ({**ROUTE, "subnet": "172.0.0.0/8"},),
        SOURCE_ROUTING,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_what_a_problem_waits_for_ends_it(edge: Edge, case: Case) -> None:
    require("macvlan")
    for command in case.before:
        ip(*command.split())
    overlay = node_overlay_ip(str(OVERLAY), *case.routes)
    overlay["status"]["gateway"] = "192.168.100.1"
    if case.config.mode == "none":
        overlay["spec"]["routesOnly"] = True
    async with running(case.config, overlay) as agent:
        await until(lambda: case.reason in agent.reasons)
        await agent.calm()
        for command in case.change:
            ip(*command.split())
        await until(lambda: not agent.reasons)


async def test_routes_follow_the_nodes_own_gateway_at_once(edge: Edge) -> None:
    overlay = node_overlay_ip(None, {**ROUTE, "gateways": []})
    overlay["spec"]["routesOnly"] = True
    async with running(ROUTES_ONLY, overlay) as agent:
        await until(lambda: bool(agent.reports) and not agent.reasons)
        await agent.calm()
        ip("route", "replace", "10.0.0.0/8", "via", "10.176.162.130")
        await until(lambda: "via 10.176.162.130" in ip("route", "show", "192.168.0.0/24"))


async def test_a_route_that_another_program_put_before_ours_does_not_stay_unnoticed(edge: Edge) -> None:
    """The kernel notifies of it as of any foreign route: without the flag of a replacement."""
    require("macvlan")
    wakes: list[str] = []
    monitor = Monitor(MARK.protocol, lambda: wakes.append("ours"), lambda: wakes.append("foreign"))
    store: Store[NodeOverlay] = Store(NodeOverlay.parse)
    store.replace(Listing((node_overlay_ip(str(OVERLAY), ROUTE),), "7"))
    async with Kernel(MARK, opened=monitor.ignore) as kernel:
        reports: list[Report] = []
        await make_agent(kernel, store, reports, make_config(), MARK, follow_routes=monitor.follow).reconcile("n1")
        assert not reasons(reports[-1])
        task = asyncio.create_task(monitor.run())
        await until(lambda: bool(wakes))
        ip("route", "prepend", "192.168.0.0/24", "via", "10.176.162.129", "proto", "static")
        await until(lambda: "foreign" in wakes)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
