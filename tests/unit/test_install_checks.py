"""The checks before an install: quantities, quotas without room, and refusals with what to do."""

from decimal import Decimal

import pytest

from overlay_net.domain.install.quota_room import Demand, find_shortages
from overlay_net.domain.install.refusals import explain_refusal
from overlay_net.model.api import JsonObject
from overlay_net.model.quantity import format_quantity, parse_quantity

LABEL = "kubectl label namespace n pod-security.kubernetes.io/enforce=privileged --overwrite"
AGENTS = Demand("agent", 3, {"containers": [{"resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}}}]})
CONTROLLERS = Demand("controller", 2, {"containers": [{"resources": {"requests": {"cpu": 0.05, "memory": "128Mi"}}}]})


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", "1"), ("50m", "0.05"), ("128Mi", "134217728"), ("1.5Gi", "1610612736"), ("2k", "2000"), ("1e3", "1000")],
)
def test_quantities_of_the_api_are_read(text: str, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "lots", "1Xi", "-1", "1e"])
def test_other_texts_are_no_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(text)


@pytest.mark.parametrize(("value", "text"), [("134217728", "128Mi"), ("0.13", "0.13"), ("5", "5"), ("0", "0")])
def test_quantities_are_written_as_people_write_them(value: str, text: str) -> None:
    assert format_quantity(Decimal(value)) == text


def quota(hard: JsonObject, used: JsonObject | None = None, **spec: object) -> JsonObject:
    return {"metadata": {"name": "q"}, "spec": {"hard": hard, **spec}, "status": {"hard": hard, "used": used or {}}}


@pytest.mark.parametrize(
    ("hard", "used", "message"),
    [
        ({"pods": "6"}, {"pods": "2"}, "3 agents and 2 controllers need 5 of pods, and 4 of 6 is left"),
        ({"count/pods": "4"}, {}, "need 5 of count/pods, and 4 of 4 is left"),
        ({"requests.cpu": "100m"}, {}, "need 0.13 of requests.cpu, and 0.1 of 100m is left"),
        ({"cpu": "100m"}, {}, "need 0.13 of cpu"),
        ({"memory": "256Mi"}, {}, "need 448Mi of memory, and 256Mi of 256Mi is left"),
        ({"limits.memory": "100Mi"}, {}, "need 192Mi of limits.memory"),
        ({"pods": "1"}, {"pods": "3"}, "need 5 of pods, and 0 of 1 is left"),
    ],
)
def test_quota_without_room_for_all_pods_is_named(hard: JsonObject, used: JsonObject, message: str) -> None:
    (sentence,) = find_shortages([quota(hard, used)], [AGENTS, CONTROLLERS])
    assert sentence.startswith("ResourceQuota q has no room: ")
    assert message in sentence


@pytest.mark.parametrize(
    "enough",
    [
        quota(
            {"pods": "5", "requests.cpu": "130m", "memory": "448Mi", "services": "0", "requests.nvidia.com/gpu": "0"}
        ),
        quota({"pods": "0"}, scopeSelector={"matchExpressions": []}),
        quota({"pods": "0"}, scopes=["Terminating"]),
        # Its controller has not computed it yet.
        {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}},
    ],
)
def test_quota_with_room_or_for_other_pods_is_no_shortage(enough: JsonObject) -> None:
    assert list(find_shortages([enough], [AGENTS, CONTROLLERS])) == []


def test_pod_that_ends_before_is_not_in_the_way() -> None:
    check = Demand("preflight", 1, {"containers": [{"resources": {"requests": {"cpu": "10m"}}}]})
    full = quota({"pods": "5", "requests.cpu": "130m"}, {"pods": "1", "requests.cpu": "10m"})
    assert len(list(find_shortages([full], [AGENTS, CONTROLLERS]))) == 2
    assert list(find_shortages([full], [AGENTS, CONTROLLERS], [check])) == []
    # Its controller has not counted the pod yet.
    (sentence,) = find_shortages([quota({"pods": "4"}, {"pods": "0"})], [AGENTS, CONTROLLERS], [check])
    assert "4 of 4 is left" in sentence


@pytest.mark.parametrize(
    ("reason", "fix"),
    [
        (
            'violates PodSecurity "baseline:latest": host namespaces',
            f": run {LABEL}, or set podSecurity.labelNamespace=true",
        ),
        ("failed quota: q: must specify limits.cpu for: agent", ": set them in agent.resources"),
        (
            "no PriorityClass with name high was found",
            ": create it, or set another agent.priorityClassName",
        ),
        ("not by this webhook", ""),
    ],
    ids=["pod security", "quota", "priority class", "webhook"],
)
def test_refusal_has_the_reason_and_what_to_do(reason: str, fix: str) -> None:
    message = f'403 Forbidden: pods "preflight-agent-" is forbidden: {reason}'
    assert explain_refusal("n", "agent", message) == f"namespace n does not admit the pods of the agents: {reason}{fix}"
