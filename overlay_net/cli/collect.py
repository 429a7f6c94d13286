"""Collects what `overlay-net sysdump` archives. A part that cannot be read is listed, and the others are collected."""

import asyncio
from base64 import b64decode
from collections.abc import Awaitable, Collection, Iterable, Sequence
from typing import Any, Final

from overlay_net.adapters.kube import KubeApi
from overlay_net.adapters.kube.pods import Pods
from overlay_net.cli.archive import Archive
from overlay_net.cli.doctor import Diagnosis
from overlay_net.cli.node_kernel import find_containers, read_kernel
from overlay_net.cli.reading import AT_ONCE, attempt
from overlay_net.cli.release import Release
from overlay_net.domain.diagnosis.checks import diagnose
from overlay_net.domain.diagnosis.pods import COMPONENT, find_component, find_node
from overlay_net.domain.diagnosis.snapshot import Read, Snapshot, Unread
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import OverlayNetError
from overlay_net.model.names import (
    ADMISSION_BINDINGS,
    ADMISSION_POLICIES,
    CLUSTER_ROLES,
    CONFIG_MAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    DAEMON_SETS,
    DEPLOYMENTS,
    EVENTS,
    GROUP,
    LEASES,
    NODE_OVERLAY_IPS,
    NODES,
    OVERLAY_ADDRESSES,
    OVERLAY_POOLS,
    OVERLAY_ROUTE_SLICES,
    PODS,
    SECRETS,
    STATIC_ROUTES,
    Resource,
)
from overlay_net.model.parse import find_name, find_object, find_objects, parse_int, parse_text
from overlay_net.runtime import cluster_lock

OURS: Final = (NODE_OVERLAY_IPS, STATIC_ROUTES, OVERLAY_ROUTE_SLICES, OVERLAY_POOLS, OVERLAY_ADDRESSES)
LABELLED: Final = (ADMISSION_POLICIES, ADMISSION_BINDINGS, CLUSTER_ROLES)
OF_RELEASE: Final = (DEPLOYMENTS, DAEMON_SETS, CONFIG_MAPS)
HELM_RELEASE: Final = "helm.sh/release.v1"
"""The type of Secrets whose values are packed manifests of up to a megabyte."""
PUBLIC: Final = frozenset({"namespace", "username", "ca.crt", "tls.crt"})
"""Keys in Secrets of certificates, and of values that may also be names of other things, such as the release."""
EVENT_NAMESPACE: Final = "default"
"""Events about cluster-scoped objects are there."""


async def read_secrets(api: KubeApi, namespace: str) -> list[str]:
    """Return the values of the Secrets in a namespace, which must not be archived; none if they cannot be read."""
    try:
        found = await api.list(SECRETS, namespace=namespace)
    except OverlayNetError:
        return []
    return [
        text
        for secret in found.items
        if secret.get("type") != HELM_RELEASE
        for key, value in find_object(secret, "data").items()
        if key not in PUBLIC
        for text in _decode(value)
    ]


def _decode(value: object) -> Iterable[str]:
    try:
        text = b64decode(parse_text(value)).decode().strip()
    except ValueError:
        return ()
    # Of a value of several lines, such as a key, each line.
    return (text, *text.splitlines())


class Collector:
    def __init__(self, api: KubeApi, pods: Pods, archive: Archive, release: Release) -> None:
        self._api = api
        self._pods = pods
        self._archive = archive
        self._namespace = release.namespace
        self._labels = release.object_selector
        self._limit = asyncio.Semaphore(AT_ONCE)

    async def collect(self, snapshot: Snapshot, nodes: Collection[str], lines: int) -> None:
        """``nodes`` are those of which kernel, log and metrics are read; ``lines`` is the maximum of each log."""
        self._archive.add_object("version.json", snapshot.version.value if isinstance(snapshot.version, Read) else {})
        self._archive.add_object("doctor.json", Diagnosis(tuple(diagnose(snapshot))).to_json())
        pods = [*(snapshot.pods.value if isinstance(snapshot.pods, Read) else ()), *await self._find_job_pods()]
        if isinstance(snapshot.pods, Unread):
            self._archive.add_error("pods", snapshot.pods.message)
        await self._collect_objects(pods)
        # The agents of thousands of nodes would have gigabytes of logs.
        chosen = [pod for pod in pods if not find_component([pod], "agent") or find_node(pod) in nodes]
        parts = [
            *(self._log(pod, name, lines) for pod in chosen for name in find_containers(pod)),
            *(self._metrics(pod) for pod in chosen),
            *(self._kernel(snapshot, node) for node in nodes),
        ]
        await asyncio.gather(*parts)

    async def _find_job_pods(self) -> Sequence[JsonObject]:
        """Return the pods of jobs of the release, of which those that failed stay."""
        labels = f"{self._labels},{COMPONENT} notin (controller,agent)"
        listed = await self._attempt(
            "pods of jobs", self._api.list(PODS, namespace=self._namespace, label_selector=labels)
        )
        return listed.items if listed is not None else ()

    async def _collect_objects(self, pods: Sequence[JsonObject]) -> None:
        for resource in (NODES, *OURS):
            await self._objects(resource)
        await self._objects(CUSTOM_RESOURCE_DEFINITIONS, group=GROUP)
        for resource in LABELLED:
            await self._objects(resource, labels=self._labels)
        self._archive.add_object(f"objects/{self._namespace}/pods.json", {"kind": "List", "items": list(pods)})
        for resource in OF_RELEASE:
            await self._objects(resource, namespace=self._namespace, labels=self._labels)
        for resource in (LEASES, EVENTS):
            await self._objects(resource, namespace=self._namespace)
        if self._namespace != EVENT_NAMESPACE:
            await self._objects(EVENTS, namespace=EVENT_NAMESPACE)
        await self._objects(LEASES, namespace=cluster_lock.NAMESPACE, name=cluster_lock.NAME)

    async def _objects(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        labels: str | None = None,
        group: str = "",
        name: str = "",
    ) -> None:
        """Collect the objects of a kind; ``group``: only definitions of it, ``name``: only one object."""
        place = f"objects/{namespace}/" if namespace else "objects/"
        reading = await self._attempt(
            resource.plural, self._api.list(resource, namespace=namespace, label_selector=labels)
        )
        if reading is not None:
            items = [
                each
                for each in reading.items
                if (not group or find_object(each, "spec").get("group") == group) and name in ("", find_name(each))
            ]
            self._archive.add_object(f"{place}{resource.plural}.json", {"kind": "List", "items": items})

    async def _attempt(self, what: str, request: Awaitable[Any]) -> Any:
        """Return the result, or None if it cannot be had, which the archive lists."""
        async with self._limit:
            reading = await attempt(request)
        if isinstance(reading, Unread):
            self._archive.add_error(what, reading.message)
            return None
        return reading.value

    async def _log(self, pod: JsonObject, container: str, lines: int) -> None:
        name = find_name(pod)
        text = await self._attempt(f"log of {name}", self._pods.log(self._namespace, name, container, lines=lines))
        if text is not None:
            self._archive.add_text(f"logs/{name}/{container}.log", text)
        if _restarts(pod, container):
            request = self._pods.log(self._namespace, name, container, previous=True, lines=lines)
            text = await self._attempt(f"previous log of {name}", request)
            if text is not None:
                self._archive.add_text(f"logs/{name}/{container}.previous.log", text)

    async def _metrics(self, pod: JsonObject) -> None:
        name = find_name(pod)
        for port in _metrics_ports(pod):
            text = await self._attempt(f"metrics of {name}", self._pods.get(self._namespace, name, port, "/metrics"))
            if text is not None:
                self._archive.add_text(f"metrics/{name}.txt", text)

    async def _kernel(self, snapshot: Snapshot, node: str) -> None:
        async with self._limit:
            reading = await read_kernel(self._pods, self._namespace, snapshot.pods, node)
        if isinstance(reading, Unread):
            self._archive.add_error(f"kernel of {node}", reading.message)
        else:
            self._archive.add_object(f"nodes/{node}.json", reading.value)


def _restarts(pod: JsonObject, container: str) -> int:
    statuses = find_objects(find_object(pod, "status"), "containerStatuses")
    return next((parse_int(each.get("restartCount")) for each in statuses if each.get("name") == container), 0)


def _metrics_ports(pod: JsonObject) -> list[int]:
    containers = find_objects(find_object(pod, "spec"), "containers")
    ports = [port for each in containers for port in find_objects(each, "ports") if port.get("name") == "metrics"]
    return [parse_int(port.get("containerPort")) for port in ports]


def choose_nodes(snapshot: Snapshot, named: Sequence[str], limit: int) -> list[str]:
    """Return the nodes to read in detail: those that are named, else at most ``limit``, with problems first."""
    if named:
        return list(named)
    if isinstance(snapshot.pods, Unread):
        return []
    with_agent = dict.fromkeys(sorted(map(find_node, find_component(snapshot.pods.value, "agent"))))
    broken = [name for result in diagnose(snapshot) for finding in result.findings for name in finding.subjects]
    ordered = dict.fromkeys([*(name for name in broken if name in with_agent), *with_agent])
    return [name for name in ordered if name][:limit]
