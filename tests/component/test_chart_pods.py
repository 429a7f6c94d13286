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
        assert spec["priorityClassName"] == "system-cluster-critical", name
        (container,) = spec["containers"]
        assert container["resources"]["limits"].keys() == {"cpu", "memory"}, name


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
    objects = rendered(api_server, tmp_path, {"openshift": {"enabled": True}})
    constraints = objects["SecurityContextConstraints", "overlay-net-agent"]
    admitted = {user.rpartition(":")[2] for user in constraints["users"]}
    for name, _, spec in pods(objects):
        (container,) = spec["containers"]
        contexts = (spec.get("securityContext", {}), container["securityContext"])
        chosen = {key for context in contexts for key in context if key in ("runAsUser", "runAsGroup", "fsGroup")}
        assert chosen == ({"runAsUser"} if name == "DaemonSet overlay-net-agent" else set()), name
        assert spec.get("hostNetwork", False) == (spec["serviceAccountName"] in admitted), name
    agent = objects["DaemonSet", "overlay-net-agent"]["spec"]["template"]["spec"]["containers"][0]["securityContext"]
    assert set(agent["capabilities"]["add"]) <= set(constraints["allowedCapabilities"])
    assert agent["seLinuxOptions"] == {"type": "spc_t"}


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
    assert objects["DaemonSet", "overlay-agent"]["spec"]["template"]["spec"]["serviceAccountName"] == "own-agent"
    policies = [each for (kind, _), each in objects.items() if kind == "ValidatingAdmissionPolicy"]
    for policy in policies:
        (condition,) = policy["spec"]["matchConditions"]
        assert condition["expression"].endswith('"system:serviceaccount:default:own-agent"')


def test_without_rbac_nothing_is_granted(api_server: ApiServer, tmp_path: Path) -> None:
    objects = rendered(api_server, tmp_path, EVERY_VALUE | {"rbac": {"create": False}})
    assert not {kind for kind, _ in objects} & {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
