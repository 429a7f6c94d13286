"""`overlay-net preflight`: checks before an install or upgrade that the pods of the release can be created and run."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from overlay_net.adapters.kube import KubeApi, connect_agent
from overlay_net.domain.install.quota_room import Demand, find_shortages
from overlay_net.domain.install.refusals import EXCEEDED, explain_refusal
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import ConfigurationError, NotFound, OverlayNetError, Refused
from overlay_net.model.names import NAMESPACES, NODES, PODS, RESOURCE_QUOTAS
from overlay_net.model.node import Node
from overlay_net.model.parse import find_object
from overlay_net.model.selectors import Selector
from overlay_net.model.wording import name_some

COMPONENTS: Final = ("agent", "controller")
ENFORCE: Final = "pod-security.kubernetes.io/enforce"
CONNECT_TIMEOUT: Final = 1.0
CONNECTIONS: Final = 256
"""Maximum number of connections at a time."""
ATTEMPTS: Final = 3
PAUSE: Final = 3.0
"""Seconds between attempts: an agent of an earlier release may be about to end, or a pod to be no longer counted."""
NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Release:
    """The release to check."""

    namespace: str
    pods: Path
    """Directory with ``agent.yaml`` and ``controller.yaml``: metadata and spec of their pods."""
    admission: Sequence[str] = COMPONENTS
    """The components whose pods are created, as a dry run."""
    agents: Selector | None = None
    """Selects the nodes of the agents."""
    controllers: int = 0
    """Number of new controllers, in a first install; 0 in an upgrade, which replaces pods."""
    port: int = 0
    """Port on the nodes that the agents do not use yet; 0 for none."""
    own_pod: str = ""
    """Name of the pod of this process, which counts in the quotas; empty: none."""
    label: bool = False
    """Whether to label the namespace, so that it admits privileged pods."""


async def preflight(release: Release, kubeconfig: Path | None) -> Sequence[str]:
    """Return why the release cannot be installed, one sentence for each cause. Raises ConfigurationError."""
    pods = {component: read_pod(release.pods / f"{component}.yaml") for component in COMPONENTS}
    try:
        async with connect_agent(kubeconfig) as connection:
            return await _check(KubeApi(connection), release, pods)
    except OverlayNetError as error:
        return [str(error)]


async def _check(api: KubeApi, release: Release, pods: dict[str, JsonObject]) -> Sequence[str]:
    if release.label:
        await api.merge_patch(NAMESPACES, release.namespace, {"metadata": {"labels": {ENFORCE: "privileged"}}})
    refusals = [await _admit(api, release, component, pods[component]) for component in release.admission]
    if any(refusals):
        return [refusal for refusal in refusals if refusal]
    nodes = await _list_nodes(api, release.agents) if release.controllers or release.port else []
    if release.controllers and (shortages := await _find_shortages(api, release, pods, len(nodes))):
        return shortages
    return await _find_taken(nodes, release.port) if release.port else []


async def _find_shortages(api: KubeApi, release: Release, pods: dict[str, JsonObject], agents: int) -> Sequence[str]:
    counts = {"agent": agents, "controller": release.controllers}
    demands = [Demand(component, counts[component], find_object(pods[component], "spec")) for component in COMPONENTS]
    own = [Demand("preflight", 1, find_object(each, "spec")) for each in await _read_own_pod(api, release)]
    found: Sequence[str] = ()
    for attempt in range(ATTEMPTS):
        if attempt:
            # Pods of hooks that have just ended may still count.
            await asyncio.sleep(PAUSE)
        quotas = (await api.list(RESOURCE_QUOTAS, namespace=release.namespace)).items
        if not (found := list(find_shortages(quotas, demands, own))):
            break
    return found


async def _read_own_pod(api: KubeApi, release: Release) -> Sequence[JsonObject]:
    try:
        return [await api.get(PODS, release.own_pod, namespace=release.namespace)] if release.own_pod else []
    except NotFound:
        return []


async def _admit(api: KubeApi, release: Release, component: str, pod: JsonObject) -> str:
    """Return why the pod would not be admitted, or an empty string."""
    try:
        await api.create(PODS, pod, namespace=release.namespace, dry_run=True)
    except Refused as error:
        # The pods that an upgrade replaces count until then.
        if EXCEEDED in error.message and not release.controllers:
            return ""
        return explain_refusal(release.namespace, component, error.message)
    return ""


async def _list_nodes(api: KubeApi, agents: Selector | None) -> list[Node]:
    found = []
    async for page in api.pages(NODES):
        nodes = (Node.parse(item) for item in page.items)
        found += [node for node in nodes if agents is None or agents.matches(node.labels)]
    return found


async def _find_taken(nodes: Sequence[Node], port: int) -> Sequence[str]:
    """Report the nodes on which a process accepts connections to the port; no answer does not mean that it is free."""
    limit = asyncio.Semaphore(CONNECTIONS)

    async def answers(node: Node) -> bool:
        if not node.addresses:
            return False
        async with limit:
            return await _accepts(str(node.addresses[0]), port)

    taken = list(nodes)
    for attempt in range(ATTEMPTS):
        if attempt:
            await asyncio.sleep(PAUSE)
        results = await asyncio.gather(*(answers(node) for node in taken))
        taken = [node for node, result in zip(taken, results, strict=True) if result]
        if not taken:
            return []
    names = name_some([node.name for node in taken], NAMED)
    where = f"port {port} of agent.settings.http.bind is in use by another process on {names}"
    return [f"{where}: set a port that is free on all nodes, or stop that process"]


async def _accepts(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def read_pod(file: Path) -> JsonObject:
    """Read metadata and spec of a pod as a Pod without a name. Raises ConfigurationError."""
    try:
        body = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{file}: {' '.join(str(error).split())}") from None
    if not isinstance(body, dict) or not isinstance(body.get("spec"), dict):
        raise ConfigurationError(f"{file}: not a pod")
    metadata = {**find_object(body, "metadata"), "generateName": f"preflight-{file.stem}-"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body["spec"]}
