"""Names that users, manifests and other processes depend on: groups, kinds, labels, finalizers, annotations.

The names of the earlier operator (group, kinds, finalizer, labels) never change, because existing objects have them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from overlay_net.model.api import JsonObject

GROUP: Final = "iks.ibm.com"
VERSION: Final = "v1alpha1"
FINALIZER: Final = "finalizer.iks.ibm.com"

CONTROLLER_FIELD_MANAGER: Final = "overlay-net-controller"
AGENT_FIELD_MANAGER: Final = "overlay-net-agent"

NODE_LABEL: Final = "node"
ZONE_LABEL: Final = "zone"
REGION_LABEL: Final = "region"
# In order of precedence (https://kubernetes.io/docs/reference/labels-annotations-taints/).
ZONE_LABELS: Final = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
REGION_LABELS: Final = ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region")

SUBNET_MAP_LABEL: Final = f"{GROUP}/subnet-map"
"""Label of OverlayPools that the controller creates from phpIPAM.subnetMap, and deletes when the map drops them."""

TAKEN_OVER_ANNOTATION: Final = f"{GROUP}/taken-over"
"""Annotation of OverlayAddresses: the time when a node last took over an existing record.

It is written even if nothing else changes, because only a new resourceVersion makes the API server reject a release
by a controller that decided it earlier and was then paused.
"""

ROUTE_SET_LABEL: Final = f"{GROUP}/route-set"
"""Label of OverlayRouteSlices: the route set that the slice is part of. Agents select slices by it."""

RENUMBER_ANNOTATION: Final = f"{GROUP}/renumber"
"""Annotation of a NodeOverlayIp: the address that its node must give up for another one."""

LINK_ALIAS: Final = "overlay-net"


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object as the API serves it: enough to build its URLs and bodies."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, name: str | None = None, *, namespace: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path of the collection, of one object, or of its subresource."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part is not None]
        return "/" + "/".join(parts)

    def manifest(
        self,
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
        labels: Mapping[str, str] | None = None,
        finalizers: Sequence[str] | None = None,
        **fields: object,
    ) -> JsonObject:
        """Return the body of one object. ``fields`` are its top-level fields, such as ``spec`` and ``status``.

        ``uid`` and ``resource_version`` make a write conditional: the API server refuses it for any other object or
        version.
        """
        metadata: JsonObject = {"name": name}
        optional = {
            "namespace": namespace,
            "uid": uid,
            "resourceVersion": resource_version,
            "labels": None if labels is None else dict(labels),
            "finalizers": None if finalizers is None else list(finalizers),
        }
        metadata |= {key: value for key, value in optional.items() if value is not None}
        return {"apiVersion": self.api_version, "kind": self.kind, "metadata": metadata, **fields}


NODES: Final = Resource("", "v1", "nodes", "Node")
NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace")
EVENTS: Final = Resource("events.k8s.io", "v1", "events", "Event", namespaced=True)
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease", namespaced=True)
ENDPOINT_SLICES: Final = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", namespaced=True)
SERVICE_CIDRS: Final = Resource("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR")
SERVICES: Final = Resource("", "v1", "services", "Service", namespaced=True)
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", "ConfigMap", namespaced=True)
CALICO_POOLS: Final = Resource("crd.projectcalico.org", "v1", "ippools", "IPPool")
CALICO_V3_POOLS: Final = Resource("projectcalico.org", "v3", "ippools", "IPPool")
CILIUM_NODES: Final = Resource("cilium.io", "v2", "ciliumnodes", "CiliumNode")
SECRETS: Final = Resource("", "v1", "secrets", "Secret", namespaced=True)
CLUSTER_ROLES: Final = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole")
PODS: Final = Resource("", "v1", "pods", "Pod", namespaced=True)
ADMISSION_POLICIES: Final = Resource(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy"
)
ADMISSION_BINDINGS: Final = Resource(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding"
)
ACCESS_REVIEWS: Final = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview")
RESOURCE_QUOTAS: Final = Resource("", "v1", "resourcequotas", "ResourceQuota", namespaced=True)
DAEMON_SETS: Final = Resource("apps", "v1", "daemonsets", "DaemonSet", namespaced=True)
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments", "Deployment", namespaced=True)
CUSTOM_RESOURCE_DEFINITIONS: Final = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition"
)
NODE_OVERLAY_IPS: Final = Resource(GROUP, VERSION, "nodeoverlayips", "NodeOverlayIp")
STATIC_ROUTES: Final = Resource(GROUP, VERSION, "staticroutes", "StaticRoute")
OVERLAY_POOLS: Final = Resource(GROUP, VERSION, "overlaypools", "OverlayPool")
OVERLAY_ROUTE_SLICES: Final = Resource(GROUP, VERSION, "overlayrouteslices", "OverlayRouteSlice")
OVERLAY_ADDRESSES: Final = Resource(GROUP, VERSION, "overlayaddresses", "OverlayAddress")


def label_value(name: str) -> str:
    """Return ``name`` if it fits into a label value (63 characters), else a unique short form with a digest."""
    if len(name) <= 63:
        return name
    return f"{name[:46].rstrip('-._')}-{sha256(name.encode()).hexdigest()[:16]}"


DEFAULT_NODE_SELECTOR = (
    "kubernetes.io/os notin (windows),type notin (virtual-kubelet),eks.amazonaws.com/compute-type notin (fargate)"
)
"""All Nodes except those where no agent can run: Windows, and virtual nodes without a kernel of their own."""
