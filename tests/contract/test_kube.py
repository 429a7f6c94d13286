"""What reconcilers rely on of the Kubernetes API: the API server and its fake pass the same suite."""

import asyncio
from typing import Any, TypeAlias

import pytest

from overlay_net.adapters.kube import KubeApi
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import AlreadyExists, Conflict, NotFound, Refused
from overlay_net.model.names import (
    AGENT_FIELD_MANAGER,
    CONTROLLER_FIELD_MANAGER,
    FINALIZER,
    NODE_OVERLAY_IPS,
    OVERLAY_ADDRESSES,
)
from tests.fakes.kube import InMemoryKube

Api: TypeAlias = KubeApi | InMemoryKube
NAME = "n1"
ROUTES = [{"subnet": "10.1.0.0/16", "staticRoute": "r1"}]


@pytest.fixture(params=["in memory", "real"])
def api(request: pytest.FixtureRequest) -> Api:
    # The server is started only for its own half.
    return InMemoryKube() if request.param == "in memory" else request.getfixturevalue("admin")


def overlay(**parts: Any) -> JsonObject:
    metadata = {"name": NAME} | parts.pop("metadata", {})
    return {
        "apiVersion": NODE_OVERLAY_IPS.api_version,
        "kind": NODE_OVERLAY_IPS.kind,
        "metadata": metadata,
        **parts,
    }


def condition(type_: str, status: str = "True") -> JsonObject:
    return {
        "type": type_,
        "status": status,
        "reason": "Tested",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


async def read(api: Api) -> JsonObject:
    return await api.get(NODE_OVERLAY_IPS, NAME)


async def apply(api: Api, body: JsonObject, manager: str = CONTROLLER_FIELD_MANAGER, part: str | None = None) -> None:
    await api.apply(NODE_OVERLAY_IPS, NAME, body, field_manager=manager, subresource=part)


async def test_a_new_object_has_a_uid_and_generation_1_and_its_name_is_taken(api: Api) -> None:
    await api.create(NODE_OVERLAY_IPS, overlay(spec={}, status={"ipAddr": "10.9.0.2/24"}))
    found = await read(api)
    assert found["metadata"]["uid"]
    assert found["metadata"]["generation"] == 1
    assert "ipAddr" not in found.get("status", {}), "a status is written through its subresource alone"
    with pytest.raises(AlreadyExists):
        await api.create(NODE_OVERLAY_IPS, overlay(spec={}))
    await api.delete(NODE_OVERLAY_IPS, NAME)
    await api.create(NODE_OVERLAY_IPS, overlay(spec={}))
    assert (await read(api))["metadata"]["uid"] != found["metadata"]["uid"]


async def test_what_is_absent_is_not_found(api: Api) -> None:
    for call in (
        read(api),
        api.merge_patch(NODE_OVERLAY_IPS, NAME, {"metadata": {"labels": {"a": "b"}}}),
        api.delete(NODE_OVERLAY_IPS, NAME),
        apply(api, overlay(status={"ipAddr": "10.9.0.2/24"}), part="status"),
    ):
        with pytest.raises(NotFound):
            await call
    assert (await api.list(NODE_OVERLAY_IPS)).items == ()


async def test_the_generation_counts_changes_of_the_spec_and_the_deletion(api: Api) -> None:
    await api.create(NODE_OVERLAY_IPS, overlay(metadata={"finalizers": [FINALIZER]}, spec={}))
    await apply(api, overlay(metadata={"labels": {"node": NAME}, "finalizers": [FINALIZER]}, spec={"routes": ROUTES}))
    assert (await read(api))["metadata"]["generation"] == 2
    await apply(api, overlay(status={"ipAddr": "10.9.0.2/24"}), part="status")
    await api.merge_patch(NODE_OVERLAY_IPS, NAME, {"metadata": {"labels": {"more": "x"}}})
    assert (await read(api))["metadata"]["generation"] == 2
    await api.delete(NODE_OVERLAY_IPS, NAME)
    found = await read(api)
    assert found["metadata"]["generation"] == 3
    assert found["metadata"]["deletionTimestamp"]
    await api.delete(NODE_OVERLAY_IPS, NAME)
    assert await read(api) == found, "a second deletion changes nothing"


async def test_a_write_that_changes_nothing_keeps_the_resource_version(api: Api) -> None:
    body = overlay(metadata={"labels": {"node": NAME}}, spec={"routes": ROUTES})
    await apply(api, body)
    before = (await read(api))["metadata"]["resourceVersion"]
    await apply(api, body)
    await api.merge_patch(NODE_OVERLAY_IPS, NAME, {"metadata": {"labels": {"node": NAME}}})
    assert (await read(api))["metadata"]["resourceVersion"] == before
    await api.merge_patch(NODE_OVERLAY_IPS, NAME, {"metadata": {"labels": {"node": "other"}}})
    assert (await read(api))["metadata"]["resourceVersion"] != before


async def test_a_write_with_an_outdated_resource_version_conflicts_and_changes_nothing(api: Api) -> None:
    await api.create(NODE_OVERLAY_IPS, overlay(spec={}))
    outdated = {"resourceVersion": (await read(api))["metadata"]["resourceVersion"]}
    await api.merge_patch(NODE_OVERLAY_IPS, NAME, {"metadata": {"labels": {"a": "b"}}})
    before = await read(api)
    for write in (
        apply(api, overlay(metadata=outdated, spec={"routes": ROUTES})),
        apply(api, overlay(metadata=outdated, status={"ipAddr": "10.9.0.2/24"}), part="status"),
        api.merge_patch(NODE_OVERLAY_IPS, NAME, {"metadata": {**outdated, "finalizers": [FINALIZER]}}),
        api.delete(NODE_OVERLAY_IPS, NAME, resource_version=outdated["resourceVersion"]),
    ):
        with pytest.raises(Conflict):
            await write
    assert await read(api) == before


async def test_a_write_with_the_uid_of_an_earlier_object_is_refused_and_changes_nothing(api: Api) -> None:
    await api.create(NODE_OVERLAY_IPS, overlay(spec={}))
    outdated = {"uid": (await read(api))["metadata"]["uid"]}
    await api.delete(NODE_OVERLAY_IPS, NAME)
    await api.create(NODE_OVERLAY_IPS, overlay(spec={}))
    before = await read(api)
    for write in (
        apply(api, overlay(metadata=outdated, spec={"routes": ROUTES})),
        api.merge_patch(NODE_OVERLAY_IPS, NAME, {"metadata": {**outdated, "finalizers": [FINALIZER]}}),
    ):
        with pytest.raises(Refused):
            await write
    with pytest.raises(Conflict):
        await api.delete(NODE_OVERLAY_IPS, NAME, uid=outdated["uid"])
    assert await read(api) == before
    await apply(api, overlay(metadata=outdated, status={"ipAddr": "10.9.0.2/24"}), part="status")
    assert (await read(api))["status"] == {"ipAddr": "10.9.0.2/24"}, "a write of the status does not compare the uid"


async def test_an_apply_for_an_earlier_object_does_not_create_a_new_one(api: Api) -> None:
    await api.create(NODE_OVERLAY_IPS, overlay(spec={}))
    metadata = (await read(api))["metadata"]
    await api.delete(NODE_OVERLAY_IPS, NAME)
    preconditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    with pytest.raises(Conflict):
        await apply(api, overlay(metadata=preconditions, spec={"routes": ROUTES}))
    with pytest.raises(NotFound):
        await read(api)


async def test_an_object_with_a_finalizer_stays_until_the_last_one_is_removed(api: Api) -> None:
    other = "example.com/other"
    await api.create(NODE_OVERLAY_IPS, overlay(metadata={"finalizers": [FINALIZER, other]}, spec={}))
    await api.delete(NODE_OVERLAY_IPS, NAME)
    await api.merge_patch(NODE_OVERLAY_IPS, NAME, {"metadata": {"finalizers": [other]}})
    assert (await read(api))["metadata"]["finalizers"] == [other]
    await api.merge_patch(NODE_OVERLAY_IPS, NAME, {"metadata": {"finalizers": []}})
    with pytest.raises(NotFound):
        await read(api)


async def test_an_apply_removes_what_its_manager_no_longer_lists_and_keeps_what_others_manage(api: Api) -> None:
    await apply(api, overlay(spec={"routes": ROUTES, "routesOnly": True}, metadata={"labels": {"a": "1", "b": "2"}}))
    await api.merge_patch(NODE_OVERLAY_IPS, NAME, {"spec": {"ipAddr": "10.9.0.7"}, "metadata": {"labels": {"c": "3"}}})
    await apply(api, overlay(spec={"routes": ROUTES}, metadata={"labels": {"a": "1"}}))
    found = await read(api)
    assert found["spec"] == {"routes": ROUTES, "ipAddr": "10.9.0.7"}
    assert found["metadata"]["labels"] == {"a": "1", "c": "3"}


async def test_what_was_created_without_a_field_manager_is_not_removed_by_an_apply(api: Api) -> None:
    await api.create(NODE_OVERLAY_IPS, overlay(spec={}, metadata={"labels": {"a": "1"}, "finalizers": [FINALIZER]}))
    await apply(api, overlay(spec={}, metadata={"labels": {"a": "1"}}))
    await apply(api, overlay(spec={}, metadata={"labels": {"b": "2"}}))
    found = await read(api)
    assert found["metadata"]["labels"] == {"a": "1", "b": "2"}
    assert found["metadata"]["finalizers"] == [FINALIZER]


async def test_two_managers_share_a_status_by_fields_and_conditions(api: Api) -> None:
    await api.create(NODE_OVERLAY_IPS, overlay(spec={}))
    mine = {"ipAddr": "10.9.0.2/24", "pool": "p1", "conditions": [condition("Reserved")]}
    theirs = {"interface": "eth0", "routes": [], "conditions": [condition("Configured"), condition("Ready", "False")]}
    await apply(api, overlay(status=mine), part="status")
    await apply(api, overlay(status=theirs), AGENT_FIELD_MANAGER, part="status")
    await apply(api, overlay(status={"pool": "p1", "conditions": [condition("Reserved", "False")]}), part="status")
    status = (await read(api))["status"]
    assert {key: value for key, value in status.items() if key != "conditions"} == {
        "pool": "p1",
        "interface": "eth0",
        "routes": [],
    }
    assert {each["type"]: each["status"] for each in status["conditions"]} == {
        "Reserved": "False",
        "Configured": "True",
        "Ready": "False",
    }
    await apply(api, overlay(status={"interface": "eth0"}), AGENT_FIELD_MANAGER, part="status")
    status = (await read(api))["status"]
    assert [each["type"] for each in status["conditions"]] == ["Reserved"]
    assert "routes" not in status


async def test_a_condition_passes_from_one_manager_to_the_other_and_back(api: Api) -> None:
    await api.create(NODE_OVERLAY_IPS, overlay(spec={}))
    reserved, theirs = condition("Reserved"), {"interface": "eth0", "conditions": [condition("Ready")]}
    await apply(api, overlay(status=theirs), AGENT_FIELD_MANAGER, part="status")
    unknown = {**condition("Ready", "Unknown"), "reason": "AgentStale"}
    await apply(api, overlay(status={"conditions": [reserved, unknown]}), part="status")
    await apply(api, overlay(status={"pool": "p1", "conditions": [reserved, unknown]}), part="status")
    found = {each["type"]: each["status"] for each in (await read(api))["status"]["conditions"]}
    assert found == {"Reserved": "True", "Ready": "Unknown"}
    await apply(api, overlay(status=theirs), AGENT_FIELD_MANAGER, part="status")
    await apply(api, overlay(status={"conditions": [reserved]}), part="status")
    status = (await read(api))["status"]
    assert {each["type"]: each["status"] for each in status["conditions"]} == {"Reserved": "True", "Ready": "True"}


async def test_a_list_by_label_has_the_objects_with_that_value(api: Api) -> None:
    for address, node in (("10.9.0.2", "n1"), ("10.9.0.3", "n2"), ("10.9.0.4", "n1")):
        await api.create(
            OVERLAY_ADDRESSES,
            {
                "apiVersion": OVERLAY_ADDRESSES.api_version,
                "kind": OVERLAY_ADDRESSES.kind,
                "metadata": {"name": address, "labels": {"node": node}},
                "spec": {"address": address, "pool": "p1", "node": node, "nodeUID": "u"},
            },
        )
    listing = await api.list(OVERLAY_ADDRESSES, label_selector="node=n1")
    assert {each["metadata"]["name"] for each in listing.items} == {"10.9.0.2", "10.9.0.4"}
    either = await api.list(OVERLAY_ADDRESSES, label_selector="node in (n2,n3)")
    assert {each["metadata"]["name"] for each in either.items} == {"10.9.0.3"}
    assert len((await api.list(OVERLAY_ADDRESSES)).items) == 3


async def test_of_two_creates_at_the_same_time_one_succeeds(api: Api) -> None:
    results = await asyncio.gather(
        *(api.create(NODE_OVERLAY_IPS, overlay(spec={})) for _ in range(2)), return_exceptions=True
    )
    assert sorted(isinstance(each, AlreadyExists) for each in results) == [False, True]
