"""Objects of an earlier version, in which each field of a condition had a manager of its own."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml

from lab.cluster.api_server import ApiServer
from lab.product import CHART
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.api import JsonObject
from overlay_net.model.names import AGENT_FIELD_MANAGER, CONTROLLER_FIELD_MANAGER, NODE_OVERLAY_IPS
from tests.component.eventually import eventually
from tests.contract.test_kube import condition, overlay

PRESENT: JsonObject = yaml.safe_load((CHART / "crds" / "nodeoverlayips.yaml").read_text())


def earlier(schema: Any) -> Any:
    """The schema without maps that are written as a whole."""
    if isinstance(schema, list):
        return [earlier(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: earlier(value) for key, value in schema.items() if key != "x-kubernetes-map-type"}


class Cluster:
    def __init__(self, api: KubeApi, api_server: ApiServer) -> None:
        self._api = api
        self._api_server = api_server
        self._reports = itertools.count()

    async def serve(self, definition: JsonObject) -> None:
        await asyncio.to_thread(self._api_server.kubectl, "replace", "-f", "-", stdin=json.dumps(definition))
        whole = "x-kubernetes-map-type" in json.dumps(definition)

        async def is_served() -> bool:
            name = "served"
            body = NODE_OVERLAY_IPS.manifest(name, spec={"node": {"uid": f"u{next(self._reports)}"}})
            written = await self._api.apply(NODE_OVERLAY_IPS, name, body, field_manager="test")
            await self._api.delete(NODE_OVERLAY_IPS, name)
            return ("f:uid" in str(written["metadata"]["managedFields"])) is not whole

        await eventually(is_served, "the definition is served")

    async def write(self, manager: str, *conditions: JsonObject) -> None:
        body = overlay(status={"conditions": [*conditions]})
        await self._api.apply(
            NODE_OVERLAY_IPS, body["metadata"]["name"], body, field_manager=manager, subresource="status"
        )

    async def conditions(self) -> dict[str, str]:
        found = await self._api.get(NODE_OVERLAY_IPS, overlay()["metadata"]["name"])
        return {each["type"]: each["status"] for each in found["status"]["conditions"]}


@pytest.fixture
async def cluster(admin: KubeApi, api_server: ApiServer) -> AsyncIterator[Cluster]:
    found = Cluster(admin, api_server)
    await found.serve(earlier(PRESENT))
    await admin.create(NODE_OVERLAY_IPS, overlay(spec={}))
    yield found
    # Other tests need the definition.
    await found.serve(PRESENT)


async def test_both_managers_keep_and_remove_their_conditions_after_an_upgrade_and_a_rollback(cluster: Cluster) -> None:
    await cluster.write(CONTROLLER_FIELD_MANAGER, condition("Reserved"), condition("UpToDate"))
    await cluster.write(AGENT_FIELD_MANAGER, condition("Configured"), condition("Ready"))
    await cluster.serve(PRESENT)
    await cluster.write(AGENT_FIELD_MANAGER, condition("Ready", "False"))
    assert await cluster.conditions() == {"Reserved": "True", "UpToDate": "True", "Ready": "False"}
    await cluster.write(CONTROLLER_FIELD_MANAGER, condition("Reserved", "False"))
    assert await cluster.conditions() == {"Reserved": "False", "Ready": "False"}
    await cluster.serve(earlier(PRESENT))
    await cluster.write(CONTROLLER_FIELD_MANAGER, condition("UpToDate"))
    await cluster.write(AGENT_FIELD_MANAGER, condition("Configured"))
    assert await cluster.conditions() == {"UpToDate": "True", "Configured": "True"}
