"""`overlay-net sysdump` against the real API server: the archive has everything, but no secret."""

import asyncio
import json
import tarfile
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from lab.product import NAMESPACE
from overlay_net.model.names import CONFIG_MAPS, EVENTS, SECRETS, STATIC_ROUTES
from tests.component.healthy_cluster import KERNEL, HealthyCluster
from tests.component.people import answered, overlay_net
from tests.component.test_controller import create
from tests.fakes.kubelet import Kubelet

POD_ADDRESS = "10.99.0.9"
PASSWORD, CODE, OTHER = "Pl4nted-passw0rd", "Pl4nted-c0de", "Pl4nted-in-a-l0g"
USER = "overlay-net"
"""It is the name of other things as well, which stay readable."""
JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IiJ9.eyJQbDRudGVkIjoiand0In0.UGw0bnRlZC1zaWduYXR1cmU"


@pytest.fixture
async def metrics() -> AsyncIterator[None]:
    """An HTTP server at the address of the pods. API servers relay to no loopback address."""
    await change_address("replace")

    async def serve(request: web.Request) -> web.Response:
        return web.Response(text=f"overlay_net_up 1\n# password={PASSWORD}\n")

    app = web.Application()
    app.router.add_get("/metrics", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, POD_ADDRESS, 9477).start()
    yield
    await runner.cleanup()
    await change_address("delete")


async def change_address(action: str) -> None:
    process = await asyncio.create_subprocess_exec("ip", "address", action, f"{POD_ADDRESS}/32", "dev", "lo")
    assert await process.wait() == 0


async def plant_secrets(cluster: HealthyCluster) -> None:
    admin = cluster.admin
    values = {"username": USER, "password": PASSWORD, "code": CODE}
    data = {key: b64encode(value.encode()).decode() for key, value in values.items()}
    await admin.create(SECRETS, SECRETS.manifest("sysdump", namespace=NAMESPACE, data=data), namespace=NAMESPACE)
    labels = {"app.kubernetes.io/name": "overlay-net", "app.kubernetes.io/instance": "overlay-net"}
    config = {"config.yaml": f"phpipam:\n  url: https://u:{OTHER}@ipam.example.com\n  password: {PASSWORD}\n"}
    manifest = CONFIG_MAPS.manifest("sysdump", namespace=NAMESPACE, labels=labels, data=config)
    await admin.create(CONFIG_MAPS, manifest, namespace=NAMESPACE)
    event = EVENTS.manifest(
        "sysdump",
        namespace="default",
        reason="Test",
        note=f"the password {PASSWORD} was refused",
        type="Warning",
        action="Test",
        reportingController="test",
        reportingInstance="test",
        eventTime="2026-01-01T00:00:00.000000Z",
        regarding={"kind": "Node", "name": "n1"},
    )
    await admin.create(EVENTS, event, namespace="default")


def remove_secrets(cluster: HealthyCluster) -> None:
    for kind, namespace in (("secret", NAMESPACE), ("configmap", NAMESPACE), ("events.events.k8s.io", "default")):
        cluster.kubectl("delete", kind, "sysdump", f"--namespace={namespace}", "--ignore-not-found")


async def test_an_archive_has_every_part_and_no_secret(
    cluster: HealthyCluster, kubelet: Kubelet, metrics: None, tmp_path: Path
) -> None:
    cluster.pod_address = POD_ADDRESS
    for pod in ("controller-1", "agent-n1", "agent-n2"):
        await cluster.set_pod(pod, ready=True)
    await cluster.add_pod("crds-1", "crds", "n1")
    kubelet.logs = {
        "crds-1": "the definition is not valid\n",
        "controller-1": f"level=info message='became leader'\nlevel=error token={OTHER} error='refused {JWT}'\n",
        "agent-n1": f"level=warning message='typed {CODE} by hand'\n",
    }
    kubelet.outputs["agent-n1"] = json.dumps(KERNEL | {"note": f"https://u:{OTHER}@x"})
    await create(cluster.admin, STATIC_ROUTES, "onprem", {"subnet": "10.5.0.0/16"})
    archive = tmp_path / "dump.tar.gz"
    try:
        await plant_secrets(cluster)
        found = await asyncio.to_thread(answered, cluster.api_server, "sysdump", f"--archive={archive}")
    finally:
        remove_secrets(cluster)
        cluster.kubectl("delete", "pod", "crds-1", f"--namespace={NAMESPACE}", "--force")
    assert found["archive"] == str(archive)
    # The agent of n2 has no such command.
    (error,) = found["errors"]
    assert error.startswith("kernel of n2: ")
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as tar:
        members = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        content = {name: file.read().decode() for name, file in members.items() if file is not None}
    assert len(content) == found["files"]
    for name, text in content.items():
        for secret in (PASSWORD, CODE, OTHER, JWT, b64encode(PASSWORD.encode()).decode()):
            assert secret not in text, name
        assert "Pl4nted" not in text, name
    expected = {
        "objects/nodes.json": '"n2"',
        "objects/staticroutes.json": "10.5.0.0/16",
        "objects/nodeoverlayips.json": "192.168.100.11/24",
        "objects/overlaypools.json": '"p1"',
        "objects/customresourcedefinitions.json": "staticroutes.iks.ibm.com",
        f"objects/{NAMESPACE}/configmaps.json": "ipam.example.com",
        f"objects/{NAMESPACE}/pods.json": "agent-n1",
        f"objects/{NAMESPACE}/daemonsets.json": f"{USER}-agent",
        f"objects/{NAMESPACE}/leases.json": "controller-1",
        "objects/default/events.json": "was refused",
        "logs/controller-1/controller.log": "became leader",
        "logs/agent-n1/agent.log": "by hand",
        "logs/crds-1/crds.log": "not valid",
        "metrics/agent-n1.txt": "overlay_net_up 1",
        "nodes/n1.json": "tmp0",
        "doctor.json": '"firstBroken": ""',
        "version.json": "gitVersion",
        "errors.txt": "kernel of n2",
    }
    for name, part in expected.items():
        assert part in content[f"dump/{name}"], name


async def test_of_the_agents_only_those_of_named_nodes_are_read(
    cluster: HealthyCluster, kubelet: Kubelet, tmp_path: Path
) -> None:
    for pod in ("controller-1", "agent-n1", "agent-n2"):
        await cluster.set_pod(pod, ready=True)
        kubelet.logs[pod] = "level=info message=started\n"
    archive = tmp_path / "dump.tar.gz"
    await asyncio.to_thread(answered, cluster.api_server, "sysdump", f"--archive={archive}", "--node=n1")
    with tarfile.open(archive) as tar:
        logs = {name.split("/")[2] for name in tar.getnames() if "/logs/" in name}
    assert logs == {"controller-1", "agent-n1"}


async def test_an_existing_file_is_not_overwritten_and_a_missing_permission_is_listed(
    cluster: HealthyCluster, tmp_path: Path
) -> None:
    archive = tmp_path / "dump.tar.gz"
    archive.write_text("mine")
    refused = await asyncio.to_thread(overlay_net, cluster.api_server, "sysdump", f"--archive={archive}")
    assert (refused.returncode, refused.stdout, archive.read_text()) == (2, "", "mine")
    (line,) = refused.stderr.splitlines()
    assert "File exists" in line
    kubeconfig = cluster.api_server.service_account_kubeconfig(NAMESPACE, "overlay-net-controller")
    result = await asyncio.to_thread(
        overlay_net, kubeconfig, "sysdump", f"--archive={tmp_path / 'other.tar.gz'}", "--namespace", NAMESPACE
    )
    # The controller may not even find the release.
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)
    assert not (tmp_path / "other.tar.gz").exists()
