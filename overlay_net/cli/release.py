"""Finds the release in a cluster: its namespace, its workloads, and how its objects and pods are selected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from overlay_net.adapters.kube import KubeApi
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import NotFound, NotPublished, OverlayNetError
from overlay_net.model.lease import LeaseRecord
from overlay_net.model.names import DAEMON_SETS, DEPLOYMENTS, LEASES, NODE_OVERLAY_IPS, Resource
from overlay_net.model.parse import find_name, find_object, find_objects, find_texts, parse_text
from overlay_net.runtime import cluster_lock

CONFIG_ARGUMENT: Final = "--config=/etc/overlay-net/config.yaml"
"""Argument of the containers of the chart, whatever the names and labels of its objects are."""
OBJECT_LABELS: Final = ("app.kubernetes.io/name", "app.kubernetes.io/instance")
"""Labels that all objects of a release have."""


@dataclass(frozen=True, slots=True)
class Release:
    """One installation of the chart."""

    namespace: str
    controller: JsonObject | None
    """The Deployment; None: there is none."""
    agent: JsonObject | None
    """The DaemonSet; None: there is none."""

    @property
    def lease(self) -> str:
        """The name of the Lease of the controllers, which the chart gives the name of the Deployment."""
        return find_name(self.controller) if self.controller is not None else ""

    @property
    def workloads(self) -> list[JsonObject]:
        return [each for each in (self.controller, self.agent) if each is not None]

    @property
    def object_selector(self) -> str:
        """The label selector of the objects of the release."""
        labels = find_object(self.workloads[0], "metadata", "labels")
        return _encode_selector({label: labels.get(label) for label in OBJECT_LABELS if label in labels})

    @property
    def pod_selectors(self) -> list[str]:
        """The label selectors of the pods of controllers and agents."""
        return [_encode_selector(find_object(each, "spec", "selector", "matchLabels")) for each in self.workloads]


def _encode_selector(labels: Mapping[str, object]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


async def find_release(api: KubeApi, namespace: str = "") -> Release:
    """Find the release in ``namespace``; empty: that of the release that manages the cluster.

    Raises NotPublished if there is none, and OverlayNetError if it cannot be read.
    """
    release = await look_up_release(api, namespace)
    if not release.workloads:
        raise NotPublished(f"no release of overlay-net in namespace {release.namespace}; set --namespace")
    return release


async def look_up_release(api: KubeApi, namespace: str) -> Release:
    """As ``find_release``, but without workloads if there is none."""
    namespace = namespace or await _find_namespace(api)
    controller = await _find(api, DEPLOYMENTS, namespace, "controller")
    agent = await _find(api, DAEMON_SETS, namespace, "agent")
    return Release(namespace, controller, agent)


async def _find(api: KubeApi, resource: Resource, namespace: str, mode: str) -> JsonObject | None:
    """Return the workload whose container runs this mode."""
    for each in (await api.list(resource, namespace=namespace)).items:
        for container in find_objects(find_object(each, "spec", "template", "spec"), "containers"):
            arguments = find_texts(container, "args")
            if arguments[:1] == (mode,) and CONFIG_ARGUMENT in arguments:
                return each
    return None


async def _list_overlays(api: KubeApi) -> Sequence[JsonObject]:
    try:
        return (await api.list(NODE_OVERLAY_IPS)).items
    except NotFound:
        # Without their definition there are none.
        return ()


async def _find_namespace(api: KubeApi) -> str:
    """Return the namespace of the release that manages the cluster, by its Lease or what agents report."""
    try:
        lease = await api.get(LEASES, cluster_lock.NAME, namespace=cluster_lock.NAMESPACE)
    except OverlayNetError:
        holder = ""
    else:
        holder = LeaseRecord.parse(lease).holder
    if not holder:
        found = await _list_overlays(api)
        holder = next((text for each in found if (text := parse_text(find_object(each, "status").get("lease")))), "")
    return holder.partition("/")[0] or "overlay-net"
