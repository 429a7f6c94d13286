"""`overlay-net status` as run from a shell."""

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.cluster.api_server import ApiServer
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import NODE_OVERLAY_IPS
from tests.component.controller_process import controller
from tests.component.test_controller import add_pool, agent_condition, agent_reports, have_addresses, join


def shown(api_server: ApiServer, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return run_status(api_server.admin(), *arguments)


def run_status(kubeconfig: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "overlay_net", "status", f"--kubeconfig={kubeconfig}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


async def test_problems_are_listed_until_everything_is_healthy(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    async with controller(api_server):
        await join(admin, "n1")
        await have_addresses(admin, 1)
        unhealthy = await asyncio.to_thread(shown, api_server)
        assert unhealthy.returncode == 1
        assert "node  n1  no report from its agent" in unhealthy.stdout
        # With --wait it polls until everything is ready.
        waiting = asyncio.create_task(asyncio.to_thread(shown, api_server, "--wait=30s"))
        generation = (await admin.get(NODE_OVERLAY_IPS, "n1"))["metadata"]["generation"]
        ready = agent_condition("Ready", "True", "Ready")
        await agent_reports(admin, "n1", observedGeneration=generation, conditions=[ready])
        healthy = await waiting
        assert (healthy.returncode, healthy.stderr) == (0, "")
        assert "nodes   1 of 1 ready" in healthy.stdout
        assert healthy.stdout.endswith("\nhealthy\n")


def test_a_target_is_connected_to_and_the_source_address_shown(api_server: ApiServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        answer = shown(api_server, f"--connect=127.0.0.1:{port}")
        assert f"connected to 127.0.0.1:{port} from 127.0.0.1" in answer.stdout
    answer = shown(api_server, f"--connect=127.0.0.1:{port}")
    assert answer.returncode == 1
    assert f"no connection to 127.0.0.1:{port}: " in answer.stdout
    # Nothing is wrong in the cluster, but not everything was found to be right.
    assert "healthy" not in answer.stdout
    answer = shown(api_server, "--connect=.:80")
    assert (answer.returncode, answer.stderr) == (1, "")
    assert "no connection to .:80: " in answer.stdout


def test_an_api_server_that_does_not_answer_is_one_line_within_the_timeout(tmp_path: Path) -> None:
    accepting = socket.create_server(("127.0.0.1", 0))
    # A full backlog: not even a connection is made.
    deaf = socket.create_server(("127.0.0.1", 0), backlog=0)
    with accepting, deaf, socket.create_connection(deaf.getsockname()):
        for server in (accepting, deaf):
            for scheme in ("http", "https"):
                kubeconfig = tmp_path / "config"
                url = f"{scheme}://127.0.0.1:{server.getsockname()[1]}"
                kubeconfig.write_text(json.dumps(kubeconfig_content(url, {"token": "t"})))
                expect_one_line(run_status(kubeconfig, "--timeout=1s"), "no complete answer within 1 s")


def test_a_credential_plugin_that_hangs_is_one_line_within_the_timeout(tmp_path: Path) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sleep", "args": ["600"]}
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(json.dumps(kubeconfig_content("https://127.0.0.1:1", {"exec": plugin})))
    expect_one_line(run_status(kubeconfig, "--timeout=1s"), "no complete answer within 1 s")


def test_a_kubeconfig_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "malformed").write_text("a: [")
    for name, part in (("missing", "No such file"), ("empty", "the file is empty"), ("malformed", "invalid YAML")):
        expect_one_line(run_status(tmp_path / name), part, code=2)


def kubeconfig_content(server: str, user: dict[str, Any]) -> dict[str, Any]:
    return {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


def expect_one_line(answer: "subprocess.CompletedProcess[str]", part: str, code: int = 1) -> None:
    assert (answer.returncode, answer.stdout) == (code, "")
    (line,) = answer.stderr.splitlines()
    assert line.startswith("overlay-net status: ")
    assert part in line


def test_an_unreachable_api_server_is_an_error_and_no_health_is_shown(api_server: ApiServer) -> None:
    api_server.kube_apiserver.kill9()
    try:
        answer = shown(api_server)
    finally:
        api_server.restart()
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("overlay-net status: cannot read the cluster's state: ")
    answer = shown(api_server, "--connect=nowhere")
    assert (answer.returncode, "'nowhere': a host and a port are required" in answer.stderr) == (2, True)
