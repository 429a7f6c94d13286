"""The cluster of the benchmark `scale`: API server, controller and simulated agents, and what each of them uses."""

import asyncio
import re
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.bench.measure import Usage, count_requests, count_writes, cpu_seconds, memory_peak, prefer, sum_metric
from lab.bench.scale_agents import BARE, AgentsProcess
from lab.bench.scale_objects import route_manifest, wait_status, write_all
from lab.build.assets import find_assets
from lab.cluster.api_server import ApiServer
from lab.manifests import large_node_manifest
from lab.processes import wait_until
from lab.product import CONTROLLER_BIND, NAMESPACE, PRODUCTION, Product
from overlay_net.model.api import JsonObject
from overlay_net.model.names import NODE_OVERLAY_IPS

PATIENCE = 1800.0
QUIET = 3.0
"""Seconds without a write after which everything counts as settled."""

IDLE_SECONDS = 15.0
"""Seconds for which it is measured what is used while nothing changes."""

LONGEST_BLOCK = re.compile(r'^overlay_net_event_loop_longest_block_seconds\{clock="(\w+)"\} (\S+)$', re.MULTILINE)


class Cluster:
    def __init__(self, api_server: ApiServer, product: Product, agents: AgentsProcess) -> None:
        self.api_server = api_server
        self.product = product
        self.agents = agents
        self.nodes: list[str] = []
        self.routes = 0

    # --- Objects ------------------------------------------------------------------------------------------------------

    def create_nodes(self, names: Sequence[str]) -> None:
        self._for_all([large_node_manifest(name, number) for number, name in enumerate(names)], "create")
        self.nodes += names

    def create_routes(self, numbers: Sequence[int]) -> float:
        """Create the StaticRoutes with these numbers. Returns the time before the first request."""
        self.routes += len(numbers)
        return self._for_all([route_manifest(each) for each in numbers], "create")

    def delete_route(self, number: int) -> float:
        self.routes -= 1
        return self._for_all([route_manifest(number)], "delete")

    def _for_all(self, bodies: Sequence[JsonObject], verb: str) -> float:
        return asyncio.run(write_all(str(self.api_server.admin()), bodies, verb))

    def wait_routes(self, count: int, names: Sequence[str] | None = None) -> tuple[float, float]:
        """The times at which the last node had this many routes, and at which it had reported them."""
        placed, reported = self.agents.call("wait_routes", count, self.nodes if names is None else names)
        return placed, reported

    def wait_all_counted(self) -> float:
        """The time at which the status of every StaticRoute counts every node as ready, to 5 seconds.

        Statuses are written only as often as the API server has time for them.
        """

        def counted() -> bool:
            # As a table, which the server makes: the objects list hundreds of nodes each.
            header, rows = self.api_server.table("staticroutes")
            column = header.index("IN-PLACE")
            return [row[column] for row in rows] == [str(len(self.nodes))] * self.routes

        wait_until(counted, "every status is complete", timeout=PATIENCE, every=5.0)
        return time.monotonic()

    def wait_status(self, number: int, timeout: float = PATIENCE) -> float:
        """The time at which the status of a StaticRoute counts every node as ready."""
        return asyncio.run(wait_status(str(self.api_server.admin()), f"route-{number}", len(self.nodes), timeout))

    def make_bare(self) -> None:
        """Serve a copy of the kind NodeOverlayIp without watches."""
        crd = self.api_server.get("crd", f"{NODE_OVERLAY_IPS.plural}.{NODE_OVERLAY_IPS.group}")
        spec = crd["spec"] | {"group": BARE.group}
        spec["names"] = {"kind": BARE.kind, "plural": BARE.plural, "singular": BARE.plural[:-1]}
        metadata = {"name": f"{BARE.plural}.{BARE.group}"}
        self.api_server.apply(
            {"apiVersion": crd["apiVersion"], "kind": crd["kind"], "metadata": metadata, "spec": spec}
        )
        self.api_server.kubectl("wait", "--for=condition=Established", f"crd/{metadata['name']}")

    # --- Measurements -------------------------------------------------------------------------------------------------

    @property
    def controller_pid(self) -> int:
        assert self.product.controller is not None
        return self.product.controller.pid

    def usage(self) -> Usage:
        pids = (self.api_server.kube_apiserver.pid, self.api_server.etcd.pid, self.controller_pid, self.agents.pid)
        server, etcd, controller, agents = map(cpu_seconds, pids)
        return Usage(server, etcd, controller, agents, time.monotonic())

    def settle(self, timeout: float = 300.0) -> None:
        """Wait until there was no write for QUIET seconds."""
        deadline = time.monotonic() + timeout
        before = self.writes()
        while time.monotonic() < deadline:
            time.sleep(QUIET)
            now = self.writes()
            if now == before:
                return
            before = now
        raise SystemExit("bench: the cluster does not settle")

    def writes(self) -> int:
        """Writes of controller and agents so far, without Leases."""
        return count_writes(count_requests(self.api_server))

    def idle_usage(self) -> Usage:
        """What is used while nothing changes. Agents connect again in waves, so it differs from minute to minute."""
        before = self.usage()
        time.sleep(IDLE_SECONDS)
        return self.usage().since(before)

    def stored(self) -> int:
        """Bytes that etcd has received so far."""
        return int(sum_metric(self.api_server.etcd_metrics(), "etcd_network_client_grpc_received_bytes_total"))

    def controller_metrics(self) -> str:
        with urllib.request.urlopen(f"http://{CONTROLLER_BIND}/metrics", timeout=30) as response:
            text: str = response.read().decode()
        return text

    def longest_block(self) -> dict[str, float]:
        """Seconds of the longest block of the controller's loop by clock; empty for a version without the metric."""
        found = LONGEST_BLOCK.findall(self.controller_metrics())
        return {clock: float(seconds) for clock, seconds in found}

    def queue_adds(self) -> float:
        return sum_metric(self.controller_metrics(), "workqueue_adds_total")

    def peak_memory(self) -> int:
        """KiB of the controller's peak resident memory."""
        return memory_peak(self.controller_pid)

    def leases_lost(self) -> int:
        assert self.product.controller is not None
        return self.product.controller.log.read_text().count("lost the lease")


@contextmanager
def running(directory: Path, nodes: Sequence[str]) -> Iterator[Cluster]:
    """A cluster without objects, and the agents of these nodes."""
    with ApiServer.start(directory, find_assets()) as api_server:
        product = Product(api_server, directory, settings=PRODUCTION)
        product.install({"bench": {"cidr": "10.64.0.0/16", "gateway": "10.64.0.1"}})
        # The API server answers 429 while it prepares the storage of new kinds, which kubectl retries.
        api_server.kubectl("get", "nodeoverlayips,overlayrouteslices")
        agents = AgentsProcess(api_server.admin(), NAMESPACE)
        try:
            agents.call("start", nodes)
            prefer(product.start_controller().pid)
            yield Cluster(api_server, product, agents)
        finally:
            agents.close()
            product.close()
