"""`overlay-net controller --drain`: what an uninstall calls first, with the rights that the chart gives it."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml

from lab.cluster.api_server import ApiServer
from lab.product import CHART, NAMESPACE
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import DEPLOYMENTS, NODE_OVERLAY_IPS, NODES, OVERLAY_ADDRESSES
from tests.component.controller_process import start_controller
from tests.component.eventually import eventually
from tests.component.test_controller import add_pool, agent_reports, create, have_addresses, join, records, stands

NAME = "overlay-net-controller"
ELECTION = {"leader_election__namespace": NAMESPACE, "leader_election__lease_name": NAME}


@pytest.fixture
def hook(api_server: ApiServer) -> Iterator[None]:
    """The rights of the hook; the Deployment is as the chart has it afterwards."""
    shown = api_server.helm("template", "overlay-net", str(CHART), f"--namespace={NAMESPACE}")
    desired = [
        each
        for each in yaml.safe_load_all(shown)
        if each and each["metadata"]["name"] == "overlay-net-uninstall" and each["kind"] != "Job"
    ]
    assert {each["kind"] for each in desired} == {"Role", "RoleBinding"}
    api_server.apply(*desired)
    yield
    api_server.kubectl("scale", "deployment", NAME, f"--namespace={NAMESPACE}", "--replicas=2")


def drain(api_server: ApiServer, timeout: str) -> "subprocess.Popen[str]":
    settings = {
        "kubeconfig": str(api_server.service_account_kubeconfig(NAMESPACE, NAME)),
        "http__bind": "127.0.0.1:0",
        "status_batch": "50ms",
        **ELECTION,
    }
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "overlay_net",
            "controller",
            "--drain",
            f"--scale-down={NAMESPACE}/{NAME}",
            f"--timeout={timeout}",
        ],
        env={**os.environ, **{f"OVERLAY_{name.upper()}": value for name, value in settings.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def replicas(api: KubeApi) -> object:
    return (await api.get(DEPLOYMENTS, NAME, namespace=NAMESPACE))["spec"]["replicas"]


async def names(api: KubeApi) -> list[str]:
    return sorted(item["metadata"]["name"] for item in (await api.list(NODE_OVERLAY_IPS)).items)


async def deleting(api: KubeApi) -> bool:
    items = (await api.list(NODE_OVERLAY_IPS)).items
    return bool(items) and all("deletionTimestamp" in item["metadata"] for item in items)


@pytest.mark.usefixtures("hook")
async def test_everything_is_given_back_after_the_agents_let_go(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    forgotten = {"address": "192.168.100.77", "pool": "p1", "node": "long-gone", "nodeUID": "x"}
    await create(admin, OVERLAY_ADDRESSES, "192.168.100.77", forgotten, labels={"node": "long-gone"})
    with start_controller(api_server, None, **ELECTION) as controller:
        await join(admin, "n1", "n2")
        await have_addresses(admin, 2)
        leaving = drain(api_server, "60s")

        async def alone() -> bool:
            return await replicas(admin) == 0

        await eventually(alone, "the controllers are scaled to nothing")
        assert len(await names(admin)) == 2, "nothing goes while another controller leads"
        assert controller.terminate() == 0
        await eventually(lambda: deleting(admin), "both objects are being deleted")
        held = await records(admin)
        assert set(held.values()) == {"n1", "n2", "long-gone"}
        for name in ("n1", "n2"):
            generation = (await admin.get(NODE_OVERLAY_IPS, name))["metadata"]["generation"]
            gone = stands("Configured", "False", "Released")
            await agent_reports(admin, name, observedGeneration=generation, conditions=[gone])
        said, complaint = await asyncio.to_thread(leaving.communicate)
    assert leaving.returncode == 0, complaint
    assert "2 NodeOverlayIps: " in said
    assert said.endswith("drain complete\n")
    assert (await names(admin), await records(admin)) == ([], {})
    assert len((await admin.list(NODES)).items) == 2


@pytest.mark.usefixtures("hook")
async def test_an_agent_that_does_not_let_go_is_named_and_nothing_is_lost(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    with start_controller(api_server, None, **ELECTION) as controller:
        await join(admin, "n1")
        await have_addresses(admin, 1)
        generation = (await admin.get(NODE_OVERLAY_IPS, "n1"))["metadata"]["generation"]
        await agent_reports(admin, "n1", configuredIpAddr="192.168.100.2/24", observedGeneration=generation)
        assert controller.terminate() == 0
    leaving = drain(api_server, "6s")
    said, complaint = await asyncio.to_thread(leaving.communicate)
    assert (leaving.returncode, "n1" in said) == (1, True)
    assert "timed out after 6 s: still waiting for 1 NodeOverlayIp: n1 (deleted; waiting for the agent" in complaint
    assert await records(admin) == {"192.168.100.2": "n1"}
    assert await replicas(admin) == 2, "the nodes stay, so they are served again"


def test_what_it_cannot_scale_is_refused_at_once(api_server: ApiServer) -> None:
    command = [sys.executable, "-m", "overlay_net", "controller", "--drain", "--scale-down=nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "'nothing': a namespace and a name" in done.stderr) == (2, True)
    command = [sys.executable, "-m", "overlay_net", "controller", "--scale-down=overlay-net/overlay-net-controller"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "--scale-down requires --drain" in done.stderr) == (2, True)
