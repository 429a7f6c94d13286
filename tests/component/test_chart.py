"""The chart: what it grants, what it refuses, and that its settings are those of the product."""

import json
from pathlib import Path

import pytest
import yaml

from lab.control_plane import ControlPlane
from lab.processes import CommandFailed
from lab.product import CHART, NAMESPACE
from overlay_net.settings import AgentSettings, ControllerSettings, load

CONTROLLER, AGENT = (f"system:serviceaccount:{NAMESPACE}:overlay-net-{part}" for part in ("controller", "agent"))

GRANTS = [
    (CONTROLLER, "list", "nodes", True),
    (CONTROLLER, "patch", "nodes", False),
    (CONTROLLER, "get", "pods", False),
    (CONTROLLER, "get", "configmaps", False),
    (CONTROLLER, "get", "secrets", False),
    (CONTROLLER, "get", "namespaces/kube-system", True),
    (CONTROLLER, "get", "namespaces/default", False),
    (CONTROLLER, "delete", "nodeoverlayips.iks.ibm.com", True),
    (CONTROLLER, "create", "staticroutes.iks.ibm.com", False),
    (CONTROLLER, "delete", "staticroutes.iks.ibm.com", False),
    (CONTROLLER, "delete", "overlaypools.iks.ibm.com", False),
    (CONTROLLER, "create", "overlayaddresses.iks.ibm.com", True),
    (CONTROLLER, "create", "events.events.k8s.io", True),
    (AGENT, "watch", "nodeoverlayips.iks.ibm.com", True),
    (AGENT, "patch", "nodeoverlayips.iks.ibm.com", False),
    (AGENT, "delete", "nodeoverlayips.iks.ibm.com", False),
    (AGENT, "list", "nodes", False),
    (AGENT, "list", "staticroutes.iks.ibm.com", False),
    (AGENT, "list", "overlayaddresses.iks.ibm.com", False),
    (AGENT, "get", "secrets", False),
    (AGENT, "create", "pods", False),
]


@pytest.mark.parametrize(("who", "verb", "what", "allowed"), GRANTS)
def test_each_part_may_do_what_it_needs_and_nothing_else(
    control_plane: ControlPlane, who: str, verb: str, what: str, allowed: bool
) -> None:
    try:
        answer = control_plane.kubectl("auth", "can-i", verb, what, f"--as={who}", "--all-namespaces")
    except CommandFailed as error:
        answer = str(error)
    assert ("yes" in answer.split()) is allowed


def test_the_agent_writes_only_status(control_plane: ControlPlane) -> None:
    answer = control_plane.kubectl(
        "auth", "can-i", "patch", "nodeoverlayips.iks.ibm.com", "--subresource=status", f"--as={AGENT}"
    )
    assert answer.strip() == "yes"


def test_lint(control_plane: ControlPlane) -> None:
    assert "0 chart(s) failed" in control_plane.helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"agent": {"settings": {"lnk": "tmp0"}}}, "lnk"),
        ({"agent": {"settings": {"link": "a/b"}}}, "/agent/settings/link"),
        ({"agent": {"settings": {"route_protocol": 2}}}, "route_protocol"),
        ({"controller": {"settings": {"release_after": "10"}}}, "release_after"),
        ({"controller": {"settings": {"log": {"level": "loud"}}}}, "level"),
        ({"controller": {"replicas": 3}}, "replicas"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"pools": {"a": {"cdir": "10.0.0.0/24"}}}, "cdir"),
    ],
)
def test_wrong_values_are_refused_by_name(
    control_plane: ControlPlane, values: object, part: str, tmp_path: Path
) -> None:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    with pytest.raises(CommandFailed) as refusal:
        control_plane.helm("template", "x", str(CHART), f"--values={file}")
    assert part in str(refusal.value)


def test_the_installed_settings_are_settings_of_the_product(
    control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = yaml.safe_load_all(control_plane.helm("template", "overlay-net", str(CHART), f"--namespace={NAMESPACE}"))
    files = {}
    for each in shown:
        if each["kind"] == "ConfigMap":
            files[each["metadata"]["name"]] = tmp_path / each["metadata"]["name"]
            files[each["metadata"]["name"]].write_text(each["data"]["config.yaml"])
    assert load(ControllerSettings, files["overlay-net-controller"]).log.format == "json"
    monkeypatch.setenv("OVERLAY_NODE_NAME", "n1")
    assert load(AgentSettings, files["overlay-net-agent"]).route_protocol == 117
