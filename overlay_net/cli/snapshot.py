"""Reads what `overlay-net doctor` examines: objects of the cluster, and the kernels of nodes through their agents."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, TypeVar

from overlay_net.adapters.kube import KubeApi
from overlay_net.adapters.kube.pods import Pods
from overlay_net.cli.access_reviews import review_access
from overlay_net.cli.cluster import read_all
from overlay_net.cli.controller_settings import KnownSettings, read_settings
from overlay_net.cli.node_kernel import read_kernel
from overlay_net.cli.reading import attempt
from overlay_net.cli.release import Release, look_up_release
from overlay_net.domain.allocation.agent_nodes import has_agent
from overlay_net.domain.diagnosis.snapshot import Read, Reading, Snapshot, Unread, Workloads
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import NotFound
from overlay_net.model.lease import LeaseRecord
from overlay_net.model.names import (
    ADMISSION_BINDINGS,
    ADMISSION_POLICIES,
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    GROUP,
    LEASES,
    NODE_OVERLAY_IPS,
    NODES,
    OVERLAY_POOLS,
    PODS,
    STATIC_ROUTES,
    Resource,
)
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import find_name, find_object, parse_text
from overlay_net.model.pool import Pool
from overlay_net.model.selectors import Selector
from overlay_net.model.static_route import StaticRoute
from overlay_net.runtime import cluster_lock

T = TypeVar("T")

VERSION_RESOURCE: Final = Resource("", "v1", "version", "Info")


async def read_snapshot(api: KubeApi, pods: Pods, namespace: str, node: str) -> Snapshot:
    """Read the cluster, and the kernel of ``node``; empty: of no node, and all nodes are examined otherwise.

    Raises NotFound if there is no such Node. ``namespace`` is that of the release; empty: it is found.
    """
    version = await attempt(api.transport.call("GET", "get", VERSION_RESOURCE, "/version"))
    if isinstance(version, Unread):
        return _unreachable(version)
    release = await attempt(look_up_release(api, namespace))
    found, overlays, pools, static_routes = await asyncio.gather(
        attempt(read_all(api, NODES, Node.parse)),
        attempt(read_all(api, NODE_OVERLAY_IPS, NodeOverlay.parse)),
        attempt(read_all(api, OVERLAY_POOLS, Pool.parse)),
        attempt(read_all(api, STATIC_ROUTES, StaticRoute.parse)),
    )
    definitions, policies, cluster_lease, settings = await asyncio.gather(
        attempt(_read_definitions(api)),
        attempt(_read_policies(api)),
        attempt(_read_lease(api, cluster_lock.NAMESPACE, cluster_lock.NAME)),
        _follow(release, lambda each: read_settings(api, each)),
    )
    values = (settings.value if isinstance(settings, Read) else KnownSettings()).settings
    snapshot = Snapshot(
        version=version,
        definitions=definitions,
        permissions=await _follow(release, lambda each: review_access(api, each)),
        policies=policies,
        workloads=Read(_workloads(release.value)) if isinstance(release, Read) else release,
        pods=await _follow(release, lambda each: read_pods(api, each)),
        lease=await _follow(release, lambda each: _read_lease(api, each.namespace, each.lease)),
        cluster_lease=cluster_lease,
        nodes=_select(found, overlays, values.node_selector, node),
        overlays=overlays,
        pools=pools,
        static_routes=static_routes,
        overlay_addresses=values.overlay_addresses,
        leader_election=values.leader_election.enabled,
        now=datetime.now(UTC),
    )
    if not node or isinstance(release, Unread):
        return snapshot
    kernel = await read_kernel(pods, release.value.namespace, snapshot.pods, node)
    return replace(snapshot, kernels={node: kernel}, cilium=await attempt(_read_cilium(api)))


def _unreachable(version: Unread) -> Snapshot:
    return Snapshot(
        version=version,
        definitions=version,
        permissions=version,
        policies=version,
        workloads=version,
        pods=version,
        lease=version,
        cluster_lease=version,
        nodes=version,
        overlays=version,
        pools=version,
        static_routes=version,
        overlay_addresses=True,
        leader_election=True,
        now=datetime.now(UTC),
    )


async def _follow(release: Reading[Release], read: Callable[[Release], Awaitable[T]]) -> Reading[T]:
    return release if isinstance(release, Unread) else await attempt(read(release.value))


def _workloads(release: Release) -> Workloads:
    return Workloads(release.namespace, release.controller, release.agent)


async def _read_definitions(api: KubeApi) -> Mapping[str, JsonObject]:
    found = await api.list(CUSTOM_RESOURCE_DEFINITIONS)
    return {find_name(each): each for each in found.items if find_object(each, "spec").get("group") == GROUP}


async def _read_policies(api: KubeApi) -> frozenset[str]:
    """Return the names of the policies that are bound."""
    bindings = await api.list(ADMISSION_BINDINGS)
    bound = {parse_text(find_object(each, "spec").get("policyName")) for each in bindings.items}
    return frozenset(bound & {find_name(each) for each in (await api.list(ADMISSION_POLICIES)).items})


async def _read_lease(api: KubeApi, namespace: str, name: str) -> LeaseRecord | None:
    try:
        return LeaseRecord.parse(await api.get(LEASES, name, namespace=namespace)) if name else None
    except NotFound:
        return None


async def _read_cilium(api: KubeApi) -> JsonObject | None:
    try:
        return find_object(await api.get(CONFIG_MAPS, "cilium-config", namespace="kube-system"), "data")
    except NotFound:
        return None


async def read_pods(api: KubeApi, release: Release) -> Sequence[JsonObject]:
    """Return the pods of the release."""
    selectors = release.pod_selectors
    found = [await api.list(PODS, namespace=release.namespace, label_selector=each) for each in selectors]
    return [pod for listing in found for pod in listing.items]


def _select(
    nodes: Reading[Sequence[Node]], overlays: Reading[Sequence[NodeOverlay]], selector: str, only: str
) -> Reading[Sequence[Node]]:
    """Return the Nodes to examine. Raises NotFound if ``only`` does not exist."""
    if isinstance(nodes, Unread):
        return nodes
    if only:
        found = [node for node in nodes.value if node.name == only]
        if not found:
            raise NotFound(f"there is no Node {only}")
        return Read(found)
    objects = {each.name: each for each in overlays.value} if isinstance(overlays, Read) else {}
    agents = Selector.parse_text(selector)
    return Read([node for node in nodes.value if has_agent(node, objects.get(node.name), agents)])
