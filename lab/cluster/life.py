"""The life of an installation, step by step, on a cluster of real kubelets, counted in packets; told and tested alike.

A step raises StoryFailed, ConditionTimeout or CommandFailed when its promise is not kept.
"""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lab.cluster.cluster import Cluster
from lab.cluster.release import NAME, ROUTE, Release
from lab.net import vlan
from lab.net.traffic import Stream
from lab.processes import wait_until
from lab.product import CHART, NAMESPACE
from lab.story import ROUTE_PROTOCOL, Teller, expect

EARLIER = "0.0.9"
CRD = "staticroutes.iks.ibm.com"
# Production waits for minutes where a story cannot.
SETTINGS = {"release_after": "2s", "fence_after": "4s", "log": {"format": "text"}}
VALUES: dict[str, Any] = {"controller": {"settings": SETTINGS}, "test": {"targets": [f"{vlan.ON_PREMISE_HOST}:7000"]}}


@dataclass(frozen=True, slots=True)
class Row:
    """What one step cost."""

    step: str
    seconds: float
    sent: int
    lost: int


class Life:
    def __init__(self, cluster: Cluster, release: Release, tell: Teller) -> None:
        self._cluster = cluster
        self._release = release
        self._api_server = cluster.control_plane
        self.tell = tell
        self.rows: list[Row] = []

    def run(self) -> None:
        """All of it, in the order in which it happens to an installation."""
        self.install()
        self.prove()
        self.upgrade()
        self.roll_back()
        self.kill_the_leader()
        self.kill_a_kubelet(vlan.NODE_NAMES[0])
        self.reboot(vlan.NODE_NAMES[0])
        self.remove(vlan.NODE_NAMES[2])
        self.uninstall()

    # --- The steps -----------------------------------------------------------------------------------------------

    def install(self) -> None:
        with self._step("helm install of an earlier chart, from values"):
            self._release.install(earlier_chart(self._cluster.directory), **VALUES)
            self._release.add_route()
            self._show("nodeoverlayips")

    def prove(self) -> None:
        with self._step("every node is seen on-premise with its own overlay address, without NAT"):
            addresses = self._release.addresses()
            seen = {node: self._release.wait_source(node) for node in self._cluster.nodes}
            self.tell.table("seen on-premise", ("NODE", "SOURCE"), list(seen.items()))
            expect(seen == addresses, f"on-premise {seen} was seen, and the objects say {addresses}")
            expect(len(set(seen.values())) == len(seen), "two nodes share an address")
        with self._step("helm test"):
            self._release.test()

    def upgrade(self) -> None:
        with self._step("helm upgrade: another image, values and definition", self._cluster.nodes):
            before, pods = self._release.addresses(), self._pod_names()
            self._release.upgrade({"agent": {"settings": {"resync_interval": "30s"}}, **VALUES})
            expect(self._release.addresses() == before, "an address changed")
            expect(not pods & self._pod_names(), "a pod of before runs on")
            expect(self._description() == _description(_crd(CHART)), f"definition {CRD} was not upgraded")

    def roll_back(self) -> None:
        with self._step("helm rollback", self._cluster.nodes):
            before, pods = self._release.addresses(), self._pod_names()
            self._release.roll_back()
            expect(self._release.addresses() == before, "an address changed")
            expect(not pods & self._pod_names(), "a pod of the upgrade runs on")

    def kill_the_leader(self) -> None:
        with self._step("the leading controller is killed", self._cluster.nodes):
            leader = self._leader()
            self._api_server.kubectl(
                "delete", "pod", leader, f"--namespace={NAMESPACE}", "--grace-period=0", "--force", "--wait=false"
            )
            wait_until(lambda: self._leader() not in ("", leader), "another one leads", timeout=60)
            self._release.add_route(subnets=[vlan.ON_PREMISE_SUBNET, "192.168.7.0/24"])
            self._wait_programmed()

    def kill_a_kubelet(self, name: str) -> None:
        with self._step("a kubelet is killed, and comes back", self._cluster.nodes):
            node = self._cluster.nodes[name]
            before = node.containers()
            node.kubelet.kill9()
            node.kubelet.start()
            node.wait_kubelet()
            expect(node.containers() == before, "containers were started anew")

    def reboot(self, name: str) -> None:
        with self._step(f"node {name} loses power and boots again", self._others(name)):
            before = self._release.addresses()
            self._cluster.power_off(name)
            wait_until(lambda: name not in self._cluster.ready_nodes(), f"{name} is missed", timeout=60)
            self._cluster.power_on(name)
            source = self._release.wait_source(name)
            expect(source == before[name], f"it came back as {source}, and was {before[name]}")
            expect(self._release.addresses() == before, "an address changed")
            wait_until(self._all_ready, "every NodeOverlayIp is Ready", timeout=60)

    def remove(self, name: str) -> None:
        with self._step(f"node {name} is removed: its address is free again", self._others(name)):
            address = self._release.addresses()[name]
            self._cluster.remove_node(name)
            wait_until(lambda: address not in self._release.reserved().values(), f"{address} is free", timeout=90)
            expect(name not in self._release.addresses(), f"NodeOverlayIp {name} is still there")

    def uninstall(self) -> None:
        with self._step("helm uninstall: nothing of it is left"):
            self._release.uninstall()
            for node in self._cluster.nodes.values():
                links = node.machine.ip("-br", "link")
                expect("tmp0" not in links, f"{node.name} has its link still: {links}")
                routes = node.machine.ip("route", "show", "table", "all", "proto", ROUTE_PROTOCOL)
                expect(not routes, f"{node.name} has routes still: {routes}")
                state = node.machine.run("ls", "/var/lib/overlay-net")
                expect(not state.strip(), f"{node.name} keeps a state still: {state}")
            for kind in ("nodeoverlayips", "overlayaddresses", "overlaypools"):
                left = self._api_server.get(kind)["items"]
                expect(not left, f"{kind} are left: {left}")
            (route,) = self._api_server.get("staticroutes")["items"]
            expect(not route["metadata"].get("finalizers"), f"a finalizer is left: {route['metadata']}")
            owned = "app.kubernetes.io/name=overlay-net"
            kinds = "clusterroles,clusterrolebindings,roles,rolebindings,validatingadmissionpolicies,"
            kinds += "validatingadmissionpolicybindings,deployments,daemonsets,jobs,pods,configmaps,serviceaccounts"
            left = self._api_server.get(kinds, "--all-namespaces", f"--selector={owned}")["items"]
            names = [f"{each['kind']} {each['metadata']['name']}" for each in left]
            expect(not left, f"objects are left: {', '.join(names)}")

    def table(self) -> tuple[str, Sequence[str], Sequence[Sequence[str]]]:
        """Title, headers and rows of what all steps cost."""
        rows = [
            (row.step, f"{row.seconds:.1f}", str(row.sent) if row.sent else "-", str(row.lost) if row.sent else "-")
            for row in self.rows
        ]
        return "packets at 100 a second from each node", ("STEP", "SECONDS", "SENT", "LOST"), rows

    @contextmanager
    def _step(self, text: str, flowing: Sequence[str] | dict[str, Any] = ()) -> Iterator[None]:
        """Packets flow meanwhile from the nodes ``flowing``, and none may be lost."""
        self.tell.step(text)
        streams = [Stream(self._cluster.nodes[name].machine, vlan.ON_PREMISE_HOST) for name in flowing]
        began = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            counts = [stream.stop() for stream in streams]
        sent, lost = sum(count.sent for count in counts), sum(count.lost for count in counts)
        self.rows.append(Row(text, seconds, sent, lost))
        if counts:
            self.tell.fact(f"{sent} packets sent, {lost} lost")
        expect(lost == 0, f"{lost} of {sent} packets were lost: {text}")

    # --- Looking -------------------------------------------------------------------------------------------------

    def _show(self, kind: str) -> None:
        wait_until(self._all_ready, "every NodeOverlayIp is Ready", timeout=60)
        for line in self._api_server.kubectl("get", kind).splitlines():
            self.tell.fact(line)

    def _all_ready(self) -> bool:
        items = self._api_server.get("nodeoverlayips")["items"]
        ready = [
            each["type"] == "Ready" and each["status"] == "True"
            for item in items
            for each in item.get("status", {}).get("conditions", [])
        ]
        return len(items) == len(self._cluster.nodes) and sum(ready) == len(items)

    def _wait_programmed(self) -> None:
        def programmed() -> bool:
            route = self._api_server.get("staticroute", ROUTE)
            status, generation = route.get("status", {}), route["metadata"]["generation"]
            return bool(
                status.get("observedGeneration") == generation and status.get("ready") == len(self._cluster.nodes)
            )

        wait_until(programmed, f"StaticRoute {ROUTE} is in place on every node", timeout=60)

    def _others(self, name: str) -> list[str]:
        return [each for each in self._cluster.nodes if each != name]

    def _pod_names(self) -> set[str]:
        return {pod["metadata"]["name"] for pod in self._release.pods()}

    def _leader(self) -> str:
        """Name of the pod that holds the lease; empty while nobody does."""
        spec = self._api_server.get("lease", f"{NAME}-controller", f"--namespace={NAMESPACE}")["spec"]
        return str(spec.get("holderIdentity") or "").partition("_")[0]

    def _description(self) -> str:
        return _description(self._api_server.get("crd", CRD))


def earlier_chart(directory: Path) -> Path:
    """A chart as it was a version ago: with another definition of StaticRoutes."""
    chart = directory / "earlier"
    shutil.copytree(CHART, chart)
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about | {"version": EARLIER}))
    crd = _crd(chart)
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "As it was a version ago."
    del crd["spec"]["versions"][0]["additionalPrinterColumns"][0]
    (chart / "crds" / "staticroutes.yaml").write_text(json.dumps(crd))
    return chart


def _crd(chart: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((chart / "crds" / "staticroutes.yaml").read_text())
    return found


def _description(crd: dict[str, Any]) -> str:
    return str(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"])
