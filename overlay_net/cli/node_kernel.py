"""Reads the kernel of a node, by a command in the pod of its agent."""

import json
from collections.abc import Iterable, Sequence
from typing import Final

from overlay_net.adapters.kube.pods import Pods
from overlay_net.cli.reading import attempt
from overlay_net.domain.diagnosis.pods import find_component, find_node
from overlay_net.domain.diagnosis.snapshot import Reading, Unread, known
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import OverlayNetError
from overlay_net.model.parse import find_name, find_object, find_objects, parse_text

NODE_STATE: Final = ("overlay-net", "node-state")


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
