"""Reads what `overlay-net doctor` examines: objects of the cluster, and the kernels of nodes through their agents."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, TypeVar

from overlay_net.adapters.kube import KubeApi
from overlay_net.adapters.kube.pods import Pods
from overlay_net.cli.cluster import read_all
from overlay_net.cli.release import Release, find_release, read_settings
from overlay_net.domain.allocation.agent_nodes import has_agent
from overlay_net.domain.diagnosis.control_plane import PERMISSIONS
from overlay_net.domain.diagnosis.pods import find_component, find_node
from overlay_net.domain.diagnosis.snapshot import Permission, Read, Reading, Snapshot, Unread, Workloads, known
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import NotFound, OverlayNetError
from overlay_net.model.lease import LeaseRecord
from overlay_net.model.names import (
    ACCESS_REVIEWS,
    ADMISSION_BINDINGS,
    ADMISSION_POLICIES,
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    DEFAULT_NODE_SELECTOR,
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
from overlay_net.model.parse import find_name, find_object, find_objects, parse_text
from overlay_net.model.pool import Pool
from overlay_net.model.selectors import Selector
from overlay_net.model.static_route import StaticRoute
from overlay_net.runtime import cluster_lock

T = TypeVar("T")

VERSION_RESOURCE: Final = Resource("", "v1", "version", "Info")
NODE_STATE: Final = ("overlay-net", "node-state")
AT_ONCE: Final = 10
"""The number of requests that are open at the same time."""


async def attempt(request: Awaitable[T]) -> Reading[T]:
    """Await a request. What cannot be read is unread, with the reason."""
    try:
        return Read(await request)
    except OverlayNetError as error:
        return Unread(str(error))


async def read_snapshot(api: KubeApi, pods: Pods, namespace: str, node: str) -> Snapshot:
    """Read the cluster, and the kernel of ``node``; empty: of no node, and all nodes are examined otherwise.

    Raises NotFound if there is no such Node. ``namespace`` is that of the release; empty: it is found.
    """
    version = await attempt(api.transport.call("GET", "get", VERSION_RESOURCE, "/version"))
    if isinstance(version, Unread):
        return _unreachable(version)
    release = await attempt(find_release(api, namespace))
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
        attempt(_read_settings(api, release)),
    )
    values = settings.value if isinstance(settings, Read) else {}
    snapshot = Snapshot(
        version=version,
        definitions=definitions,
        permissions=await _follow(release, lambda each: _review(api, each)),
        policies=policies,
        workloads=Read(_workloads(release.value)) if isinstance(release, Read) else release,
        pods=await _follow(release, lambda each: read_pods(api, each)),
        lease=await _follow(release, lambda each: _read_lease(api, each.namespace, each.lease)),
        cluster_lease=cluster_lease,
        nodes=_select(found, overlays, parse_text(values.get("node_selector")), node),
        overlays=overlays,
        pools=pools,
        static_routes=static_routes,
        overlay_addresses=values.get("overlay_addresses") is not False,
        leader_election=find_object(values, "leader_election").get("enabled") is not False,
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


async def _read_settings(api: KubeApi, release: Reading[Release]) -> JsonObject:
    return {} if isinstance(release, Unread) else await read_settings(api, release.value)


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


async def _review(api: KubeApi, release: Release) -> Mapping[Permission, bool]:
    """Ask the API server what the service accounts of the release may do."""
    accounts = {"controller": _account(release.controller), "agent": _account(release.agent)}
    limit = asyncio.Semaphore(AT_ONCE)

    async def is_allowed(permission: Permission) -> bool:
        async with limit:
            body = _access_review(release.namespace, accounts[permission.component], permission)
            answer = await api.create(ACCESS_REVIEWS, body)
        return find_object(answer, "status").get("allowed") is True

    asked = [permission for permission in PERMISSIONS if accounts[permission.component]]
    return dict(zip(asked, await asyncio.gather(*map(is_allowed, asked)), strict=True))


def _account(workload: JsonObject | None) -> str:
    return parse_text(find_object(workload or {}, "spec", "template", "spec").get("serviceAccountName"))


def _access_review(namespace: str, account: str, permission: Permission) -> JsonObject:
    resource, _, subresource = permission.resource.partition("/")
    attributes = {"group": permission.group, "resource": resource, "verb": permission.verb}
    attributes |= {"subresource": subresource} if subresource else {}
    return {
        "apiVersion": ACCESS_REVIEWS.api_version,
        "kind": ACCESS_REVIEWS.kind,
        "spec": {
            "user": f"system:serviceaccount:{namespace}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
            "resourceAttributes": attributes,
        },
    }


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
    agents = Selector.parse_text(selector or DEFAULT_NODE_SELECTOR)
    return Read([node for node in nodes.value if has_agent(node, objects.get(node.name), agents)])


async def read_kernel(
    pods: Pods, namespace: str, listed: Reading[Sequence[JsonObject]], node: str
) -> Reading[JsonObject]:
    """Read the kernel of a node through the pod of its agent."""
    if isinstance(listed, Unread):
        return listed
    agents = [pod for pod in find_component(known(listed), "agent") if find_node(pod) == node]
    if not agents:
        return Unread(f"node {node} has no pod of an agent")
    return await attempt(_execute(pods, namespace, agents[0]))


async def _execute(pods: Pods, namespace: str, pod: JsonObject) -> JsonObject:
    name = find_name(pod)
    output = await pods.execute(namespace, name, find_container(pod), NODE_STATE)
    if output.code:
        raise OverlayNetError(f"node-state in pod {name} ended with code {output.code}: {output.stderr.strip()}")
    try:
        answer = json.loads(output.stdout)
    except ValueError:
        raise OverlayNetError(f"node-state in pod {name} did not write JSON") from None
    return answer if isinstance(answer, dict) else {}


def find_container(pod: JsonObject) -> str:
    return next(iter(find_containers(pod)), "")


def find_containers(pod: JsonObject) -> Iterable[str]:
    return [parse_text(each.get("name")) for each in find_objects(find_object(pod, "spec"), "containers")]
