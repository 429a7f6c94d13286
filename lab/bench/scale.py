"""What one more StaticRoute costs with many nodes and routes: CPU, bytes, seconds, memory, and the controller's loop.

Everything is real but the agents: they are simulated in a process of their own (`lab/agents`), which loads this machine
as the API server does. CPU is without what the cluster uses while it is idle, such as for Leases.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from lab.bench.measure import Row, Size, count_requests, count_writes, list_requests
from lab.bench.scale_cluster import Cluster, Usage, running
from overlay_net.model.names import NODE_OVERLAY_IPS

NODES = 1000
ROUTES = 1000
SAMPLES = 3
JOINING = 10
REPORTS = 20
QUIET_SECONDS = 10.0
IDLE_SECONDS = 60.0
SETTLED = 3.0


@dataclass(frozen=True, slots=True)
class Change:
    """What one more StaticRoute took."""

    placed: float
    """Seconds until the last node had the route."""
    reported: float
    counted: float
    """Seconds until the status of the StaticRoute counted all nodes."""
    used: Usage
    sent: float
    """Bytes that a node sent, and received."""
    received: float
    stored: float


def bench_scale(directory: Path, size: Size) -> list[Row]:
    nodes, routes = size.nodes or NODES, size.routes or ROUTES
    names = [f"node-{number}" for number in range(nodes)]
    joining = [f"joining-{number}" for number in range(JOINING)]
    began = time.monotonic()

    def progress(text: str) -> None:
        print(f"scale: {time.monotonic() - began:6.1f} s  {text}", flush=True)

    with running(directory, [*names, *joining]) as cluster:
        progress(f"{nodes} agents are running")
        rows = [_populate(cluster, names)]
        cluster.make_bare()
        present = 0
        costs = {}
        for count in _sizes(routes):
            progress(f"{count} StaticRoutes")
            cluster.create_routes(range(present, count))
            cluster.wait_routes(count)
            cluster.settle()
            present = count
            changes, bare = _measure(cluster, count)
            costs[count] = median(change.used.server for change in changes) / nodes
            rows += _rows(cluster, count, changes, bare, costs)
        for part in (_reports, _join, _idle, _restart):
            progress(part.__name__[1:])
            rows += part(cluster, present, joining)
        rows.append(_row("the lease was lost", f"{cluster.leases_lost()} times", "goal 0"))
        progress("complete")
    return rows


def _sizes(routes: int) -> Iterable[int]:
    return [*(each for each in (10, 100, 1000) if each < routes), routes]


def _row(what: str, measured: str, ratio: str = "") -> Row:
    return "scale", what, measured, ratio


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.2f} ms"


# --- One more StaticRoute ---------------------------------------------------------------------------------------------


def _populate(cluster: Cluster, names: list[str]) -> Row:
    began = time.monotonic()
    cluster.create_nodes(names)
    _, ready = cluster.wait_routes(0)
    cluster.settle()
    return _row(f"{len(names)} nodes of 20 kB join", f"{ready - began:.1f} s", f"peak {_memory(cluster)}")


def _measure(cluster: Cluster, count: int) -> tuple[list[Change], float]:
    before = cluster.usage()
    time.sleep(QUIET_SECONDS)
    idle = cluster.usage().since(before)
    changes = [_one_more(cluster, count, idle) for _ in range(SAMPLES)]
    template = cluster.api_server.get(NODE_OVERLAY_IPS.plural, cluster.nodes[0])
    cluster.agents.call("create_bare", template, len(cluster.nodes))
    bare = median(cluster.agents.call("write_bare", 100 + sample) for sample in range(SAMPLES))
    return changes, bare


def _one_more(cluster: Cluster, count: int, idle: Usage) -> Change:
    nodes = len(cluster.nodes)
    bytes_before, stored, before = cluster.agents.call("traffic"), cluster.stored(), cluster.usage()
    began = cluster.create_routes([count])
    placed, reported = cluster.wait_routes(count + 1)
    counted = cluster.wait_status(count)
    used = cluster.usage().since(before).net(idle)
    stored = cluster.stored() - stored
    bytes_after = cluster.agents.call("traffic")
    sent, received = (
        sum(each[way] - bytes_before.get(port, (0, 0))[way] for port, each in bytes_after.items()) for way in (0, 1)
    )
    cluster.delete_route(count)
    cluster.wait_routes(count)
    cluster.settle()
    return Change(
        placed - began, reported - began, counted - began, used, sent / nodes, received / nodes, stored / nodes
    )


def _rows(cluster: Cluster, count: int, changes: list[Change], bare: float, costs: dict[int, float]) -> list[Row]:
    nodes = len(cluster.nodes)

    def middle(what: str) -> float:
        return float(median(getattr(change, what) for change in changes))

    def cpu(who: str) -> float:
        return float(median(getattr(change.used, who) for change in changes)) / nodes

    reported, ratio = middle("reported"), costs[count] / costs[min(costs)]
    return [
        _row(f"{count} routes and one more, {nodes} nodes", "", ""),
        _row("  API-server CPU per node", _ms(cpu("server")), f"{ratio:.2f} of the first, goal 1.5"),
        _row("  etcd CPU per node", _ms(cpu("etcd"))),
        _row("  controller CPU per node", _ms(cpu("controller"))),
        _row(
            "  bytes received, sent and stored per node",
            " ".join(f"{middle(each):,.0f}" for each in ("received", "sent", "stored")),
        ),
        _row("  one bare status write of each node", f"{bare:.2f} s", "1.00"),
        _row("  on the last node", f"{middle('placed'):.2f} s", f"{middle('placed') / bare:.2f}"),
        _row("  reported by the last node", f"{reported:.2f} s", f"{reported / bare:.2f}, goal 1.5"),
        _row("  counted in its status", f"{middle('counted'):.2f} s", f"{middle('counted') / bare:.2f}"),
        _row("  simulated agents' CPU per node", _ms(cpu("agents"))),
        _row("  longest block of the loop so far", _block(cluster), "goal 50 ms"),
        _row("  controller's peak memory so far", _memory(cluster), "goal 256 MiB"),
    ]


def _block(cluster: Cluster) -> str:
    return ", ".join(f"{clock} {_ms(seconds)}" for clock, seconds in cluster.longest_block().items())


def _memory(cluster: Cluster) -> str:
    return f"{cluster.peak_memory() / 1024:.0f} MiB"


# --- The rest ---------------------------------------------------------------------------------------------------------


def _reports(cluster: Cluster, _: int, __: list[str]) -> list[Row]:
    """A route fails on a node, and is in place again."""
    before = cluster.usage()
    time.sleep(QUIET_SECONDS)
    idle = cluster.usage().since(before)
    before = cluster.usage()
    for name in cluster.nodes[:REPORTS]:
        for failing in (frozenset({"route-0"}), frozenset()):
            cluster.agents.call("fail", name, failing)
            time.sleep(0.2)
    cluster.settle()
    used = cluster.usage().since(before).net(idle)
    cost = used.controller / (2 * REPORTS)
    return [_row("controller CPU of one node's report", _ms(cost), "goal 20 ms")]


def _join(cluster: Cluster, count: int, joining: list[str]) -> list[Row]:
    seconds = []
    for name in joining:
        began = time.monotonic()
        cluster.create_nodes([name])
        seconds.append(cluster.wait_routes(count, [name])[1] - began)
    cluster.settle()
    return [_row("a node joins", f"{median(seconds):.3f} s", f"at most {max(seconds):.3f} s")]


def _idle(cluster: Cluster, _: int, __: list[str]) -> list[Row]:
    writes, before = count_requests(cluster.api_server), cluster.usage()
    time.sleep(IDLE_SECONDS)
    used, writes = cluster.usage().since(before), count_requests(cluster.api_server) - writes
    share = used.controller / used.at
    return [
        _row(f"{IDLE_SECONDS:.0f} idle seconds: writes", str(count_writes(writes)), f"goal 0; {list_requests(writes)}"),
        _row("  controller CPU", f"{100 * share:.2f} % of a core", "goal 1 %"),
        _row("  API-server CPU, with the agents' Leases", f"{100 * used.server / used.at:.1f} % of a core"),
    ]


def _restart(cluster: Cluster, _: int, __: list[str]) -> list[Row]:
    block, memory = _block(cluster), _memory(cluster)
    controller = cluster.product.controller
    assert controller is not None
    controller.terminate()
    controller.start()
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
        _row("longest block of the loop", block, "goal 50 ms"),
        _row("controller's peak memory", memory, "goal 256 MiB"),
        _row("a restarted controller has settled", f"{used.at:.1f} s", f"{used.controller:.1f} s of its CPU"),
        _row("  API-server CPU", f"{used.server:.1f} s"),
        _row("  longest block of the loop", _block(cluster), "goal 50 ms"),
        _row("  controller's peak memory", _memory(cluster), "goal 256 MiB"),
    ]
