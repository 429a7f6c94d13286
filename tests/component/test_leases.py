"""The fake Leases that leader election is tested with behave as those of a real API server."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from lab.cluster.api_server import ApiServer
from overlay_net.adapters.kube import KubeApi, connect_agent
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import AlreadyExists, Conflict, NotFound
from overlay_net.model.lease import LeaseRecord
from overlay_net.model.names import LEASES
from overlay_net.runtime.lease_lock import LeaseApi
from tests.fakes.leases import Leases

NAMESPACE, NAME = "default", "contract"
LATER = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
RECORD = {
    "holderIdentity": "one_0011aabb",
    "leaseDurationSeconds": 15,
    "acquireTime": "2026-01-01T00:00:00.000001Z",
    "renewTime": "2026-01-01T00:00:02.500000Z",
    "leaseTransitions": 0,
}


@pytest.fixture(params=["fake", "real"])
async def leases(request: pytest.FixtureRequest, api_server: ApiServer) -> AsyncIterator[LeaseApi]:
    if request.param == "fake":
        yield Leases()
        return
    api_server.kubectl("delete", "lease", NAME, f"--namespace={NAMESPACE}", "--ignore-not-found")
    async with connect_agent(str(api_server.admin())) as connection:
        yield KubeApi(connection)


def lease() -> JsonObject:
    metadata = {"name": NAME, "namespace": NAMESPACE}
    return {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": dict(RECORD)}


async def test_a_lease_is_read_as_written(leases: LeaseApi) -> None:
    with pytest.raises(NotFound):
        await leases.get(LEASES, NAME, namespace=NAMESPACE)
    created = await leases.create(LEASES, lease(), namespace=NAMESPACE)
    assert created == await leases.get(LEASES, NAME, namespace=NAMESPACE)
    assert LeaseRecord.parse(created).to_json() == RECORD
    with pytest.raises(AlreadyExists):
        await leases.create(LEASES, lease(), namespace=NAMESPACE)


async def test_an_update_requires_the_current_resource_version(leases: LeaseApi) -> None:
    created = await leases.create(LEASES, lease(), namespace=NAMESPACE)
    taken = await leases.update(
        LEASES, NAME, created | {"spec": RECORD | {"holderIdentity": "two"}}, namespace=NAMESPACE
    )
    assert LeaseRecord.parse(taken).holder == "two"
    with pytest.raises(Conflict):
        await leases.update(LEASES, NAME, created, namespace=NAMESPACE)
    assert LeaseRecord.parse(await leases.get(LEASES, NAME, namespace=NAMESPACE)).holder == "two"


async def test_a_lease_can_be_released(leases: LeaseApi) -> None:
    created = await leases.create(LEASES, lease(), namespace=NAMESPACE)
    released = LeaseRecord.parse(created).held_by("", 15.0, LATER)
    await leases.update(LEASES, NAME, created | {"spec": released.to_json()}, namespace=NAMESPACE)
    assert LeaseRecord.parse(await leases.get(LEASES, NAME, namespace=NAMESPACE)) == released
    assert released.holder == ""


async def test_an_update_does_not_recreate_a_deleted_lease(leases: LeaseApi, api_server: ApiServer) -> None:
    """Although the API server creates a Lease by an update without a uid."""
    created = await leases.create(LEASES, lease(), namespace=NAMESPACE)
    if isinstance(leases, Leases):
        leases.objects.clear()
    else:
        api_server.kubectl("delete", "lease", NAME, f"--namespace={NAMESPACE}")
    with pytest.raises(Conflict):
        await leases.update(LEASES, NAME, created, namespace=NAMESPACE)
