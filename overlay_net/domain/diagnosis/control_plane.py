"""Checks of what the controllers and agents need of the API server, and of the controllers themselves."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from overlay_net.domain.diagnosis.finding import PROBLEM, WARNING, Finding
from overlay_net.domain.diagnosis.pods import explain_pod, find_component, find_images
from overlay_net.domain.diagnosis.snapshot import Permission, Snapshot, Unread, known
from overlay_net.model.api import JsonObject
from overlay_net.model.lease import LeaseRecord
from overlay_net.model.managed_fields import Path
from overlay_net.model.names import (
    GROUP,
    NODE_OVERLAY_IPS,
    OVERLAY_ADDRESSES,
    OVERLAY_POOLS,
    OVERLAY_ROUTE_SLICES,
    STATIC_ROUTES,
    VERSION,
    Resource,
)
from overlay_net.model.node_report import REPORT_FIELDS
from overlay_net.model.overlay import ASSIGNMENT_FIELDS, SPEC_FIELDS
from overlay_net.model.parse import find_name, find_object, find_objects, parse_int, parse_text, parse_time
from overlay_net.model.pool import POOL_STATUS_FIELDS
from overlay_net.model.static_route import ROUTE_STATUS_FIELDS

APPLY_DEFINITIONS: Final = (
    "run helm upgrade, or kubectl apply --server-side --force-conflicts -f charts/overlay-net/crds/"
)
FIELDS: Final[Mapping[Resource, frozenset[Path]]] = {
    NODE_OVERLAY_IPS: SPEC_FIELDS | ASSIGNMENT_FIELDS | REPORT_FIELDS,
    STATIC_ROUTES: ROUTE_STATUS_FIELDS,
    OVERLAY_POOLS: POOL_STATUS_FIELDS,
    OVERLAY_ROUTE_SLICES: frozenset({("spec", "staticRoutes"), ("spec", "slices"), ("spec", "generation")}),
    OVERLAY_ADDRESSES: frozenset({("spec", "address"), ("spec", "pool")}),
}
"""The kinds, and fields of each that this version writes or reads."""

_READ: Final = ("get", "list", "watch")
_NEEDED: Final = (
    ("controller", "", "nodes", _READ),
    ("controller", GROUP, "nodeoverlayips", (*_READ, "create", "patch", "delete")),
    ("controller", GROUP, "nodeoverlayips/status", ("patch",)),
    ("controller", GROUP, "overlayrouteslices", (*_READ, "create", "update", "delete")),
    ("controller", GROUP, "staticroutes", _READ),
    ("controller", GROUP, "staticroutes/status", ("patch",)),
    ("controller", GROUP, "overlaypools", _READ),
    ("controller", GROUP, "overlaypools/status", ("patch",)),
    ("controller", GROUP, "overlayaddresses", (*_READ, "create", "patch", "delete")),
    ("agent", GROUP, "nodeoverlayips", _READ),
    ("agent", GROUP, "overlayrouteslices", _READ),
    ("agent", GROUP, "nodeoverlayips/status", ("patch",)),
)
PERMISSIONS: Final = tuple(
    Permission(component, verb, group, resource) for component, group, resource, verbs in _NEEDED for verb in verbs
)
"""What the service accounts need in the whole cluster."""

STALE: Final = 3
"""A Lease counts as not renewed after this many times its duration, as the clock here may differ from its holder's."""


def check_api(snapshot: Snapshot) -> Iterator[Finding]:
    if isinstance(snapshot.version, Unread):
        fix = "check the kubeconfig and its context, and that kubectl version answers"
        yield Finding(PROBLEM, f"the API server cannot be read: {snapshot.version.message}", fix)


def check_definitions(snapshot: Snapshot) -> Iterator[Finding]:
    definitions = known(snapshot.definitions)
    for resource, fields in FIELDS.items():
        name = f"{resource.plural}.{GROUP}"
        definition = definitions.get(name)
        if definition is None:
            yield Finding(PROBLEM, "the CustomResourceDefinition does not exist", APPLY_DEFINITIONS, (name,))
            continue
        refusal = next(_find_refusals(definition), "")
        if refusal:
            yield Finding(PROBLEM, f"the CustomResourceDefinition is not served: {refusal}", APPLY_DEFINITIONS, (name,))
        missing = sorted(".".join(path) for path in fields if not _has_field(definition, path))
        if missing:
            what = f"the CustomResourceDefinition is of another version: it lacks {', '.join(missing)}"
            yield Finding(PROBLEM, what, APPLY_DEFINITIONS, (name,))


def fix_missing(namespace: str) -> str:
    """Return the fix for a workload of the chart that does not exist."""
    where = "if the release is in another namespace, set --namespace; else install or restore it"
    return f"{where}: helm upgrade --install overlay-net CHART --namespace {namespace} --values FILE"


def _find_refusals(definition: JsonObject) -> Iterator[str]:
    for each in find_objects(find_object(definition, "status"), "conditions"):
        if each.get("type") in ("Established", "NamesAccepted") and each.get("status") == "False":
            yield f"{each['type']}: {parse_text(each.get('message'))}"


def _has_field(definition: JsonObject, path: Path) -> bool:
    versions = find_objects(find_object(definition, "spec"), "versions")
    version = next((each for each in versions if each.get("name") == VERSION and each.get("served") is True), {})
    schema = find_object(version, "schema", "openAPIV3Schema")
    if path[0] == "metadata":
        return True
    # Below a list of conditions, the last part is a type and not a field.
    for part in path[:2]:
        schema = find_object(schema, "properties", part)
        if not schema:
            return False
    return True


def check_permissions(snapshot: Snapshot) -> Iterator[Finding]:
    fix = "run helm upgrade, which restores the roles, or create those that the chart with rbac.create=false leaves out"
    for permission, allowed in known(snapshot.permissions).items():
        if not allowed:
            what = f"the service account may not {permission.verb} {permission.resource}"
            yield Finding(PROBLEM, what, fix, (permission.component,))


def check_admission(snapshot: Snapshot) -> Iterator[Finding]:
    agent = known(snapshot.workloads).agent
    if agent is None:
        return
    name = find_name(agent)
    if not _is_restricted(agent):
        what = "the admission policy is disabled: an agent may write the status of the objects of other nodes"
        yield Finding(WARNING, what, "set admissionPolicy.enabled to true (Kubernetes 1.30 or later)")
        return
    for policy in (name, f"{name}-lease"):
        if policy not in known(snapshot.policies):
            what = "the ValidatingAdmissionPolicy or its binding does not exist"
            yield Finding(PROBLEM, what, "run helm upgrade, which restores both", (policy,))


def _is_restricted(agent: JsonObject) -> bool:
    """Return whether the chart was rendered with the admission policy: only then agents renew a Lease."""
    containers = find_objects(find_object(agent, "spec", "template", "spec"), "containers")
    return any(each.get("name") == "OVERLAY_LEASE_NAMESPACE" for one in containers for each in find_objects(one, "env"))


def check_controllers(snapshot: Snapshot) -> Iterator[Finding]:
    workloads = known(snapshot.workloads)
    if workloads.controller is None:
        what = f"no Deployment of controllers in namespace {workloads.namespace}"
        yield Finding(PROBLEM, what, fix_missing(workloads.namespace))
        return
    if parse_int(find_object(workloads.controller, "spec").get("replicas"), 1) == 0:
        name = find_name(workloads.controller)
        fix = f"kubectl scale --namespace {workloads.namespace} deployment/{name} --replicas 2"
        yield Finding(PROBLEM, "the Deployment of the controllers is scaled to zero", fix)
        return
    pods = find_component(known(snapshot.pods), "controller")
    if not pods:
        fix = f"kubectl describe --namespace {workloads.namespace} replicaset: a quota or Pod Security may refuse them"
        yield Finding(PROBLEM, "no pod of a controller exists", fix)
    for pod in pods:
        yield from explain_pod(pod, workloads.namespace)


def check_leader(snapshot: Snapshot) -> Iterator[Finding]:
    workloads = known(snapshot.workloads)
    name = find_name(workloads.controller or {})
    log = f"read the log: kubectl logs --namespace {workloads.namespace} deploy/{name} --all-pods"
    lease = known(snapshot.lease if snapshot.leader_election else snapshot.cluster_lease)
    if workloads.controller is None:
        # The check of the controllers reports it.
        pass
    elif lease is None or not lease.holder:
        yield Finding(PROBLEM, "no controller is the leader", f"check that controllers run; {log}")
    elif _is_stale(lease, snapshot):
        what = f"the leader {lease.holder} has not renewed its Lease since {lease.renewed}"
        yield Finding(PROBLEM, what, f"check the pod and its connection to the API server; {log}")
    cluster = known(snapshot.cluster_lease)
    if cluster is not None and cluster.holder and not _is_held_by(cluster.holder, workloads.namespace):
        what = f"release {cluster.holder} manages the cluster, and that in {workloads.namespace} is on standby"
        yield Finding(PROBLEM, what, "uninstall the release that you do not need")


def _is_held_by(holder: str, namespace: str) -> bool:
    return holder.partition("/")[0] == namespace


def _is_stale(lease: LeaseRecord, snapshot: Snapshot) -> bool:
    renewed = parse_time(lease.renewed)
    return renewed is not None and (snapshot.now - renewed).total_seconds() > STALE * max(lease.seconds, 15)


def check_versions(snapshot: Snapshot) -> Iterator[Finding]:
    workloads, pods = known(snapshot.workloads), known(snapshot.pods)
    desired = find_images(find_object(workloads.agent or {}, "spec", "template"))
    controllers = frozenset().union(*map(find_images, find_component(pods, "controller")))
    if desired and controllers and not desired & controllers:
        what = f"controllers run {_name(controllers)} and agents {_name(desired)}"
        yield Finding(PROBLEM, what, "run helm upgrade with one image for both")
    daemonset = f"daemonset/{find_name(workloads.agent or {})}"
    for pod in find_component(pods, "agent"):
        images = find_images(pod)
        if desired and images and not images & desired:
            node = parse_text(find_object(pod, "spec").get("nodeName"))
            what = f"the agent still runs {_name(images)}, not {_name(desired)}"
            fix = f"wait for the rollout: kubectl rollout status --namespace {workloads.namespace} {daemonset}"
            yield Finding(WARNING, what, fix, (node,))


def _name(images: Iterable[str]) -> str:
    return ", ".join(sorted(images))
