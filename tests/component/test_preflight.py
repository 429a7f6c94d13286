"""The hook before an install: what would leave its pods waiting is reported in one sentence, at once."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.cluster.api_server import ApiServer
from lab.manifests import parse_manifests
from lab.processes import CommandFailed
from lab.product import CHART, WITH_IMAGE

NAMESPACE = "preflight"
RELEASE = "checked"
ACCOUNT = f"{RELEASE}-overlay-net-preflight"
BASELINE = {"pod-security.kubernetes.io/enforce": "baseline"}
NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "preflight-node", "labels": {"kubernetes.io/os": "linux"}},
}


@pytest.fixture
def namespace(api_server: ApiServer) -> Iterator[str]:
    """A namespace that only admits pods of the baseline standard."""
    labels = BASELINE | {"kubernetes.io/metadata.name": NAMESPACE}
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
    # A killed controller of another test may still hold it.
    api_server.kubectl("delete", "lease", "overlay-net", "--namespace=kube-system", "--ignore-not-found")
    yield NAMESPACE
    api_server.kubectl(
        "delete", "resourcequota,secret,configmap,serviceaccount,role,rolebinding", "--all", f"-n={NAMESPACE}"
    )
    api_server.kubectl("delete", "node", "preflight-node", "--ignore-not-found")


class Hook:
    """The hook of the chart, run as a process with its account instead of a pod."""

    def __init__(self, api_server: ApiServer, folder: Path) -> None:
        self._api_server = api_server
        self._folder = folder

    def run(self, *values: str, kind: str = "install") -> "subprocess.CompletedProcess[str]":
        shown = self._api_server.helm(
            "template",
            RELEASE,
            str(CHART),
            f"--namespace={NAMESPACE}",
            WITH_IMAGE,
            "--show-only=templates/preflight.yaml",
            *(("--is-upgrade",) if kind == "upgrade" else ()),
            *values,
        )
        objects = parse_manifests(shown)
        (pod,) = (each for each in objects if each["kind"] == "Pod")
        (config,) = (each for each in objects if each["kind"] == "ConfigMap")
        self._api_server.apply(*(each for each in objects if each["kind"] != "Pod"))
        for name, content in config["data"].items():
            (self._folder / name).write_text(content)
        arguments = [each for each in pod["spec"]["containers"][0]["args"] if not each.startswith("--directory=")]
        account = self._api_server.service_account_kubeconfig(NAMESPACE, ACCOUNT)
        command = [sys.executable, "-m", "overlay_net", *arguments]
        return subprocess.run(
            [*command, f"--directory={self._folder}", f"--kubeconfig={account}"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )


@pytest.fixture
def hook(api_server: ApiServer, namespace: str, tmp_path: Path) -> Hook:
    return Hook(api_server, tmp_path)


def allow_privileged(api_server: ApiServer) -> None:
    api_server.kubectl("label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=privileged", "--overwrite")


def set_quota(api_server: ApiServer, hard: dict[str, str], **spec: Any) -> None:
    """A quota whose controller has computed it."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "compute", "namespace": NAMESPACE}}
    api_server.apply(quota | {"spec": {"hard": hard, **spec}})
    status = json.dumps({"status": {"hard": hard, "used": dict.fromkeys(hard, "0")}})
    patch = ("patch", "resourcequota", "compute", f"--namespace={NAMESPACE}", "--subresource=status", "--type=merge")
    api_server.kubectl(*patch, f"--patch={status}")


def test_namespace_that_refuses_agents_is_reported_with_the_command_that_admits_them(hook: Hook) -> None:
    done = hook.run()
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    refusal = f"overlay-net preflight: namespace {NAMESPACE} does not admit the pods of the agents"
    assert line.startswith(f'{refusal}: violates PodSecurity "baseline')
    assert f"kubectl label namespace {NAMESPACE} pod-security.kubernetes.io/enforce=privileged" in line


def test_namespace_is_labelled_if_the_value_is_set(api_server: ApiServer, hook: Hook) -> None:
    done = hook.run("--set=podSecurity.labelNamespace=true")
    assert (done.returncode, done.stderr) == (0, "")
    labels = api_server.get("namespace", NAMESPACE)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"


def test_quota_that_requires_a_limit_is_reported_with_the_value_that_sets_it(api_server: ApiServer, hook: Hook) -> None:
    allow_privileged(api_server)
    set_quota(api_server, {"limits.cpu": "10"})
    done = hook.run("--set=controller.resources.limits.cpu=1")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "must specify limits.cpu for: agent: set them in agent.resources" in line
    done = hook.run("--set=controller.resources.limits.cpu=1,agent.resources.limits.cpu=1")
    assert (done.returncode, done.stderr) == (0, "")


def test_quota_without_room_for_all_pods_fails_an_install_but_no_upgrade(api_server: ApiServer, hook: Hook) -> None:
    allow_privileged(api_server)
    api_server.apply(NODE)
    set_quota(api_server, {"pods": "2"})
    done = hook.run()
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    # Other tests may have left nodes.
    nodes = len(api_server.kubectl("get", "nodes", "-o", "name").split())
    needed = f"{nodes} agents and 2 controllers need {nodes + 2} of pods, and 2 of 2 is left"
    assert f"ResourceQuota compute has no room: {needed}" in line
    assert hook.run(kind="upgrade").returncode == 0


def test_priority_class_that_is_only_admitted_with_a_quota_is_no_problem_if_the_chart_creates_it(
    api_server: ApiServer, hook: Hook
) -> None:
    allow_privileged(api_server)
    classes = [{"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}]
    set_quota(api_server, {"pods": "0"}, scopeSelector={"matchExpressions": classes})
    refused = hook.run()
    assert refused.returncode == 1
    assert "exceeded quota: compute" in refused.stderr
    assert hook.run("--set=resourceQuota.enabled=true").returncode == 0


def test_priority_class_that_does_not_exist_is_reported(api_server: ApiServer, hook: Hook) -> None:
    allow_privileged(api_server)
    done = hook.run("--set=agent.priorityClassName=missing")
    assert done.returncode == 1
    assert (
        "no PriorityClass with name missing was found: create it, or set another agent.priorityClassName" in done.stderr
    )


def test_port_that_another_process_uses_on_a_node_is_reported_with_the_node(api_server: ApiServer, hook: Hook) -> None:
    allow_privileged(api_server)
    address = {"type": "InternalIP", "address": "127.0.0.1"}
    api_server.apply(NODE)
    status = json.dumps({"status": {"addresses": [address]}})
    api_server.kubectl("patch", "node", "preflight-node", "--subresource=status", "--type=merge", f"--patch={status}")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        bind = f"--set=agent.settings.http.bind=:{port}"
        done = hook.run(bind)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert f"port {port} of agent.settings.http.bind is in use by another process on preflight-node: set a" in line
    assert hook.run(bind).returncode == 0


def test_hook_that_is_not_admitted_fails_the_install_at_once(api_server: ApiServer, namespace: str) -> None:
    set_quota(api_server, {"limits.cpu": "10"})
    install = ("install", RELEASE, str(CHART), f"--namespace={namespace}", WITH_IMAGE, "--timeout=60s")
    with pytest.raises(
        CommandFailed, match=r"overlay-net-image-pull\" is forbidden: failed quota: compute: must specify"
    ):
        api_server.helm(*install)
    api_server.helm("uninstall", RELEASE, f"--namespace={namespace}", "--no-hooks")


def test_an_image_that_cannot_be_pulled_ends_every_command_within_half_a_minute(api_server: ApiServer) -> None:
    """helm reports `pod checked-overlay-net-image-pull failed`; tests/kubelet has it on a real node."""

    def pull(*values: str) -> Any:
        shown = api_server.helm("template", RELEASE, str(CHART), f"--namespace={NAMESPACE}", WITH_IMAGE, *values)
        hooks = [each for each in parse_manifests(shown) if "helm.sh/hook" in json.dumps(each)]
        first = min(hooks, key=lambda each: int(each["metadata"]["annotations"]["helm.sh/hook-weight"]))
        assert (first["kind"], first["metadata"]["name"]) == ("ServiceAccount", f"{RELEASE}-overlay-net-image-pull")
        (pod,) = (each for each in hooks if each["kind"] == "Pod" and each["metadata"]["name"].endswith("image-pull"))
        assert pod["spec"]["serviceAccountName"] == first["metadata"]["name"]
        return pod

    pod = pull()
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade,pre-delete"
    assert pod["spec"]["activeDeadlineSeconds"] < 30
    assert pull("--set=hooks.imagePullTimeout=2m")["spec"]["activeDeadlineSeconds"] == 120
    # Nothing runs in the uninstall, so nothing is pulled.
    kept = pull("--set=uninstall.keepDataPlane=true")
    assert kept["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"


def test_missing_pull_secret_fails_before_anything_is_created(api_server: ApiServer, namespace: str) -> None:
    install = ("install", RELEASE, str(CHART), f"--namespace={namespace}", WITH_IMAGE, "--no-hooks", "--dry-run=server")
    named = "--set=imagePullSecrets[0].name=registry"
    with pytest.raises(CommandFailed, match=f"there is no Secret registry in namespace {namespace}: create it first"):
        api_server.helm(*install, named)
    with pytest.raises(CommandFailed, match="there is no Secret mirror"):
        api_server.helm(*install, "--set=global.imagePullSecrets={mirror}")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "registry", "namespace": namespace}}
    extra = f"--set-json=extraObjects={json.dumps([secret])}"
    with pytest.raises(
        CommandFailed, match="the Secret registry of extraObjects would be created after the first pods"
    ):
        api_server.helm(*install, named, extra)
    assert "kind: DaemonSet" in api_server.helm(*install, named, extra, "--set=hooks.enabled=false")
    before = "--set=extraObjects[0].metadata.annotations.helm\\.sh/hook=pre-install\\,pre-upgrade"
    assert "kind: DaemonSet" in api_server.helm(*install, named, extra, before)
    api_server.kubectl("create", "secret", "generic", "registry", f"--namespace={namespace}")
    assert "kind: DaemonSet" in api_server.helm(*install, named)
