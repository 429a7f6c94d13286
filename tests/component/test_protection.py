"""Protected subnets with a real API server: sources that fail at first, CNIs, and Nodes that claim a routed subnet."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from lab.cluster.api_server import ApiServer
from lab.manifests import node_manifest
from lab.product import NAMESPACE
from overlay_net.adapters.kube import Connection, KubeApi, connect_agent
from overlay_net.model.names import (
    CALICO_POOLS,
    CILIUM_NODES,
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    NODE_OVERLAY_IPS,
    NODES,
    SERVICE_CIDRS,
    STATIC_ROUTES,
    Resource,
)
from tests.component.controller_process import controller
from tests.component.eventually import eventually
from tests.component.slices import node_routes
from tests.component.test_controller import add_pool, create, have_addresses, join
from tests.component.test_events import expect_event
from tests.component.test_routing import condition


async def claim(api: KubeApi, name: str, address: str) -> None:
    """A Node joins, and its kubelet reports this InternalIP."""
    await api.create(NODES, node_manifest(name))
    status = {"addresses": [{"type": "InternalIP", "address": address}]}
    await api.apply(NODES, name, NODES.manifest(name, status=status), field_manager="kubelet", subresource="status")


async def expect_refusal(api: KubeApi, name: str, reason: str, part: str) -> None:
    async def refused() -> bool:
        status, found, message = await condition(api, name, "Accepted")
        return (status, found) == ("False", reason) and part in message

    await eventually(refused, f"StaticRoute {name} is refused as {reason}: {part}")


async def expect_routes(api: KubeApi, node: str, *static_routes: str) -> None:
    async def routed() -> bool:
        return [each["staticRoute"] for each in await node_routes(api, node)] == list(static_routes)

    await eventually(routed, f"node {node} has the routes of {static_routes}")


# --- Nodes -----------------------------------------------------------------------------------------------------------


async def test_a_node_that_claims_a_routed_subnet_is_named_and_withdraws_no_route(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    await join(admin, "n1")
    made = await create(admin, STATIC_ROUTES, "r1", {"subnet": "10.55.0.0/24"})
    async with controller(api_server):
        await have_addresses(admin, 1)
        await expect_routes(admin, "n1", "r1")
        before = (await admin.get(NODE_OVERLAY_IPS, "n1"))["metadata"]["generation"]
        await claim(admin, "x", "10.55.0.7")
        named = "10.55.0.0/24 overlaps 10.55.0.7/32 (address of node x)"
        await expect_refusal(admin, "r1", "Protected", named)
        await expect_event(api_server, made["metadata"]["uid"], "Warning", "Protected", named)
        await have_addresses(admin, 2)
        await create(admin, STATIC_ROUTES, "r2", {"subnet": "10.56.0.0/24"})
        await expect_routes(admin, "x", "r2")
        await expect_routes(admin, "n1", "r1", "r2")
    async with controller(api_server):
        await create(admin, STATIC_ROUTES, "r3", {"subnet": "10.57.0.0/24"})
        await expect_routes(admin, "n1", "r1", "r2", "r3")
        assert (await admin.get(NODE_OVERLAY_IPS, "n1"))["metadata"]["generation"] == before
        await admin.delete(NODES, "x")

        async def accepted() -> bool:
            return (await condition(admin, "r1", "Accepted"))[0] == "True"

        await eventually(accepted, "the StaticRoute is accepted again")


# --- Sources ---------------------------------------------------------------------------------------------------------


class FailingApi:
    """A proxy to the API server that answers 503 for some paths."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.failing = ""
        self.failed = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.failing and request.path == self.failing:
            self.failed += 1
            return web.json_response({"kind": "Status", "reason": "ServiceUnavailable"}, status=503)
        names = ("Authorization", "Content-Type", "Accept")
        headers = {name: request.headers[name] for name in names if name in request.headers}
        url, body, session = self._connection.server + request.path_qs, await request.read(), self._connection.session
        response = await self._connection.tls.open(
            lambda tls: session.request(request.method, url, headers=headers, data=body, ssl=tls)
        )
        async with response:
            answer = web.StreamResponse(status=response.status, headers={"Content-Type": response.content_type})
            await answer.prepare(request)
            async for chunk in response.content.iter_any():
                await answer.write(chunk)
            return answer


@asynccontextmanager
async def failing_api(api_server: ApiServer, folder: Path) -> AsyncIterator[tuple[FailingApi, Path]]:
    """The proxy, and a kubeconfig of the controller that uses it."""
    direct = api_server.service_account_kubeconfig(NAMESPACE, "overlay-net-controller")
    async with connect_agent(str(direct)) as connection:
        proxy = FailingApi(connection)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        content = yaml.safe_load(direct.read_text())
        for cluster in content["clusters"]:
            cluster["cluster"] = {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}
        kubeconfig = folder / "proxy.yaml"
        kubeconfig.write_text(yaml.safe_dump(content))
        try:
            yield proxy, kubeconfig
        finally:
            await runner.cleanup()


@pytest.mark.parametrize(
    "path",
    [
        SERVICE_CIDRS.path(),
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
        CILIUM_NODES.path(),
    ],
)
async def test_no_node_is_reconciled_before_the_protected_subnets_have_been_read(
    admin: KubeApi, api_server: ApiServer, tmp_path: Path, path: str
) -> None:
    await add_pool(admin)
    await join(admin, "n1")
    await create(admin, STATIC_ROUTES, "service", {"subnet": "10.96.0.0/12"})
    await create(admin, STATIC_ROUTES, "fine", {"subnet": "10.5.0.0/16"})
    async with failing_api(api_server, tmp_path) as (proxy, kubeconfig):
        proxy.failing = path
        async with controller(api_server, kubeconfig=str(kubeconfig)):

            async def read_again() -> bool:
                return proxy.failed >= 3

            await eventually(read_again, "the controller reads again")
            assert not (await admin.list(NODE_OVERLAY_IPS)).items
            assert (await condition(admin, "fine", "Accepted"))[0] == ""
            proxy.failing = ""
            await expect_routes(admin, "n1", "fine")
            await expect_refusal(admin, "service", "Protected", "(services)")


def crd(resource: Resource) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {"plural": resource.plural, "kind": resource.kind, "singular": resource.kind.lower()}
    versions = [{"name": resource.version, "served": True, "storage": True, "schema": schema}]
    spec = {"group": resource.group, "scope": "Cluster", "names": names, "versions": versions}
    return CUSTOM_RESOURCE_DEFINITIONS.manifest(f"{resource.plural}.{resource.group}", spec=spec)


@pytest.fixture
async def cnis(admin: KubeApi) -> AsyncIterator[None]:
    """The API server serves the kinds of Calico and Cilium while the test runs."""
    for resource in (CALICO_POOLS, CILIUM_NODES):
        await admin.create(CUSTOM_RESOURCE_DEFINITIONS, crd(resource))

        async def served(resource: Resource = resource) -> bool:
            found = await admin.get(CUSTOM_RESOURCE_DEFINITIONS, f"{resource.plural}.{resource.group}")
            conditions = found.get("status", {}).get("conditions") or []
            return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)

        await eventually(served, f"{resource.plural} are served")
    yield
    for resource in (CALICO_POOLS, CILIUM_NODES):
        await admin.delete(CUSTOM_RESOURCE_DEFINITIONS, f"{resource.plural}.{resource.group}")


async def test_pod_subnets_of_cnis_are_protected_by_name(admin: KubeApi, api_server: ApiServer, cnis: None) -> None:
    await add_pool(admin)
    await join(admin, "n1")
    await create(admin, CALICO_POOLS, "default-ipv4-ippool", {"cidr": "10.2.0.0/16"})
    await create(admin, CILIUM_NODES, "n1", {"ipam": {"podCIDRs": ["10.3.4.0/24"]}})
    config = CONFIG_MAPS.manifest("cilium-config", data={"cluster-pool-ipv4-cidr": "10.4.0.0/16"})
    await admin.create(CONFIG_MAPS, config, namespace="kube-system")
    for name, subnet in (("calico", "10.2.56.0/28"), ("node", "10.3.0.0/16"), ("config", "10.4.9.0/24")):
        await create(admin, STATIC_ROUTES, name, {"subnet": subnet})
    try:
        async with controller(api_server):
            await expect_refusal(admin, "calico", "Protected", "10.2.0.0/16 (Calico IPPool default-ipv4-ippool)")
            await expect_refusal(admin, "node", "Protected", "10.3.4.0/24 (CiliumNode n1)")
            await expect_refusal(admin, "config", "Protected", "10.4.0.0/16 (Cilium's ConfigMap cilium-config)")
            await have_addresses(admin, 1)
            assert await node_routes(admin, "n1") == []
    finally:
        api_server.kubectl("delete", "configmap", "cilium-config", "-n", "kube-system")
