"""An installed product on the VLAN: its objects, its nodes, and the source of its addresses."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from lab.cluster.api_server import ApiServer
from lab.manifests import static_route
from lab.net import vlan
from lab.net.traffic import Unreachable, observed_source
from lab.net.vlan import Node, Vlan
from lab.processes import wait_until
from lab.product import condition_statuses
from lab.scenario.address_source import AddressSource
from lab.scenario.reporter import Reporter
from overlay_net.model.names import NODE_OVERLAY_IPS, OVERLAY_POOLS, STATIC_ROUTES

ROUTE = "onprem-192.168.0.0-24"


class Lab(ABC):
    api_server: ApiServer
    vlan: Vlan
    source: AddressSource

    def __init__(self, reporter: Reporter, patience: float) -> None:
        self.reporter = reporter
        self.patience = patience
        """Seconds that a step may take."""

    @abstractmethod
    def remove_node(self, name: str) -> None:
        """Delete the Node; where the lab runs its machine, that is removed too."""

    # --- Nodes and addresses -------------------------------------------------------------------------------------

    @property
    def nodes(self) -> dict[str, Node]:
        """Name -> machine, of those that have power."""
        return self.vlan.nodes

    @property
    def first_node(self) -> Node:
        return next(iter(self.nodes.values()))

    def overlays(self) -> list[dict[str, Any]]:
        return self.api_server.read_all(NODE_OVERLAY_IPS)

    def addresses(self) -> dict[str, str]:
        """Node -> overlay address in its NodeOverlayIp; an empty text while it has none."""
        return {
            item["metadata"]["name"]: item.get("status", {}).get("ipAddr", "").split("/")[0] for item in self.overlays()
        }

    def reserved(self) -> dict[str, str]:
        """Reserved address -> node."""
        return self.source.reserved()

    def is_ready(self, name: str) -> bool:
        found = [item for item in self.overlays() if item["metadata"]["name"] == name]
        return bool(found) and condition_statuses(found[0]).get("Ready") == "True"

    def wait_ready(self, names: Iterable[str]) -> None:
        listed = list(names)
        wait_until(
            lambda: all(self.is_ready(name) for name in listed), "every NodeOverlayIp is Ready", timeout=self.patience
        )

    # --- The StaticRoute -----------------------------------------------------------------------------------------

    def apply_route(self, **spec: Any) -> None:
        """Create or replace the StaticRoute to the on-premise subnet."""
        subnet = {} if "subnets" in spec else {"subnet": vlan.ON_PREMISE_SUBNET}
        self.api_server.apply(static_route(ROUTE, **{**subnet, **spec}))

    def create_route(self, **spec: Any) -> None:
        """Create the StaticRoute and wait until every node has it."""
        self.apply_route(**spec)
        self.wait_route(len(self.nodes))

    def wait_route(self, nodes: int, timeout: float | None = None) -> None:
        """Wait until the status reports the current generation in place on ``nodes`` nodes."""

        def in_place() -> bool:
            route = self.api_server.read(STATIC_ROUTES, ROUTE)
            status, generation = route.get("status", {}), route["metadata"]["generation"]
            return bool(status.get("ready") == nodes and status.get("observedGeneration") == generation)

        wait_until(in_place, f"StaticRoute {ROUTE} is ready on {nodes} nodes", timeout=timeout or self.patience)

    def wait_no_route(self, node: Node) -> None:
        wait_until(lambda: not node.ip("route", "show", vlan.ON_PREMISE_SUBNET), f"no route on {node.name}")

    def wait_source(self, name: str) -> str:
        """The source address that the on-premise host observes, once a connection from the node succeeds."""
        observed: list[str] = []

        def connected() -> bool:
            try:
                observed.append(observed_source(self.nodes[name], vlan.ON_PREMISE_HOST, timeout=1))
            except Unreachable:
                return False
            return True

        wait_until(connected, f"{name} reaches {vlan.ON_PREMISE_HOST}", timeout=self.patience)
        return observed[-1]

    # --- Reports -------------------------------------------------------------------------------------------------

    def show_addresses(self) -> None:
        """Report the pools, once their counts agree with the source of addresses."""

        def counted() -> bool:
            pools = self.api_server.read_all(OVERLAY_POOLS)
            used = [int(pool.get("status", {}).get("used", 0)) for pool in pools]
            return sum(used) == self.source.used()

        wait_until(counted, "the pools report how many addresses are in use", timeout=self.patience)
        self.reporter.table("kubectl get overlaypools", *self.kubectl_table("overlaypools"))
        self.show_source()

    def show_source(self) -> None:
        table = self.source.table()
        if table is not None:
            self.reporter.table(*table)

    def show_nodes(self) -> None:
        self.reporter.table("kubectl get nodeoverlayips", *self.kubectl_table("nodeoverlayips"))

    def kubectl_table(self, resource: str) -> tuple[list[str], list[list[str]]]:
        """Header and rows of `kubectl get`."""
        return self.api_server.table(resource)
