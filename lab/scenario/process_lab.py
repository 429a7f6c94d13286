"""A lab without kubelets: controller and agents run as processes next to a real API server."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab.build.assets import Assets
from lab.cluster.api_server import ApiServer
from lab.manifests import node_manifest
from lab.net import vlan
from lab.net.traffic import serve
from lab.net.vlan import Vlan
from lab.phpipam.process import PhpIpamProcess
from lab.processes import Process
from lab.product import Product
from lab.scenario.address_source import CONTENT, AddressSource, ClusterSource, Kind, PhpIpamSource
from lab.scenario.lab import Lab
from lab.scenario.reporter import Reporter


class ProcessLab(Lab):
    """Everything below one directory; torn down when it is closed.

    ``ipam`` is the source of addresses; ``options`` are further arguments of Product.
    """

    product: Product

    def __init__(
        self, directory: Path, assets: Assets, reporter: Reporter, ipam: Kind = "cluster", **options: Any
    ) -> None:
        super().__init__(reporter, patience=30.0)
        self.directory = directory
        self.assets = assets
        self.ipam = ipam
        self._options = options
        self._cleanups: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        while self._cleanups:
            self._cleanups.pop()()

    def build(self, nodes: Sequence[str] = vlan.NODE_NAMES) -> None:
        """Create the network, start the API server and install the chart."""
        self.reporter.step(
            "Create a VLAN with three nodes and a gateway appliance, and an on-premise host behind it, without NAT"
        )
        self.vlan = Vlan(nodes)
        self._cleanups.append(self.vlan.close)
        on_premise = serve(self.vlan.on_premise, self.directory / "traffic.log")
        self._cleanups.append(on_premise.kill9)
        self.reporter.step("Start etcd and kube-apiserver, and install the chart with its CRDs")
        began = time.monotonic()
        self.api_server = ApiServer.start(self.directory, self.assets, addresses=[vlan.CONTROL_PLANE_ADDRESS])
        self._cleanups.append(self.api_server.stop)
        self.product = Product(self.api_server, self.directory, **self._options)
        self._cleanups.append(self.product.close)
        self.source = self._start_source()
        self.source.install(self.product)
        self.reporter.fact(f"serving at {self.api_server.server} after {time.monotonic() - began:.1f} s")
        self.show_source()

    def _start_source(self) -> AddressSource:
        if self.ipam == "cluster":
            return ClusterSource(self.api_server)
        server = PhpIpamProcess(self.directory, CONTENT)
        self._cleanups.append(server.close)
        self.reporter.fact(f"a simulated phpIPAM serves {vlan.OVERLAY_SUBNET}, which already has records of others")
        return PhpIpamSource(self.api_server, server)

    def start(self) -> None:
        """Start the controller and an agent on each node."""
        self.reporter.step("Start the controller and one agent per node, each as a process with its service account")
        self.product.start_controller()
        for node in self.nodes.values():
            self.product.start_agent(node)
        for node in self.nodes.values():
            self.product.wait_agent(node)

    def register_nodes(self, names: Sequence[str]) -> None:
        """Create Nodes and wait until each has a Ready NodeOverlayIp."""
        self.reporter.step(f"Register {len(names)} nodes; each gets a NodeOverlayIp with an address")
        self.api_server.apply(*(node_manifest(name) for name in names))
        self.wait_ready(names)
        self.show_nodes()
        self.show_addresses()

    def remove_node(self, name: str) -> None:
        self.api_server.kubectl("delete", "node", name)

    def processes(self) -> dict[str, Process]:
        """The product's processes by name."""
        assert self.product.controller is not None
        return {"controller": self.product.controller, **self.product.agents}
