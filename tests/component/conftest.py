"""One real API server for all component tests, with the chart installed; every test starts with an empty cluster."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from lab.build.assets import Assets, find_assets
from lab.cluster.api_server import ApiServer
from lab.product import Product
from overlay_net.adapters.kube import KubeApi, connect_agent
from overlay_net.model.errors import NotFound
from overlay_net.model.names import (
    NODE_OVERLAY_IPS,
    NODES,
    OVERLAY_ADDRESSES,
    OVERLAY_POOLS,
    OVERLAY_ROUTE_SLICES,
    STATIC_ROUTES,
)
from tests.component.healthy_cluster import KERNEL, HealthyCluster
from tests.component.phpipam_lab import Lab, grant_pools, revoke_pools
from tests.fakes.kubelet import Kubelet, serve_kubelet
from tests.fakes.messages import check_conditions

KINDS = (NODES, NODE_OVERLAY_IPS, STATIC_ROUTES, OVERLAY_ROUTE_SLICES, OVERLAY_POOLS, OVERLAY_ADDRESSES)


@pytest.fixture(scope="session")
def assets() -> Assets:
    return find_assets()


@pytest.fixture(scope="session")
def api_server(assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    directory = tmp_path_factory.mktemp("control-plane")
    with ApiServer.start(directory, assets) as api_server:
        Product(api_server, directory).install({})
        yield api_server


@pytest.fixture
async def admin(api_server: ApiServer) -> AsyncIterator[KubeApi]:
    """The administrator's client of an empty cluster."""
    async with connect_agent(str(api_server.admin())) as connection:
        api = KubeApi(connection)
        await empty(api)
        yield api
        # Whatever the test did: the messages that it left behind are stable while their cause is.
        for resource in (NODE_OVERLAY_IPS, STATIC_ROUTES, OVERLAY_POOLS):
            for item in (await api.list(resource)).items:
                check_conditions(item)


async def empty(api: KubeApi) -> None:
    for resource in KINDS:
        for item in (await api.list(resource)).items:
            name = item["metadata"]["name"]
            try:
                await api.merge_patch(resource, name, {"metadata": {"finalizers": None}})
                await api.delete(resource, name)
            except NotFound:
                continue


@pytest.fixture(scope="module")
def granted(api_server: ApiServer) -> Iterator[None]:
    """The controller may make and delete pools while a module with phpIPAM runs."""
    grant_pools(api_server)
    yield
    revoke_pools(api_server)


@pytest.fixture
async def lab(admin: KubeApi, granted: None, api_server: ApiServer, tmp_path: Path) -> AsyncIterator[Lab]:
    """phpIPAM with a subnet beside an empty cluster; served until the test ends."""
    made = Lab.make(api_server, tmp_path)
    await made.serve()
    yield made
    await made.stop()


@pytest.fixture
async def kubelet(api_server: ApiServer) -> AsyncIterator[Kubelet]:
    """The kubelet of the nodes of ``cluster``, with an agent on n1."""
    async with serve_kubelet(api_server.authority) as kubelet:
        kubelet.outputs["agent-n1"] = json.dumps(KERNEL)
        yield kubelet


@pytest.fixture
async def cluster(admin: KubeApi, api_server: ApiServer, kubelet: Kubelet) -> AsyncIterator[HealthyCluster]:
    cluster = HealthyCluster(admin, api_server, kubelet.port)
    try:
        await cluster.build()
        yield cluster
    finally:
        await cluster.remove()
