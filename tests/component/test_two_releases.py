"""Two releases in one cluster, as processes: one manages the nodes, and the other touches nothing until it is gone."""

import asyncio
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.cluster.api_server import ApiServer, free_port
from lab.manifests import parse_manifests
from lab.processes import CommandFailed, Process
from lab.product import CHART, NAMESPACE, WITH_IMAGE
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.lease import micro_time
from overlay_net.model.names import CUSTOM_RESOURCE_DEFINITIONS, NODE_OVERLAY_IPS, OVERLAY_ADDRESSES
from tests.component.controller_process import start_controller
from tests.component.eventually import eventually
from tests.component.test_controller import NAMES, add_pool, consistent, have_addresses, join

SECOND = "second"
FULL_NAME = "second-overlay-net"
FIRST_RELEASE = f"{NAMESPACE}/overlay-net-controller"
SECOND_RELEASE = f"{SECOND}/{FULL_NAME}-controller"
TIMES = {
    "leader_election__lease_duration": "3s",
    "leader_election__renew_deadline": "2s",
    "leader_election__retry_period": "200ms",
}
RBAC = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
Start = Callable[..., Process]


@pytest.fixture(scope="module")
def second_release(api_server: ApiServer) -> Iterator[None]:
    """The accounts and permissions of another release in another namespace, also those of its hooks."""
    shown = api_server.helm(
        "template", SECOND, str(CHART), f"--namespace={SECOND}", WITH_IMAGE, "--set=crds.keep=false"
    )
    accounts = [each for each in parse_manifests(shown) if each["kind"] in RBAC]
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SECOND}}, *accounts)
    yield
    for each in accounts:
        where = [f"--namespace={found}"] if (found := each["metadata"].get("namespace")) else []
        api_server.kubectl("delete", each["kind"], each["metadata"]["name"], *where, "--ignore-not-found")


@pytest.fixture
def start(api_server: ApiServer, second_release: None) -> Iterator[Start]:
    """Starts a controller by name; those whose name begins with two are of the second release."""
    with ExitStack() as running:

        def start_replica(name: str, **settings: str) -> Process:
            (api_server.directory / f"{name}.log").unlink(missing_ok=True)
            chosen = TIMES | {"leader_election__identity": name}
            if name.startswith("two"):
                account = api_server.service_account_kubeconfig(SECOND, f"{FULL_NAME}-controller")
                chosen |= {
                    "kubeconfig": str(account),
                    "leader_election__namespace": SECOND,
                    "leader_election__lease_name": f"{FULL_NAME}-controller",
                    # Attempts every second; the duration that counts is that of the first release.
                    "leader_election__cluster_lease_duration": "10s",
                }
            return running.enter_context(start_controller(api_server, None, **(chosen | settings)))

        delete_leases(api_server)
        yield start_replica
    delete_leases(api_server)


def delete_leases(api_server: ApiServer) -> None:
    for namespace, name in (
        ("kube-system", "overlay-net"),
        (NAMESPACE, "overlay-net-controller"),
        (SECOND, f"{FULL_NAME}-controller"),
    ):
        api_server.kubectl("delete", "lease", name, f"--namespace={namespace}", "--ignore-not-found")


def cluster_lease(api_server: ApiServer) -> dict[str, Any]:
    try:
        spec: dict[str, Any] = api_server.get("lease", "overlay-net", "--namespace=kube-system")["spec"]
    except CommandFailed:
        return {}
    return spec


async def wait_logged(process: Process, message: str) -> None:
    async def logged() -> bool:
        return message in process.log.read_text()

    await eventually(logged, f"{process.name} logs {message!r}")


async def wait_manager(api_server: ApiServer, release: str) -> None:
    async def holds() -> bool:
        return cluster_lease(api_server).get("holderIdentity") == release

    await eventually(holds, f"release {release} manages the cluster")


STANDBY = f"another release manages this cluster; this release is on standby release={FIRST_RELEASE}"
LEADS = "became leader lease=kube-system/overlay-net"


@pytest.mark.parametrize("enabled", ["true", "false"])
async def test_only_the_first_release_writes_and_the_second_reports_it(
    admin: KubeApi, api_server: ApiServer, start: Start, enabled: str
) -> None:
    await add_pool(admin)
    start("one", leader_election__enabled=enabled)
    await wait_manager(api_server, FIRST_RELEASE)
    bind = f"127.0.0.1:{free_port()}"
    second = start("two", leader_election__enabled=enabled, http__bind=bind, log__level="debug")
    await wait_logged(second, STANDBY)
    await join(admin, *NAMES[:10])
    await have_addresses(admin, 10)
    await consistent(admin)
    with pytest.raises(urllib.error.HTTPError, match="503") as unready:
        await asyncio.to_thread(urllib.request.urlopen, f"http://{bind}/readyz", timeout=5)
    assert f"release {FIRST_RELEASE} manages this cluster" in unready.value.read().decode()
    metrics = await asyncio.to_thread(read, f"http://{bind}/metrics")
    assert "overlay_net_standby_release 1.0" in metrics
    log = second.log.read_text()
    assert not any(message in log for message in (LEADS, "reserved", "object created")), log


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        content: bytes = response.read()
    return content.decode()


async def test_the_second_release_takes_over_once_the_first_is_gone_for_good(
    admin: KubeApi, api_server: ApiServer, start: Start
) -> None:
    await add_pool(admin)
    first = start("one", leader_election__cluster_lease_duration="6s")
    await wait_manager(api_server, FIRST_RELEASE)
    await join(admin, *NAMES[:3])
    await have_addresses(admin, 3)
    second = start("two")
    await wait_logged(second, STANDBY)
    first.kill9()
    await wait_manager(api_server, SECOND_RELEASE)
    await join(admin, *NAMES[3:6])
    await have_addresses(admin, 6)
    await consistent(admin)
    late = start("one-again")
    await wait_logged(late, f"this release is on standby release={SECOND_RELEASE}")
    assert second.alive


async def test_a_restart_and_a_rolling_update_of_the_first_release_do_not_hand_the_cluster_over(
    admin: KubeApi, api_server: ApiServer, start: Start
) -> None:
    await add_pool(admin)
    leader = start("one")
    await wait_manager(api_server, FIRST_RELEASE)
    second = start("two")
    await wait_logged(second, STANDBY)
    successor = start("one-updated")
    await wait_logged(successor, "caches synced")
    assert leader.terminate() == 0
    await wait_logged(successor, LEADS)
    successor.kill9()
    # No controller of the first release is left for a moment.
    last = start("one-restarted")
    await wait_logged(last, LEADS)
    assert last.terminate() == 0
    await wait_logged(start("one-again"), LEADS)
    await join(admin, "n1")
    await have_addresses(admin, 1)
    lease = cluster_lease(api_server)
    assert (lease["holderIdentity"], lease["leaseTransitions"]) == (FIRST_RELEASE, 0)
    assert LEADS not in second.log.read_text()


def drain(api_server: ApiServer, namespace: str, full_name: str) -> "subprocess.CompletedProcess[str]":
    settings = {
        "kubeconfig": str(api_server.service_account_kubeconfig(namespace, f"{full_name}-uninstall")),
        "http__bind": "127.0.0.1:0",
        "status_batch": "50ms",
        "leader_election__namespace": namespace,
        "leader_election__lease_name": f"{full_name}-controller",
    }
    arguments = ["--drain", f"--scale-down={namespace}/{full_name}-controller", "--timeout=60s"]
    return subprocess.run(
        [sys.executable, "-m", "overlay_net", "controller", *arguments],
        env={**os.environ, **{f"OVERLAY_{name.upper()}": value for name, value in settings.items()}},
        capture_output=True,
        text=True,
        check=False,
    )


async def objects(admin: KubeApi) -> list[tuple[str, str]]:
    found = [*(await admin.list(NODE_OVERLAY_IPS)).items, *(await admin.list(OVERLAY_ADDRESSES)).items]
    return sorted((each["metadata"]["uid"], each["metadata"].get("deletionTimestamp", "")) for each in found)


async def test_uninstalling_the_second_release_touches_nothing_of_the_first(
    admin: KubeApi, api_server: ApiServer, start: Start
) -> None:
    await add_pool(admin)
    start("one")
    await wait_manager(api_server, FIRST_RELEASE)
    await join(admin, *NAMES[:3])
    await have_addresses(admin, 3)
    second = start("two")
    await wait_logged(second, STANDBY)
    assert second.terminate() == 0
    before = await objects(admin)
    done = await asyncio.to_thread(drain, api_server, SECOND, FULL_NAME)
    assert done.returncode == 0, done.stderr
    assert f"release {FIRST_RELEASE} manages this cluster; this release has nothing to release" in done.stdout
    assert await objects(admin) == before
    crds = await asyncio.to_thread(remove_crds, api_server)
    assert crds.returncode == 0, crds.stderr
    assert f"release {FIRST_RELEASE} manages this cluster; the CustomResourceDefinitions are kept" in crds.stdout
    assert not [
        each
        for each in (await admin.list(CUSTOM_RESOURCE_DEFINITIONS)).items
        if "deletionTimestamp" in each["metadata"]
    ]
    assert await objects(admin) == before
    assert cluster_lease(api_server)["holderIdentity"] == FIRST_RELEASE


def remove_crds(api_server: ApiServer) -> "subprocess.CompletedProcess[str]":
    """As the hook of the second release."""
    account = api_server.service_account_kubeconfig(SECOND, f"{FULL_NAME}-crds-removal")
    options = ["--remove", f"--directory={CHART / 'crds'}", f"--release={SECOND_RELEASE}", f"--kubeconfig={account}"]
    command = [sys.executable, "-m", "overlay_net", "crds", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


async def test_a_drained_release_is_replaced_at_once(admin: KubeApi, api_server: ApiServer, start: Start) -> None:
    second = start("two")
    await wait_manager(api_server, SECOND_RELEASE)
    first = start("one")
    await wait_logged(first, f"this release is on standby release={SECOND_RELEASE}")
    assert second.terminate() == 0
    done = await asyncio.to_thread(drain, api_server, SECOND, FULL_NAME)
    assert done.returncode == 0, done.stderr
    await wait_manager(api_server, FIRST_RELEASE)


def test_helm_refuses_to_install_a_second_release_while_the_first_is_alive(
    api_server: ApiServer, second_release: None, tmp_path: Path
) -> None:
    install = ("install", "third", str(CHART), f"--namespace={SECOND}", WITH_IMAGE, "--no-hooks")
    delete_leases(api_server)
    api_server.helm(*install, "--dry-run=server")
    put_lease(api_server, timedelta(seconds=20))
    with pytest.raises(CommandFailed, match=f"release {FIRST_RELEASE} manages this cluster") as refusal:
        api_server.helm(*install, "--dry-run=server")
    assert "uninstall it first" in str(refusal.value)
    api_server.helm(*install, "--dry-run=client")
    api_server.helm("template", "third", str(CHART), WITH_IMAGE)
    own = (
        "install",
        "overlay-net",
        str(CHART),
        f"--namespace={NAMESPACE}",
        WITH_IMAGE,
        "--no-hooks",
        "--dry-run=server",
    )
    assert "manages this cluster" not in failure(api_server, *own), "it is the same release"
    put_lease(api_server, timedelta(minutes=11))
    api_server.helm(*install, "--dry-run=server")
    delete_leases(api_server)


def failure(api_server: ApiServer, *arguments: str) -> str:
    try:
        api_server.helm(*arguments)
    except CommandFailed as error:
        return str(error)
    return ""


def put_lease(api_server: ApiServer, age: timedelta) -> None:
    renewed = micro_time(datetime.now(UTC) - age)
    spec = {"holderIdentity": FIRST_RELEASE, "leaseDurationSeconds": 600, "renewTime": renewed}
    metadata = {"name": "overlay-net", "namespace": "kube-system"}
    api_server.apply(
        {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": spec | {"acquireTime": renewed},
        }
    )
