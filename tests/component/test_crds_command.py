"""`overlay-net crds`, with the permissions that the chart gives to its upgrade job."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab.cluster.api_server import ApiServer
from lab.manifests import parse_manifests
from lab.product import CHART, NAMESPACE, WITH_IMAGE
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import OVERLAY_POOLS

NAME = "overlaypools.iks.ibm.com"
RELEASE = f"{NAMESPACE}/overlay-net-controller"
"""The release of all controllers of the tests, which may still hold the Lease of the cluster."""
POOL = {
    "apiVersion": "iks.ibm.com/v1alpha1",
    "kind": "OverlayPool",
    "metadata": {"name": "kept"},
    "spec": {"cidr": "192.168.100.0/24", "gateway": "192.168.100.1"},
}


@pytest.fixture
def account(api_server: ApiServer) -> Iterator[str]:
    """Kubeconfig of the hook's service account, with the permissions of the hook."""
    shown = api_server.helm("template", "overlay-net", str(CHART), f"--namespace={NAMESPACE}", WITH_IMAGE)
    hooks = [each for each in parse_manifests(shown) if "helm.sh/hook" in str(each["metadata"])]
    assert {each["kind"] for each in hooks} >= {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Job"}
    desired = [each for each in hooks if each["kind"] not in ("Job", "ConfigMap") and "-crds" in str(each["metadata"])]
    api_server.apply(*desired)
    yield str(api_server.service_account_kubeconfig(NAMESPACE, "overlay-net-crds"))
    for each in desired:
        api_server.kubectl("delete", each["kind"], each["metadata"]["name"], f"--namespace={NAMESPACE}")
    # Other tests need these definitions.
    assert crds(CHART / "crds", str(api_server.admin())).returncode == 0


def crds(directory: Path, kubeconfig: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "overlay_net", "crds", f"--directory={directory}", f"--kubeconfig={kubeconfig}"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=60)


def newer(folder: Path, text: str) -> Path:
    """The chart's definitions, with another description of the pools."""
    for file in (CHART / "crds").glob("*.yaml"):
        body = yaml.safe_load(file.read_text())
        if body["metadata"]["name"] == NAME:
            body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = text
        (folder / file.name).write_text(yaml.safe_dump(body))
    return folder


def test_a_newer_schema_is_served_and_no_object_is_lost(api_server: ApiServer, account: str, tmp_path: Path) -> None:
    api_server.apply(POOL)
    done = crds(newer(tmp_path, "newer than before"), account)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{NAME} is up to date" in done.stdout
    crd = api_server.get("crd", NAME)
    assert crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] == "newer than before"
    assert api_server.get("opool", "kept")["spec"]["cidr"] == "192.168.100.0/24"


def test_a_missing_definition_is_created(api_server: ApiServer, account: str) -> None:
    api_server.kubectl("delete", "crd", NAME)
    assert crds(CHART / "crds", account).returncode == 0
    api_server.apply(POOL)


def test_a_schema_that_the_server_rejects_is_reported(api_server: ApiServer, account: str, tmp_path: Path) -> None:
    folder = newer(tmp_path, "broken")
    file = folder / "overlaypools.yaml"
    body = yaml.safe_load(file.read_text())
    body["spec"]["versions"][0]["storage"] = False
    file.write_text(yaml.safe_dump(body))
    done = crds(folder, account)
    assert done.returncode == 1
    assert "exactly one version marked as storage version" in done.stderr


def test_files_that_cannot_be_read_are_named(tmp_path: Path, account: str) -> None:
    done = crds(tmp_path / "none", account)
    assert (done.returncode, "no *.yaml file" in done.stderr) == (2, True)
    (tmp_path / "a.yaml").write_text("kind: Pod")
    done = crds(tmp_path, account)
    assert (done.returncode, "not a CustomResourceDefinition" in done.stderr) == (2, True)
    done = crds(tmp_path, account, "--timeout=soon")
    assert (done.returncode, "'soon': must be a duration such as 30s" in done.stderr) == (2, True)


async def test_remove_deletes_definitions_and_their_objects(
    admin: KubeApi, api_server: ApiServer, account: str
) -> None:
    """``admin``: the cluster is empty, as no controller would remove finalizers of other tests' objects."""
    assert (await remove(account)).returncode == 1, "the account of an upgrade may not delete"
    await admin.create(OVERLAY_POOLS, POOL)
    done = await remove(str(api_server.admin()))
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{NAME} is deleted" in done.stdout
    assert api_server.get("crds")["items"] == []
    assert (await remove(str(api_server.admin()))).returncode == 0


async def remove(kubeconfig: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(
        crds, CHART / "crds", kubeconfig, "--remove", f"--release={RELEASE}", "--timeout=40s"
    )


def test_an_unreachable_server_is_retried_until_the_timeout(api_server: ApiServer, account: str) -> None:
    api_server.pause()
    try:
        done = crds(CHART / "crds", account, "--timeout=1s")
    finally:
        api_server.resume()
    assert done.returncode == 1
    assert "timed out after 1 s: the API server does not answer" in done.stderr


def test_documented_command_takes_over_the_definitions_that_helm_created(api_server: ApiServer, tmp_path: Path) -> None:
    (command,) = re.findall(
        r"^kubectl (apply .*crds/)$", (CHART.parent.parent / "docs" / "operations.md").read_text(), re.MULTILINE
    )
    for file in (CHART / "crds").glob("*.yaml"):
        api_server.kubectl("delete", "-f", str(file))
    older = newer(tmp_path, "of an earlier chart")
    api_server.kubectl("create", "--field-manager=helm", "-f", str(older))
    shown = api_server.kubectl(*command.replace("charts/overlay-net/crds/", str(CHART / "crds")).split())
    assert shown.count("serverside-applied") == len(list(older.iterdir()))
    assert "of an earlier chart" not in api_server.kubectl("get", "crd", NAME, "-o", "yaml")


@pytest.mark.parametrize("file", sorted((CHART / "crds").glob("*.yaml")), ids=lambda file: file.stem)
def test_gitops_tools_do_not_prune_a_definition(file: Path) -> None:
    annotations = yaml.safe_load(file.read_text())["metadata"]["annotations"]
    assert annotations == {
        "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
        "kustomize.toolkit.fluxcd.io/prune": "disabled",
    }
