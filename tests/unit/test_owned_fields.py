"""Objects with fields that another client wrote, too: what the controller removes, and what it leaves alone."""

import re
from dataclasses import fields
from datetime import UTC, datetime
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from lab.product import CHART
from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import CONTROLLER_CONDITIONS, Condition
from overlay_net.model.names import FINALIZER, NODE_OVERLAY_IPS, REGION_LABELS, ZONE_LABELS
from overlay_net.model.node import NodeInstance
from overlay_net.model.node_report import REPORT_FIELDS, Report
from overlay_net.model.overlay import ASSIGNMENT_FIELDS, Assignment
from overlay_net.model.route_probe import RouteProbe
from tests.fakes.cluster import NAME, Cluster
from tests.unit.factories import raw_node, raw_pool

ADDRESS = "192.168.100.44"
INHERITED = {"ipAddr": f"{ADDRESS}/24", "gateway": "192.168.100.1", "pool": "p1", "interface": "eth0"}
ZONE, REGION = ZONE_LABELS[0], REGION_LABELS[0]


async def inherited(**status: Any) -> Cluster:
    """A node whose object and status the earlier operator wrote."""
    cluster = await Cluster.start(raw_pool())
    metadata = {"name": NAME, "labels": {"node": NAME, "zone": "z0", "team": "a"}, "finalizers": [FINALIZER, "theirs"]}
    await cluster.kube.create(NODE_OVERLAY_IPS, {"metadata": metadata, "spec": {}})
    await cluster.set_status(INHERITED | status)
    await cluster.join(raw_node(NAME))
    return cluster


async def labels(cluster: Cluster) -> dict[str, str]:
    found: dict[str, str] = (await cluster.present_overlay())["metadata"]["labels"]
    return found


async def status(cluster: Cluster) -> JsonObject:
    found: JsonObject = (await cluster.present_overlay())["status"]
    return found


async def test_an_inherited_address_is_removed_with_gateway_and_pool_once_overlay_addresses_are_disabled() -> None:
    cluster = await inherited()
    await cluster.settle()
    assert (await status(cluster))["ipAddr"] == f"{ADDRESS}/24", "until then the node keeps it"
    assert list(await cluster.records()) == [ip_address(ADDRESS)]
    await cluster.set_policy(overlay_addresses=False)
    await cluster.settle()
    assert not (await status(cluster)).keys() & {"ipAddr", "gateway", "pool", "nodeUID", "releasing"}
    assert not await cluster.records()
    assert (await cluster.announced()).count("RoutesOnly") == 1


@pytest.mark.parametrize("writes", range(8))
async def test_a_controller_that_ends_between_apply_and_removal_is_completed_by_the_next(writes: int) -> None:
    cluster = await inherited()
    await cluster.settle()
    await cluster.set_policy(overlay_addresses=False)
    await cluster.reconcile()
    await cluster.run_agent()
    await cluster.reconcile(writes)
    if "ipAddr" in await status(cluster):
        assert await cluster.records(), "an address is removed from the status before it is released"
    await cluster.settle()
    assert "ipAddr" not in await status(cluster)
    assert not await cluster.records()


async def test_the_time_since_which_a_node_is_gone_is_removed_when_it_returns() -> None:
    cluster = await inherited(nodeGoneSince="2025-12-31T00:00:00Z", conflicts=2)
    await cluster.settle()
    found = await status(cluster)
    assert "nodeGoneSince" not in found
    assert found["conflicts"] == 2


async def test_labels_of_another_client_follow_the_node_and_those_of_users_stay() -> None:
    cluster = await inherited()
    await cluster.set_labels(**{ZONE: None, REGION: None})
    await cluster.settle()
    assert await labels(cluster) == {"node": NAME, "team": "a"}
    assert "theirs" in (await cluster.present_overlay())["metadata"]["finalizers"]


async def test_a_label_of_the_create_changes_and_goes_with_that_of_the_node() -> None:
    cluster = await Cluster.start(raw_pool())
    await cluster.join(raw_node(NAME, zone="z1"))
    await cluster.settle()
    assert await labels(cluster) == {"node": NAME, "zone": "z1", "region": "us-south"}
    await cluster.set_labels(**{ZONE: "z2", REGION: None})
    await cluster.settle()
    assert await labels(cluster) == {"node": NAME, "zone": "z2"}
    await cluster.set_labels(**{ZONE: None})
    await cluster.settle()
    assert await labels(cluster) == {"node": NAME}


async def test_routes_only_of_a_restored_object_ends_when_overlay_addresses_are_enabled() -> None:
    cluster = await Cluster.start(raw_pool())
    spec = {"routesOnly": True, "omitted": ["r1"], "ipAddr": "192.168.100.7"}
    await cluster.kube.create(NODE_OVERLAY_IPS, {"metadata": {"name": NAME}, "spec": spec})
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    found = (await cluster.present_overlay())["spec"]
    assert not found.keys() & {"routesOnly", "omitted"}
    assert found["ipAddr"] == "192.168.100.7"
    assert (await status(cluster))["ipAddr"].startswith("192.168.100.7/")


def full_assignment() -> Assignment:
    condition, now = Condition("Ready", None, "AgentStale"), datetime(2026, 1, 1, tzinfo=UTC)
    return Assignment(
        address=ip_interface(f"{ADDRESS}/24"),
        gateway=ip_address("192.168.100.1"),
        pool="p1",
        node_uid="u",
        releasing=("192.168.100.9",),
        ipams=("phpipam",),
        node_gone_since=now,
        conflicts=1,
        last_conflict=now,
        last_conflict_mac="02:00:00:00:00:01",
        consecutive_conflicts=1,
        ready=condition,
    )


def test_every_field_that_the_controller_writes_is_its_own_also_for_the_admission_policy() -> None:
    written = set(full_assignment().to_json()) - {"conditions"}
    assert len(written) == len(fields(Assignment)) - 5, "all but the five conditions"
    assert {path[1] for path in ASSIGNMENT_FIELDS if len(path) == 2} == written
    policy = (CHART / "templates/admission.yaml").read_text()
    protected, conditions = (
        set(re.findall(r'"(\w+)"', found)) for found in re.findall(r"range \$\w+ := list (.*?) }}", policy)
    )
    assert protected == written
    assert conditions == CONTROLLER_CONDITIONS


def test_every_field_that_a_report_may_omit_is_removed_when_it_does() -> None:
    full = Report(
        lease="ns/n1",
        configured=ip_interface(f"{ADDRESS}/24"),
        fallback=ip_address("10.0.0.1"),
        conflict=ip_address(ADDRESS),
        conflict_mac="02:00:00:00:00:01",
        observed_node=NodeInstance("u", "b"),
        route_probes=(RouteProbe.parse({"staticRoute": "r1"}),),
        observed_slices={"rs-1-0": 1},
    )
    omitted = full.to_json().keys() - Report().to_json().keys()
    assert {path[1] for path in REPORT_FIELDS if len(path) == 2} == omitted
