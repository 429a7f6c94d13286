"""A real etcd that is restored from a backup while clients watch: its revisions go back, and are assigned again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lab.build.assets import Assets
from lab.cluster.api_server import ApiServer
from overlay_net.adapters.kube import KubeApi, KubeSource, connect_agent
from overlay_net.model.api import JsonObject
from overlay_net.model.names import NODES
from overlay_net.runtime.reflector import Reflector
from overlay_net.runtime.store import Store
from tests.component.eventually import eventually


@asynccontextmanager
async def following(source: KubeSource) -> AsyncIterator[Store[JsonObject]]:
    store: Store[JsonObject] = Store(dict)
    task = asyncio.create_task(Reflector(source, store).run())
    try:
        await store.wait_synced()
        yield store
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def labels(store: Store[JsonObject]) -> dict[str, str]:
    return {name: found["metadata"]["labels"]["value"] for name in store.names() if (found := store.get(name))}


def node(name: str, value: str) -> JsonObject:
    return NODES.manifest(name, labels={"value": value})


async def set_value(api: KubeApi, name: str, value: str) -> None:
    await api.merge_patch(NODES, name, {"metadata": {"labels": {"value": value}}})


# As the controller follows all objects of a kind, and an agent its own one.
@pytest.mark.parametrize("selector", [None, "metadata.name=n1"])
async def test_clients_follow_an_etcd_that_was_restored(assets: Assets, tmp_path: Path, selector: str | None) -> None:
    with ApiServer.start(tmp_path / "control-plane", assets) as api_server:
        async with connect_agent(str(api_server.admin())) as connection:
            api = KubeApi(connection)
            await api.create(NODES, node("n1", "saved"))
            await api.create(NODES, node("n2", "saved"))
            backup = await asyncio.to_thread(api_server.back_up)
            async with following(KubeSource(api, NODES, field_selector=selector)) as store:
                for number in range(20):
                    await set_value(api, "n1", f"lost-{number}")
                await api.create(NODES, node("lost", "lost"))
                await api.delete(NODES, "n2")

                async def watched() -> bool:
                    return labels(store).get("n1") == "lost-19" and "n2" not in store.names()

                await eventually(watched, "the watch has reported the changes that will be lost")
                await asyncio.to_thread(api_server.restore, backup)

                async def restored() -> bool:
                    saved = {"n1": "saved", "n2": "saved"} if selector is None else {"n1": "saved"}
                    return labels(store) == saved

                await eventually(restored, "the store has what was restored")
                await set_value(api, "n1", "new")

                async def changed() -> bool:
                    return labels(store)["n1"] == "new"

                await eventually(changed, "the watch reports changes after the restore")
