"""Follows the node's own object: a watch of its versions, and a read of each version that another process made."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from overlay_net.adapters.kube import KubeApi, KubeSource
from overlay_net.model.api import Listing, WatchEvent, is_older
from overlay_net.model.errors import NotFound
from overlay_net.model.names import NODE_OVERLAY_IPS
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import find_version
from overlay_net.runtime.reflector import Source
from overlay_net.runtime.store import Store


def watch_versions(api: KubeApi, name: str) -> KubeSource:
    """Return the list of the whole object, and the watch of its versions."""
    return KubeSource(api, NODE_OVERLAY_IPS, field_selector=f"metadata.name={name}", watch_versions=True)


class OwnObjectSource:
    """``store`` has the object as this process read or wrote it last; ``wait_answer`` waits for a write in flight.

    A failed read ends the watch, which then delivers the same change again.
    """

    def __init__(
        self,
        versions: Source,
        api: KubeApi,
        name: str,
        store: Store[NodeOverlay],
        wait_answer: Callable[[], Awaitable[None]],
    ) -> None:
        self._versions = versions
        self._api = api
        self._name = name
        self._store = store
        self._wait_answer = wait_answer

    def pages(self) -> AsyncGenerator[Listing, None]:
        return self._versions.pages()

    async def watch(self, resource_version: str) -> AsyncGenerator[WatchEvent, None]:
        """Yield the changes after ``resource_version``, with the object as it is by then, which may skip versions.

        A version that the store has already is yielded as a bookmark.
        """
        last = read = ""
        async with aclosing(self._versions.watch(resource_version)) as events:
            async for event in events:
                version = find_version(event.object)
                # A version before the last event is a history that goes back, which the reflector must notice.
                is_covered = is_older(version, read) and not is_older(version, last)
                last = version
                if is_covered:
                    continue
                found = await self._complete(event, version)
                if found is not None:
                    read = find_version(found.object)
                    yield found
                del event, found

    async def _complete(self, event: WatchEvent, version: str) -> WatchEvent | None:
        """Return the event with what it lacks; None if the object is gone, which a later event reports."""
        if event.type == "BOOKMARK":
            return event
        if event.type == "DELETED":
            return WatchEvent("DELETED", {"metadata": {"name": self._name, "resourceVersion": version}})
        await self._wait_answer()
        known = self._store.get(self._name)
        if known is not None and (known.resource_version == version or is_older(version, known.resource_version)):
            return WatchEvent("BOOKMARK", event.object)
        try:
            return WatchEvent(event.type, await self._api.get(NODE_OVERLAY_IPS, self._name, not_before=version))
        except NotFound:
            return None
