"""An agent on a node with very many links, addresses and routes of others: the time to repair external changes, the CPU
time of a repair, and resident memory."""

import time
from collections.abc import Iterator
from pathlib import Path

from lab.bench.dataplane import create_routes, inject_faults, quantile_row, running
from lab.bench.measure import Options, Row, cpu_seconds, format_mib, settled_memory
from lab.net import vlan
from lab.net.vlan import Node
from lab.processes import CommandFailed
from lab.scenario.process_lab import ProcessLab

ROUTES = 100
"""Routes of the agent."""
FOREIGN_ROUTES, ADDRESSES, LINKS = 100_000, 5_000, 300
"""Such as those of a BGP daemon, of kube-proxy in IPVS mode (one for each Service), and of pods."""
FAULTS = 60
SERVICE_LINK = "kube-ipvs0"
BIRD = 12
"""RTPROT_BIRD (linux/rtnetlink.h)."""


def bench_crowded(directory: Path, options: Options) -> list[Row]:
    rows = _measure(directory / "this", None, "")
    if options.against is not None:
        rows += _measure(directory / "other", options.against, "other version: ")
    return rows


def _measure(directory: Path, checkout: Path | None, version: str) -> list[Row]:
    directory.mkdir()
    with running(directory, checkout=checkout) as lab:
        subnets = create_routes(lab, ROUTES)
        agent = lab.product.agents[lab.first_node.name]
        _crowd(lab.first_node)
        added = settled_memory(agent.pid)
        before = cpu_seconds(agent.pid)
        measured = inject_faults(lab, subnets, FAULTS, "--crowded")
        cpu = (cpu_seconds(agent.pid) - before) / FAULTS
        repaired = settled_memory(agent.pid)
        ready = _restart(lab)
        again = settled_memory(agent.pid)
    everything = [ms for each in measured.values() for ms in each]
    return [
        quantile_row("crowded", f"{version}all {FAULTS} faults", everything, "p50 30 ms"),
        *(quantile_row("crowded", f"  {fault}", each, "p50 30 ms") for fault, each in measured.items()),
        ("crowded", "  CPU time of the agent a fault", f"{1000 * cpu:.1f} ms", ""),
        ("crowded", "  resident memory, once they were added", format_mib(added), "goal 80 MiB"),
        ("crowded", "  resident memory, after repairs", format_mib(repaired), "goal 80 MiB"),
        ("crowded", "  resident memory, started with them", format_mib(again), "goal 80 MiB"),
        ("crowded", "  restart until ready", f"{ready:.1f} s", ""),
    ]


def _restart(lab: ProcessLab) -> float:
    """Seconds until the agent is ready again."""
    began = time.perf_counter()
    lab.product.agents[lab.first_node.name].restart()
    lab.product.wait_agent(lab.first_node)
    return time.perf_counter() - began


def _crowd(node: Node) -> None:
    try:
        node.ip("link", "add", SERVICE_LINK, "type", "dummy")
    except CommandFailed:
        # Not every kernel has dummy links; what matters are the addresses.
        node.ip("link", "add", SERVICE_LINK, "type", "bridge")
    node.run("ip", "-batch", "-", stdin="".join(f"{line}\n" for line in _others()))


def _others() -> Iterator[str]:
    """Commands of `ip -batch`."""
    for number in range(LINKS // 2):
        yield f"link add pod{number} type veth peer name peer{number}"
        yield f"link set pod{number} up"
        yield f"link set peer{number} up"
    for number in range(ADDRESSES):
        yield f"address add 10.96.{number // 250}.{number % 250 + 1}/32 dev {SERVICE_LINK}"
    for number in range(FOREIGN_ROUTES):
        high, low = divmod(number, 256)
        yield f"route add {20 + high // 256}.{high % 256}.{low}.0/24 via {vlan.PRIVATE_GATEWAY} dev eth0 proto {BIRD}"
