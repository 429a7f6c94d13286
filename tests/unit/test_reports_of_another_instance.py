"""A report counts only for the object, the Node and the boot that it was written for.

Server-side apply does not compare the uid of a status write (tests/contract/test_kube.py), so a late report can reach
the next object of the same name; and a Node that returns within ``release_after`` finds the report of its earlier life.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from overlay_net.domain.routes.rollout import admit
from overlay_net.domain.routes.route_sets import route_set_name
from overlay_net.domain.status.cluster_counts import ClusterCounts
from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import Condition, find_condition, parse_conditions
from overlay_net.model.names import NODE_OVERLAY_IPS, NODES
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_slice import slice_name
from tests.fakes.cluster import NAME, POLICY, Cluster
from tests.fakes.static_route_status import GENERATION, NOW, ReportingNode, find_status, make_index, make_slices, table
from tests.unit.factories import overlay, raw_node, raw_pool, static_route

TAINT = "overlay-net.example.com/not-ready"
READY = {"type": "Ready", "status": "True", "reason": "Ready"}


async def started(boot: str = "boot-1") -> Cluster:
    """A cluster whose node is ready and without its startup taint."""
    cluster = await Cluster.start(raw_pool())
    await cluster.set_policy(startup_taint=TAINT)
    await cluster.join(raw_node(NAME, boot=boot, taints=(TAINT,)))
    cluster.boot = boot
    await cluster.settle()
    assert await taints(cluster) == []
    return cluster


async def taints(cluster: Cluster) -> list[str]:
    return [each["key"] for each in (await cluster.kube.get(NODES, NAME))["spec"]["taints"]]


async def add_taint(cluster: Cluster) -> None:
    taint = {"key": TAINT, "effect": "NoSchedule"}
    await cluster.kube.merge_patch(NODES, NAME, {"spec": {"taints": [taint]}})


async def boot_again(cluster: Cluster, boot: str) -> None:
    """The kubelet reports another boot; the agent has not started yet."""
    change = {"status": {"nodeInfo": {"bootID": boot}}}
    await cluster.kube.merge_patch(NODES, NAME, change, subresource="status")
    await add_taint(cluster)


@pytest.mark.parametrize("ipam_down", [False, True])
@pytest.mark.parametrize("boot", ["boot-1", "boot-2", ""])
async def test_the_startup_taint_of_a_recreated_node_stays_until_its_new_agent_has_reported(
    boot: str, ipam_down: bool
) -> None:
    cluster = await started()
    await cluster.leave()
    await cluster.reconcile()
    cluster.now += POLICY.release_after / 2
    cluster.ipam_down = ipam_down
    await cluster.join(raw_node(NAME, boot=boot, taints=(TAINT,)))
    for _ in range(3):
        await cluster.reconcile()
        cluster.now += timedelta(seconds=30)
    assert await taints(cluster) == [TAINT], "no agent has run since"
    cluster.ipam_down = False
    cluster.boot = boot
    await cluster.settle()
    assert await taints(cluster) == []


@pytest.mark.parametrize("dies_after", range(4))
async def test_the_taint_stays_although_the_controller_dies_while_the_node_returns(dies_after: int) -> None:
    cluster = await started()
    await cluster.leave()
    await cluster.reconcile()
    await cluster.join(raw_node(NAME, boot="boot-2", taints=(TAINT,)))
    await cluster.reconcile(writes=dies_after)
    await cluster.reconcile()
    assert await taints(cluster) == [TAINT]


async def test_a_report_of_the_boot_before_does_not_remove_the_taint() -> None:
    cluster = await started()
    await boot_again(cluster, "boot-2")
    await cluster.reconcile()
    assert await taints(cluster) == [TAINT]
    await cluster.run_agent()
    await cluster.reconcile()
    assert await taints(cluster) == [TAINT], "an agent that still runs on the machine before"
    cluster.boot = "boot-2"
    await cluster.settle()
    assert await taints(cluster) == []


@pytest.mark.parametrize("returns", [True, False], ids=["created again", "boots again"])
@pytest.mark.parametrize("paused", [True, False], ids=["controller is paused", "watches lag"])
async def test_the_taint_of_an_instance_that_the_controller_does_not_know_yet_stays(
    returns: bool, paused: bool
) -> None:
    cluster = await started()
    await add_taint(cluster)
    if paused:
        await cluster.reconcile(writes=0, pauses=True)
    else:
        cluster.watches_lag = True
    if returns:
        await cluster.join(raw_node(NAME, boot="boot-2", taints=(TAINT,)))
    else:
        await boot_again(cluster, "boot-2")
    await cluster.resume()
    await cluster.reconcile()
    assert await taints(cluster) == [TAINT], "the agent of this instance has not reported"
    await cluster.catch_up()
    cluster.boot = "boot-2"
    await cluster.settle()
    assert await taints(cluster) == []


async def test_a_late_report_for_an_earlier_object_does_not_count_for_its_successor() -> None:
    cluster = await started()
    late = (await cluster.present_overlay())["status"]
    await cluster.delete_overlay()
    await cluster.settle()
    assert await cluster.overlay() is not None
    await cluster.set_status({**late, "observedGeneration": 99})
    await add_taint(cluster)
    await cluster.reconcile()
    assert await taints(cluster) == [TAINT]
    await cluster.settle()
    assert await taints(cluster) == []


async def test_a_late_report_of_the_release_of_an_earlier_object_releases_nothing() -> None:
    cluster = await started()
    before = (await cluster.present_overlay())["metadata"]["uid"]
    await cluster.delete_overlay()
    await cluster.settle()
    await cluster.delete_overlay()
    released = {"type": "Configured", "status": "False", "reason": "Released"}
    await cluster.set_status({"observedUID": before, "observedGeneration": 99, "conditions": [released]})
    await cluster.reconcile()
    assert "deletionTimestamp" in (await cluster.present_overlay())["metadata"], "the kernel still has the address"
    await cluster.settle()
    assert "deletionTimestamp" not in (await cluster.present_overlay())["metadata"]


async def test_the_report_of_an_earlier_agent_counts_by_its_generation() -> None:
    cluster = await started()
    cluster.identifies = False
    await cluster.settle()
    await add_taint(cluster)
    await cluster.reconcile()
    assert await taints(cluster) == []
    await cluster.leave()
    await cluster.reconcile()
    await cluster.join(raw_node(NAME, boot="boot-2", taints=(TAINT,)))
    await cluster.reconcile()
    assert await taints(cluster) == [TAINT], "its report is of an earlier generation"
    await cluster.settle()
    assert await taints(cluster) == []


async def test_an_object_of_an_earlier_controller_names_its_node_before_the_taint_is_removed() -> None:
    cluster = await started()
    await cluster.kube.merge_patch(NODE_OVERLAY_IPS, NAME, {"spec": {"node": None}})
    await add_taint(cluster)
    await cluster.reconcile()
    assert (await cluster.present_overlay())["spec"]["node"]["bootID"] == "boot-1"
    assert await taints(cluster) == [TAINT]
    await cluster.settle()
    assert await taints(cluster) == []


# --- Status and rollout ----------------------------------------------------------------------------------------------

ROUTE = static_route(gateway="192.168.100.1", rollout={"maxUnavailable": 1})


def reported(uid: str = "overlay-n1", **status: Any) -> NodeOverlay:
    about = {"observedUID": uid, "observedNode": {"uid": "uid-1", "bootID": "boot-1"}, "observedGeneration": 9}
    report: JsonObject = {"ipAddr": "192.168.100.4/24", "gateway": "192.168.100.1", "conditions": [READY]}
    report["observedSlices"] = {slice_name(route_set_name(ROUTE), 0): GENERATION}
    spec = {"node": {"uid": "uid-1", "bootID": "boot-1"}, "routeSets": [{"name": route_set_name(ROUTE)}]}
    return overlay(spec=spec, status=about | report | status)


def reported_by(uid: str = "uid-1", boot: str = "boot-1") -> NodeOverlay:
    return reported(observedNode={"uid": uid, "bootID": boot})


def node(uid: str = "uid-1", boot: str = "boot-1") -> Node:
    return Node.parse(raw_node(uid=uid, boot=boot))


OTHERS = [
    pytest.param(node(), reported(uid="overlay-before"), id="another object"),
    pytest.param(node(), reported_by("uid-0"), id="another Node"),
    pytest.param(node(), reported_by(boot="boot-0"), id="another boot"),
    pytest.param(node(uid="uid-2"), reported(), id="a Node that the object does not name yet"),
    pytest.param(node(boot="boot-2"), reported(), id="a boot that the object does not name yet"),
]


@pytest.mark.parametrize(("present", "found"), OTHERS)
def test_a_node_with_a_report_of_another_instance_is_not_ready_and_keeps_a_rollout_waiting(
    present: Node, found: NodeOverlay
) -> None:
    other = ReportingNode(present, found, (ROUTE,))
    status = find_status(ROUTE, [other])
    assert [each["state"] for each in status["nodeStatus"]] == ["Pending"]
    index = make_index([other, table("n2")], [ROUTE], make_slices([ROUTE]))
    assert ROUTE.rollout is not None
    assert admit(index, ROUTE, ROUTE.rollout, ()) == {"n1"}
    counts = ClusterCounts()
    counts.update("n1", present, found)
    assert counts.nodes["ready"] == 0


@pytest.mark.parametrize("present", [node(), node(boot="")], ids=["the same", "a kubelet that reports no boot"])
def test_a_node_with_its_own_report_is_ready(present: Node) -> None:
    status = find_status(ROUTE, [ReportingNode(present, reported(), (ROUTE,))])
    assert [each["state"] for each in status["nodeStatus"]] == ["Ready"]


@pytest.mark.parametrize(("present", "found"), OTHERS[:3])
def test_failures_of_another_instance_are_not_shown(present: Node, found: NodeOverlay) -> None:
    failure = {"subnet": "192.168.0.0/24", "staticRoute": "r1", "state": "KernelRefused", "message": "no"}
    about: dict[str, Any] = {
        "observedUID": found.report.observed_uid,
        "observedNode": found.report.observed_node.to_json(),
        "observedGeneration": 9,
    }
    silent = [{"address": "192.168.100.1", "message": "no answer"}]
    other = reported(**about | {"routes": [failure], "routesFailed": 1, "gateways": silent})
    status = find_status(ROUTE, [ReportingNode(present, other, (ROUTE,))])
    assert [each["state"] for each in status["nodeStatus"]] == ["Pending"]
    assert find_condition(parse_conditions(status), "GatewayReachable") == replace(
        Condition("GatewayReachable", None, "NotProbed", "no node has probed a gateway of this route"),
        observed_generation=1,
        last_transition_time=NOW,
    )
