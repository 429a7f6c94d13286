"""`overlay-net controller --drain`, the first step of an uninstall, with the permissions that the chart grants."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab.cluster.api_server import ApiServer
from lab.manifests import parse_manifests
from lab.product import CHART, NAMESPACE, WITH_IMAGE
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import (
    DEPLOYMENTS,
    FINALIZER,
    NODE_OVERLAY_IPS,
    NODES,
    OVERLAY_ADDRESSES,
    OVERLAY_POOLS,
    OVERLAY_ROUTE_SLICES,
    SUBNET_MAP_LABEL,
)
from overlay_net.model.route_slice import SliceContent, slice_manifest
from tests.component.controller_process import start_controller
from tests.component.eventually import eventually
from tests.component.test_controller import (
    add_pool,
    addresses,
    agent_condition,
    agent_reports,
    consistent,
    create,
    have_addresses,
    join,
    records,
)

NAME = "overlay-net-controller"
ELECTION = {"leader_election__namespace": NAMESPACE, "leader_election__lease_name": NAME}


@pytest.fixture
def hook(api_server: ApiServer) -> Iterator[None]:
    """The permissions of the uninstall hook. The Deployment is scaled as in the chart afterwards."""
    shown = api_server.helm("template", "overlay-net", str(CHART), f"--namespace={NAMESPACE}", WITH_IMAGE)
    desired = [
        each
        for each in parse_manifests(shown)
        if each and each["metadata"]["name"] == "overlay-net-uninstall" and each["kind"] != "Job"
    ]
    assert {each["kind"] for each in desired} >= {"ServiceAccount", "ClusterRole", "Role"}
    api_server.apply(*desired)
    yield
    api_server.kubectl("delete", "clusterrolebinding", "drain-as-controller", "--ignore-not-found")
    api_server.kubectl("scale", "deployment", NAME, f"--namespace={NAMESPACE}", "--replicas=2")


def drain(api_server: ApiServer, timeout: str, *arguments: str, **more: str) -> "subprocess.Popen[str]":
    settings = {
        "kubeconfig": str(api_server.service_account_kubeconfig(NAMESPACE, "overlay-net-uninstall")),
        "http__bind": "127.0.0.1:0",
        "status_batch": "50ms",
        **ELECTION,
        **more,
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
            *arguments,
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
async def test_a_drain_releases_every_address_after_its_agent_removed_it(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    forgotten = {"address": "192.168.100.77", "pool": "p1", "node": "long-gone", "nodeUID": "x"}
    await create(admin, OVERLAY_ADDRESSES, "192.168.100.77", forgotten, labels={"node": "long-gone"})
    with start_controller(api_server, None, **ELECTION) as controller:
        await join(admin, "n1", "n2")
        await have_addresses(admin, 2)
        process = drain(api_server, "60s")

        async def alone() -> bool:
            return await replicas(admin) == 0

        await eventually(alone, "the controllers are scaled to zero")
        assert len(await names(admin)) == 2, "nothing is deleted while another controller is the leader"
        assert controller.terminate() == 0
        await eventually(lambda: deleting(admin), "both objects are being deleted")
        recorded = await records(admin)
        assert set(recorded.values()) == {"n1", "n2", "long-gone"}
        for name in ("n1", "n2"):
            generation = (await admin.get(NODE_OVERLAY_IPS, name))["metadata"]["generation"]
            released = agent_condition("Configured", "False", "Released")
            await agent_reports(admin, name, observedGeneration=generation, conditions=[released])
        output, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, errors
    assert "2 NodeOverlayIps: " in output
    assert output.endswith("drain complete\n")
    assert (await names(admin), await records(admin)) == ([], {})
    assert len((await admin.list(NODES)).items) == 2


@pytest.mark.usefixtures("hook")
async def test_a_drain_names_the_unresponsive_agent_and_releases_nothing(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    with start_controller(api_server, None, **ELECTION) as controller:
        await join(admin, "n1")
        await have_addresses(admin, 1)
        generation = (await admin.get(NODE_OVERLAY_IPS, "n1"))["metadata"]["generation"]
        await agent_reports(admin, "n1", configuredIpAddr="192.168.100.2/24", observedGeneration=generation)
        assert controller.terminate() == 0
    process = drain(api_server, "6s")
    output, errors = await asyncio.to_thread(process.communicate)
    assert (process.returncode, "n1" in output) == (1, True)
    assert "timed out after 6 s: still waiting for 1 NodeOverlayIp: n1 (deleted; waiting for the agent" in errors
    assert await records(admin) == {"192.168.100.2": "n1"}
    assert await replicas(admin) == 2, "the nodes stay, so the controllers are scaled back"


@pytest.mark.usefixtures("hook")
async def test_a_drain_without_time_to_fence_a_deleted_node_changes_nothing_else_and_reports_it(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    with start_controller(api_server, None, **ELECTION) as controller:
        await join(admin, "gone", "live")
        await have_addresses(admin, 2)
        shown = await addresses(admin)
        for name, address in shown.items():
            await agent_reports(admin, name, configuredIpAddr=f"{address}/24")
        assert controller.terminate() == 0
    await admin.delete(NODES, "gone")
    process = drain(api_server, "240s")
    output, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 1, output
    (reported,) = [line for line in errors.splitlines() if line.startswith("overlay-net controller --drain: ")]
    assert "no Node with an agent for gone: the release of their addresses has begun, but takes fence_after" in reported
    assert "nothing else was changed; uninstall again after that time" in reported
    assert "Traceback" not in errors
    deleted = {name: "deletionTimestamp" in (await admin.get(NODE_OVERLAY_IPS, name))["metadata"] for name in shown}
    assert deleted == {"gone": True, "live": False}
    assert await replicas(admin) == 2, "and the controllers complete the deletion"
    await consistent(admin)


@pytest.mark.usefixtures("hook")
async def test_a_drain_with_time_to_fence_a_deleted_node_completes(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    with start_controller(api_server, None, **ELECTION) as controller:
        await join(admin, "gone")
        await have_addresses(admin, 1)
        await agent_reports(admin, "gone", configuredIpAddr="192.168.100.2/24")
        assert controller.terminate() == 0
    await admin.delete(NODES, "gone")
    process = drain(api_server, "60s", fence_after="3s")
    output, errors = await asyncio.to_thread(process.communicate)
    assert (process.returncode, await records(admin)) == (0, {}), (output, errors)


@pytest.mark.usefixtures("hook")
async def test_a_drain_deletes_the_pools_of_an_earlier_subnet_map(admin: KubeApi, api_server: ApiServer) -> None:
    """phpIPAM is no longer configured, but its pools are still there."""
    labels = {SUBNET_MAP_LABEL: "true"}
    await create(admin, OVERLAY_POOLS, "phpipam-dal10-7", {"phpIPAM": {"subnetID": 7}}, labels=labels)
    await add_pool(admin)
    process = drain(api_server, "60s")
    output, errors = await asyncio.to_thread(process.communicate)
    assert (process.returncode, output) == (0, "drain complete\n"), errors
    assert [item["metadata"]["name"] for item in (await admin.list(OVERLAY_POOLS)).items] == ["p1"]


@pytest.mark.usefixtures("hook")
async def test_a_drain_deletes_the_slices_after_the_objects_of_the_nodes(admin: KubeApi, api_server: ApiServer) -> None:
    await admin.create(OVERLAY_ROUTE_SLICES, slice_manifest(0, SliceContent("rs-0", slices=(0,))))
    await create(admin, NODE_OVERLAY_IPS, "n1", {}, finalizers=[FINALIZER])
    await join(admin, "n1")
    await agent_reports(admin, "n1", configuredIpAddr="192.168.100.2/24")
    process = drain(api_server, "60s")
    await eventually(lambda: deleting(admin), "the object is being deleted")
    assert [each["metadata"]["name"] for each in (await admin.list(OVERLAY_ROUTE_SLICES)).items] == ["rs-0-0"]
    generation = (await admin.get(NODE_OVERLAY_IPS, "n1"))["metadata"]["generation"]
    released = agent_condition("Configured", "False", "Released")
    await agent_reports(admin, "n1", observedGeneration=generation, conditions=[released])
    output, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0, (output, errors)
    assert (await admin.list(OVERLAY_ROUTE_SLICES)).items == ()


@pytest.mark.usefixtures("hook")
async def test_a_refused_deletion_of_a_pool_is_one_line_and_controllers_are_scaled_back(
    admin: KubeApi, api_server: ApiServer
) -> None:
    labels = {SUBNET_MAP_LABEL: "true"}
    await create(admin, OVERLAY_POOLS, "phpipam-dal10-7", {"phpIPAM": {"subnetID": 7}}, labels=labels)
    # The account may do what a controller may do, which is not to delete pools without phpIPAM.
    account = f"--serviceaccount={NAMESPACE}:overlay-net-uninstall"
    api_server.kubectl("create", "clusterrolebinding", "drain-as-controller", f"--clusterrole={NAME}", account)
    api_server.kubectl("delete", "clusterrolebinding", "overlay-net-uninstall")
    process = drain(api_server, "6s")
    output, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 1, output
    reported = [line for line in errors.splitlines() if line.startswith("overlay-net controller --drain: ")]
    assert len(reported) == 1, errors
    assert "timed out after 6 s: still waiting for the OverlayPools of phpIPAM.subnetMap: " in reported[0]
    assert "Traceback" not in errors
    assert await replicas(admin) == 2


@pytest.mark.usefixtures("hook")
async def test_controllers_are_scaled_back_even_if_an_earlier_drain_was_killed(
    admin: KubeApi, api_server: ApiServer
) -> None:
    await add_pool(admin)
    with start_controller(api_server, None, **ELECTION) as controller:
        await join(admin, "n1")
        await have_addresses(admin, 1)
        await agent_reports(admin, "n1", configuredIpAddr="192.168.100.2/24", conditions=[])
        assert controller.terminate() == 0
    api_server.kubectl("scale", "deployment", NAME, f"--namespace={NAMESPACE}", "--replicas=0")
    process = drain(api_server, "6s", "--replicas=2")
    output, errors = await asyncio.to_thread(process.communicate)
    assert process.returncode == 1, (output, errors)
    assert await replicas(admin) == 2


def test_an_invalid_scale_down_is_refused_at_once(api_server: ApiServer) -> None:
    command = [sys.executable, "-m", "overlay_net", "controller", "--drain", "--scale-down=nothing"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "'nothing': a namespace and a name" in done.stderr) == (2, True)
    command = [sys.executable, "-m", "overlay_net", "controller", "--scale-down=overlay-net/overlay-net-controller"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "--scale-down requires --drain" in done.stderr) == (2, True)
    command = [sys.executable, "-m", "overlay_net", "controller", "--drain", "--replicas=2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "--replicas requires --scale-down" in done.stderr) == (2, True)
