"""The chart value overlay.enabled, and values that are missing in an earlier release."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.cluster.api_server import ApiServer
from lab.manifests import parse_manifests
from lab.processes import CommandFailed
from lab.product import CHART, WITH_IMAGE
from overlay_net.settings.agent import AgentSettings
from overlay_net.settings.controller import ControllerSettings
from overlay_net.settings.loading import load
from tests.component.test_chart import PHPIPAM, rendered, settings_file

POOL = {"cidr": "192.168.100.0/24", "gateway": "192.168.100.1"}
OFF: dict[str, Any] = {"overlay": {"enabled": False}}
NAMESPACE = "default"


# --- overlay.enabled -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "addresses", "link_mode"),
    [
        ({}, True, "macvlan"),
        (OFF, False, "none"),
        (OFF | {"agent": {"settings": {"link_mode": "none"}}}, False, "none"),
    ],
    ids=["on", "off", "off, with link_mode none"],
)
def test_overlay_enabled_configures_controller_and_agent(
    api_server: ApiServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: object,
    addresses: bool,
    link_mode: str,
) -> None:
    objects = rendered(api_server, tmp_path, values)
    controller = load(ControllerSettings, settings_file(objects, "controller", tmp_path))
    monkeypatch.setenv("OVERLAY_NODE_NAME", "n1")
    agent = load(AgentSettings, settings_file(objects, "agent", tmp_path))
    assert (controller.overlay_addresses, agent.link_mode) == (addresses, link_mode)


def test_changing_overlay_enabled_restarts_controller_and_agents(api_server: ApiServer, tmp_path: Path) -> None:
    for kind, name in (("Deployment", "overlay-net-controller"), ("DaemonSet", "overlay-net-agent")):
        on, off = (
            rendered(api_server, tmp_path, values)[kind, name]["spec"]["template"]["metadata"]["annotations"]
            for values in ({}, OFF)
        )
        assert on != off


@pytest.mark.parametrize(
    ("agent", "selector", "required"),
    [
        (
            {},
            "kubernetes.io/os=linux,eks.amazonaws.com/compute-type notin (fargate),type notin (virtual-kubelet)",
            {"eks.amazonaws.com/compute-type": ["fargate"], "type": ["virtual-kubelet"]},
        ),
        (
            {"nodeSelector": {"role": "edge"}, "excludeNodes": {"type": None, "kind": ["a", "b"]}},
            "kubernetes.io/os=linux,role=edge,eks.amazonaws.com/compute-type notin (fargate),kind notin (a,b)",
            {"eks.amazonaws.com/compute-type": ["fargate"], "kind": ["a", "b"]},
        ),
        (
            {"nodeSelector": {"kubernetes.io/os": None}, "excludeNodes": None},
            "",
            None,
        ),
    ],
    ids=["default", "changed", "every node"],
)
def test_controller_and_daemonset_select_the_same_nodes(
    api_server: ApiServer, tmp_path: Path, agent: object, selector: str, required: dict[str, list[str]] | None
) -> None:
    objects = rendered(api_server, tmp_path, {"agent": agent})
    controller = load(ControllerSettings, settings_file(objects, "controller", tmp_path))
    assert controller.node_selector == selector
    assert f"--node-selector={selector}" in objects["Pod", "overlay-net-test"]["spec"]["containers"][0]["args"]
    pod = objects["DaemonSet", "overlay-net-agent"]["spec"]["template"]["spec"]
    if required is None:
        assert "affinity" not in pod
        return
    terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert terms == [
        {"matchExpressions": [{"key": key, "operator": "NotIn", "values": each} for key, each in required.items()]}
    ]


@pytest.mark.parametrize(
    ("values", "part"),
    [
        (
            OFF | {"pools": {"b": POOL, "a": POOL}},
            "pools: not allowed with overlay.enabled=false: remove a, b",
        ),
        (
            OFF | {"phpIPAM": PHPIPAM},
            "phpIPAM.subnetMap: not allowed with overlay.enabled=false: remove the map",
        ),
        (
            OFF | {"agent": {"settings": {"link_mode": "ipvlan"}}},
            "agent.settings.link_mode: ipvlan not allowed with overlay.enabled=false: remove it, or set none",
        ),
        (
            {"agent": {"settings": {"link_mode": "none"}}},
            "agent.settings.link_mode: none disables overlay addresses: set overlay.enabled=false instead",
        ),
        ({"overlay": {"enabled": "no"}}, "/overlay/enabled"),
        ({"overlay": {"enable": False}}, "enable"),
    ],
)
def test_value_that_contradicts_overlay_enabled_is_rejected(
    api_server: ApiServer, tmp_path: Path, values: object, part: str
) -> None:
    with pytest.raises(CommandFailed) as refusal:
        rendered(api_server, tmp_path, values)
    assert part in " ".join(str(refusal.value).split())


def test_phpipam_connection_is_allowed_without_overlay_addresses(api_server: ApiServer, tmp_path: Path) -> None:
    """It is needed until the addresses reserved there are released."""
    values = OFF | {"phpIPAM": PHPIPAM | {"subnetMap": None}}
    controller = load(ControllerSettings, settings_file(rendered(api_server, tmp_path, values), "controller", tmp_path))
    assert controller.phpipam is not None
    assert controller.phpipam.url == PHPIPAM["url"]


# --- Texts that are templates ----------------------------------------------------------------------------------------


def test_text_in_extra_objects_is_a_template_and_an_object_is_not(api_server: ApiServer, tmp_path: Path) -> None:
    text = "{apiVersion: v1, kind: Secret, metadata: {name: '{{ include \"overlay-net.fullname\" . }}-pull'}}"
    literal = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}, "data": {"of": "{{ .password }}"}}
    nothing = "{{ if .Values.openshift.enabled }}{apiVersion: v1, kind: Secret, metadata: {name: none}}{{ end }}"
    objects = rendered(api_server, tmp_path, {"extraObjects": [text, nothing, literal]})
    assert [name for kind, name in objects if kind == "Secret"] == ["overlay-net-pull"]
    assert objects["ConfigMap", "own"] == literal


def test_notes_have_the_commands_for_this_release(api_server: ApiServer) -> None:
    install = ("install", "named", str(CHART), "--dry-run=client", "--namespace=elsewhere", WITH_IMAGE)
    notes = api_server.helm(*install, "--set=namespaceOverride=other").partition("NOTES:")[2]
    assert "helm test named --namespace elsewhere" in notes
    assert "kubectl --namespace other exec deploy/named-overlay-net-controller -- overlay-net status" in notes
    # These need hooks.
    notes = api_server.helm(*install, "--set=hooks.enabled=false").partition("NOTES:")[2]
    assert "helm test" not in notes
    assert "kubectl label namespace elsewhere pod-security.kubernetes.io/enforce=privileged" in notes


# --- Missing values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "missing",
    [
        "overlay",
        "overlay.enabled",
        "phpIPAM",
        "phpIPAM.url",
        "phpIPAM.auth",
        "phpIPAM.subnetMap",
        "phpIPAM.settings",
        "pools",
        "image.pullPolicy",
        "agent",
        "agent.settings",
        "agent.settings.http",
        "agent.settings.state_dir",
        "controller",
        "controller.settings",
        "controller.settings.http",
        "controller.settings.fence_after",
    ],
)
def test_missing_value_has_its_default(
    api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    shown = api_server.helm("template", "overlay-net", str(CHART), "--set", f"{missing}=null", WITH_IMAGE)
    objects = {(each["kind"], each["metadata"]["name"]): each for each in parse_manifests(shown)}
    controller = load(ControllerSettings, settings_file(objects, "controller", tmp_path))
    environment = variables(objects)
    for name in ("OVERLAY_FENCE_AFTER", "OVERLAY_PROC_SYS_NET"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.setenv("OVERLAY_NODE_NAME", "n1")
    agent = load(AgentSettings, settings_file(objects, "agent", tmp_path))
    assert controller.overlay_addresses
    assert (controller.phpipam, controller.http.bind, agent.http.bind) == (None, ":8080", ":9477")
    assert (agent.link_mode, str(agent.state_dir)) == ("macvlan", "/var/lib/overlay-net")
    assert agent.fence_after == controller.fence_after
    assert container(objects, "DaemonSet", "overlay-net-agent")["imagePullPolicy"] == "IfNotPresent"


def container(objects: dict[tuple[str, str], Any], kind: str, name: str) -> dict[str, Any]:
    (only,) = objects[kind, name]["spec"]["template"]["spec"]["containers"]
    return dict(only)


def variables(objects: dict[tuple[str, str], Any]) -> dict[str, str]:
    given = container(objects, "DaemonSet", "overlay-net-agent")["env"]
    return {each["name"]: each["value"] for each in given if "value" in each}


def test_empty_state_dir_disables_the_checkpoint(api_server: ApiServer, tmp_path: Path) -> None:
    objects = rendered(api_server, tmp_path, {"agent": {"settings": {"state_dir": ""}}})
    mounts = container(objects, "DaemonSet", "overlay-net-agent")["volumeMounts"]
    assert "state" not in {mount["name"] for mount in mounts}


def test_agent_reads_the_boot_id_that_the_kubelet_of_its_node_reads(
    api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = rendered(api_server, tmp_path, {})
    for name, value in (variables(objects) | {"OVERLAY_NODE_NAME": "n1"}).items():
        monkeypatch.setenv(name, value)
    file = str(load(AgentSettings, settings_file(objects, "agent", tmp_path)).boot_id_file)
    mounts = container(objects, "DaemonSet", "overlay-net-agent")["volumeMounts"]
    volumes = objects["DaemonSet", "overlay-net-agent"]["spec"]["template"]["spec"]["volumes"]
    (mounted,) = [each["name"] for each in mounts if each["mountPath"] == file]
    (source,) = [each["hostPath"]["path"] for each in volumes if each["name"] == mounted]
    # An LXC container has its own file here, which a container in it does not see in its own /proc.
    assert source == "/proc/sys/kernel/random/boot_id"


def install_earlier(api_server: ApiServer, folder: Path, values: object) -> str:
    """A release of a chart with other default values, and without objects; returns its name."""
    chart = folder / "earlier"
    (chart / "templates").mkdir(parents=True)
    shutil.copy(CHART / "Chart.yaml", chart)
    (chart / "values.yaml").write_text(yaml.safe_dump(values))
    api_server.helm("upgrade", "--install", "earlier", str(chart), f"--namespace={NAMESPACE}")
    return "earlier"


@pytest.fixture
def earlier_release(api_server: ApiServer, tmp_path: Path) -> str:
    """A release of an older chart, without phpIPAM, overlay and most of the settings."""
    values = {"image": {"repository": "overlay-net"}, "pools": {}, "agent": {"settings": {"link_mode": "macvlan"}}}
    return install_earlier(api_server, tmp_path, values)


def test_reused_values_of_the_chart_before_give_what_the_default_values_give(
    api_server: ApiServer, tmp_path: Path
) -> None:
    values = yaml.safe_load((Path(__file__).parent / "earlier_values.yaml").read_text())
    release = install_earlier(api_server, tmp_path, values)
    command = ("upgrade", release, str(CHART), f"--namespace={NAMESPACE}", "--dry-run=server")
    reused, default = (
        api_server.helm(*command, *options).partition("HOOKS:")[2]
        for options in (("--reuse-values",), ("--reset-values", "--set=image.repository=overlay-net"))
    )
    assert "kind: DaemonSet" in reused
    assert reused == default


def test_upgrade_with_reused_values_of_an_earlier_release(api_server: ApiServer, earlier_release: str) -> None:
    command = ("upgrade", earlier_release, str(CHART), f"--namespace={NAMESPACE}", "--reuse-values", "--dry-run=server")
    shown = api_server.helm(*command)
    assert "overlay_addresses: true" in shown
    assert "link_mode: macvlan" in shown
    with pytest.raises(CommandFailed, match=r"agent\.settings\.link_mode"):
        api_server.helm(*command, "--set", "overlay.enabled=false")
    shown = api_server.helm(*command, "--set", "overlay.enabled=false,agent.settings.link_mode=none")
    assert "overlay_addresses: false" in shown
