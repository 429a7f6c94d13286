"""The cluster of the benchmark `scale` between changes: single reports, joining nodes, idle time, a restart."""

import math
import time
from statistics import median

from lab.bench.measure import Row, count_requests, count_writes, list_requests, prefer
from lab.bench.scale_cluster import Cluster
from lab.bench.scale_text import block, memory, ms, row

REPORTS = 20
IDLE_SECONDS = 60.0
SETTLED = 3.0
"""Seconds without work in any queue."""


def reports(cluster: Cluster, _: int, __: list[str]) -> list[Row]:
    """A route fails on a node, and is in place again."""
    idle, before = cluster.idle_usage(), cluster.usage()
    for name in cluster.nodes[:REPORTS]:
        for failing in (frozenset({"route-0"}), frozenset()):
            cluster.agents.call("fail", name, failing)
            time.sleep(0.2)
    cluster.settle()
    used = cluster.usage().since(before).net(idle)
    cost = used.controller / (2 * REPORTS)
    return [row("controller CPU of one node's report", ms(cost), "goal 20 ms")]


def join(cluster: Cluster, count: int, joining: list[str]) -> list[Row]:
    seconds = []
    for name in joining:
        began = time.monotonic()
        cluster.create_nodes([name])
        seconds.append(cluster.wait_routes(count, [name])[1] - began)
    cluster.settle()
    return [row("a node joins", f"{median(seconds):.3f} s", f"at most {max(seconds):.3f} s")]


def idle(cluster: Cluster, _: int, __: list[str]) -> list[Row]:
    writes, before = count_requests(cluster.api_server), cluster.usage()
    time.sleep(IDLE_SECONDS)
    used, writes = cluster.usage().since(before), count_requests(cluster.api_server) - writes
    share = used.controller / used.at
    return [
        row(f"{IDLE_SECONDS:.0f} idle seconds: writes", str(count_writes(writes)), f"goal 0; {list_requests(writes)}"),
        row("  controller CPU", f"{100 * share:.2f} % of a core", "goal 1 %"),
        row("  API-server CPU, with the agents' Leases", f"{100 * used.server / used.at:.1f} % of a core"),
    ]


def restart(cluster: Cluster, _: int, __: list[str]) -> list[Row]:
    longest, peak = block(cluster), memory(cluster)
    controller = cluster.product.controller
    assert controller is not None
    controller.terminate()
    controller.start()
    prefer(controller.pid)
    before = cluster.usage()
    cluster.product.wait_controller()
    last, used, added = time.monotonic(), cluster.usage(), -math.inf
    while time.monotonic() - last < SETTLED:
        now = cluster.queue_adds()
        if now != added:
            last, used, added = time.monotonic(), cluster.usage(), now
        time.sleep(0.2)
    used = used.since(before)
    return [
        row("longest block of the loop", longest, "goal 50 ms"),
        row("controller's peak memory", peak, "goal 256 MiB"),
        row("a restarted controller has settled", f"{used.at:.1f} s", f"{used.controller:.1f} s of its CPU"),
        row("  API-server CPU", f"{used.server:.1f} s"),
        row("  longest block of the loop", block(cluster), "goal 50 ms"),
        row("  controller's peak memory", memory(cluster), "goal 256 MiB"),
    ]
