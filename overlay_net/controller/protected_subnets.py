"""Finds the protected subnets other than those of nodes: services, API servers, phpIPAM and configured ones."""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from ipaddress import ip_network
from urllib.parse import urlsplit

from overlay_net.adapters.kube import KubeApi
from overlay_net.controller.caches import Caches
from overlay_net.domain.routes.protected_subnets import ProtectedSubnet
from overlay_net.model.errors import NotFound, OverlayNetError
from overlay_net.model.names import ENDPOINT_SLICES, SERVICE_CIDRS
from overlay_net.model.net import IpNetwork
from overlay_net.model.parse import find_object, find_objects, find_texts, parse_address, parse_network

log = logging.getLogger(__name__)

REFRESH = timedelta(minutes=5)


class ProtectedSubnets:
    """``hosts``: pairs of URL and description. ``configured``: the subnets from the settings."""

    def __init__(
        self,
        api: KubeApi,
        caches: Caches,
        configured: Sequence[IpNetwork],
        hosts: Sequence[tuple[str, str]],
        *,
        allow_default: bool,
    ) -> None:
        self._api = api
        self._caches = caches
        self._configured = tuple(ProtectedSubnet(subnet, "in protected_subnets") for subnet in configured)
        self._hosts = tuple(hosts)
        self._allow_default = allow_default
        self._known: dict[str, tuple[ProtectedSubnet, ...]] = {}

    async def refresh(self) -> bool:
        """Read every source once. Returns whether anything has changed. An unreadable source keeps its last result."""
        before = dict(self._known)
        for source, read in (
            ("services", self._services),
            ("API servers", self._api_servers),
            ("hosts", self._resolve),
        ):
            try:
                self._known[source] = tuple(await read())
            except (OverlayNetError, OSError) as error:
                log.warning(
                    "cannot read protected subnets; keeping the last result",
                    extra={"source": source, "error": str(error)},
                )
        found = [subnet for each in self._known.values() for subnet in each]
        self._caches.protect((*self._configured, *found), allow_default=self._allow_default)
        return before != self._known

    async def follow(self, wake: Callable[[], None]) -> None:
        """Refresh periodically until cancelled, and call ``wake`` after a change."""
        while True:
            await asyncio.sleep(REFRESH.total_seconds() * random.uniform(0.9, 1.1))
            if await self.refresh():
                wake()

    async def _services(self) -> Iterable[ProtectedSubnet]:
        try:
            listing = await self._api.list(SERVICE_CIDRS)
        except NotFound:
            # Kubernetes before 1.33 has no ServiceCIDRs: protected_subnets must contain the range.
            return ()
        texts = (text for item in listing.items for text in find_texts(find_object(item, "spec"), "cidrs"))
        return [ProtectedSubnet(subnet, "services") for text in texts if (subnet := parse_network(text)) is not None]

    async def _api_servers(self) -> Iterable[ProtectedSubnet]:
        try:
            # Every API server publishes its own address there (endpoint reconciler of kube-apiserver).
            found = await self._api.get(ENDPOINT_SLICES, "kubernetes", namespace="default")
        except NotFound:
            return ()
        texts = (text for endpoint in find_objects(found, "endpoints") for text in find_texts(endpoint, "addresses"))
        return [_host(text, "API server") for text in texts if parse_address(text) is not None]

    async def _resolve(self) -> Iterable[ProtectedSubnet]:
        found = []
        for url, description in self._hosts:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            for *_, address in await asyncio.get_running_loop().getaddrinfo(parts.hostname, port):
                text = str(address[0]).partition("%")[0]
                if parse_address(text) is not None:
                    found.append(_host(text, description))
        return sorted(set(found), key=str)


def _host(address: str, description: str) -> ProtectedSubnet:
    return ProtectedSubnet(ip_network(address), description)
