"""The steps that every lab can take, each with the packets that it lost.

A step raises ScenarioFailed, ConditionTimeout or CommandFailed if what it promises does not hold.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from lab.net import vlan
from lab.net.traffic import Stream, Unreachable, observed_source
from lab.processes import wait_until
from lab.scenario.lab import ROUTE, Lab

LabT = TypeVar("LabT", bound=Lab)


class ScenarioFailed(Exception):
    """A step did not have the expected result; the text names the difference."""


@dataclass(frozen=True, slots=True)
class StepResult:
    step: str
    seconds: float
    sent: int
    lost: int


class Scenario(Generic[LabT]):
    def __init__(self, lab: LabT) -> None:
        self.lab = lab
        self.reporter = lab.reporter
        self.results: list[StepResult] = []

    def create_route(self) -> None:
        with self._step(f"Create a StaticRoute to {vlan.ON_PREMISE_SUBNET} through the overlay gateway"):
            self.lab.create_route()
            self.reporter.table("kubectl get staticroutes", *self.lab.kubectl_table("staticroutes"))

    def check_traffic(self) -> None:
        """Every node reaches the on-premise host, which observes the reserved overlay address as the source."""
        with self._step(f"Connect from each node to {vlan.ON_PREMISE_HOST}, which reports the source it observes"):
            addresses, reserved = self.lab.addresses(), self.lab.reserved()
            observed = {name: observed_source(node, vlan.ON_PREMISE_HOST) for name, node in self.lab.nodes.items()}
            routes = {
                name: node.ip("route", "show", vlan.ON_PREMISE_SUBNET).strip() for name, node in self.lab.nodes.items()
            }
            title = "overlay IP of the object, source on the on-premise host, route of the kernel"
            rows = [(name, addresses[name], observed[name], routes[name]) for name in self.lab.nodes]
            self.reporter.table(title, ("NODE", "OVERLAY IP", "SOURCE", "ROUTE"), rows)
            expect(observed == addresses, f"the sources are {observed}, the addresses in the objects {addresses}")
            expect(len(set(observed.values())) == len(observed), f"two nodes share an address: {observed}")
            owners = {address: name for name, address in addresses.items()}
            expect(reserved == owners, f"the reservations are {reserved}, the addresses in the objects {owners}")
            for name, route in routes.items():
                expect(f"src {addresses[name]}" in route, f"{name}: the route is {route!r}")

    def change_gateway(self) -> None:
        gateway = vlan.OTHER_OVERLAY_GATEWAY
        with self._step(f"Change the gateway of the StaticRoute to {gateway}", self.lab.nodes):
            self.lab.apply_route(gateway=gateway)
            self.lab.wait_route(len(self.lab.nodes))
            for node in self.lab.nodes.values():
                route = node.ip("route", "show", vlan.ON_PREMISE_SUBNET)
                expect(f"via {gateway} " in route, f"{node.name}: the route is {route!r}")

    def repair_route(self) -> None:
        node = self.lab.first_node
        with self._step(f"Delete the route in the kernel of {node.name}; the agent restores it"):
            node.ip("route", "delete", vlan.ON_PREMISE_SUBNET)
            began = time.monotonic()
            shown = ("route", "show", vlan.ON_PREMISE_SUBNET)
            wait_until(lambda: bool(node.ip(*shown)), "the route is restored", timeout=self.lab.patience, every=0.002)
            self.reporter.fact(f"restored after {1000 * (time.monotonic() - began):.0f} ms")

    def remove_node(self, name: str) -> None:
        others = [each for each in self.lab.nodes if each != name]
        with self._step(f"Remove node {name}; its address becomes free", others):
            address = self.lab.addresses()[name]
            self.lab.remove_node(name)
            patience = self.lab.patience
            wait_until(lambda: address not in self.lab.reserved(), f"{address} is free", timeout=patience)
            wait_until(lambda: name not in self.lab.addresses(), f"NodeOverlayIp {name} is gone", timeout=patience)
            if name in self.lab.nodes:
                left = self.lab.nodes[name].ip("-o", "address", "show", "to", f"{address}/32")
                expect(not left, f"{address} was released while the node still has it: {left}")
        self.lab.show_addresses()

    def delete_route(self) -> None:
        with self._step("Delete the StaticRoute; no node has a route to the subnet"):
            self.lab.api_server.kubectl("delete", "staticroute", ROUTE, "--timeout=30s")
            for node in self.lab.nodes.values():
                self.lab.wait_no_route(node)
            try:
                source = observed_source(self.lab.first_node, vlan.ON_PREMISE_HOST, timeout=0.5)
            except Unreachable:
                self.reporter.fact(f"{vlan.ON_PREMISE_HOST} is unreachable, as expected")
            else:
                raise ScenarioFailed(f"{vlan.ON_PREMISE_HOST} still answers, to {source}")

    def table(self) -> tuple[str, Sequence[str], Sequence[Sequence[str]]]:
        """Title, headers and rows of the results."""
        rows = [
            (f"{each.seconds:.1f}", str(each.sent or "-"), str(each.lost) if each.sent else "-", each.step)
            for each in self.results
        ]
        return "packets at 100 per second from each node", ("SECONDS", "SENT", "LOST", "STEP"), rows

    @contextmanager
    def _step(self, text: str, senders: Iterable[str] = ()) -> Iterator[None]:
        """Report and time a step, during which no packet from the nodes ``senders`` may be lost."""
        self.reporter.step(text)
        streams = [Stream(self.lab.nodes[name], vlan.ON_PREMISE_HOST) for name in senders]
        began = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            counts = [stream.stop() for stream in streams]
        sent, lost = sum(count.sent for count in counts), sum(count.lost for count in counts)
        self.results.append(StepResult(text, seconds, sent, lost))
        if counts:
            gap = max(count.longest_gap_ms for count in counts)
            self.reporter.fact(f"{sent} packets sent, {lost} lost, longest gap {gap} ms")
        expect(lost == 0, f"{lost} of {sent} packets were lost: {text}")


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ScenarioFailed(otherwise)
