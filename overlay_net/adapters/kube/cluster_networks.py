"""The subnets that a cluster uses, as it publishes them: services, API servers and pods; and hosts by their names."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import TypeAlias
from urllib.parse import urlsplit

from overlay_net.adapters.kube.rest import KubeApi
from overlay_net.domain.routes.protected_subnets import ProtectedSubnet
from overlay_net.model.api import JsonObject
from overlay_net.model.cluster_networks import (
    parse_calico_pool,
    parse_cilium_config,
    parse_cilium_node,
    parse_cluster_ips,
    parse_endpoints,
    parse_kubeadm_services,
    parse_service_cidr,
)
from overlay_net.model.errors import NotFound, NotPublished, Unavailable
from overlay_net.model.names import (
    CALICO_POOLS,
    CALICO_V3_POOLS,
    CILIUM_NODES,
    CONFIG_MAPS,
    ENDPOINT_SLICES,
    SERVICE_CIDRS,
    SERVICES,
    Resource,
)
from overlay_net.model.net import IpNetwork
from overlay_net.model.parse import find_name, parse_address

Read: TypeAlias = Callable[[], Awaitable[Iterable[ProtectedSubnet]]]
"""Reads one source. Raises OverlayNetError, or OSError if a host name cannot be resolved."""

KUBE_SYSTEM = "kube-system"


class ClusterSources:
    """Subnets of services, API servers and pods, as published in the cluster. A kind that does not exist has none."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    async def services(self) -> Iterable[ProtectedSubnet]:
        """Raises NotPublished if the range of the services cannot be found."""
        found = [subnet async for raw in self._each(SERVICE_CIDRS) for subnet in parse_service_cidr(raw)]
        # Kubernetes before 1.33 has no ServiceCIDRs.
        return _describe(found or await self._kubeadm_services(), "services")

    async def _kubeadm_services(self) -> Iterable[IpNetwork]:
        found = parse_kubeadm_services(await self._get(CONFIG_MAPS, "kubeadm-config", KUBE_SYSTEM) or {})
        if not found:
            raise NotPublished(
                "there is neither a ServiceCIDR (Kubernetes before 1.33 has none) nor networking.serviceSubnet in a "
                "ConfigMap kubeadm-config; set service_subnets"
            )
        service = await self._get(SERVICES, "kubernetes", "default")
        for address in parse_cluster_ips(service or {}):
            if not any(address in subnet for subnet in found):
                raise NotPublished(
                    f"networking.serviceSubnet in the ConfigMap kubeadm-config does not contain {address}, the address "
                    "of the Service kubernetes; set service_subnets"
                )
        return found

    async def api_servers(self) -> Iterable[ProtectedSubnet]:
        # Every API server publishes its own address there (endpoint reconciler of kube-apiserver).
        found = await self._get(ENDPOINT_SLICES, "kubernetes", "default")
        return _describe(map(ip_network, parse_endpoints(found or {})), "API server")

    async def calico(self) -> Iterable[ProtectedSubnet]:
        return await self._calico_pools(CALICO_POOLS) or await self._calico_v3_pools()

    async def _calico_v3_pools(self) -> Iterable[ProtectedSubnet]:
        """Read the IPPools of an installation that stores them in this version, without ``crd.projectcalico.org``."""
        try:
            return await self._calico_pools(CALICO_V3_POOLS)
        except Unavailable as error:
            # Possibly an aggregated API whose own server is down, so it does not mean that the API server is.
            raise NotPublished(f"{error}; set pod_subnets") from None

    async def _calico_pools(self, resource: Resource) -> list[ProtectedSubnet]:
        return [
            ProtectedSubnet(subnet, f"Calico IPPool {find_name(raw)}")
            async for raw in self._each(resource)
            if (subnet := parse_calico_pool(raw)) is not None
        ]

    async def cilium(self) -> Iterable[ProtectedSubnet]:
        found = [
            ProtectedSubnet(subnet, f"CiliumNode {find_name(raw)}")
            async for raw in self._each(CILIUM_NODES)
            for subnet in parse_cilium_node(raw)
        ]
        config = await self._get(CONFIG_MAPS, "cilium-config", KUBE_SYSTEM)
        return (*found, *_describe(parse_cilium_config(config or {}), "Cilium's ConfigMap cilium-config"))

    async def _each(self, resource: Resource) -> AsyncIterator[JsonObject]:
        """Yield the objects of a kind; none if the kind does not exist. One page at a time is in memory."""
        try:
            async for page in self._api.pages(resource):
                for raw in page.items:
                    yield raw
        except NotFound:
            return

    async def _get(self, resource: Resource, name: str, namespace: str) -> JsonObject | None:
        try:
            return await self._api.get(resource, name, namespace=namespace)
        except NotFound:
            return None


def find_sources(api: KubeApi, hosts: Mapping[str, str], *, services: bool, pods: bool) -> dict[str, Read]:
    """Return how to read each source, by name. ``hosts`` has the use of each URL.

    ``services`` and ``pods``: whether the cluster is asked for their subnets.
    """
    cluster = ClusterSources(api)
    sources: dict[str, Read] = {"API servers": cluster.api_servers, "hosts": read_hosts(hosts)}
    if services:
        sources["services"] = cluster.services
    if pods:
        sources |= {"Calico": cluster.calico, "Cilium": cluster.cilium}
    return sources


def read_hosts(hosts: Mapping[str, str]) -> Read:
    """Return a function that resolves the hosts of URLs; ``hosts`` has the use of each URL."""

    async def read() -> Iterable[ProtectedSubnet]:
        found = set[ProtectedSubnet]()
        for url, use in hosts.items():
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            for *_, address in await asyncio.get_running_loop().getaddrinfo(parts.hostname, port):
                parsed = parse_address(str(address[0]).partition("%")[0])
                if parsed is not None:
                    found.add(ProtectedSubnet(ip_network(parsed), use))
        return found

    return read


def _describe(subnets: Iterable[IpNetwork], use: str) -> Iterator[ProtectedSubnet]:
    return (ProtectedSubnet(subnet, use) for subnet in subnets)
