"""`overlay-net routes`, and what all commands for people share, against the real API server."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from lab.cluster.api_server import ApiServer
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import NODE_OVERLAY_IPS, STATIC_ROUTES
from tests.component.controller_process import controller
from tests.component.eventually import eventually
from tests.component.people import answered, overlay_net
from tests.component.slices import node_routes
from tests.component.test_controller import (
    add_pool,
    agent_condition,
    agent_reports,
    create,
    have_addresses,
    join,
)


async def test_the_routes_of_a_node_are_listed_with_states_and_refusals(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    await join(admin, "n1", "n2")
    await create(admin, STATIC_ROUTES, "fine", {"subnet": "10.5.0.0/16"})
    await create(admin, STATIC_ROUTES, "refused", {"subnet": "10.96.1.0/24"})
    async with controller(api_server):
        await have_addresses(admin, 2)

        async def routed() -> bool:
            decided = (await admin.get(STATIC_ROUTES, "refused")).get("status", {}).get("conditions")
            return bool(decided) and len(await node_routes(admin, "n1")) == 1

        await eventually(routed, "the node has its route, and the other StaticRoute is refused")
        pending = await asyncio.to_thread(answered, api_server, "routes", "n1")
        assert [(each["staticRoute"], each["state"]) for each in pending["routes"]] == [
            ("refused", "Refused"),
            ("fine", "Pending"),
        ]
        generation = (await admin.get(NODE_OVERLAY_IPS, "n1"))["metadata"]["generation"]
        ready = agent_condition("Ready", "True", "Ready")
        await agent_reports(admin, "n1", observedGeneration=generation, conditions=[ready])
        shown = await asyncio.to_thread(overlay_net, api_server, "routes", "n1")
        lines = [line.split() for line in shown.stdout.splitlines()]
        assert lines[0][:2] == ["node", "n1:"]
        assert "1 of 2 routes in place" in shown.stdout
        assert ["10.5.0.0/16", "192.168.100.1", "fine", "InPlace"] in lines
        assert any(line[:5] == ["10.96.1.0/24", "192.168.100.1", "refused", "Refused", "Protected:"] for line in lines)
        # All other nodes: nothing about them, and a node that does not exist is an error of one line.
        only = await asyncio.to_thread(overlay_net, api_server, "routes", "n1", "--problems")
        assert "InPlace" not in only.stdout
        missing = await asyncio.to_thread(overlay_net, api_server, "routes", "n9")
        assert (missing.returncode, missing.stdout) == (1, "")
        (line,) = missing.stderr.splitlines()
        assert "node n9 has no NodeOverlayIp" in line


def test_a_context_is_selected_and_a_missing_one_is_named(api_server: ApiServer, tmp_path: Path) -> None:
    content = yaml.safe_load(api_server.admin().read_text())
    content["contexts"].append({"name": "broken", "context": {"cluster": "lab", "user": "unknown"}})
    content["current-context"] = "broken"
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(yaml.safe_dump(content))
    assert overlay_net(kubeconfig, "status", "--context=lab", "-o", "yaml").stdout.startswith("---\nhealthy: ")
    assert "'unknown' in users" in overlay_net(kubeconfig, "status").stderr
    assert "no 'other' in contexts" in overlay_net(kubeconfig, "status", "--context=other").stderr


def test_kubectl_finds_the_plugin(api_server: ApiServer, tmp_path: Path) -> None:
    complete = "from overlay_net.cli.app import complete_for_kubectl as run; run()"
    for name, program in (
        ("kubectl-overlay_net", "-m overlay_net"),
        ("kubectl_complete-overlay_net", f"-c '{complete}'"),
    ):
        plugin = tmp_path / name
        plugin.write_text(f'#!/bin/sh\nexec "{sys.executable}" {program} "$@"\n')
        plugin.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "KUBECONFIG": str(api_server.admin())}

    def kubectl(*arguments: str) -> str:
        command = [str(api_server.assets.kubectl), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60).stdout

    assert json.loads(kubectl("overlay-net", "status", "-o", "json"))["counts"]
    # What the completion script of kubectl runs.
    completed = kubectl("__complete", "overlay-net", "st").splitlines()
    assert completed[0].split("\t")[0] == "status"
    assert kubectl("__complete", "overlay-net", "status", "--no").startswith("--node-selector")


async def test_watch_shows_each_change(admin: KubeApi, api_server: ApiServer) -> None:
    command = [sys.executable, "-m", "overlay_net", "status", f"--kubeconfig={api_server.admin()}", "--watch"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None

        async def read_until(part: bytes) -> None:
            assert process.stdout is not None
            while part not in await process.stdout.readline():
                pass

        async with asyncio.timeout(60):
            await read_until(b"pools   0 of 0 usable")
            await add_pool(admin)
            await read_until(b"pools   0 of 1 usable")
    finally:
        process.terminate()
        await process.wait()
