"""The commands of pages that need no kubelets, in order, against the real API server."""

import asyncio
import json
import shlex
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.agents.fleet import open_fleet
from lab.cluster.api_server import ApiServer
from lab.net.namespaces import Namespace
from lab.phpipam.process import APP, URL, USER, PhpIpamProcess
from overlay_net.adapters.kube import KubeApi
from tests.component.controller_process import start_controller
from tests.component.healthy_cluster import KERNEL, HealthyCluster
from tests.docs.pages import Page, pages_on
from tests.docs.shell import Shell
from tests.fakes.kubelet import Kubelet

HELM = """
case "$1" in
install|upgrade) exec {helm} "$@" --dry-run=server > /dev/null ;;
uninstall) exec {helm} "$@" --dry-run > /dev/null ;;
esac
exec {helm} "$@"
"""
"""The release exists, and its hooks need kubelets: all but the last step, in which helm sends the objects."""
KUBECTL = """
case "$1 $2" in
"create namespace") exec {kubectl} "$@" --dry-run=client ;;
esac
for word in "$@"; do
  case "$word" in
  delete) exec {kubectl} "$@" --dry-run=server --wait=false ;;
  apply|create|patch|label|annotate) exec {kubectl} "$@" --dry-run=server ;;
  get|describe|logs|wait|explain|auth) break ;;
  esac
done
exec {kubectl} "$@"
"""
"""The objects are those of all tests, as the namespace is: the API server checks each change, and makes none."""
OVERLAY_NET = """
[ "$1" = agent ] && exec {node} {program} "$@"
exec {program} "$@"
"""
SUBNETS = [f"192.168.{number}" for number in range(1, 10)]
PHPIPAM: dict[str, Any] = {
    "sections": [{"name": "Overlay"}],
    "subnets": [{"section": "Overlay", "cidr": f"{subnet}.0/24"} for subnet in SUBNETS],
    "addresses": [
        {"subnet": f"{subnet}.0/24", "ip": f"{subnet}.1", "hostname": "gateway", "is_gateway": 1} for subnet in SUBNETS
    ],
}
ZONES = {"dal10": [7, 8], "dal12": [9]}
"""The subnets of the values file."""


def each_page(cluster: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages_on(cluster), ids=lambda page: page.path)


@pytest.fixture
def shell(page: Page, api_server: ApiServer, tmp_path: Path) -> Shell:
    shell = Shell(tmp_path, api_server, page.replace)
    shell.stand_in("helm", HELM.format(helm=api_server.assets.helm))
    return shell


def dry_run(shell: Shell) -> None:
    shell.stand_in("kubectl", KUBECTL.format(kubectl=shell.api_server.assets.kubectl))


@pytest.fixture
def node(shell: Shell) -> Iterator[Namespace]:
    """Where ``ip`` and an agent run: a node with the overlay link and a route of the earlier operator."""
    with Namespace("n1") as node:
        for name, peer in (("eth0", "private"), ("tmp0", "overlay")):
            node.ip("link", "add", name, "type", "veth", "peer", "name", peer)
            for link in (name, peer):
                node.ip("link", "set", link, "up")
        node.ip("address", "add", "192.168.100.11/24", "dev", "tmp0")
        node.ip("route", "add", "192.168.0.0/24", "via", "192.168.100.1")
        # For packets of pods.
        node.sysctl("net.ipv4.ip_forward", 1)
        enter = f'{shlex.join(node.enter[:-1])} --chdir="$PWD"'
        shell.stand_in("ip", f'exec {enter} {shutil.which("ip")} "$@"')
        shell.stand_in("overlay-net", OVERLAY_NET.format(node=enter, program=shell.overlay_net))
        yield node


def prepare(page: Page, api_server: ApiServer) -> None:
    """Create the objects of the page; one with a status exists, and gets that status."""
    for each in page.objects:
        options = ("--subresource=status",) if "status" in each else ()
        command = ("apply", "--server-side", "--force-conflicts", *options, "-f", "-")
        api_server.kubectl(*command, stdin=json.dumps(each))


@each_page("api-server")
async def test_commands_of_a_page_about_a_running_release(
    page: Page, shell: Shell, node: Namespace, cluster: HealthyCluster, kubelet: Kubelet
) -> None:
    dry_run(shell)
    kubelet.logs = dict.fromkeys(("controller-1", "agent-n1", "agent-n2"), page.logs)
    kubelet.outputs["agent-n2"] = json.dumps(KERNEL)
    await asyncio.to_thread(prepare, page, shell.api_server)
    try:
        await asyncio.to_thread(shell.follow, page)
    finally:
        # The fixtures delete those of overlay_net.
        for each in page.objects:
            if "iks.ibm.com" not in each["apiVersion"]:
                shell.api_server.kubectl("delete", "-f", "-", stdin=json.dumps(each))


@asynccontextmanager
async def running(page: Page, api_server: ApiServer, config: Path | None = None) -> AsyncIterator[None]:
    """The objects of the page, with a controller and an agent of each Node."""
    await asyncio.to_thread(prepare, page, api_server)
    nodes = [each["metadata"]["name"] for each in page.objects if each["kind"] == "Node"]
    with start_controller(api_server, config, leader_election__enabled="false"):
        async with open_fleet(str(api_server.admin())) as fleet:
            await fleet.start(nodes)
            yield


@each_page("controller")
async def test_commands_of_a_page_that_changes_objects(page: Page, shell: Shell, admin: KubeApi) -> None:
    async with running(page, shell.api_server):
        await asyncio.to_thread(shell.follow, page)


@each_page("phpipam")
async def test_commands_of_a_page_about_phpipam(
    page: Page, shell: Shell, admin: KubeApi, granted: None, tmp_path: Path
) -> None:
    dry_run(shell)
    for name, content in USER.items():
        (tmp_path / name).write_text(content)
    config = tmp_path / "config.yaml"
    section = {
        "url": URL,
        "appID": APP,
        "subnetMap": ZONES,
        "credentials_dir": str(tmp_path),
        "refresh_interval": "500ms",
    }
    config.write_text(yaml.safe_dump({"phpIPAM": section}))
    with PhpIpamProcess(tmp_path, PHPIPAM):
        async with running(page, shell.api_server, config):
            await asyncio.to_thread(shell.follow, page)
