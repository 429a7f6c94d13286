"""What the pods of controllers, agents and hooks have in common, with every value set and on OpenShift."""

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.cluster.api_server import ApiServer
from tests.component.test_chart import rendered

EVERY_VALUE = yaml.safe_load((Path(__file__).parent / "every_value.yaml").read_text())
Objects = Mapping[tuple[str, str], Any]


def pods(objects: Objects) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, metadata and spec of each pod."""
    for (kind, name), each in objects.items():
        if kind in ("Deployment", "DaemonSet", "Job"):
            template = each["spec"]["template"]
            yield f"{kind} {name}", template["metadata"], template["spec"]
        elif kind == "Pod":
            yield f"{kind} {name}", each["metadata"], each["spec"]


@pytest.fixture
def every_value(api_server: ApiServer, tmp_path: Path) -> Objects:
    return rendered(api_server, tmp_path, EVERY_VALUE)


def test_every_pod_has_the_common_labels_the_pull_secrets_and_resources(every_value: Objects) -> None:
    found = list(pods(every_value))
    # Controllers, agents; image pull, preflight, definitions, their removal, drain and test.
    assert len(found) == 8
    for name, metadata, spec in found:
        assert metadata["labels"]["team"] == "network", name
        assert spec["imagePullSecrets"] == [{"name": "registry"}, {"name": "mirror"}], name
        assert spec["nodeSelector"]["kubernetes.io/os"] == "linux", name
        (container,) = spec["containers"]
        assert container["resources"]["limits"].keys() == {"cpu", "memory"}, name


def test_every_pod_has_what_policies_of_locked_down_clusters_require(api_server: ApiServer, tmp_path: Path) -> None:
    objects = rendered(api_server, tmp_path, {"crds": {"keep": False}})
    created = {name for kind, name in objects if kind == "ServiceAccount"}
    for name, metadata, spec in pods(objects):
        assert "helm.sh/chart" not in metadata["labels"], name
        assert spec["serviceAccountName"] in created, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        (container,) = spec["containers"]
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
        assert "memory" in container["resources"]["limits"], name
        context = container["securityContext"]
        assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False), name
        assert context["capabilities"]["drop"] == ["ALL"], name


@pytest.mark.parametrize(
    ("given", "quota", "of_hooks"),
    [
        ("system-cluster-critical", False, "system-cluster-critical"),
        # The quota that admits the class does not exist before the first install.
        ("system-cluster-critical", True, None),
        ("own", True, "own"),
        ("", True, None),
    ],
)
def test_pods_of_hooks_have_the_priority_of_the_controllers_unless_it_needs_the_quota_of_the_release(
    api_server: ApiServer, tmp_path: Path, given: str, quota: bool, of_hooks: str | None
) -> None:
    values = {"controller": {"priorityClassName": given}, "resourceQuota": {"enabled": quota}, "crds": {"keep": False}}
    objects = rendered(api_server, tmp_path, values)
    found = {name: spec.get("priorityClassName") for name, _, spec in pods(objects)}
    assert found.pop("Deployment overlay-net-controller") == (given or None)
    assert found.pop("DaemonSet overlay-net-agent") == "system-node-critical"
    assert found == dict.fromkeys(found, of_hooks)
    tried = objects["ConfigMap", "overlay-net-preflight"]["data"]
    assert ("system-node-critical" in tried["agent.yaml"]) != quota


def test_why_a_container_ended_is_in_the_status_of_its_pod(every_value: Objects) -> None:
    for name, _, spec in pods(every_value):
        assert spec["containers"][0]["terminationMessagePolicy"] == "FallbackToLogsOnError", name


def test_pods_of_hooks_run_on_the_nodes_of_controllers_but_beside_them(api_server: ApiServer, tmp_path: Path) -> None:
    on_arm = {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]}]}
    nodes = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [on_arm]}}
    affinity = EVERY_VALUE["controller"]["affinity"] | {"nodeAffinity": nodes}
    values = {"controller": {"affinity": affinity}, "crds": {"keep": False}}
    found = {name: spec.get("affinity") for name, _, spec in pods(rendered(api_server, tmp_path, values))}
    assert found.pop("Deployment overlay-net-controller") == affinity
    assert found.pop("DaemonSet overlay-net-agent") != affinity
    assert len(found) == 6
    assert all(each == {"nodeAffinity": nodes} for each in found.values())


def test_pods_of_hooks_have_their_own_labels_and_annotations(every_value: Objects) -> None:
    for name, metadata, _ in pods(every_value):
        hook = name.startswith(("Job", "Pod"))
        assert (metadata["labels"].get("hook") == "true") == hook, name
        assert ("sidecar.istio.io/inject" in metadata["annotations"]) == hook, name


def test_drain_reaches_phpipam_as_the_controllers_do(every_value: Objects) -> None:
    specs = {name: spec for name, _, spec in pods(every_value)}
    controller, drain = specs["Deployment overlay-controller"], specs["Job overlay-uninstall"]
    for of_pod in (controller, drain):
        (container,) = of_pod["containers"]
        assert {"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"} in container["env"]
        assert {"name": "certificates", "mountPath": "/certificates", "readOnly": True} in container["volumeMounts"]
        assert {"name": "certificates", "configMap": {"name": "certificates"}} in of_pod["volumes"]


def test_on_openshift_only_agents_choose_their_user_and_their_constraints_admit_them(
    api_server: ApiServer, tmp_path: Path
) -> None:
    extra = [
        {"name": "a", "csi": {"driver": "secrets-store.csi.k8s.io"}},
        {"name": "b", "persistentVolumeClaim": {"claimName": "b"}},
        {"name": "c", "ephemeral": {}},
    ]
    objects = rendered(api_server, tmp_path, {"openshift": {"enabled": True}, "agent": {"extraVolumes": extra}})
    constraints = objects["SecurityContextConstraints", "overlay-net-agent"]
    admitted = {user.rpartition(":")[2] for user in constraints["users"]}
    for name, _, spec in pods(objects):
        (container,) = spec["containers"]
        contexts = (spec.get("securityContext", {}), container["securityContext"])
        chosen = {key for context in contexts for key in context if key in ("runAsUser", "runAsGroup", "fsGroup")}
        assert chosen == ({"runAsUser"} if name == "DaemonSet overlay-net-agent" else set()), name
        assert spec.get("hostNetwork", False) == (spec["serviceAccountName"] in admitted), name
    agent = objects["DaemonSet", "overlay-net-agent"]["spec"]["template"]["spec"]
    security = agent["containers"][0]["securityContext"]
    assert set(security["capabilities"]["add"]) <= set(constraints["allowedCapabilities"])
    assert security["seLinuxOptions"] == {"type": "spc_t"}
    kinds = {kind for volume in agent["volumes"] for kind in volume if kind != "name"}
    assert kinds <= set(constraints["volumes"])


def test_own_service_accounts_are_used_wherever_they_are_named(api_server: ApiServer, tmp_path: Path) -> None:
    """Those that the chart does not create, in pods, bindings, constraints and admission policies."""
    values = copy.deepcopy(EVERY_VALUE)
    for component in ("controller", "agent"):
        values[component]["serviceAccount"] = {"create": False, "name": f"own-{component}"}
    objects = rendered(api_server, tmp_path, values)
    accounts = {name for kind, name in objects if kind == "ServiceAccount"}
    assert not any(name.startswith("own") for name in accounts)
    subjects = {subject["name"] for each in objects.values() for subject in each.get("subjects", ())}
    assert subjects - accounts == {"own-controller", "own-agent"}
    for kind, component in (("Deployment", "controller"), ("DaemonSet", "agent")):
        spec = objects[kind, f"overlay-{component}"]["spec"]["template"]["spec"]
        assert spec["serviceAccountName"] == f"own-{component}"
        # Also if the account has it off.
        assert spec["automountServiceAccountToken"] is True
    policies = [each for (kind, _), each in objects.items() if kind == "ValidatingAdmissionPolicy"]
    for policy in policies:
        (condition,) = policy["spec"]["matchConditions"]
        assert condition["expression"].endswith('"system:serviceaccount:default:own-agent"')


def test_without_rbac_nothing_is_granted(api_server: ApiServer, tmp_path: Path) -> None:
    objects = rendered(api_server, tmp_path, EVERY_VALUE | {"rbac": {"create": False}})
    assert not {kind for kind, _ in objects} & {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
