"""Lost packets during failover, restarts and an API outage, and the time to repair external changes."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

from lab.bench.measure import Row
from lab.build.assets import find_assets
from lab.net import vlan
from lab.net.namespaces import Namespace
from lab.net.traffic import Count, Stream
from lab.net.vlan import Node
from lab.processes import wait_until
from lab.scenario.process_lab import ProcessLab
from lab.scenario.reporter import SilentReporter

RATE = 100
API_OUTAGE = 60.0
FAULTS = 204
FAULT_TIMEOUT = 5.0
"""Seconds for a fault and its repair, on average."""
ROUTES = 1000
SECOND, SECOND_ADDRESS = "gateway-2", "192.168.100.253"


@contextmanager
def running(directory: Path, **options: Any) -> Iterator[ProcessLab]:
    """One Ready node; ``options`` as for ProcessLab."""
    with ProcessLab(directory, find_assets(), SilentReporter(), **options) as lab:
        lab.build(vlan.NODE_NAMES[:1])
        lab.start()
        lab.register_nodes(vlan.NODE_NAMES[:1])
        yield lab


# --- Failover, and events that must not lose a packet ----------------------------------------------------------------


def bench_failover(directory: Path) -> list[Row]:
    with running(directory) as lab:
        second = lab.vlan.add_gateway(SECOND, SECOND_ADDRESS)
        gateways = {vlan.OVERLAY_GATEWAY: lab.vlan.gateway, SECOND_ADDRESS: second}
        return_paths = {vlan.OVERLAY_GATEWAY: "gateway", SECOND_ADDRESS: SECOND}
        rows = []
        for name, priorities in (("ECMP", (0, 0)), ("standby", (0, 1))):
            pair = zip(gateways, priorities, strict=True)
            lab.apply_route(gateways=[{"address": address, "priority": number} for address, number in pair])
            lab.wait_route(1)
            rows.append(_fail_over(lab, name, gateways, return_paths))
        lab.apply_route()
        lab.wait_route(1)
        lab.vlan.set_return_path()
        rows += [
            _undisturbed(lab, "agent killed and restarted", lambda: _restart(lab)),
            _undisturbed(lab, "agent terminated and restarted (upgrade)", lambda: _upgrade(lab)),
            _undisturbed(lab, f"API server down for {API_OUTAGE:g} s", lambda: _api_outage(lab)),
            _undisturbed(lab, "gateway of the StaticRoute changed", lambda: _change_gateway(lab)),
        ]
    return rows


def _fail_over(lab: ProcessLab, name: str, gateways: dict[str, Namespace], return_paths: dict[str, str]) -> Row:
    """The gateway that carries the stream fails; the on-premise host answers through the other one from then on."""
    node = lab.first_node
    used = _find_gateway(node)
    (other,) = set(gateways) - {used}
    lab.vlan.set_return_path(return_paths[used])
    stream = Stream(node, vlan.ON_PREMISE_HOST, RATE)
    gateways[used].ip("link", "set", "inner", "down")
    lab.vlan.set_return_path(return_paths[other])
    wait_until(lambda: _find_gateway(node) == other, f"{name}: traffic goes through {other}")
    time.sleep(1)
    count = stream.stop()
    gateways[used].ip("link", "set", "inner", "up")
    wait_until(lambda: not lab.overlays()[0]["status"].get("gateways"), f"{used} is up again", timeout=60)
    return _row(f"{name}: the gateway in use fails", count, f"{count.lost / RATE:.2f} s, goal 3 s")


def _find_gateway(node: Node) -> str:
    words = node.ip("route", "get", vlan.ON_PREMISE_HOST, check=False).split()
    return words[words.index("via") + 1] if "via" in words else ""


def _undisturbed(lab: ProcessLab, what: str, happens: Callable[[], None]) -> Row:
    stream = Stream(lab.first_node, vlan.ON_PREMISE_HOST, RATE)
    happens()
    return _row(what, stream.stop(), "goal 0 lost")


def _row(what: str, count: Count, goal: str) -> Row:
    return "failover", what, f"{count.lost} of {count.sent} packets lost", goal


def _restart(lab: ProcessLab) -> None:
    lab.product.agents[lab.first_node.name].restart()
    lab.product.wait_agent(lab.first_node)


def _upgrade(lab: ProcessLab) -> None:
    agent = lab.product.agents[lab.first_node.name]
    agent.terminate()
    agent.start()
    lab.product.wait_agent(lab.first_node)


def _api_outage(lab: ProcessLab) -> None:
    lab.api_server.kube_apiserver.kill9()
    time.sleep(API_OUTAGE)
    lab.api_server.kube_apiserver.start()
    lab.api_server.wait_ready()


def _change_gateway(lab: ProcessLab) -> None:
    lab.apply_route(gateway=vlan.OTHER_OVERLAY_GATEWAY)
    # After an outage a watch is retried after a growing pause of at most 30 s.
    lab.wait_route(1, timeout=90)


# --- Drift ------------------------------------------------------------------------------------------------------------


def bench_drift(directory: Path) -> list[Row]:
    with running(directory) as lab:
        measured = inject_faults(lab, create_routes(lab), FAULTS)
    everything = [ms for each in measured.values() for ms in each]
    return [quantile_row("drift", f"all {len(everything)} faults, {ROUTES} routes", everything)] + [
        quantile_row("drift", f"  {fault}", each) for fault, each in measured.items()
    ]


def create_routes(lab: ProcessLab, count: int = ROUTES) -> list[str]:
    """Create StaticRoutes with ``count`` subnets, and wait until the first node has them. Returns the subnets."""
    subnets = [f"172.{16 + number // 250}.{number % 250}.0/24" for number in range(count)]
    for part in range(0, count, 500):
        spec = {"subnets": subnets[part : part + 500]}
        body = {"apiVersion": "iks.ibm.com/v1alpha1", "kind": "StaticRoute", "metadata": {"name": f"many-{part}"}}
        lab.api_server.apply(body | {"spec": spec})
    node = lab.first_node
    wait_until(lambda: len(node.ip("route", "show", "proto", "117").splitlines()) == count, "the routes are in place")
    return subnets


def inject_faults(lab: ProcessLab, subnets: Sequence[str], faults: int, *options: str) -> dict[str, list[float]]:
    """Milliseconds until each fault on the first node is repaired, by kind; ``options`` as for lab.bench.drift."""
    node = lab.first_node
    address = node.ip("-4", "-br", "address", "show", "tmp0").split()[2].partition("/")[0]
    words = [word for subnet in subnets for word in ("--subnet", subnet)]
    gateways = ("--gateway", vlan.OVERLAY_GATEWAY, "--other-gateway", vlan.OTHER_OVERLAY_GATEWAY)
    program = (sys.executable, "-m", "lab.bench.drift", "--address", address, *gateways, f"--faults={faults}")
    output = node.run(*program, *options, *words, timeout=faults * FAULT_TIMEOUT)
    measured: dict[str, list[float]] = {}
    for line in output.splitlines():
        one = json.loads(line)
        measured.setdefault(one["fault"], []).append(one["ms"])
    return measured


def quantile_row(benchmark: str, what: str, milliseconds: Sequence[float], goal: str = "p99 50 ms") -> Row:
    cuts = quantiles(milliseconds, n=100, method="inclusive")
    measured = f"p50 {cuts[49]:.1f}  p99 {cuts[98]:.1f}  max {max(milliseconds):.1f} ms"
    return benchmark, what, measured, f"goal {goal}"
