"""The agent on a node of the lab: resident memory without and with many routes, and start time."""

import sys
import time
from pathlib import Path

from lab.bench.dataplane import running
from lab.bench.measure import Row, format_mib, settled_memory
from lab.processes import run, wait_until
from lab.scenario.process_lab import ProcessLab

ROUTES = 10_000
SUBNETS = 500
"""The maximum number of subnets of a StaticRoute."""
IMPORTS = 5
"""Number of starts; the fastest counts, as other load only adds to it."""


def bench_agent(directory: Path) -> list[Row]:
    started = min(_import_seconds() for _ in range(IMPORTS))
    bare = min(_import_seconds("pass") for _ in range(IMPORTS))
    with running(directory) as lab:
        agent = lab.product.agents[lab.first_node.name]
        idle = settled_memory(agent.pid)
        _create_routes(lab)
        many = settled_memory(agent.pid)
        # At each upgrade the agent starts with all routes in place.
        began = time.perf_counter()
        agent.restart()
        lab.product.wait_agent(lab.first_node)
        ready = time.perf_counter() - began
        again = settled_memory(agent.pid)
    return [
        ("agent", "python, nothing imported", f"{1000 * bare:.0f} ms", "1.00"),
        ("agent", "python, the agent imported", f"{1000 * started:.0f} ms", f"{started / bare:.1f}"),
        ("agent", f"restart until ready with {ROUTES:,} routes", f"{ready:.1f} s", ""),
        ("agent", "resident memory, idle", format_mib(idle), "at most 64 MiB, goal 45"),
        ("agent", f"  with {ROUTES:,} routes added", format_mib(many), ""),
        ("agent", "  growth", format_mib(many - idle), "goal 16 MiB"),
        ("agent", f"  started with {ROUTES:,} routes", format_mib(again), ""),
    ]


def _import_seconds(program: str = "import overlay_net.agent.run") -> float:
    began = time.perf_counter()
    run([sys.executable, "-c", program])
    return time.perf_counter() - began


def _create_routes(lab: ProcessLab) -> None:
    for part in range(ROUTES // SUBNETS):
        subnets = [f"11.{number // 256}.{number % 256}.0/24" for number in range(part * SUBNETS, (part + 1) * SUBNETS)]
        body = {"apiVersion": "iks.ibm.com/v1alpha1", "kind": "StaticRoute", "metadata": {"name": f"many-{part}"}}
        lab.api_server.apply(body | {"spec": {"subnets": subnets}})

    def in_place() -> bool:
        routes = lab.api_server.get("staticroutes")["items"]
        return [route.get("status", {}).get("ready") for route in routes] == [1] * (ROUTES // SUBNETS)

    wait_until(in_place, f"{ROUTES} routes are in place", timeout=120, every=0.5)
    there = lab.first_node.ip("route", "show", "proto", "117").splitlines()
    if len(there) != ROUTES:
        raise SystemExit(f"bench: {len(there)} routes are in the kernel, not {ROUTES}")
