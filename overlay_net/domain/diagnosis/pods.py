"""What pods of the release report about themselves: which component they are, their image, and why they do not run."""

from collections.abc import Iterable, Iterator
from typing import Final

from overlay_net.domain.diagnosis.finding import PROBLEM, WARNING, Finding
from overlay_net.model.api import JsonObject
from overlay_net.model.parse import find_name, find_object, find_objects, parse_int, parse_text

COMPONENT: Final = "app.kubernetes.io/component"
IMAGE_REASONS: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})


def find_component(pods: Iterable[JsonObject], component: str) -> list[JsonObject]:
    """Return the pods of ``controller`` or ``agent`` that are not being deleted."""
    return [
        pod
        for pod in pods
        if find_object(pod, "metadata", "labels").get(COMPONENT) == component
        and "deletionTimestamp" not in find_object(pod, "metadata")
    ]


def find_node(pod: JsonObject) -> str:
    """Return the node of a pod, also of one of a DaemonSet that is not scheduled yet; empty: unknown."""
    spec = find_object(pod, "spec")
    if named := parse_text(spec.get("nodeName")):
        return named
    required = find_object(spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    fields = (
        each for term in find_objects(required, "nodeSelectorTerms") for each in find_objects(term, "matchFields")
    )
    values = (each.get("values") for each in fields if each.get("key") == "metadata.name")
    return next((parse_text(each[0]) for each in values if isinstance(each, list) and each), "")


def find_images(pod: JsonObject) -> frozenset[str]:
    """Return the images of the containers of a pod or of a template."""
    containers = find_objects(find_object(pod, "spec"), "containers")
    return frozenset(filter(None, (parse_text(each.get("image")) for each in containers)))


def is_ready(pod: JsonObject) -> bool:
    return _find_condition(pod, "Ready").get("status") == "True"


def explain_pod(pod: JsonObject, namespace: str) -> Iterator[Finding]:
    """Yield why a pod is not ready."""
    name = find_name(pod)
    subject = (find_node(pod) or name,)
    scheduled = _find_condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        fix = "make room, or correct tolerations, priority class or node selector of the chart"
        yield Finding(PROBLEM, f"pod {name} is not scheduled: {parse_text(scheduled.get('message'))}", fix, subject)
        return
    if is_ready(pod):
        return
    waiting = next(_find_waiting(pod), None)
    if waiting is not None and waiting[0] in IMAGE_REASONS:
        fix = "correct image.repository, image.tag or imagePullSecrets of the chart"
        yield Finding(PROBLEM, f"the image of pod {name} cannot be pulled: {waiting[0]} {waiting[1]}", fix, subject)
        return
    detail = f": {waiting[0]} {waiting[1]}".rstrip() if waiting is not None else ""
    verdict = PROBLEM if waiting is not None else WARNING
    describe = f"kubectl describe --namespace {namespace} pod {name}"
    # Without an earlier container, --previous is an error; one that has not started has no log at all.
    log = f"kubectl logs --namespace {namespace} {name}{' --previous' if _has_restarted(pod) else ''}"
    has_log = waiting is None or _has_restarted(pod)
    fix = f"{log}; {describe}" if has_log else describe
    yield Finding(verdict, f"pod {name} is not ready{detail}", fix, subject)


def _has_restarted(pod: JsonObject) -> bool:
    statuses = find_objects(find_object(pod, "status"), "containerStatuses")
    return any(parse_int(each.get("restartCount")) > 0 for each in statuses)


def _find_waiting(pod: JsonObject) -> Iterator[tuple[str, str]]:
    """Yield reason and message of containers that wait, with how they ended before."""
    for status in find_objects(find_object(pod, "status"), "containerStatuses"):
        waiting = find_object(status, "state", "waiting")
        if waiting:
            yield parse_text(waiting.get("reason")), parse_text(waiting.get("message"))


def _find_condition(pod: JsonObject, kind: str) -> JsonObject:
    conditions = find_objects(find_object(pod, "status"), "conditions")
    return next((each for each in conditions if each.get("type") == kind), {})
