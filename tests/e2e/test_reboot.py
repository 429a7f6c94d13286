"""A node that boots while the API server is down restores its checkpoint, unless its address may have a new owner."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.net import vlan
from lab.net.traffic import Stream, observed_source
from lab.net.vlan import Node
from lab.processes import Process, wait_until
from lab.product import NAMESPACE
from lab.scenario.process_lab import ProcessLab
from overlay_net.domain.kernel.checkpoint import FORMAT

NODES = vlan.NODE_NAMES[:2]
NAME = NODES[0]
Begin = Callable[..., None]


@pytest.fixture
def begin(lab: ProcessLab) -> Begin:
    """Two nodes with address and route; ``settings`` are added to the installed settings of their agents."""

    def run(*, fence_after: str = "10m", **settings: Any) -> None:
        lab.build(NODES)
        lab.product.fence_after = fence_after
        config_map = lab.api_server.get("configmap", "overlay-net-agent", f"--namespace={NAMESPACE}")
        installed = yaml.safe_load(config_map["data"]["config.yaml"])
        defaults = {"state_dir": str(lab.directory / "state")}
        (lab.directory / "agent.yaml").write_text(yaml.safe_dump(installed | defaults | settings))
        lab.start()
        lab.register_nodes(NODES)
        lab.create_route()

    return run


def checkpoints(lab: ProcessLab) -> list[str]:
    directory = lab.directory / "state"
    return sorted(each.name for each in directory.iterdir()) if directory.exists() else []


def power_cycle(lab: ProcessLab) -> Node:
    """Replace the node by one with a new kernel and the same disk."""
    lab.product.agents[NAME].kill9()
    lab.vlan.remove_node(NAME)
    return lab.vlan.add_node(NAME)


def boot(lab: ProcessLab, node: Node) -> Path:
    """Start the node's agent with its existing token; returns a new log file."""
    before = lab.product.agents[NAME]
    before.log.rename(before.log.with_suffix(".before"))
    lab.product.agents[NAME] = Process(before.name, before.argv, log=before.log, env=before.env, enter=node.enter)
    return before.log


def wait_log(log: Path, text: str) -> None:
    wait_until(lambda: log.exists() and text in log.read_text(), f"the agent logs {text!r}")


def shown_route(node: Node) -> str:
    return node.ip("route", "show", vlan.ON_PREMISE_SUBNET)


def test_a_reboot_without_api_restores_the_checkpoint_and_other_nodes_lose_no_packet(
    lab: ProcessLab, begin: Begin
) -> None:
    begin()
    address = lab.addresses()[NAME]
    wait_until(lambda: f"{NAME}.state" in checkpoints(lab), "the checkpoint is on the disk")
    mac = lab.nodes[NAME].ip("-br", "link", "show", "tmp0").split()[2]
    other = Stream(lab.nodes[NODES[1]], vlan.ON_PREMISE_HOST)
    lab.api_server.kube_apiserver.kill9()
    node = power_cycle(lab)
    assert not shown_route(node)
    log = boot(lab, node)
    wait_until(
        lambda: f"src {address}" in shown_route(node),
        "address and route are restored without the API",
        timeout=15,
    )
    assert "using the checkpoint" in log.read_text()
    assert observed_source(node, vlan.ON_PREMISE_HOST) == address
    assert node.ip("-br", "link", "show", "tmp0").split()[2] == mac
    # Drift is repaired meanwhile.
    node.ip("route", "delete", vlan.ON_PREMISE_SUBNET)
    wait_until(lambda: f"src {address}" in shown_route(node), "the route is repaired")
    stream = Stream(node, vlan.ON_PREMISE_HOST)
    lab.api_server.kube_apiserver.start()
    lab.api_server.wait_ready()
    lab.product.wait_agent(node)
    wait_until(lambda: lab.is_ready(NAME), "it is Ready again")
    assert (stream.stop().lost, other.stop().lost) == (0, 0)


def test_the_api_overrides_the_checkpoint(lab: ProcessLab, begin: Begin) -> None:
    begin()
    lab.product.agents[NAME].kill9()
    lab.api_server.kubectl("delete", "staticroute", "--all", "--wait=false")
    wait_until(lambda: not shown_route(lab.nodes[NODES[1]]), "the route is removed where an agent is running")
    lab.api_server.kube_apiserver.kill9()
    node = power_cycle(lab)
    boot(lab, node)
    wait_until(lambda: bool(shown_route(node)), "the route of the checkpoint is restored", timeout=15)
    lab.api_server.kube_apiserver.start()
    lab.api_server.wait_ready()
    wait_until(lambda: not shown_route(node), "the route is removed after the agent has read the API")
    assert "tmp0" in node.ip("link")


def test_nothing_is_restored_on_a_deleted_node(lab: ProcessLab, begin: Begin) -> None:
    begin()
    address = lab.addresses()[NAME]
    lab.api_server.kubectl("delete", "node", NAME)
    wait_until(lambda: address not in lab.reserved(), "its address is free")
    assert [name for name in checkpoints(lab) if NAME in name] == []
    lab.api_server.kube_apiserver.kill9()
    node = power_cycle(lab)
    log = boot(lab, node)
    wait_log(log, "there is no checkpoint")
    time.sleep(1)
    assert "tmp0" not in node.ip("link")


def test_after_the_fence_time_nothing_is_restored_and_nothing_is_removed(lab: ProcessLab, begin: Begin) -> None:
    begin(fence_after="3s")
    address = lab.addresses()[NAME]
    lab.api_server.kube_apiserver.kill9()
    time.sleep(3)
    # Only the agent restarts: the node keeps its address.
    node = lab.nodes[NAME]
    lab.product.agents[NAME].kill9()
    wait_log(boot(lab, node), "another node may have the address")
    assert observed_source(node, vlan.ON_PREMISE_HOST) == address
    node.ip("route", "delete", vlan.ON_PREMISE_SUBNET)
    time.sleep(1.5)
    assert not shown_route(node), "the deleted route is not restored"
    node = power_cycle(lab)
    wait_log(boot(lab, node), "another node may have the address")
    time.sleep(1)
    assert "tmp0" not in node.ip("link")
    lab.api_server.kube_apiserver.start()
    lab.api_server.wait_ready()
    wait_until(lambda: f"src {address}" in shown_route(node), "everything is restored after the agent has read the API")


def test_a_corrupt_checkpoint_is_logged_once_and_changes_nothing(lab: ProcessLab, begin: Begin) -> None:
    begin()
    (lab.directory / "state" / f"{NAME}.state").write_bytes(b"\x00" * 4096)
    lab.api_server.kube_apiserver.kill9()
    node = lab.nodes[NAME]
    lab.product.agents[NAME].kill9()
    log = boot(lab, node)
    wait_log(log, "the checkpoint is not a file of overlay-net")
    time.sleep(2.5)
    assert log.read_text().count("the checkpoint is not a file of overlay-net") == 1
    assert shown_route(node)
    lab.api_server.kube_apiserver.start()
    lab.api_server.wait_ready()
    lab.product.wait_agent(node)
    state = lab.directory / "state" / f"{NAME}.state"
    wait_until(lambda: FORMAT.encode() in state.read_bytes(), "the checkpoint is valid again")
