"""`helm install` that fails, then `helm uninstall`, with a stand-in for the Job controller and kubelets."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.cluster.api_server import ApiServer
from lab.manifests import parse_manifests
from lab.processes import CommandFailed, run
from lab.product import CHART, IMAGE, WITH_IMAGE
from overlay_net.adapters.kube import KubeApi

NAMESPACE = "broken"
PREFIX = "broken-overlay-net"
JOB = f"{PREFIX}-uninstall"
PULL = f"{PREFIX}-image-pull"
PHPIPAM: dict[str, Any] = {"url": "https://ipam.example.com", "appID": "overlay", "subnetMap": {"dal10": [7]}}
VALUES: dict[str, dict[str, Any]] = {
    "default": {},
    "phpIPAM with credentials": {"phpIPAM": PHPIPAM | {"credentials": {"username": "u", "password": "p"}}},
    "phpIPAM whose secret and CA do not exist": {
        "phpIPAM": PHPIPAM | {"existingSecret": "none", "caConfigMap": "none"}
    },
    "one controller without leader election": {
        "controller": {"replicas": 1, "settings": {"leader_election": {"enabled": False}}}
    },
}
HELM_TIMEOUT = 300
"""Default of helm's --timeout in seconds."""


class JobRunner:
    """Runs the uninstall job as a kubelet would, once everything that its pod requires exists."""

    def __init__(self, api_server: ApiServer, directory: Path) -> None:
        self._api_server = api_server
        self._directory = directory
        self.missing: list[str] = []
        """What a pod of the job would wait for."""
        self.output = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "JobRunner":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            try:
                job = self._api_server.get("job", JOB, f"--namespace={NAMESPACE}")
            except CommandFailed:
                self._pull()
                continue
            self.missing = self._missing(job["spec"]["template"]["spec"])
            self._finish(job, not self.missing and self._drain(job["spec"]["template"]["spec"]))
            return

    def _pull(self) -> None:
        """The image can be pulled now."""
        status = json.dumps({"status": {"phase": "Succeeded"}})
        patch = ("patch", "pod", PULL, f"--namespace={NAMESPACE}", "--subresource=status", f"--patch={status}")
        with contextlib.suppress(CommandFailed):
            self._api_server.kubectl(*patch)

    def _missing(self, pod: dict[str, Any]) -> list[str]:
        required = [("serviceaccount", pod["serviceAccountName"])]
        for volume in pod["volumes"]:
            for kind, key in (("configMap", "name"), ("secret", "secretName")):
                source = volume.get(kind, {"optional": True})
                if not source.get("optional"):
                    required.append((kind.lower(), source[key]))
        return [f"{kind}/{name}" for kind, name in required if not self._exists(kind, name)]

    def _exists(self, kind: str, name: str) -> bool:
        try:
            self._api_server.get(kind, name, f"--namespace={NAMESPACE}")
        except CommandFailed:
            return False
        return True

    def _drain(self, pod: dict[str, Any]) -> bool:
        volumes = {each["name"]: each for each in pod["volumes"]}
        content = self._api_server.get(
            "configmap", volumes["settings"]["configMap"]["name"], f"--namespace={NAMESPACE}"
        )
        config = self._directory / "config.yaml"
        config.write_text(content["data"]["config.yaml"])
        arguments = [each for each in pod["containers"][0]["args"] if not each.startswith("--config=")]
        account = self._api_server.service_account_kubeconfig(NAMESPACE, pod["serviceAccountName"])
        done = subprocess.run(
            [sys.executable, "-m", "overlay_net", *arguments, f"--config={config}"],
            env={
                **os.environ,
                "POD_NAMESPACE": NAMESPACE,
                "OVERLAY_KUBECONFIG": str(account),
                "OVERLAY_HTTP__BIND": "127.0.0.1:0",
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.output = done.stdout + done.stderr
        return done.returncode == 0

    def _finish(self, job: dict[str, Any], succeeded: bool) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        kinds = ("SuccessCriteriaMet", "Complete") if succeeded else ("FailureTarget", "Failed")
        conditions = [
            {"type": kind, "status": "True", "reason": "Test", "message": "", "lastTransitionTime": now}
            for kind in kinds
        ]
        status: dict[str, Any] = {"conditions": conditions, "startTime": now}
        if succeeded:
            status |= {"completionTime": now, "succeeded": 1}
        name = job["metadata"]["name"]
        arguments = ("--subresource=status", "--type=merge", f"--patch={json.dumps({'status': status})}")
        self._api_server.kubectl("patch", "job", name, f"--namespace={NAMESPACE}", *arguments)


@pytest.fixture(params=VALUES)
def failed_release(request: pytest.FixtureRequest, api_server: ApiServer, tmp_path: Path) -> Iterator[str]:
    """A release whose first hook never ended, as with an image that cannot be pulled."""
    # A killed controller of another test may still hold it.
    api_server.kubectl("delete", "lease", "overlay-net", "--namespace=kube-system", "--ignore-not-found")
    file = tmp_path / "values.json"
    file.write_text(json.dumps({"image": {"repository": IMAGE, "tag": "no-such-tag"}, **VALUES[request.param]}))
    where = (f"--namespace={NAMESPACE}", "--create-namespace", f"--values={file}", "--timeout=1s")
    with pytest.raises(CommandFailed):
        api_server.helm("install", "broken", str(CHART), *where)
    assert releases(api_server) == {"broken": "failed"}
    yield "broken"
    if releases(api_server):
        api_server.helm("uninstall", "broken", f"--namespace={NAMESPACE}", "--no-hooks")
    api_server.kubectl("delete", "job,pod,serviceaccount,configmap,secret,role,rolebinding", "--all", f"-n={NAMESPACE}")


def releases(api_server: ApiServer) -> dict[str, str]:
    shown = json.loads(api_server.helm("list", "--all", f"--namespace={NAMESPACE}", "--output=json"))
    return {each["name"]: each["status"] for each in shown}


def test_failed_first_install_can_be_uninstalled(
    api_server: ApiServer, admin: KubeApi, failed_release: str, tmp_path: Path
) -> None:
    with JobRunner(api_server, tmp_path) as runner:
        try:
            api_server.helm("uninstall", failed_release, f"--namespace={NAMESPACE}", "--timeout=60s")
        except CommandFailed as error:
            pytest.fail(f"{error}\nmissing: {runner.missing}\n{runner.output}")
    assert releases(api_server) == {}
    assert "nothing to release" in runner.output
    assert "drain complete" in runner.output


@pytest.fixture
def without_crds(api_server: ApiServer) -> Iterator[None]:
    """A cluster in which the job that applies the CRDs failed."""
    definitions = str(CHART / "crds")
    api_server.kubectl("delete", "-f", definitions)
    yield
    api_server.kubectl("apply", "--server-side", "-f", definitions)
    api_server.kubectl("wait", "--for=condition=Established", "crds", "--all")


@pytest.mark.usefixtures("admin", "without_crds")
def test_drain_without_controller_and_crds_has_nothing_to_release(api_server: ApiServer) -> None:
    command = ["controller", "--drain", f"--scale-down={NAMESPACE}/{PREFIX}-controller", "--timeout=30s"]
    environment = {"OVERLAY_KUBECONFIG": str(api_server.admin()), "POD_NAMESPACE": NAMESPACE}
    assert "drain complete" in run([sys.executable, "-m", "overlay_net", *command], env=environment)


def test_every_hook_job_ends_before_helm_gives_up_and_has_all_it_requires(api_server: ApiServer) -> None:
    shown = api_server.helm(
        "template", "broken", str(CHART), f"--namespace={NAMESPACE}", WITH_IMAGE, "--set=crds.keep=false"
    )
    hooks = [each for each in parse_manifests(shown) if find_hook(each)]
    jobs = [each for each in hooks if each["kind"] == "Job"]
    assert {find_hook(job) for job in jobs} == {"pre-install,pre-upgrade", "pre-delete", "post-delete"}
    for job in jobs:
        assert 0 < job["spec"]["activeDeadlineSeconds"] < HELM_TIMEOUT
        pod = job["spec"]["template"]["spec"]
        brought = {(each["kind"], each["metadata"]["name"]) for each in hooks if find_hook(each) == find_hook(job)}
        assert ("ServiceAccount", pod["serviceAccountName"]) in brought
        maps = [volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume]
        assert {("ConfigMap", name) for name in maps} <= brought


@pytest.mark.parametrize(
    ("timeout", "seconds"), [("4m", 240), ("90s", 90), ("1h30m", 5400), ("1.5m", 90), ("1d", 86400)]
)
def test_job_outlives_the_drain_in_it(api_server: ApiServer, timeout: str, seconds: int) -> None:
    shown = api_server.helm("template", "broken", str(CHART), WITH_IMAGE, f"--set=uninstall.timeout={timeout}")
    (job,) = (each for each in parse_manifests(shown) if each["kind"] == "Job" and find_hook(each) == "pre-delete")
    assert job["spec"]["activeDeadlineSeconds"] == seconds + 30


def find_hook(manifest: dict[str, Any]) -> str | None:
    found: str | None = manifest["metadata"].get("annotations", {}).get("helm.sh/hook")
    return found
