"""A cluster in which everything reports to be healthy, without controllers and agents: faults are planted in it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from lab.cluster.api_server import ApiServer
from lab.manifests import node_manifest
from lab.product import NAMESPACE
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.lease import micro_time
from overlay_net.model.names import LEASES, NODE_OVERLAY_IPS, NODES, OVERLAY_POOLS, PODS
from tests.component.test_controller import add_pool

SINCE = "2026-01-01T00:00:00Z"
GATEWAY = "192.168.100.1"
CONTROLLER, AGENT = "overlay-net-controller", "overlay-net-agent"
KERNEL: dict[str, Any] = {
    "links": [
        {"name": "eth0", "up": True, "mtu": 1500, "mac": "02:00:00:00:00:01"},
        {"name": "tmp0", "up": True, "mtu": 1500, "mac": "02:00:00:00:00:02", "parent": "eth0", "alias": "overlay-net"},
    ],
    "addresses": [{"link": "tmp0", "address": "192.168.100.11/24"}],
    "routes": [{"subnet": "192.168.0.0/24", "links": ["tmp0"], "gateways": [GATEWAY], "table": 254, "protocol": 117}],
    "rules": [],
    "neighbours": [
        {"link": "eth0", "address": "10.0.0.1", "state": "REACHABLE"},
        {"link": "tmp0", "address": GATEWAY, "state": "STALE"},
    ],
    "sysctls": {"all.rp_filter": "0", "eth0.rp_filter": "2", "tmp0.rp_filter": "2"},
    "natHooks": [{"family": "ip", "table": "nat", "chain": "POSTROUTING"}],
    "nat": [
        {
            "family": "ip",
            "table": "nat",
            "chain": "POSTROUTING",
            "matches": [{"field": "source", "networks": ["10.244.0.0/16"]}],
            "action": "masquerade",
            "text": "saddr 10.244.0.0/16 masquerade",
        }
    ],
}
"""The kernel of n1 as its agent describes it."""


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": SINCE}


REPORTED = (
    condition("Configured", "True", "Configured"),
    condition("GatewayReachable", "True", "Reachable"),
    condition("Ready", "True", "Ready"),
)


class HealthyCluster:
    """Nodes n1 and n2 with their objects, pods and Leases. ``port`` is that of the kubelet of both."""

    def __init__(self, admin: KubeApi, api_server: ApiServer, port: int) -> None:
        self.admin = admin
        self.api_server = api_server
        self._port = port
        self._images: dict[str, str] = {}
        self._labels: dict[str, dict[str, str]] = {}
        self.pod_address = ""
        """Address of the pods that are changed from now on; empty: they have none."""

    async def build(self) -> None:
        await add_pool(self.admin)
        await self.set_pool(condition("Ready", "True", "Ready"))
        for kind, name in (("deployment", CONTROLLER), ("daemonset", AGENT)):
            template = self.api_server.get(kind, name, f"--namespace={NAMESPACE}")["spec"]["template"]
            self._images[name] = template["spec"]["containers"][0]["image"]
            self._labels[name] = template["metadata"]["labels"]
        await self.add_pod("controller-1", "controller", "n1")
        for number, name in enumerate(("n1", "n2"), start=11):
            await self.admin.create(NODES, node_manifest(name))
            addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
            endpoints = {"kubeletEndpoint": {"Port": self._port}}
            node = {"status": {"addresses": addresses, "daemonEndpoints": endpoints}}
            await self.admin.merge_patch(NODES, name, node, subresource="status")
            await self.admin.create(NODE_OVERLAY_IPS, NODE_OVERLAY_IPS.manifest(name, spec={"routeSets": []}))
            await self.report(name, number=number)
            await self.add_pod(f"agent-{name}", "agent", name)
        now = micro_time(datetime.now(UTC))
        for namespace, name, holder in (
            (NAMESPACE, CONTROLLER, "controller-1"),
            ("kube-system", "overlay-net", f"{NAMESPACE}/{CONTROLLER}"),
        ):
            spec = {"holderIdentity": holder, "leaseDurationSeconds": 600, "renewTime": now}
            self.kubectl("delete", "lease", name, f"--namespace={namespace}", "--ignore-not-found")
            await self.admin.create(LEASES, LEASES.manifest(name, namespace=namespace, spec=spec), namespace=namespace)

    async def remove(self) -> None:
        pods = ("controller-1", "agent-n1", "agent-n2")
        self.kubectl("delete", "pods", *pods, f"--namespace={NAMESPACE}", "--force", "--ignore-not-found")
        self.kubectl("delete", "lease", CONTROLLER, f"--namespace={NAMESPACE}", "--ignore-not-found")
        self.kubectl("delete", "lease", "overlay-net", "--namespace=kube-system", "--ignore-not-found")

    def kubectl(self, *arguments: str) -> str:
        return self.api_server.kubectl(*arguments)

    async def set_pool(self, *conditions: dict[str, Any]) -> None:
        status = {"cidr": "192.168.100.0/24", "gateway": GATEWAY, "used": 2, "free": 200, "total": 253}
        patch = {"status": {**status, "conditions": list(conditions)}}
        await self.admin.merge_patch(OVERLAY_POOLS, "p1", patch, subresource="status")

    async def report(self, name: str, *changed: dict[str, Any], number: int = 11, **status: Any) -> None:
        """Write the status of a node that is healthy but for the changed conditions and fields."""
        types = {each["type"] for each in changed}
        kept = [each for each in (condition("Reserved", "True", "Reserved"), *REPORTED) if each["type"] not in types]
        content = {
            "ipAddr": f"192.168.100.{number}/24",
            "gateway": GATEWAY,
            "configuredIpAddr": f"192.168.100.{number}/24",
            "interface": "eth0",
            "interfaceLabel": "tmp0",
            "observedGeneration": 1,
            "conditions": [*kept, *changed],
        }
        await self.admin.merge_patch(NODE_OVERLAY_IPS, name, {"status": {**content, **status}}, subresource="status")

    async def add_pod(self, name: str, component: str, node: str) -> None:
        """``component`` may also be that of a job."""
        template = self._labels[CONTROLLER if component == "controller" else AGENT]
        labels = template | {"app.kubernetes.io/component": component}
        ports = [{"name": "metrics", "containerPort": 9477}]
        image = self._images[CONTROLLER if component == "controller" else AGENT]
        spec = {"nodeName": node, "containers": [{"name": component, "image": image, "ports": ports}]}
        manifest = PODS.manifest(name, namespace=NAMESPACE, labels=labels, spec=spec)
        await self.admin.create(PODS, manifest, namespace=NAMESPACE)
        await self.set_pod(name, ready=True)

    async def set_pod(self, name: str, *, ready: bool, **state: Any) -> None:
        """``state`` is that of the container."""
        conditions = [{"type": "Ready", "status": str(ready)}, {"type": "PodScheduled", "status": "True"}]
        container = {"name": name.partition("-")[0], "ready": ready, "restartCount": 0, "image": "", "imageID": ""}
        statuses = [{**container, "state": state or {"running": {"startedAt": SINCE}}}]
        status = {"phase": "Running", "conditions": conditions, "containerStatuses": statuses}
        if self.pod_address:
            status |= {"podIP": self.pod_address, "podIPs": [{"ip": self.pod_address}]}
        await self.admin.merge_patch(PODS, name, {"status": status}, namespace=NAMESPACE, subresource="status")

    @asynccontextmanager
    async def patched(self, kind: str, name: str, path: str, value: object, *options: str) -> AsyncIterator[None]:
        """Replace a value of an object, or remove it (None), and restore it afterwards."""
        before: Any = self.api_server.get(kind, name, *options)
        for part in path.strip("/").split("/"):
            before = before[int(part)] if isinstance(before, list) else before[part]
        change = [{"op": "remove", "path": path} if value is None else {"op": "replace", "path": path, "value": value}]
        self._patch(kind, name, change, options)
        try:
            yield
        finally:
            self._patch(kind, name, [{"op": "add", "path": path, "value": before}], options)

    def _patch(self, kind: str, name: str, change: list[dict[str, Any]], options: tuple[str, ...]) -> None:
        self.kubectl("patch", kind, name, "--type=json", f"--patch={json.dumps(change)}", *options)
