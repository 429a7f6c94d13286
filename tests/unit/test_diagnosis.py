"""The checks of `overlay-net doctor` that need no cluster: what is unread, and what is no fault."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from overlay_net.cli.doctor import Diagnosis
from overlay_net.domain.diagnosis.checks import CHECKS, diagnose, first_broken
from overlay_net.domain.diagnosis.control_plane import PERMISSIONS, check_definitions, check_leader, check_versions
from overlay_net.domain.diagnosis.finding import OK, PROBLEM, UNKNOWN, Check, Finding, Result, run_check
from overlay_net.domain.diagnosis.pods import explain_pod
from overlay_net.domain.diagnosis.reports import check_mac_filter, check_pools, check_reports
from overlay_net.domain.diagnosis.snapshot import Read, Snapshot, Unread, Workloads
from overlay_net.model.lease import LeaseRecord, micro_time
from tests.unit.factories import node, overlay

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LEASE = LeaseRecord("controller-1", 15, micro_time(NOW), micro_time(NOW))


def snapshot(**changed: Any) -> Snapshot:
    """A cluster without nodes, in which everything is healthy."""
    parts: dict[str, Any] = {
        "version": Read({}),
        "definitions": Read({}),
        "permissions": Read(dict.fromkeys(PERMISSIONS, True)),
        "policies": Read(frozenset()),
        "workloads": Read(Workloads("overlay-net", {}, {})),
        "pods": Read([]),
        "lease": Read(LEASE),
        "cluster_lease": Read(None),
        "nodes": Read([]),
        "overlays": Read([]),
        "pools": Read([]),
        "static_routes": Read([]),
        "overlay_addresses": True,
        "leader_election": True,
        "now": NOW,
    }
    return Snapshot(**(parts | changed))


def pod(component: str, name: str, image: str, **status: Any) -> dict[str, Any]:
    labels = {"app.kubernetes.io/component": component}
    spec = {"nodeName": name, "containers": [{"image": image}]}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status}


def test_without_an_api_server_there_is_one_finding() -> None:
    (only,) = diagnose(snapshot(version=Unread("no answer: connection refused")))
    assert (only.check.name, only.verdict) == ("api-server", "problem")
    assert first_broken([only]) is only


def test_what_is_unread_is_neither_wrong_nor_right() -> None:
    unread = Unread("403 Forbidden: not yours")
    names = ("definitions", "permissions", "policies", "workloads", "pods", "lease", "cluster_lease", "nodes")
    results = diagnose(snapshot(**dict.fromkeys((*names, "overlays", "pools", "static_routes"), unread)))
    verdicts = {each.check.name: each.verdict for each in results}
    # No kernel was read.
    assert {name for name, verdict in verdicts.items() if verdict == OK} == {"api-server"}
    assert verdicts.keys() == {check.name for check in CHECKS} - {"neighbours", "mtu", "masquerade"}
    assert set(verdicts.values()) == {OK, UNKNOWN}
    assert all("not yours" in finding.what for each in results for finding in each.findings)
    assert first_broken(results) is None


def test_what_is_wrong_with_several_nodes_is_one_finding_with_the_fix_of_the_first() -> None:
    def find(_: Snapshot) -> Iterator[Finding]:
        yield from (Finding(PROBLEM, "no gateway", f"overlay-net routes {name}", (name,)) for name in ("n1", "n2"))
        yield Finding(PROBLEM, "another", "fix it", ("n1",))

    result = run_check(Check("routes", "It matters.", find), snapshot())
    assert result.findings == (
        Finding(PROBLEM, "no gateway", "overlay-net routes n1", ("n1", "n2")),
        Finding(PROBLEM, "another", "fix it", ("n1",)),
    )


def test_the_names_of_checks_are_unique_and_each_explains_why_it_matters() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS) >= 15
    assert all(check.why.endswith(".") for check in CHECKS)


def test_a_definition_that_is_not_established_has_the_reason() -> None:
    condition = {"type": "NamesAccepted", "status": "False", "message": "noip is taken"}
    definition = {"spec": {}, "status": {"conditions": [condition]}}
    found = list(check_definitions(snapshot(definitions=Read({"nodeoverlayips.iks.ibm.com": definition}))))
    assert "NamesAccepted: noip is taken" in found[0].what
    assert "status.ipAddr" in found[1].what
    assert [each.what for each in found[2:]] == ["the CustomResourceDefinition does not exist"] * 4


def test_controllers_and_agents_of_two_images_are_found() -> None:
    agent = {"spec": {"template": {"spec": {"containers": [{"image": "x:2"}]}}}}
    view = snapshot(workloads=Read(Workloads("o", {}, agent)), pods=Read([pod("controller", "n1", "x:1")]))
    assert [each.what for each in check_versions(view)] == ["controllers run x:1 and agents x:2"]


def test_a_pod_that_cannot_be_scheduled_names_its_node_and_why() -> None:
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n7"]}]}]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    waiting = pod("agent", "a", "x:1", conditions=[{"type": "PodScheduled", "status": "False", "message": "no memory"}])
    waiting["spec"] = {"affinity": affinity}
    (found,) = explain_pod(waiting, "overlay-net")
    assert (found.subjects, "not scheduled: no memory" in found.what) == (("n7",), True)


def test_a_gateway_that_answers_no_node_is_no_sign_of_a_mac_filter() -> None:
    silent = [{"address": "192.168.100.1", "reason": "GatewayDown", "message": "no answer"}]
    reachable = {"type": "GatewayReachable", "status": "False", "reason": "GatewayDown"}
    status = {"ipAddr": "192.168.100.4/24", "gateway": "192.168.100.1", "gateways": silent, "conditions": [reachable]}
    overlays = [overlay(name, status=status) for name in ("n1", "n2")]
    view = snapshot(nodes=Read([node("n1"), node("n2")]), overlays=Read(overlays))
    assert list(check_mac_filter(view)) == []


def test_without_leader_election_the_lock_of_the_cluster_shows_whether_a_controller_manages_it() -> None:
    held = replace(LEASE, holder="overlay-net/overlay-net-controller")
    without = partial(snapshot, leader_election=False, lease=Read(None))
    assert list(check_leader(without(cluster_lease=Read(held)))) == []
    assert [each.what for each in check_leader(without())] == ["no controller is the leader"]
    assert [each.what for each in check_leader(snapshot(lease=Read(None)))] == ["no controller is the leader"]


def test_what_is_worth_knowing_is_shown_although_nothing_is_wrong() -> None:
    finding = Finding(OK, "pods have the overlay address", "if they are to keep theirs: a setting", ("n1",))
    results = [Result(CHECKS[0], ()), Result(CHECKS[1], (finding,))]
    shown = "\n".join(str(line).rstrip() for line in Diagnosis(results, "n1").lines(None))
    assert shown.splitlines()[:2] == [
        "ok  definitions  n1: pods have the overlay address",
        "                 if they are to keep theirs: a setting",
    ]
    assert "ok  api-server" in shown
    assert shown.endswith("no problem found; the kernel of n1 included")


def test_a_cluster_with_routes_only_needs_no_pool() -> None:
    assert list(check_pools(snapshot(overlay_addresses=False))) == []
    assert [each.what for each in check_pools(snapshot())] == ["there is no OverlayPool"]


def test_without_a_release_it_is_what_is_broken() -> None:
    results = diagnose(snapshot(workloads=Read(Workloads("other", None, None)), lease=Read(None)))
    problems = {each.check.name: each.findings for each in results if each.verdict == PROBLEM}
    assert problems.keys() >= {"controllers", "agent-scheduled"}
    assert "leader" not in problems
    (finding,) = problems["controllers"]
    assert "in namespace other" in finding.what
    assert "set --namespace" in finding.fix


def test_checks_that_the_same_error_prevents_are_shown_once_and_are_no_success() -> None:
    unread = Unread("403 Forbidden: not yours")
    results = diagnose(snapshot(definitions=unread, workloads=unread, pools=unread))
    text = [line.plain for line in Diagnosis(tuple(results)).lines(None)]
    assert sum("not yours" in line for line in text) == 1
    (same,) = (line for line in text if "the same for: " in line)
    assert "pools" in same
    unknown = sum(each.verdict == UNKNOWN for each in results)
    assert text[-1].startswith(f"no problem found, but {unknown} of {len(results)} checks are unknown")


def test_the_fix_for_a_pod_names_only_logs_that_exist() -> None:
    def fix(**status: Any) -> str:
        (finding,) = explain_pod(pod("agent", "n1", "i", containerStatuses=[{"name": "agent", **status}]), "here")
        return finding.fix

    describe = "kubectl describe --namespace here pod n1"
    assert fix(state={"waiting": {"reason": "ContainerCreating"}}) == describe
    assert fix(state={"running": {}}) == f"kubectl logs --namespace here n1; {describe}"
    crashed = fix(state={"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=3)
    assert crashed == f"kubectl logs --namespace here n1 --previous; {describe}"


def test_the_fix_for_a_node_without_report_is_the_log_of_its_agent() -> None:
    here = snapshot(
        nodes=Read([node("n1")]),
        overlays=Read([overlay("n1")]),
        pods=Read([pod("agent", "n1", "i")]),
    )
    (finding,) = check_reports(here)
    assert finding.fix.endswith(": kubectl logs --namespace overlay-net n1")
    (finding,) = check_reports(replace(here, pods=Unread("forbidden")))
    assert "kubectl" not in finding.fix
