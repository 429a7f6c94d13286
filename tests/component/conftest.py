"""One real API server for all component tests, with the chart installed; every test starts with an empty cluster."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lab.assets import Assets, find_assets
from lab.control_plane import ControlPlane
from lab.processes import Process
from lab.product import NAMESPACE, Product
from overlay_net.adapters.kube import KubeApi, connect_agent
from overlay_net.model.errors import NotFound
from overlay_net.model.names import NODE_OVERLAY_IPS, NODES, OVERLAY_ADDRESSES, OVERLAY_POOLS, STATIC_ROUTES

KINDS = (NODES, NODE_OVERLAY_IPS, STATIC_ROUTES, OVERLAY_POOLS, OVERLAY_ADDRESSES)


@pytest.fixture(scope="session")
def assets() -> Assets:
    return find_assets()


@pytest.fixture(scope="session")
def control_plane(assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    directory = tmp_path_factory.mktemp("control-plane")
    with ControlPlane.start(directory, assets) as plane:
        Product(plane, directory).install({})
        yield plane


@pytest.fixture
async def admin(control_plane: ControlPlane) -> AsyncIterator[KubeApi]:
    """The administrator's client of an empty cluster."""
    async with connect_agent(str(control_plane.admin())) as connection:
        api = KubeApi(connection)
        await empty(api)
        yield api


async def empty(api: KubeApi) -> None:
    for resource in KINDS:
        for item in (await api.list(resource)).items:
            name = item["metadata"]["name"]
            try:
                await api.merge_patch(resource, name, {"metadata": {"finalizers": None}})
                await api.delete(resource, name)
            except NotFound:
                continue


@asynccontextmanager
async def controller(plane: ControlPlane, config: Path | None = None, **settings: str) -> AsyncIterator[Process]:
    """The controller mode as a process of its own, as its service account; killed (-9) when the context ends.

    Not elected: a killed one would leave a lease that the next has to wait for.
    """
    with start_controller(plane, config, leader_election__enabled="false", **settings) as process:
        yield process
        assert process.alive, process.tail()


def start_controller(plane: ControlPlane, config: Path | None = None, **settings: str) -> Process:
    chosen = {
        "kubeconfig": str(plane.service_account_kubeconfig(NAMESPACE, "overlay-net-controller")),
        "http__bind": "127.0.0.1:0",
        "status_batch": "50ms",
        "release_after": "0s",
        "fence_after": "0s",
        **settings,
    }
    return Process(
        "controller",
        [sys.executable, "-m", "overlay_net", "controller", *((f"--config={config}",) if config else ())],
        log=plane.directory / f"{settings.get('leader_election__identity', 'controller')}.log",
        env={f"OVERLAY_{name.upper()}": value for name, value in chosen.items()},
    )
