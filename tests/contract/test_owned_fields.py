"""Fields that another client has written as well: ours are removed, others stay. On the API server and its fake."""

from typing import Any

import pytest

from overlay_net.adapters.kube import KubeApi, apply_owned
from overlay_net.controller.subnet_map import MAPPED_FIELDS
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import Conflict
from overlay_net.model.managed_fields import Path
from overlay_net.model.names import (
    AGENT_FIELD_MANAGER,
    CONTROLLER_FIELD_MANAGER,
    FINALIZER,
    NODE_OVERLAY_IPS,
    OVERLAY_POOLS,
    STATIC_ROUTES,
    Resource,
)
from overlay_net.model.node_report import REPORT_FIELDS
from overlay_net.model.overlay import ASSIGNMENT_FIELDS, SPEC_FIELDS
from overlay_net.model.pool import POOL_STATUS_FIELDS
from overlay_net.model.static_route import ROUTE_STATUS_FIELDS
from tests.contract.test_kube import NAME, Api, api, condition, overlay, read

__all__ = ["api"]

TIME = "2026-01-01T00:00:00Z"
ASSIGNMENT = {
    "ipAddr": "10.9.0.2/24",
    "gateway": "10.9.0.1",
    "pool": "p1",
    "nodeUID": "u",
    "releasing": ["10.9.0.3"],
    "ipams": ["phpipam"],
    "nodeGoneSince": TIME,
    "conflicts": 2,
    "lastConflict": TIME,
    "lastConflictMAC": "02:00:00:00:00:01",
    "consecutiveConflicts": 1,
    "conditions": [condition("Reserved"), condition("UpToDate", "False"), condition("RoutesWithdrawn", "False")],
}
REPORT = {
    "interface": "eth0",
    "configuredIpAddr": "10.9.0.2/24",
    "conflictingIpAddr": "10.9.0.2",
    "conflictingMAC": "02:00:00:00:00:01",
    "fallbackGateway": "10.176.0.1",
    "conditions": [condition("Configured"), condition("Ready"), condition("MetricsServed", "False")],
}


class Requests:
    """Counts the requests; before a removal, ``meanwhile`` is written by another client."""

    def __init__(self, api: Any, meanwhile: JsonObject | None = None) -> None:
        self._api = api
        self._meanwhile = meanwhile
        self.verbs: list[str] = []

    async def apply(self, *arguments: Any, **more: Any) -> Any:
        self.verbs.append("apply")
        answer = await self._api.apply(*arguments, **more)
        if self._meanwhile is not None:
            await self._api.merge_patch(NODE_OVERLAY_IPS, NAME, self._meanwhile, subresource="status")
        return answer

    async def get(self, *arguments: Any, **more: Any) -> Any:
        self.verbs.append("get")
        return await self._api.get(*arguments, **more)

    async def merge_patch(self, *arguments: Any, **more: Any) -> Any:
        self.verbs.append("patch")
        return await self._api.merge_patch(*arguments, **more)


async def applied(api: Api | Requests, body: JsonObject, part: str | None = None) -> None:
    owned = ASSIGNMENT_FIELDS if part else SPEC_FIELDS
    client: Any = api
    await apply_owned(
        client, NODE_OVERLAY_IPS, body, field_manager=CONTROLLER_FIELD_MANAGER, owned=owned, subresource=part
    )


async def others_write_status(api: Api, status: JsonObject) -> None:
    """As the earlier operator, a restore or a person: not by an apply."""
    await api.merge_patch(NODE_OVERLAY_IPS, NAME, {"status": status}, subresource="status")


def types(status: JsonObject) -> list[str]:
    return [each["type"] for each in status.get("conditions", [])]


@pytest.mark.parametrize("field", [each for each in ASSIGNMENT if each != "conditions"])
async def test_a_field_of_the_controller_that_another_client_wrote_is_removed(api: Api, field: str) -> None:
    await api.create(NODE_OVERLAY_IPS, overlay(spec={}))
    await others_write_status(api, {field: ASSIGNMENT[field], "interface": "eth0"})
    # With the field at first, as for an inherited object whose address is kept for now.
    await applied(api, overlay(status={field: ASSIGNMENT[field]}), "status")
    await applied(api, overlay(status={}), "status")
    status = (await read(api))["status"]
    assert field not in status
    assert status["interface"] == "eth0", "it belongs to the agent"


async def test_all_fields_and_conditions_of_the_controller_are_removed_at_once_and_those_of_the_agent_stay(
    api: Api,
) -> None:
    await api.create(NODE_OVERLAY_IPS, overlay(spec={}))
    theirs = [condition("Ready"), condition("example.com/Checked")]
    await others_write_status(api, ASSIGNMENT | REPORT | {"conditions": [*ASSIGNMENT["conditions"], *theirs]})  # type: ignore[misc]
    reserved = condition("Reserved", "False")
    await applied(api, overlay(status={"conditions": [reserved]}), "status")
    status = (await read(api))["status"]
    assert not status.keys() & (ASSIGNMENT.keys() - {"conditions"})
    assert {key: value for key, value in REPORT.items() if key != "conditions"}.items() <= status.items()
    assert sorted(types(status)) == ["Ready", "Reserved", "example.com/Checked"]
    assert next(each for each in status["conditions"] if each["type"] == "Reserved") == reserved


async def test_a_report_removes_what_an_earlier_client_reported_and_nothing_of_the_controller(api: Api) -> None:
    await api.create(NODE_OVERLAY_IPS, overlay(spec={}))
    await others_write_status(
        api,
        {**ASSIGNMENT, **REPORT, "conditions": [*ASSIGNMENT["conditions"], *REPORT["conditions"]]},  # type: ignore[misc]
    )
    body = overlay(status={"interface": "eth1", "conditions": [condition("Configured"), condition("Ready")]})
    client: Any = api
    await apply_owned(
        client,
        NODE_OVERLAY_IPS,
        body,
        field_manager=AGENT_FIELD_MANAGER,
        owned=REPORT_FIELDS,
        subresource="status",
    )
    status = (await read(api))["status"]
    assert {key: value for key, value in status.items() if key != "conditions"} == {
        "interface": "eth1",
        **{key: value for key, value in ASSIGNMENT.items() if key != "conditions"},
    }
    assert set(types(status)) == {"Reserved", "UpToDate", "RoutesWithdrawn", "Configured", "Ready"}


@pytest.mark.parametrize("creator", [None, CONTROLLER_FIELD_MANAGER, "kubectl-create"])
async def test_labels_of_the_create_change_and_go_and_those_of_users_stay(api: Api, creator: str | None) -> None:
    labels = {"node": NAME, "zone": "z1", "region": "r1", "team": "a"}
    finalizers = [FINALIZER, "example.com/theirs"]
    created = overlay(spec={}, metadata={"labels": labels, "finalizers": finalizers})
    await api.create(NODE_OVERLAY_IPS, created, field_manager=creator)
    await api.merge_patch(NODE_OVERLAY_IPS, NAME, {"metadata": {"labels": {"kubectl": "edit"}}})
    desired = {"labels": {"node": NAME, "zone": "z2"}, "finalizers": [FINALIZER]}
    await applied(api, overlay(spec={}, metadata=desired))
    metadata = (await read(api))["metadata"]
    assert metadata["labels"] == {"node": NAME, "zone": "z2", "team": "a", "kubectl": "edit"}
    assert sorted(metadata["finalizers"]) == sorted(finalizers)


async def test_a_spec_that_was_restored_loses_what_is_ours_and_keeps_pin_and_gateway(api: Api) -> None:
    users = {"ipAddr": "10.9.0.7", "gateway": "10.9.0.9"}
    ours = {"routesOnly": True, "omitted": ["r1"], "node": {"uid": "u", "bootID": "b"}, "routes": []}
    await api.create(NODE_OVERLAY_IPS, overlay(spec={**users, **ours}))
    await applied(api, overlay(spec={"routes": []}))
    assert (await read(api))["spec"] == {"routes": [], **users}


async def test_the_zones_of_a_mapped_pool_are_those_of_the_map(admin: KubeApi) -> None:
    selector = {"matchLabels": {"pool": "a"}}
    spec = {"phpIPAM": {"subnetID": 7}, "nodeSelector": selector}
    await admin.create(OVERLAY_POOLS, OVERLAY_POOLS.manifest("p1", spec={**spec, "zones": ["z1", "z2"]}))
    body = OVERLAY_POOLS.manifest("p1", spec={"phpIPAM": {"subnetID": 7}, "zones": ["z2", "z3"]})
    await apply_owned(admin, OVERLAY_POOLS, body, field_manager=CONTROLLER_FIELD_MANAGER, owned=MAPPED_FIELDS)
    found = (await admin.get(OVERLAY_POOLS, "p1"))["spec"]
    assert sorted(found["zones"]) == ["z2", "z3"]
    assert found["phpIPAM"] == {"subnetID": 7}
    assert found["nodeSelector"] == selector, "set by a person"


@pytest.mark.parametrize(
    ("resource", "spec", "restored", "types_", "owned"),
    [
        (
            OVERLAY_POOLS,
            {"phpIPAM": {"subnetID": 7}},
            {"cidr": "10.9.0.0/24", "gateway": "10.9.0.1", "used": 1, "free": 3, "total": 4},
            ["Consistent"],
            POOL_STATUS_FIELDS,
        ),
        (STATIC_ROUTES, {"subnet": "10.1.0.0/16"}, {"updated": 3}, [], ROUTE_STATUS_FIELDS),
    ],
    ids=["OverlayPool", "StaticRoute"],
)
async def test_a_status_loses_restored_values_and_keeps_conditions_of_others(
    admin: KubeApi,
    resource: Resource,
    spec: JsonObject,
    restored: JsonObject,
    types_: list[str],
    owned: frozenset[Path],
) -> None:
    await admin.create(resource, resource.manifest("p1", spec=spec))
    conditions = [condition(each) for each in ("Ready", "example.com/Checked", *types_)]
    await admin.merge_patch(resource, "p1", {"status": {**restored, "conditions": conditions}}, subresource="status")
    body = resource.manifest("p1", status={"observedGeneration": 1, "conditions": [condition("Ready", "False")]})
    await apply_owned(admin, resource, body, field_manager=CONTROLLER_FIELD_MANAGER, owned=owned, subresource="status")
    status = (await admin.get(resource, "p1"))["status"]
    assert status.keys() == {"observedGeneration", "conditions"}
    assert {each["type"]: each["status"] for each in status["conditions"]} == {
        "Ready": "False",
        "example.com/Checked": "True",
    }


async def test_an_object_without_such_fields_costs_one_request(api: Api) -> None:
    await api.create(NODE_OVERLAY_IPS, overlay(spec={}, metadata={"labels": {"node": NAME, "team": "a"}}))
    requests = Requests(api)
    await applied(requests, overlay(spec={"routes": []}, metadata={"labels": {"node": NAME}}))
    await applied(requests, overlay(status={"ipAddr": "10.9.0.2/24", "pool": "p1"}), "status")
    await applied(requests, overlay(status={"pool": "p1"}), "status")
    assert requests.verbs == ["apply"] * 3
    await others_write_status(api, {"ipAddr": "10.9.0.2/24"})
    await applied(requests, overlay(status={"pool": "p1"}), "status")
    assert requests.verbs == ["apply"] * 4 + ["get", "patch"]
    await applied(requests, overlay(status={"pool": "p1"}), "status")
    assert requests.verbs[6:] == ["apply"], "once it is removed, nothing is left to do"


async def test_what_another_process_wrote_since_the_apply_is_not_removed(api: Api) -> None:
    await api.create(NODE_OVERLAY_IPS, overlay(spec={}))
    await others_write_status(api, {"ipAddr": "10.9.0.2/24"})
    requests = Requests(api, meanwhile={"status": {"ipAddr": "10.9.0.3/24"}})
    with pytest.raises(Conflict):
        await applied(requests, overlay(status={}), "status")
    assert (await read(api))["status"]["ipAddr"] == "10.9.0.3/24"
    await applied(api, overlay(status={}), "status")
    assert "ipAddr" not in (await read(api)).get("status", {}), "the next apply finds it again"
