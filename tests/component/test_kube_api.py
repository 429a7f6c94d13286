"""The verbs of the client against a real API server, over both kinds of connection."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from lab.cluster.api_server import ApiServer
from lab.product import NAMESPACE
from overlay_net.adapters.kube import KubeApi, KubeSource, connect_agent, connect_controller
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import AlreadyExists, Conflict, Expired, NotFound, NotLeader, Refused, Unavailable
from overlay_net.model.names import NODE_OVERLAY_IPS, NODES, OVERLAY_POOLS, OVERLAY_ROUTE_SLICES, STATIC_ROUTES
from tests.component.eventually import eventually


def route(name: str, subnet: str = "10.1.0.0/16", **metadata: Any) -> JsonObject:
    return {
        "apiVersion": STATIC_ROUTES.api_version,
        "kind": "StaticRoute",
        "metadata": {"name": name, **metadata},
        "spec": {"subnet": subnet},
    }


@pytest.fixture(params=["agent", "controller"])
async def api(request: pytest.FixtureRequest, admin: KubeApi, api_server: ApiServer) -> AsyncIterator[KubeApi]:
    connect = connect_agent if request.param == "agent" else connect_controller
    async with connect(str(api_server.admin())) as connection:
        yield KubeApi(connection)


async def test_create_read_delete(api: KubeApi) -> None:
    created = await api.create(STATIC_ROUTES, route("r1"))
    with pytest.raises(AlreadyExists):
        await api.create(STATIC_ROUTES, route("r1"))
    assert (await api.get(STATIC_ROUTES, "r1"))["spec"] == {"subnet": "10.1.0.0/16"}
    with pytest.raises(Conflict):
        await api.delete(STATIC_ROUTES, "r1", uid="another-uid")
    with pytest.raises(Conflict):
        await api.delete(STATIC_ROUTES, "r1", resource_version="1")
    await api.delete(STATIC_ROUTES, "r1", uid=created["metadata"]["uid"])
    with pytest.raises(NotFound):
        await api.delete(STATIC_ROUTES, "r1")
    with pytest.raises(NotFound):
        await api.get(STATIC_ROUTES, "r1")


@pytest.mark.parametrize("verb", ["create", "update", "apply", "merge_patch", "delete"])
async def test_a_process_that_is_not_leader_reads_but_does_not_write(
    admin: KubeApi, api_server: ApiServer, verb: str
) -> None:
    created = await admin.create(STATIC_ROUTES, route("r1"))

    def fence() -> float:
        raise NotLeader("another process is the leader")

    async with connect_agent(str(api_server.admin())) as connection:
        api = KubeApi(connection, fence=fence)
        writes: dict[str, Coroutine[Any, Any, Any]] = {
            "create": api.create(STATIC_ROUTES, route("r2")),
            "update": api.update(STATIC_ROUTES, "r1", created | {"spec": {"subnet": "10.2.0.0/16"}}),
            "apply": api.apply(STATIC_ROUTES, "r1", route("r1", "10.2.0.0/16"), field_manager="test"),
            "merge_patch": api.merge_patch(STATIC_ROUTES, "r1", {"spec": {"subnet": "10.2.0.0/16"}}),
            "delete": api.delete(STATIC_ROUTES, "r1"),
        }
        chosen = writes.pop(verb)
        for write in writes.values():
            write.close()
        with pytest.raises(NotLeader):
            await chosen
        assert (await api.list(STATIC_ROUTES)).items == (await admin.list(STATIC_ROUTES)).items
    assert await admin.get(STATIC_ROUTES, "r1") == created


async def test_a_write_times_out_before_the_lease_expires(admin: KubeApi, api_server: ApiServer) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    async with connect_agent(str(api_server.admin())) as connection:
        await KubeApi(connection).list(STATIC_ROUTES)
        api_server.pause()
        try:
            with pytest.raises(Unavailable):
                await asyncio.wait_for(KubeApi(connection, fence=lambda: 0.2).create(STATIC_ROUTES, route("r1")), 20)
        finally:
            api_server.resume()

    async def closed() -> bool:
        return open_files() <= before

    # The TLS shutdown needs a running server.
    await eventually(closed, "the aborted connection is closed")


async def test_a_violation_of_the_schema_is_refused_with_its_message(api: KubeApi) -> None:
    with pytest.raises(Refused, match=r"10\.1\.2\.3/24 has host bits set"):
        await api.create(STATIC_ROUTES, route("r1", "10.1.2.3/24"))


async def test_a_patch_is_conditional_on_its_resource_version(api: KubeApi) -> None:
    old = (await api.create(STATIC_ROUTES, route("r1")))["metadata"]["resourceVersion"]
    await api.merge_patch(STATIC_ROUTES, "r1", {"spec": {"metric": 5}})
    with pytest.raises(Conflict):
        await api.merge_patch(STATIC_ROUTES, "r1", {"metadata": {"resourceVersion": old}, "spec": {"metric": 6}})
    assert (await api.get(STATIC_ROUTES, "r1"))["spec"]["metric"] == 5


async def test_two_field_managers_keep_their_own_fields(api: KubeApi) -> None:
    name = {"apiVersion": NODE_OVERLAY_IPS.api_version, "kind": "NodeOverlayIp", "metadata": {"name": "n1"}}
    created = await api.apply(NODE_OVERLAY_IPS, "n1", name | {"spec": {"routes": []}}, field_manager="one")
    for manager, status in (("one", {"ipAddr": "10.0.0.1/24"}), ("two", {"interface": "eth0"})):
        body = name | {"status": status}
        await api.apply(NODE_OVERLAY_IPS, "n1", body, field_manager=manager, subresource="status")
    both = {"ipAddr": "10.0.0.1/24", "interface": "eth0"}
    assert (await api.get(NODE_OVERLAY_IPS, "n1"))["status"] == both
    await api.apply(NODE_OVERLAY_IPS, "n1", name | {"status": {}}, field_manager="two", subresource="status")
    assert (await api.get(NODE_OVERLAY_IPS, "n1"))["status"] == {"ipAddr": "10.0.0.1/24"}
    other = {"metadata": {"name": "n1", "uid": created["metadata"]["uid"][::-1]}}
    with pytest.raises(Refused, match=r"metadata\.uid"):
        await api.apply(NODE_OVERLAY_IPS, "n1", name | other, field_manager="one")
    with pytest.raises(Conflict):
        await api.apply(NODE_OVERLAY_IPS, "n2", name | {"metadata": {"name": "n2", "uid": "x"}}, field_manager="one")


async def test_lists_are_paged_and_watches_continue_from_them(api: KubeApi) -> None:
    for number in range(7):
        await api.create(STATIC_ROUTES, route(f"r{number}", labels={"odd": str(number % 2)}))
    listing = await api.list(STATIC_ROUTES, page=2)
    assert [item["metadata"]["name"] for item in listing.items] == [f"r{number}" for number in range(7)]
    assert len((await api.list(STATIC_ROUTES, label_selector="odd=1")).items) == 3
    await api.create(STATIC_ROUTES, route("late"))
    await api.merge_patch(STATIC_ROUTES, "late", {"spec": {"metric": 5}})
    await api.delete(STATIC_ROUTES, "late")
    changes = []
    async with aclosing(KubeSource(api, STATIC_ROUTES).watch(listing.resource_version)) as events:
        async for event in events:
            changes.append((event.type, event.object["metadata"]["name"]))
            if event.type == "DELETED":
                break
    assert changes == [("ADDED", "late"), ("MODIFIED", "late"), ("DELETED", "late")]


async def test_names_are_read_page_by_page(api: KubeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overlay_net.adapters.kube.rest.PAGE_OF_NAMES", 2)
    for resource in (STATIC_ROUTES, NODE_OVERLAY_IPS, OVERLAY_ROUTE_SLICES):
        assert await api.names(resource) == set()
    for number in range(5):
        await api.create(STATIC_ROUTES, route(f"r{number}"))
    await api.create(NODE_OVERLAY_IPS, NODE_OVERLAY_IPS.manifest("n1.example.com"))
    assert await api.names(STATIC_ROUTES) == {"r0", "r1", "r2", "r3", "r4"}
    assert await api.names(NODE_OVERLAY_IPS) == {"n1.example.com"}


async def test_a_field_selector_limits_the_list_to_one_object(api: KubeApi) -> None:
    for name in ("n1", "n2"):
        body = {"apiVersion": NODE_OVERLAY_IPS.api_version, "kind": "NodeOverlayIp", "metadata": {"name": name}}
        await api.create(NODE_OVERLAY_IPS, body)
    source = KubeSource(api, NODE_OVERLAY_IPS, field_selector="metadata.name=n2")
    assert [item["metadata"]["name"] async for page in source.pages() for item in page.items] == ["n2"]


async def test_a_label_selector_limits_list_and_watch(api: KubeApi) -> None:
    for name, color in (("r1", "red"), ("r2", "blue"), ("r3", "green")):
        await api.create(STATIC_ROUTES, route(name, labels={"color": color}))
    source = KubeSource(api, STATIC_ROUTES, label_selector="color in (red,green)")
    pages = [page async for page in source.pages()]
    assert [item["metadata"]["name"] for page in pages for item in page.items] == ["r1", "r3"]
    for name in ("r2", "r3"):
        await api.merge_patch(STATIC_ROUTES, name, {"spec": {"metric": 5}})
    async with aclosing(source.watch(pages[-1].resource_version)) as events:
        assert (await anext(events)).object["metadata"]["name"] == "r3"


async def test_metadata_only_lists_and_watches_omit_spec_and_status(api: KubeApi) -> None:
    await api.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"a": "b"}}})
    source = KubeSource(api, NODES, metadata_only=True)
    (listing,) = [page async for page in source.pages()]
    (item,) = listing.items
    assert item["metadata"]["labels"] == {"a": "b"}
    assert "spec" not in item
    await api.merge_patch(NODES, "n1", {"metadata": {"labels": {"a": "c"}}})
    async with aclosing(source.watch(listing.resource_version)) as events:
        event = await anext(events)
    assert event.object["metadata"]["labels"] == {"a": "c"}
    assert "status" not in event.object


async def test_a_watch_from_an_old_version_raises_expired(api: KubeApi) -> None:
    with pytest.raises(Expired):
        async for _ in KubeSource(api, OVERLAY_POOLS).watch("1"):
            raise AssertionError("that version must have been compacted")


async def test_a_service_account_is_authenticated(admin: KubeApi, api_server: ApiServer) -> None:
    kubeconfig = str(api_server.service_account_kubeconfig(NAMESPACE, "overlay-net-agent"))
    for connect in (connect_agent, connect_controller):
        async with connect(kubeconfig) as connection:
            with pytest.raises(Refused, match="overlay-net:overlay-net-agent"):
                await KubeApi(connection).list(STATIC_ROUTES)


def test_an_agent_does_not_import_the_client_library() -> None:
    code = "import overlay_net.agent.run, sys; print('kubernetes_asyncio' in sys.modules, 'uvloop' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]
