"""Finds the release in a cluster: its namespace, its pods, and the settings of its controllers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from overlay_net.adapters.kube import KubeApi
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import ConfigurationError, NotFound, NotPublished, OverlayNetError
from overlay_net.model.lease import LeaseRecord
from overlay_net.model.names import CONFIG_MAPS, DAEMON_SETS, DEPLOYMENTS, LEASES, NODE_OVERLAY_IPS, Resource
from overlay_net.model.parse import find_object, find_objects, parse_text
from overlay_net.runtime import cluster_lock

COMPONENT: Final = "app.kubernetes.io/component"
LABELS: Final = "app.kubernetes.io/name=overlay-net"


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


def find_name(item: Mapping[str, Any]) -> str:
    return parse_text(find_object(item, "metadata").get("name"))


async def find_release(api: KubeApi, namespace: str = "") -> Release:
    """Find the release in ``namespace``; empty: that of the release that manages the cluster.

    Raises NotPublished if there is none, and OverlayNetError if it cannot be read.
    """
    namespace = namespace or await _find_namespace(api)
    controllers = await _list(api, DEPLOYMENTS, namespace, "controller")
    agents = await _list(api, DAEMON_SETS, namespace, "agent")
    if not controllers and not agents:
        raise NotPublished(f"no release of overlay-net in namespace {namespace}; set --namespace")
    return Release(namespace, next(iter(controllers), None), next(iter(agents), None))


async def _list(api: KubeApi, resource: Resource, namespace: str, component: str) -> Sequence[JsonObject]:
    labels = f"{LABELS},{COMPONENT}={component}"
    return (await api.list(resource, namespace=namespace, label_selector=labels)).items


async def _find_namespace(api: KubeApi) -> str:
    """Return the namespace of the release that manages the cluster, by its Lease or what agents report."""
    try:
        lease = await api.get(LEASES, cluster_lock.NAME, namespace=cluster_lock.NAMESPACE)
    except OverlayNetError:
        holder = ""
    else:
        holder = LeaseRecord.parse(lease).holder
    if not holder:
        found = (await api.list(NODE_OVERLAY_IPS)).items
        holder = next((text for each in found if (text := parse_text(find_object(each, "status").get("lease")))), "")
    return holder.partition("/")[0] or "overlay-net"


async def read_settings(api: KubeApi, release: Release) -> JsonObject:
    """Return the settings file of the controllers, as the chart wrote it. Raises OverlayNetError."""
    pod = find_object(release.controller or {}, "spec", "template", "spec")
    names = (parse_text(find_object(each, "configMap").get("name")) for each in find_objects(pod, "volumes"))
    for name in filter(None, names):
        try:
            found = await api.get(CONFIG_MAPS, name, namespace=release.namespace)
        except NotFound:
            continue
        text = find_object(found, "data").get("config.yaml")
        if isinstance(text, str):
            return _parse(name, text)
    raise NotPublished(f"no ConfigMap with the settings of the controllers in namespace {release.namespace}")


def _parse(name: str, text: str) -> JsonObject:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"ConfigMap {name}: {' '.join(str(error).split())}") from None
    return content if isinstance(content, dict) else {}
