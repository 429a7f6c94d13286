"""What one more StaticRoute costs with many nodes and routes: CPU, bytes, seconds, memory, and the controller's loop.

Everything is real but the agents: they are simulated in a process of their own (`lab/agents`), which loads this machine
as the API server does. CPU is without what the cluster uses while it is idle, such as for Leases.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from lab.bench.measure import Options, Row, Usage
from lab.bench.scale_cluster import Cluster, running
from lab.bench.scale_steady import idle, join, reports, restart
from lab.bench.scale_text import block, memory, ms, row
from overlay_net.model.names import NODE_OVERLAY_IPS

NODES = 1000
ROUTES = 1000
SAMPLES = 3
JOINING = 10


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


def bench_scale(directory: Path, options: Options) -> list[Row]:
    nodes, routes = options.nodes or NODES, options.routes or ROUTES
    names = [f"node-{number}" for number in range(nodes)]
    joining = [f"joining-{number}" for number in range(JOINING)]
    began = time.monotonic()

    rows: list[Row] = []

    def progress(text: str) -> None:
        print(f"scale: {time.monotonic() - began:6.1f} s  {text}", flush=True)

    def add(*found: Row) -> None:
        """Show rows at once as well: a large cluster takes many minutes."""
        rows.extend(found)
        for _, *cells in found:
            progress("  ".join(filter(None, cells)))

    with running(directory, [*names, *joining]) as cluster:
        progress(f"{nodes} agents are running")
        add(_populate(cluster, names))
        cluster.make_bare()
        present = 0
        costs = {}
        for count in _sizes(routes):
            progress(f"{count} StaticRoutes")
            add(_create(cluster, present, count))
            present = count
            changes, bare = _measure(cluster, count)
            costs[count] = median(change.used.server for change in changes) / nodes
            add(*_rows(cluster, count, changes, bare, costs))
        for part in (reports, idle, join, restart):
            progress(part.__name__)
            add(*part(cluster, present, joining))
        add(row("the lease was lost", f"{cluster.leases_lost()} times", "goal 0"))
        progress("complete")
    return rows


def _sizes(routes: int) -> Iterable[int]:
    return [*(each for each in (10, 100, 1000) if each < routes), routes]


# --- One more StaticRoute ---------------------------------------------------------------------------------------------


def _populate(cluster: Cluster, names: list[str]) -> Row:
    began = time.monotonic()
    cluster.create_nodes(names)
    _, ready = cluster.wait_routes(0)
    cluster.settle()
    return row(f"{len(names)} nodes of 20 kB join", f"{ready - began:.1f} s", f"peak {memory(cluster)}")


def _create(cluster: Cluster, present: int, count: int) -> Row:
    """Create many StaticRoutes at once, up to ``count``."""
    began = cluster.create_routes(range(present, count))
    times = [*cluster.wait_routes(count), cluster.wait_all_counted()]
    cluster.settle()
    placed, reported, counted = (f"{at - began:.0f} s" for at in times)
    what = f"{count - present} more at once: in place on the last node"
    return row(what, placed, f"reported {reported}, counted {counted}")


def _measure(cluster: Cluster, count: int) -> tuple[list[Change], float]:
    changes, before = [], cluster.idle_usage()
    for _ in range(SAMPLES):
        change, after = _one_more(cluster, count), cluster.idle_usage()
        changes.append(replace(change, used=change.used.net(before + after)))
        before = after
    template = cluster.api_server.get(NODE_OVERLAY_IPS.plural, cluster.nodes[0])
    cluster.agents.call("create_bare", template, len(cluster.nodes))
    bare = median(cluster.agents.call("write_bare", 100 + sample) for sample in range(SAMPLES))
    return changes, bare


def _one_more(cluster: Cluster, count: int) -> Change:
    nodes = len(cluster.nodes)
    bytes_before, stored, before = cluster.agents.call("traffic"), cluster.stored(), cluster.usage()
    began = cluster.create_routes([count])
    placed, reported = cluster.wait_routes(count + 1)
    counted = cluster.wait_status(count)
    used = cluster.usage().since(before)
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

    def beside_bare(text: str, what: str, goal: str = "") -> Row:
        seconds = middle(what)
        return row(text, f"{seconds:.2f} s", f"{seconds / bare:.2f}{goal}")

    ratio = costs[count] / costs[min(costs)]
    return [
        row(f"{count} routes and one more, {nodes} nodes", "", ""),
        row("  API-server CPU per node", ms(cpu("server")), f"{ratio:.2f} of the first, goal 1.5"),
        row("  etcd CPU per node", ms(cpu("etcd"))),
        row("  controller CPU per node", ms(cpu("controller"))),
        row(
            "  bytes received, sent and stored per node",
            " ".join(f"{middle(each):,.0f}" for each in ("received", "sent", "stored")),
        ),
        row("  one bare status write of each node", f"{bare:.2f} s", "1.00"),
        beside_bare("  in place on the last node", "placed", ", goal 1.5"),
        beside_bare("  reported by the last node", "reported", ", goal 1.5"),
        beside_bare("  counted in its status", "counted"),
        row("  simulated agents' CPU per node", ms(cpu("agents"))),
        row("  longest block of the loop so far", block(cluster), "goal 50 ms"),
        row("  controller's peak memory so far", memory(cluster), "goal 256 MiB"),
    ]
