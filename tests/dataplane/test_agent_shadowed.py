"""The agent reports that traffic of its routes takes another path, as an on-premise host observes it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from overlay_net.adapters.netlink import Kernel, Monitor
from overlay_net.agent.shadow_watch import ShadowWatch
from overlay_net.model.api import Listing
from overlay_net.model.conditions import find_condition
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.runtime.store import Store
from overlay_net.runtime.worker import run_workers
from overlay_net.runtime.workqueue import WorkQueue
from tests.dataplane.conftest import MARK
from tests.dataplane.edge import (
    NODE_IP,
    OVERLAY,
    ROUTE,
    Edge,
    edge,
    make_config,
    netns,
    node_overlay_ip,
    observed_source,
    require,
)
from tests.fakes.agent import make_agent
from tests.fakes.background import background
from tests.fakes.netns import ip
from tests.fakes.until import until

__all__ = ["edge", "netns"]


@asynccontextmanager
async def running() -> AsyncIterator[list[Report]]:
    """The agent with its monitor, queue and lookups, but without an API server."""
    store: Store[NodeOverlay] = Store(NodeOverlay.parse)
    store.replace(Listing((node_overlay_ip(str(OVERLAY), ROUTE),), "7"))
    reports: list[Report] = []
    queue = WorkQueue()
    monitor = Monitor(MARK.protocol, lambda: queue.add_after("n1", 0.005))
    async with Kernel(MARK, opened=monitor.ignore) as kernel:
        watch = ShadowWatch(kernel, MARK, lambda: queue.add("n1"), asyncio.get_running_loop().time)
        monitor.watch_routing(watch.kernel_changed)
        agent = make_agent(kernel, store, reports, make_config(), MARK, shadows=watch)
        async with background(monitor.run(), watch.run(), run_workers("agent", queue, agent.reconcile, workers=1)):
            yield reports


def ready(reports: list[Report]) -> tuple[bool | None, str]:
    found = find_condition(reports[-1].conditions, "Ready") if reports else None
    return (found.status, found.reason) if found else (None, "")


@pytest.mark.parametrize(
    ("added", "winner"),
    [
        (
            ("route add 192.168.0.0/28 via 10.176.162.129",),
            "192.168.0.0/28 via 10.176.162.129 on eth0 (protocol 3, metric 0)",
        ),
        (
            ("route add default via 10.176.162.129 table 52", "rule add lookup 52 priority 5270"),
            "0.0.0.0/0 via 10.176.162.129 on eth0 (protocol 3, metric 0, table 52, policy rule 5270)",
        ),
    ],
    ids=["longer prefix", "policy rule"],
)
async def test_node_is_not_ready_while_its_traffic_takes_the_route_of_another_process(
    edge: Edge, added: tuple[str, ...], winner: str
) -> None:
    require("macvlan")
    async with running() as reports:
        await until(lambda: ready(reports) == (True, "Ready"), "the route is in place and used")
        assert observed_source() == str(OVERLAY.ip)
        for each in added:
            ip(*each.split())
        assert observed_source() == NODE_IP, "the traffic takes another path"
        await until(lambda: ready(reports) == (False, "RoutesFailing"), "the report names the route")
        (failure,) = reports[-1].failures
        assert failure.reason == "Shadowed"
        assert f"not used: {winner} takes precedence" in failure.message
        for each in reversed(added):
            ip(*each.replace(" add ", " delete ").split())
        assert observed_source() == str(OVERLAY.ip)
        await until(lambda: ready(reports) == (True, "Ready"), "the node is ready again")
        assert reports[-1].failures == ()
