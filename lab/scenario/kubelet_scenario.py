"""The scenario on kubelets: the chart from `helm install` through upgrade and failures to `helm uninstall`."""

import json
import re
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import yaml

from lab.cluster.release import NAME
from lab.net import vlan
from lab.processes import run, wait_until
from lab.product import CHART, NAMESPACE
from lab.scenario import planted_secrets
from lab.scenario.foreign import OVERLAY_LINK, ROUTE_PROTOCOL
from lab.scenario.kubelet_lab import KubeletLab
from lab.scenario.planted_secrets import find_secrets
from lab.scenario.steps import Scenario, expect

EARLIER_VERSION = "0.0.9"
CRD = "staticroutes.iks.ibm.com"
EARLIER_SELECTORS = """
{{- define "overlay-net.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
helm.sh/chart: overlay-net-0.0.9
{{- end -}}
{{- define "overlay-net.workloadSelector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}
"""
"""Labels and selectors of the pods before selectors had a name."""
# Production waits for minutes where a scenario cannot.
SETTINGS = {"release_after": "2s", "fence_after": "4s", "log": {"format": "text"}}
VALUES: dict[str, Any] = {
    "controller": {"settings": SETTINGS},
    "test": {"targets": [f"{vlan.ON_PREMISE_HOST}:7000"]},
    **planted_secrets.VALUES,
}
SECRET = re.compile(r"eyJ[\w-]{8,}\.[\w-]+\.|PRIVATE KEY")
"""A JSON Web Token, or a key."""
SECOND_SUBNET = "192.168.7.0/24"
OWNED_KINDS = (
    "clusterroles",
    "clusterrolebindings",
    "roles",
    "rolebindings",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "deployments",
    "daemonsets",
    "jobs",
    "pods",
    "configmaps",
    "serviceaccounts",
)


class KubeletScenario(Scenario[KubeletLab]):
    def begin(self) -> None:
        """Everything up to traffic from each node."""
        self.install()
        self.create_route()
        self.check_traffic()
        self.helm_test()

    def run(self) -> None:
        first, *_, last = vlan.NODE_NAMES
        self.begin()
        self.diagnose()
        self.change_gateway()
        self.check_traffic()
        self.repair_route()
        self.upgrade()
        self.roll_back()
        self.kill_leader()
        self.delete_namespace()
        self.kill_kubelet(first)
        self.power_cycle(first)
        self.remove_node(last)
        self.uninstall()

    def install(self) -> None:
        with self._step("helm install of an earlier chart, with values"):
            self.lab.release.install(earlier_chart(self.lab.cluster.directory), **VALUES)
            self.lab.wait_ready(self.lab.nodes)
            self.lab.show_nodes()

    def helm_test(self) -> None:
        with self._step("helm test"):
            self.lab.release.test()

    def diagnose(self) -> None:
        with self._step("overlay-net doctor and sysdump, and overlay-net status in the pod of a controller"):
            first = next(iter(self.lab.nodes))
            found = json.loads(self._overlay_net("doctor", first, "--output=json"))
            wrong = [each for each in found["checks"] if each["verdict"] != "ok"]
            expect(not wrong, f"doctor found {wrong}")
            status = ("exec", f"--namespace={NAMESPACE}", f"deploy/{NAME}-controller", "--", "overlay-net", "status")
            expect("healthy" in self.lab.api_server.kubectl(*status), "the status in the pod is not healthy")
            archive = self.lab.cluster.directory / "sysdump.tar.gz"
            dump = json.loads(self._overlay_net("sysdump", f"--archive={archive}", "--output=json"))
            expect(not dump["errors"], f"sysdump could not collect {dump['errors']}")
            content = read_archive(archive)
            kernels = [name for name in content if name.startswith("sysdump/nodes/")]
            expect(len(kernels) == len(self.lab.nodes), f"sysdump has {kernels}")
            secrets = find_secrets(self.lab.api_server, self.lab.nodes.values())
            for name, text in content.items():
                leaked = [each for each in secrets if each in text]
                expect(not leaked and not SECRET.search(text), f"{name} in the archive has a secret: {leaked}")

    def _overlay_net(self, *arguments: str) -> str:
        """The standard output of a command for people, as administrator."""
        return run([sys.executable, "-m", "overlay_net", *arguments, f"--kubeconfig={self.lab.api_server.admin()}"])

    def upgrade(self) -> None:
        with self._step("helm upgrade to another image, other values and another CRD", self.lab.nodes):
            before, pods = self.lab.addresses(), self._pod_names()
            agent = VALUES["agent"] | {"settings": {"resync_interval": "30s"}}
            self.lab.release.upgrade(VALUES | {"agent": agent})
            self._expect_addresses(before)
            expect(not pods & self._pod_names(), "a pod of the earlier release is still running")
            served = _description(self.lab.api_server.get("crd", CRD))
            expect(served == _description(_crd(CHART)), f"CRD {CRD} was not upgraded")

    def roll_back(self) -> None:
        with self._step("helm rollback", self.lab.nodes):
            before, pods = self.lab.addresses(), self._pod_names()
            self.lab.release.roll_back()
            self._expect_addresses(before)
            expect(not pods & self._pod_names(), "a pod of the upgraded release is still running")

    def kill_leader(self) -> None:
        with self._step("Delete the leader's pod without grace; another controller takes over", self.lab.nodes):
            leader = self._leader()
            self.lab.api_server.kubectl(
                "delete", "pod", leader, f"--namespace={NAMESPACE}", "--grace-period=0", "--force", "--wait=false"
            )
            wait_until(
                lambda: self._leader() not in ("", leader), "another pod is the leader", timeout=self.lab.patience
            )
            self.lab.apply_route(subnets=[vlan.ON_PREMISE_SUBNET, SECOND_SUBNET])
            self.lab.wait_route(len(self.lab.nodes))

    def delete_namespace(self) -> None:
        """Instead of an uninstall: nodes keep what they have, and the same install again takes it over."""
        with self._step("kubectl delete namespace, and the same helm install again", self.lab.nodes):
            before = self.lab.addresses()
            self.lab.api_server.kubectl("delete", "namespace", NAMESPACE, "--timeout=90s")
            self._expect_addresses(before)
            self.lab.release.install(**VALUES)
            self.lab.apply_route(subnets=[vlan.ON_PREMISE_SUBNET])
            self.lab.wait_route(len(self.lab.nodes))
            self._expect_addresses(before)

    def kill_kubelet(self, name: str) -> None:
        with self._step(f"Kill the kubelet of {name} and start it again", self.lab.nodes):
            node = self.lab.cluster.nodes[name]
            before = node.containers()
            node.kubelet.kill9()
            node.kubelet.start()
            node.wait_kubelet()
            expect(node.containers() == before, "containers were restarted")

    def power_cycle(self, name: str) -> None:
        cluster = self.lab.cluster
        others = [each for each in self.lab.nodes if each != name]
        with self._step(f"Cut the power of node {name} and boot it again", others):
            before = self.lab.addresses()
            cluster.power_off(name)
            wait_until(lambda: name not in cluster.ready_nodes(), f"{name} is not Ready", timeout=self.lab.patience)
            cluster.power_on(name)
            source = self.lab.wait_source(name)
            expect(source == before[name], f"the source is {source} after the boot, and was {before[name]}")
            self._expect_addresses(before)
            self.lab.wait_ready(self.lab.nodes)

    def uninstall(self) -> None:
        with self._step("helm uninstall; nothing of the product remains except its CRDs and StaticRoutes"):
            self.lab.release.uninstall()
            for name, node in self.lab.nodes.items():
                links = node.ip("-br", "link")
                expect(OVERLAY_LINK not in links, f"{name} still has its overlay link: {links}")
                routes = node.ip("route", "show", "table", "all", "proto", ROUTE_PROTOCOL)
                expect(not routes, f"{name} still has routes: {routes}")
                files = node.run("ls", "/var/lib/overlay-net")
                expect(not files.strip(), f"{name} still has a checkpoint: {files}")
            for kind in ("nodeoverlayips", "overlayrouteslices", "overlayaddresses", "overlaypools"):
                left = self.lab.api_server.get(kind)["items"]
                expect(not left, f"{kind} remain: {left}")
            (route,) = self.lab.api_server.get("staticroutes")["items"]
            expect(not route["metadata"].get("finalizers"), f"a finalizer remains: {route['metadata']}")
            selector = "--selector=app.kubernetes.io/name=overlay-net"
            left = self.lab.api_server.get(",".join(OWNED_KINDS), "--all-namespaces", selector)["items"]
            names = [f"{each['kind']} {each['metadata']['name']}" for each in left]
            expect(not left, f"objects remain: {', '.join(names)}")

    def _expect_addresses(self, before: dict[str, str]) -> None:
        after = self.lab.addresses()
        expect(after == before, f"the addresses changed from {before} to {after}")

    def _pod_names(self) -> set[str]:
        return {pod["metadata"]["name"] for pod in self.lab.release.pods()}

    def _leader(self) -> str:
        """Name of the pod that holds the lease; an empty text while none does."""
        spec = self.lab.api_server.get("lease", f"{NAME}-controller", f"--namespace={NAMESPACE}")["spec"]
        return str(spec.get("holderIdentity") or "").partition("_")[0]


def read_archive(archive: Path) -> dict[str, str]:
    """Name -> text of the members."""
    with tarfile.open(archive) as tar:
        files = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        return {name: file.read().decode() for name, file in files.items() if file is not None}


def earlier_chart(directory: Path) -> Path:
    """A copy of the chart with an earlier version, other selectors, and another CRD of StaticRoutes."""
    chart = directory / "earlier"
    shutil.copytree(CHART, chart)
    metadata = yaml.safe_load((chart / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(yaml.safe_dump(metadata | {"version": EARLIER_VERSION}))
    crd = _crd(chart)
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "An earlier version of the schema."
    del crd["spec"]["versions"][0]["additionalPrinterColumns"][0]
    (chart / "crds" / "staticroutes.yaml").write_text(json.dumps(crd))
    # helm parses the templates of a folder in descending order, and the last definition of a name counts.
    (chart / "templates" / "_earlier.tpl").write_text(EARLIER_SELECTORS)
    return chart


def _crd(chart: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((chart / "crds" / "staticroutes.yaml").read_text())
    return found


def _description(crd: dict[str, Any]) -> str:
    return str(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"])
