"""`kubectl delete namespace` instead of `helm uninstall`: the same install again takes over what the nodes have."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.cluster.api_server import ApiServer
from lab.product import CHART, IMAGE
from overlay_net.adapters.kube import KubeApi
from tests.component.controller_process import start_controller
from tests.component.test_controller import NAMES, addresses, consistent, have_addresses, join

NAME = "lost"
CONTROLLER = f"{NAME}-overlay-net-controller"
POOL = {"cidr": "192.168.100.0/24", "gateway": "192.168.100.1"}
NAMESPACED = "deployments,daemonsets,pods,configmaps,secrets,serviceaccounts,roles,rolebindings,leases,pdb"


@pytest.fixture
def values(api_server: ApiServer, tmp_path: Path) -> Iterator[Path]:
    delete_lease(api_server)
    file = tmp_path / "values.json"
    file.write_text(json.dumps({"image": {"repository": IMAGE}, "pools": {NAME: POOL}}))
    yield file
    api_server.helm("uninstall", NAME, f"--namespace={NAME}", "--no-hooks", "--ignore-not-found")
    delete_lease(api_server)


def delete_lease(api_server: ApiServer) -> None:
    # Of this release, or of a killed controller of another test.
    api_server.kubectl("delete", "lease", "overlay-net", "--namespace=kube-system", "--ignore-not-found")


def install(api_server: ApiServer, values: Path) -> None:
    where = (f"--namespace={NAME}", "--create-namespace", "--no-hooks")
    api_server.helm("install", NAME, str(CHART), *where, f"--values={values}")


@contextmanager
def running(api_server: ApiServer) -> Iterator[None]:
    settings = {
        "kubeconfig": str(api_server.service_account_kubeconfig(NAME, CONTROLLER)),
        "leader_election__enabled": "false",
        "leader_election__namespace": NAME,
        "leader_election__lease_name": CONTROLLER,
    }
    with start_controller(api_server, None, **settings):
        yield


def delete_namespace(api_server: ApiServer) -> None:
    """As `kubectl delete namespace` with the controllers of Kubernetes, which do not run here."""
    api_server.kubectl("delete", "namespace", NAME, "--wait=false")
    api_server.kubectl("delete", NAMESPACED, "--all", f"--namespace={NAME}")
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME}, "spec": {"finalizers": []}}
    api_server.kubectl("replace", f"--raw=/api/v1/namespaces/{NAME}/finalize", "-f", "-", stdin=json.dumps(body))
    api_server.kubectl("wait", "--for=delete", f"namespace/{NAME}", "--timeout=30s")


async def test_the_same_install_again_keeps_every_address(admin: KubeApi, api_server: ApiServer, values: Path) -> None:
    install(api_server, values)
    with running(api_server):
        await join(admin, *NAMES[:5])
        await have_addresses(admin, 5)
    before = await addresses(admin)
    delete_namespace(api_server)
    assert await addresses(admin) == before
    install(api_server, values)
    with running(api_server):
        await join(admin, NAMES[5])
        await have_addresses(admin, 6)
        await consistent(admin)
    after = await addresses(admin)
    assert before.items() <= after.items()
