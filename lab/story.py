"""The product's story, step by step, each one with what must be true after it; told by the demo, tested by e2e.

A step raises StoryFailed, ConditionTimeout or CommandFailed when its promise is not kept.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from lab.build.assets import Assets
from lab.cluster.api_server import ApiServer
from lab.manifests import node_manifest
from lab.net import vlan
from lab.net.traffic import Count, Stream, Unreachable, observed_source, serve
from lab.net.vlan import Node, Vlan
from lab.phpipam.process import PhpIpamProcess
from lab.processes import Process, wait_until
from lab.product import Product, condition_statuses
from lab.sources import CONTENT, InCluster, InPhpIpam, Kind, Source

ROUTE = "onprem-192.168.0.0-24"
ROUTE_PROTOCOL = "117"


class StoryFailed(Exception):
    """A promise of the story was not kept; the text says which."""


class Teller(Protocol):
    def step(self, text: str) -> None: ...
    def fact(self, text: str) -> None: ...
    def table(self, title: str, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None: ...


@dataclass(frozen=True, slots=True)
class Seen:
    """One node: what its object says, what its kernel does, what the on-premise host saw."""

    node: str
    overlay_ip: str
    route: str
    source: str


class Story:
    """The lab with the product in it, and ``ipam`` as the source of addresses; it tears everything down at its end."""

    def __init__(self, directory: Path, assets: Assets, teller: Teller, ipam: Kind = "cluster") -> None:
        self.directory = directory
        self.assets = assets
        self.tell = teller
        self.ipam = ipam
        self.patience = 30.0
        """Seconds that a step may take."""
        self._open: list[Callable[[], None]] = []
        self.api_server: ApiServer
        self.vlan: Vlan
        self.product: Product
        self.source: Source

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        while self._open:
            self._open.pop()()

    # --- Setting the stage ---------------------------------------------------------------------------------------

    def build(self, nodes: Sequence[str] = vlan.NODE_NAMES) -> None:
        self.tell.step("A VLAN: three nodes, a gateway appliance, an on-premise host behind it; no NAT anywhere")
        self.vlan = Vlan(nodes)
        self._open.append(self.vlan.close)
        on_premise = serve(self.vlan.on_premise, self.directory / "traffic.log")
        self._open.append(on_premise.kill9)
        self.tell.step("etcd and kube-apiserver start; the chart with its CRDs is installed")
        began = time.monotonic()
        self.api_server = ApiServer.start(self.directory, self.assets, addresses=[vlan.CONTROL_PLANE_ADDRESS])
        self._open.append(self.api_server.stop)
        self.product = Product(self.api_server, self.directory)
        self._open.append(self.product.close)
        self.source = self._source()
        self.source.install(self.product)
        self.tell.fact(f"serving after {time.monotonic() - began:.1f} s at {self.api_server.server}")
        self.show_source()

    def _source(self) -> Source:
        if self.ipam == "cluster":
            return InCluster(self.api_server)
        server = PhpIpamProcess(self.directory, CONTENT)
        self._open.append(server.close)
        self.tell.fact(f"phpIPAM, simulated, has {vlan.OVERLAY_SUBNET} with rows of other people in it")
        return InPhpIpam(self.api_server, server)

    def start(self) -> None:
        self.tell.step("The controller and one agent on each node start, as processes with their service accounts")
        self.product.start_controller()
        for node in self.vlan.nodes.values():
            self.product.start_agent(node)
        for node in self.vlan.nodes.values():
            self.product.wait_agent(node)

    def plant_foreign(self, node: Node) -> None:
        """Somebody else's link, address and route on a node; ``foreign_state`` must stay as it is."""
        node.ip("link", "add", "other0", "type", "veth", "peer", "name", "other1")
        node.ip("link", "set", "other0", "up")
        node.ip("link", "set", "other1", "up")
        node.ip("address", "add", "172.31.0.1/24", "dev", "other0")
        node.ip("address", "add", "172.31.9.1/32", "dev", "eth0")
        node.ip("route", "add", "172.31.5.0/24", "via", "172.31.0.2", "proto", "186")
        node.ip("route", "add", "172.31.6.0/24", "via", vlan.PRIVATE_GATEWAY)
        # The kernel itself is still at work on the new links: their IPv6 addresses are being probed.
        wait_until(lambda: "tentative" not in node.ip("-6", "address"), f"{node.name} has settled")

    def foreign_state(self, node: Node) -> str:
        """Everything of a node's links, addresses and routes that is not the product's."""
        routes = [
            route
            for family in ("-4", "-6")
            for route in json.loads(node.ip("-j", family, "route", "show", "table", "all"))
            if route.get("protocol") != ROUTE_PROTOCOL and route.get("dev") != "tmp0"
        ]
        links = [link for link in json.loads(node.ip("-j", "address")) if link["ifname"] != "tmp0"]
        return json.dumps([routes, links], sort_keys=True)

    # --- The main job --------------------------------------------------------------------------------------------

    def register_nodes(self, names: Sequence[str]) -> None:
        self.tell.step(f"{len(names)} Nodes are registered: each gets a NodeOverlayIp with an address")
        self.api_server.apply(*(node_manifest(name) for name in names))
        wait_until(
            lambda: all(self.is_ready(name) for name in names), "every NodeOverlayIp is Ready", timeout=self.patience
        )
        self.show_nodes()
        self.show_addresses()

    def is_ready(self, name: str) -> bool:
        found = [item for item in self.overlays() if item["metadata"]["name"] == name]
        return bool(found) and condition_statuses(found[0]).get("Ready") == "True"

    def create_route(self, **spec: Any) -> None:
        self.tell.step(f"A StaticRoute is created: {vlan.ON_PREMISE_SUBNET} through the overlay gateway")
        self.apply_route(**spec)
        self.wait_route(len(self.vlan.nodes))
        self.tell.table("kubectl get staticroutes", *self.kubectl_table("staticroutes"))

    def apply_route(self, **spec: Any) -> None:
        spec = {"subnet": vlan.ON_PREMISE_SUBNET, **spec}
        self.api_server.apply(
            {"apiVersion": "iks.ibm.com/v1alpha1", "kind": "StaticRoute", "metadata": {"name": ROUTE}, "spec": spec}
        )

    def wait_route(self, nodes: int, timeout: float | None = None) -> None:
        """The StaticRoute's own status says that every node has it, as it is specified now."""

        def in_place() -> bool:
            route = self.api_server.get("staticroute", ROUTE)
            status, generation = route.get("status", {}), route["metadata"]["generation"]
            return bool(status.get("ready") == nodes and status.get("observedGeneration") == generation)

        wait_until(in_place, f"StaticRoute {ROUTE} is ready on {nodes} nodes", timeout=timeout or self.patience)

    def check_traffic(self) -> list[Seen]:
        """Each node reaches the on-premise host over TCP, which sees the overlay address of the node's object."""
        self.tell.step(f"Each node opens a TCP connection to {vlan.ON_PREMISE_HOST}, which reports the source it saw")
        addresses = self.addresses()
        seen = []
        for name, node in self.vlan.nodes.items():
            route = node.ip("route", "show", vlan.ON_PREMISE_SUBNET).strip()
            seen.append(Seen(name, addresses[name], route, observed_source(node, vlan.ON_PREMISE_HOST)))
        headers = ("NODE", "OVERLAY IP (object)", "ROUTE (kernel)", "SOURCE SEEN ON-PREMISE")
        self.tell.table("without NAT", headers, [(one.node, one.overlay_ip, one.route, one.source) for one in seen])
        for one in seen:
            expect(one.source == one.overlay_ip, f"{one.node}: the host saw {one.source}, not {one.overlay_ip}")
            expect(f"src {one.overlay_ip}" in one.route, f"{one.node}: the route is {one.route!r}")
        expect(len({one.source for one in seen}) == len(seen), "two nodes share an address")
        return seen

    def change_gateway(self) -> Count:
        """The StaticRoute gets another gateway while packets flow; none is lost."""
        self.tell.step(f"The StaticRoute's gateway is changed to {vlan.OTHER_OVERLAY_GATEWAY} while packets flow")
        stream = Stream(self.a_node, vlan.ON_PREMISE_HOST)
        self.apply_route(gateway=vlan.OTHER_OVERLAY_GATEWAY)
        self.wait_route(len(self.vlan.nodes))
        for node in self.vlan.nodes.values():
            route = node.ip("route", "show", vlan.ON_PREMISE_SUBNET)
            expect(f"via {vlan.OTHER_OVERLAY_GATEWAY} " in route, f"{node.name}: the route is {route!r}")
        count = stream.stop()
        self.tell.fact(f"{count.sent} packets sent, {count.lost} lost, longest gap {count.longest_gap_ms} ms")
        expect(count.lost == 0, f"{count.lost} of {count.sent} packets were lost by the change of the gateway")
        return count

    def remove_route_by_hand(self) -> None:
        node = self.a_node
        self.tell.step(f"Somebody removes the route in the kernel of {node.name}: it comes back")
        node.ip("route", "delete", vlan.ON_PREMISE_SUBNET)
        began = time.monotonic()
        shown = ("route", "show", vlan.ON_PREMISE_SUBNET)
        wait_until(lambda: bool(node.ip(*shown)), "the route is back", timeout=self.patience, every=0.002)
        self.tell.fact(f"seen again after {1000 * (time.monotonic() - began):.0f} ms")

    def delete_route(self) -> None:
        self.tell.step("The StaticRoute is deleted: the routes go, and nothing else answers for them")
        self.api_server.kubectl("delete", "staticroute", ROUTE, "--timeout=30s")
        for node in self.vlan.nodes.values():
            self.wait_no_route(node)
        try:
            source = observed_source(self.a_node, vlan.ON_PREMISE_HOST, timeout=0.5)
        except Unreachable:
            self.tell.fact(f"{vlan.ON_PREMISE_HOST} is out of reach again, as it must be")
        else:
            raise StoryFailed(f"the on-premise host still answers, to {source}")

    def delete_node(self, name: str) -> None:
        address = self.addresses()[name]
        self.tell.step(f"Node {name} is deleted: its agent lets go of {address}, which then becomes free")
        self.api_server.kubectl("delete", "node", name)
        wait_until(lambda: address not in self.reserved(), f"{address} is free")
        wait_until(lambda: name not in self.addresses(), f"NodeOverlayIp {name} is gone")
        left = self.vlan.nodes[name].ip("-o", "address", "show", "to", f"{address}/32")
        expect(not left, f"{address} was released while the node still has it: {left}")
        self.show_addresses()

    def wait_no_route(self, node: Node) -> None:
        wait_until(lambda: not node.ip("route", "show", vlan.ON_PREMISE_SUBNET), f"no route on {node.name}")

    # --- Looking -------------------------------------------------------------------------------------------------

    @property
    def a_node(self) -> Node:
        return next(iter(self.vlan.nodes.values()))

    def overlays(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.api_server.get("nodeoverlayips")["items"]
        return items

    def addresses(self) -> dict[str, str]:
        """Node -> overlay address of its object."""
        return {
            item["metadata"]["name"]: item.get("status", {}).get("ipAddr", "").split("/")[0] for item in self.overlays()
        }

    def reserved(self) -> dict[str, str]:
        """Reserved address -> node."""
        return self.source.reserved()

    def others(self) -> list[dict[str, Any]]:
        """What other people have in the source of addresses; it must stay as it is."""
        return self.source.others()

    def show_addresses(self) -> None:
        """The pools, once they tell what is true, beside what the source of addresses has."""

        def told() -> bool:
            pools = self.api_server.get("overlaypools")["items"]
            used = [int(pool.get("status", {}).get("used", 0)) for pool in pools]
            return sum(used) == self.source.used()

        wait_until(told, "the pools tell how many addresses are in use")
        self.tell.table("kubectl get overlaypools", *self.kubectl_table("overlaypools"))
        self.show_source()

    def show_source(self) -> None:
        table = self.source.table()
        if table is not None:
            self.tell.table(*table)

    def show_nodes(self) -> None:
        self.tell.table("kubectl get nodeoverlayips", *self.kubectl_table("nodeoverlayips"))

    def kubectl_table(self, resource: str) -> tuple[list[str], list[list[str]]]:
        """Header and rows of `kubectl get`, as a person sees them."""
        lines = self.api_server.kubectl("get", resource).splitlines()
        header = lines[0] if lines else ""
        starts = [
            index for index, _ in enumerate(header) if header[index] != " " and header[index - 1 : index] in (" ", "")
        ]
        bounds = list(zip(starts, [*starts[1:], None], strict=True))
        cells = [[line[start:end].strip() for start, end in bounds] for line in lines]
        return cells[0] if cells else [], cells[1:]

    def processes(self) -> dict[str, Process]:
        """Everything of the product that runs, by name."""
        assert self.product.controller is not None
        return {"controller": self.product.controller, **self.product.agents}


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise StoryFailed(otherwise)
