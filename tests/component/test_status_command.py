"""`overlay-net status` as run from a shell."""

import asyncio
import socket
import subprocess
import sys

from lab.cluster.api_server import ApiServer
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import NODE_OVERLAY_IPS
from tests.component.controller_process import controller
from tests.component.test_controller import add_pool, agent_condition, agent_reports, have_addresses, join


def shown(api_server: ApiServer, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "overlay_net", "status", f"--kubeconfig={api_server.admin()}", *arguments]
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
