"""The cluster: a control plane and nodes with kubelets on the lab's VLAN, which join, fail and leave."""

import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab.cluster.cgroups import Cgroups
from lab.cluster.control_plane import API_PORT, SERVICE_ADDRESS, ControlPlane
from lab.cluster.images import write_pause_image
from lab.cluster.machine import Machine
from lab.cluster.node import ClusterNode
from lab.cluster.programs import Programs
from lab.net import vlan
from lab.net.vlan import Vlan
from lab.processes import run

LABELS = {"topology.kubernetes.io/region": "us-south", "topology.kubernetes.io/zone": "dal10"}
# Nodes share two processors, each unpacks images, and other work may run on the machine.
READY_SECONDS = 120.0


class Cluster:
    """Requires private namespaces, in which it creates links; all it creates is removed when it is closed."""

    def __init__(
        self,
        directory: Path,
        programs: Programs,
        images: Sequence[Path] = (),
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        """``images`` are OCI archives that every node imports before its kubelet starts."""
        self.directory = directory
        self.programs = programs
        self.nodes: dict[str, ClusterNode] = {}
        self.vlan: Vlan
        self.control_plane: ControlPlane
        self._progress = progress
        self._disks = directory / "disks"
        self._images = [directory / "pause.tar", *images]
        self._cgroups = Cgroups(f"overlay-net-{uuid.uuid4().hex[:8]}")
        self._joined = 0
        self._open = ExitStack()

    def start(self, names: Sequence[str] = vlan.NODE_NAMES) -> None:
        """Start control plane and nodes; returns when all nodes are Ready."""
        self.directory.mkdir(parents=True, exist_ok=True)
        write_pause_image(self.programs.pause, self._images[0])
        self._open.callback(self._cgroups.remove)
        self._mount_disks()
        self.vlan = Vlan((), self._make_machine)
        self._open.callback(self.vlan.close)
        service = (f"{SERVICE_ADDRESS}/32", "dev", "lo")
        run(["ip", "address", "add", *service])
        self._open.callback(run, ["ip", "address", "delete", *service])
        self._progress("starting the control plane")
        self.control_plane = ControlPlane.start(
            self.directory / "control-plane",
            self.programs.assets,
            addresses=(vlan.CONTROL_PLANE_ADDRESS,),
            port=API_PORT,
        )
        self._open.callback(self.control_plane.stop)
        self.control_plane.start_controllers(self.programs)
        self._progress("starting the nodes")
        self.add_nodes(*names)
        self.wait_ready(*names)

    def _mount_disks(self) -> None:
        # In memory: they disappear with the lab's mount namespace, however it ends.
        self._disks.mkdir()
        run(["mount", "-t", "tmpfs", "tmpfs", str(self._disks)])
        self._open.callback(run, ["umount", str(self._disks)])

    # --- Nodes ---------------------------------------------------------------------------------------------------

    def add_nodes(self, *names: str) -> None:
        """Add machines with empty disks, which join the cluster."""
        for name in names:
            self._joined += 1
            folder = self.directory / "nodes" / name
            subnet = f"10.244.{self._joined}.0/24"
            disk = self._disks / name
            self.nodes[name] = ClusterNode(name, subnet, LABELS, self.control_plane, self.programs, folder, disk)
        self.control_plane.apply(*(self.nodes[name].manifest() for name in names))
        self.power_on(*names)

    def power_on(self, *names: str) -> None:
        machines = {name: self.vlan.add_node(name) for name in names}
        for name in names:
            self._join_pod_network(self.nodes[name])
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda name: self._boot(name, machines[name]), names))

    def power_off(self, name: str) -> None:
        """A power failure: the node's disk stays, and its Node is not changed."""
        self.vlan.remove_node(name)
        self.nodes[name].lost_power()

    def remove_node(self, name: str) -> None:
        """Remove the machine with its disk, and delete its Node."""
        self.power_off(name)
        self.control_plane.kubectl("delete", "node", name)
        self.nodes.pop(name).discard()

    def wait_ready(self, *names: str) -> None:
        for name in names:
            self.nodes[name].kubelet.wait_for(
                lambda name=name: name in self.ready_nodes(),  # type: ignore[misc]
                f"{name} is Ready",
                timeout=READY_SECONDS,
            )

    def ready_nodes(self) -> set[str]:
        return {item["metadata"]["name"] for item in self.control_plane.get("nodes")["items"] if _is_ready(item)}

    def _make_machine(self, name: str, port: str) -> Machine:
        return self.nodes[name].make_machine(port, self._cgroups)

    def _boot(self, name: str, machine: vlan.Node) -> None:
        assert isinstance(machine, Machine)
        self.nodes[name].boot(machine, self._images)

    def _join_pod_network(self, node: ClusterNode) -> None:
        """Add routes between the pods of all nodes and the control plane, instead of a pod overlay network."""
        run(["ip", "route", "replace", node.pod_subnet, "via", node.name])
        for other in self.nodes.values():
            if other is node or other.name not in self.vlan.nodes:
                continue
            self.vlan.nodes[node.name].ip("route", "replace", other.pod_subnet, "via", other.name)
            self.vlan.nodes[other.name].ip("route", "replace", node.pod_subnet, "via", node.name)

    # --- End -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Idempotent; also for a cluster whose start was interrupted."""
        self._open.close()
        for node in self.nodes.values():
            node.lost_power()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
