"""`overlay-net doctor` against the real API server: no finding in a healthy cluster, and each planted fault named."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from lab.cluster.api_server import ApiServer
from lab.product import NAMESPACE
from overlay_net.adapters.kube.pods import Pods
from overlay_net.cli.doctor import Diagnosis
from overlay_net.cli.snapshot import read_snapshot
from overlay_net.domain.diagnosis.checks import CHECKS, diagnose
from overlay_net.model.names import CONFIG_MAPS
from tests.component.healthy_cluster import AGENT, CONTROLLER, KERNEL, HealthyCluster, condition
from tests.component.people import answered, overlay_net
from tests.fakes.kubelet import Kubelet

Fault = Callable[[HealthyCluster], AbstractAsyncContextManager[None]]
IN_RELEASE = f"--namespace={NAMESPACE}"


async def examine(cluster: HealthyCluster, node: str = "") -> dict[str, Any]:
    """What is not ok: the findings by check, with their verdicts."""
    pods = Pods(cluster.admin.connection, 30.0)
    found = Diagnosis(tuple(diagnose(await read_snapshot(cluster.admin, pods, NAMESPACE, node)))).to_json()
    return {each["name"]: each["findings"] for each in found["checks"] if each["verdict"] != "ok"}


def texts(findings: list[dict[str, Any]]) -> str:
    return "; ".join(f"{each['verdict']} {each['subjects']} {each['what']}; {each['fix']}" for each in findings)


def plant(act: Callable[[HealthyCluster], Awaitable[object]]) -> Fault:
    """A fault in objects that every test begins without."""

    @asynccontextmanager
    async def planted(cluster: HealthyCluster) -> AsyncIterator[None]:
        await act(cluster)
        yield

    return planted


def patch(kind: str, name: str, path: str, value: object, *options: str) -> Fault:
    return lambda cluster: cluster.patched(kind, name, path, value, *options)


def set_pool(status: str, reason: str) -> Fault:
    return plant(lambda cluster: cluster.set_pool(condition("Ready", status, reason, "the pool is broken")))


def report(kind: str, reason: str, **status: Any) -> Fault:
    """n2 reports this condition as False."""
    changed = condition(kind, "False", reason, "the node is broken")
    return plant(lambda cluster: cluster.report("n2", changed, number=12, **status))


SILENT = {"gateways": [{"address": "192.168.100.1", "reason": "GatewayDown", "message": "no answer"}]}
TOTAL = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/total"
WAITING = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}

FAULTS: dict[str, tuple[Fault, str, str]] = {
    "definition": (patch("crd", "overlaypools.iks.ibm.com", TOTAL, None), "definitions", "it lacks status.total"),
    "permission": (
        patch("clusterrole", AGENT, "/rules", []),
        "permissions",
        "['agent'] the service account may not patch nodeoverlayips/status",
    ),
    "admission": (
        patch("validatingadmissionpolicybinding", AGENT, "/spec/policyName", "another"),
        "admission-policy",
        f"['{AGENT}'] the ValidatingAdmissionPolicy or its binding does not exist",
    ),
    "controllers": (
        patch("deployment", CONTROLLER, "/spec/replicas", 0, IN_RELEASE),
        "controllers",
        "kubectl scale --namespace overlay-net deployment/overlay-net-controller",
    ),
    "leader": (
        patch("lease", CONTROLLER, "/spec/holderIdentity", None, IN_RELEASE),
        "leader",
        "no controller is the leader",
    ),
    "stale leader": (
        patch("lease", CONTROLLER, "/spec/renewTime", "2026-01-01T00:00:00.000000Z", IN_RELEASE),
        "leader",
        "controller-1 has not renewed its Lease since 2026-01-01T00:00:00",
    ),
    "other release": (
        patch("lease", "overlay-net", "/spec/holderIdentity", "other/x", "--namespace=kube-system"),
        "leader",
        "release other/x manages the cluster",
    ),
    "version": (
        patch("pod", "agent-n2", "/spec/containers/0/image", "overlay-net:0.0.9", IN_RELEASE),
        "versions",
        "['n2'] the agent still runs overlay-net:0.0.9",
    ),
    "ipam": (set_pool("False", "IpamUnavailable"), "ipam-reachable", "['pool p1'] the IPAM cannot be reached"),
    "credentials": (
        set_pool("False", "CredentialsRefused"),
        "ipam-credentials",
        "the IPAM refuses the controllers: the pool is broken; correct the Secret",
    ),
    "pool": (set_pool("False", "Exhausted"), "pools", "['p1'] Exhausted: the pool is broken"),
    "address": (
        report("Reserved", "RecordTaken"),
        "addresses",
        "['n2'] RecordTaken: the node is broken",
    ),
    "not scheduled": (
        plant(lambda cluster: asyncio.to_thread(cluster.kubectl, "delete", "pod", "agent-n2", IN_RELEASE, "--force")),
        "agent-scheduled",
        "['n2'] no agent is scheduled to the node",
    ),
    "not running": (
        plant(lambda cluster: cluster.set_pod("agent-n2", ready=False, **WAITING)),
        "agent-ready",
        "['n2'] the image of pod agent-n2 cannot be pulled: ImagePullBackOff no such image",
    ),
    "no report": (
        plant(lambda cluster: cluster.report("n2", number=12, observedUID="another object")),
        "agent-reports",
        "['n2'] the agent has not reported about this node",
    ),
    "parent": (
        report("Configured", "ParentMissing"),
        "parent-interface",
        "['n2'] ParentMissing: the node is broken; set agent.settings.interface",
    ),
    "conflict": (
        report("Configured", "AddressConflict"),
        "address-conflict",
        "['n2'] AddressConflict: the node is broken",
    ),
    "MAC filter": (
        report("GatewayReachable", "GatewayDown", **SILENT),
        "mac-filter",
        "['n2'] gateway 192.168.100.1 answers n1, but not this node",
    ),
    "gateway": (
        report("GatewayReachable", "GatewayDown", **SILENT),
        "gateways",
        "['n2'] GatewayDown: the node is broken",
    ),
    "reverse path": (
        report("PrivateAddressReachable", "StrictReversePathFilter"),
        "reverse-path",
        "set agent.settings.private_source_routing to true",
    ),
    "route": (
        report(
            "Ready",
            "RoutesFailing",
            routesFailed=1,
            routes=[{"subnet": "10.1.0.0/16", "staticRoute": "a", "state": "ForeignRoute", "message": "there is one"}],
        ),
        "routes",
        "['n2'] route to 10.1.0.0/16: ForeignRoute: there is one; overlay-net routes n2",
    ),
    "checkpoint": (report("CheckpointStored", "WriteFailed"), "other-conditions", "CheckpointStored: WriteFailed"),
}


async def test_a_healthy_cluster_has_no_finding(cluster: HealthyCluster) -> None:
    assert await examine(cluster) == {}
    assert await examine(cluster, "n1") == {}


async def test_each_planted_fault_is_found_and_named(cluster: HealthyCluster) -> None:
    for name, (fault, check, part) in FAULTS.items():
        async with fault(cluster):
            found = await examine(cluster)
        assert check in found, (name, found)
        assert part in texts(found[check]), (name, found[check])
        # Of other checks, only what follows from the same condition or pod.
        assert len(found) <= 2, (name, found)
        await restore(cluster)
    assert await examine(cluster) == {}


async def restore(cluster: HealthyCluster) -> None:
    """Restore what a fault has changed of objects that only this test has."""
    if "agent-n2" not in cluster.kubectl("get", "pods", IN_RELEASE, "--output=name"):
        await cluster.add_pod("agent-n2", "agent", "n2")
    await cluster.set_pod("agent-n2", ready=True)
    await cluster.set_pool(condition("Ready", "True", "Ready"))
    cleared = dict.fromkeys(("gateways", "routes", "routesFailed", "observedUID"))
    await cluster.report("n2", number=12, **cleared)


NAT_RULE: dict[str, Any] = KERNEL["nat"][0]
KERNEL_FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str, str]] = {
    "SNAT": (
        lambda state: state["nat"].insert(
            0, NAT_RULE | {"action": "snat", "target": "10.0.0.9", "matches": [], "text": "snat x"}
        ),
        "masquerade",
        "traffic to 192.168.0.0/24 leaves as 10.0.0.9, not as the overlay address: snat x (ip nat POSTROUTING)",
    ),
    "exemption": (
        lambda state: state["nat"].insert(
            0,
            NAT_RULE
            | {
                "action": "return",
                "matches": [{"field": "destination", "networks": ["192.168.0.0/16"]}],
                "text": "daddr 192.168.0.0/16 return",
            },
        ),
        "masquerade",
        "pods reach 192.168.0.0/24 with their own addresses",
    ),
    "strict overlay link": (
        lambda state: state["sysctls"].update({"tmp0.rp_filter": "1"}),
        "reverse-path",
        "set net.ipv4.conf.tmp0.rp_filter to 2",
    ),
    "strict parent": (
        lambda state: state["sysctls"].update({"eth0.rp_filter": "0", "all.rp_filter": "1"}),
        "reverse-path",
        "eth0 has a strict reverse path filter: the node drops what hosts in 192.168.0.0/24 send to it",
    ),
    "MTU": (
        lambda state: state["links"][1].update(mtu=1400),
        "mtu",
        "tmp0 has an MTU of 1400, its parent eth0 of 1500",
    ),
    "silent link": (
        lambda state: state["neighbours"][1].update(state="FAILED"),
        "neighbours",
        "no neighbour answers on tmp0, but some do on its parent eth0",
    ),
}


async def test_faults_in_the_kernel_of_a_node_are_found_through_its_agent(
    cluster: HealthyCluster, kubelet: Kubelet
) -> None:
    for name, (change, check, part) in KERNEL_FAULTS.items():
        state = deepcopy(KERNEL)
        change(state)
        kubelet.outputs["agent-n1"] = json.dumps(state)
        found = await examine(cluster, "n1")
        assert list(found) == [check], (name, found)
        assert part in texts(found[check]), (name, found)
    assert kubelet.commands[0] == ["overlay-net", "node-state"]
    del kubelet.outputs["agent-n1"]
    found = await examine(cluster, "n1")
    # Not knowing is no finding of a fault.
    assert {each["verdict"] for findings in found.values() for each in findings} == {"unknown"}
    assert "ended with code 127: no such program" in texts(found["mtu"])


async def test_the_command_names_the_first_broken_link(cluster: HealthyCluster) -> None:
    healthy = await asyncio.to_thread(answered, cluster.api_server, "doctor", "n1")
    assert healthy["firstBroken"] == ""
    assert {each["name"] for each in healthy["checks"]} == {check.name for check in CHECKS}
    await cluster.set_pool(condition("Ready", "False", "Exhausted", "no free address"))
    await cluster.report("n2", condition("Reserved", "False", "Exhausted", "no free address in p1"), number=12)
    shown = await asyncio.to_thread(overlay_net, cluster.api_server, "doctor")
    assert (shown.returncode, shown.stderr) == (1, "")
    assert "problem  pools" in shown.stdout
    assert "fix: kubectl describe overlaypool" in shown.stdout
    assert "why it matters: Nodes get their addresses" in shown.stdout
    assert shown.stdout.endswith("\nfirst broken link: pools\n")
    missing = await asyncio.to_thread(overlay_net, cluster.api_server, "doctor", "n9")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == "overlay-net doctor: there is no Node n9\n"
    elsewhere = await asyncio.to_thread(answered, cluster.api_server, "doctor", "--namespace=default", code=1)
    assert elsewhere["firstBroken"] == "controllers"


def test_an_api_server_that_is_away_is_the_first_broken_link(api_server: ApiServer, tmp_path: Path) -> None:
    content = yaml.safe_load(api_server.admin().read_text())
    content["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(yaml.safe_dump(content))
    found = answered(kubeconfig, "doctor", code=1)
    assert (found["firstBroken"], len(found["checks"])) == ("api-server", 1)


async def test_what_may_not_be_read_is_unknown_and_not_wrong(cluster: HealthyCluster, api_server: ApiServer) -> None:
    kubeconfig = api_server.service_account_kubeconfig(NAMESPACE, "overlay-net-controller")
    found = await asyncio.to_thread(answered, kubeconfig, "doctor", "--namespace", NAMESPACE)
    verdicts = {each["name"]: each["verdict"] for each in found["checks"]}
    assert verdicts["definitions"] == "unknown"
    assert verdicts["pools"] == "ok"
    assert "problem" not in verdicts.values()


async def test_the_roles_for_diagnosis_suffice(cluster: HealthyCluster, kubelet: Kubelet, tmp_path: Path) -> None:
    config = {"enable-bpf-masquerade": "true", "ipv4-native-routing-cidr": "192.168.0.0/16"}
    body = CONFIG_MAPS.manifest("cilium-config", namespace="kube-system", data=config)
    await cluster.admin.create(CONFIG_MAPS, body, namespace="kube-system")
    links = [*KERNEL["links"], {"name": "cilium_host", "kind": "veth"}]
    kubelet.outputs["agent-n1"] = json.dumps(KERNEL | {"links": links})
    who = "--user=diagnostician"
    role = "overlay-net-diagnose"
    cluster.kubectl("create", "clusterrolebinding", role, f"--clusterrole={role}", who)
    cluster.kubectl("create", "rolebinding", role, f"--role={role}", who, IN_RELEASE)
    kubeconfig = cluster.api_server.kubeconfig("diagnostician")
    try:
        found = await asyncio.to_thread(answered, kubeconfig, "doctor", "n1")
        archive = tmp_path / "dump.tar.gz"
        dump = await asyncio.to_thread(answered, kubeconfig, "sysdump", f"--archive={archive}", "--node=n1")
    finally:
        cluster.kubectl("delete", "configmap", "cilium-config", "--namespace=kube-system")
        cluster.kubectl("delete", "clusterrolebinding", role)
        cluster.kubectl("delete", "rolebinding", role, IN_RELEASE)
    assert {each["name"] for each in found["checks"] if each["verdict"] != "ok"} == {"masquerade"}
    (masquerade,) = (each["findings"] for each in found["checks"] if each["name"] == "masquerade")
    assert "ipv4-native-routing-cidr 192.168.0.0/16 in the ConfigMap cilium-config" in texts(masquerade)
    # The pods of this cluster have no address to serve metrics at.
    assert [each for each in dump["errors"] if not each.startswith("metrics of ")] == []
