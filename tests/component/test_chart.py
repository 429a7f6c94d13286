"""The chart: invalid values are rejected, and the settings that it renders are valid for controller and agent."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lab.cluster.api_server import ApiServer
from lab.manifests import parse_manifests
from lab.processes import CommandFailed
from lab.product import CHART, NAMESPACE, WITH_IMAGE
from overlay_net.settings.agent import AgentSettings
from overlay_net.settings.controller import ControllerSettings
from overlay_net.settings.loading import load

PHPIPAM = {"url": "https://ipam.example.com", "appID": "overlay", "subnetMap": {"dal10": [7, 12345678]}}
USER = {"username": "overlay-net", "password": "secret"}


def test_chart_passes_helm_lint(api_server: ApiServer) -> None:
    assert "0 chart(s) failed" in api_server.helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"agent": {"settings": {"lnk": "tmp0"}}}, "lnk"),
        ({"agent": {"settings": {"link": "a/b"}}}, "/agent/settings/link"),
        ({"agent": {"settings": {"route_protocol": 2}}}, "route_protocol"),
        ({"agent": {"settings": {"source_routing": "yes"}}}, "source_routing"),
        ({"agent": {"settings": {"source_table": 254}}}, "source_table"),
        ({"agent": {"settings": {"source_priority": 32766}}}, "source_priority"),
        ({"agent": {"settings": {"private_source_routing": "yes"}}}, "private_source_routing"),
        ({"agent": {"settings": {"private_source_table": 255}}}, "private_source_table"),
        ({"controller": {"settings": {"release_after": "10"}}}, "release_after"),
        ({"controller": {"settings": {"log": {"level": "loud"}}}}, "level"),
        ({"controller": {"replicas": 0}}, "replicas"),
        ({"controller": {"settings": {"leader_election": {"lease_name": "x"}}}}, "lease_name"),
        ({"controller": {"settings": {"leader_election": {"retry_period": "fast"}}}}, "retry_period"),
        (
            {"controller": {"settings": {"leader_election": {"enabled": False}}}},
            "controller.replicas: more than 1 requires controller.settings.leader_election.enabled=true",
        ),
        ({"controller": {"settings": {"service_subnets": ["10.96.0.0"]}}}, "/controller/settings/service_subnets/0"),
        ({"controller": {"settings": {"pod_subnets": "10.244.0.0/16"}}}, "/controller/settings/pod_subnets"),
        ({"image": {"digest": "latest"}}, "digest"),
        ({"pools": {"a": {"cdir": "10.0.0.0/24"}}}, "cdir"),
        ({"pools": {"a": {"phpIPAM": {"subnetID": 0}}}, "phpIPAM": PHPIPAM}, "/pools/a/phpIPAM/subnetID"),
        ({"pools": {"a": {"phpIPAM": {"subnetID": 7}}}}, "pools.a.phpIPAM requires phpIPAM.url"),
        ({"phpIPAM": PHPIPAM | {"url": "ipam.example.com"}}, "/phpIPAM/url"),
        ({"phpIPAM": PHPIPAM | {"url": "https://me:secret@ipam.example.com"}}, "/phpIPAM/url"),
        ({"phpIPAM": PHPIPAM | {"appID": ""}}, "/phpIPAM/appID"),
        ({"phpIPAM": {"appID": "overlay"}}, "phpIPAM.appID requires phpIPAM.url"),
        ({"phpIPAM": PHPIPAM | {"appId": "overlay"}}, "appId"),
        ({"phpIPAM": PHPIPAM | {"subnetMap": {"dal10": [0]}}}, "/phpIPAM/subnetMap/dal10/0"),
        ({"phpIPAM": PHPIPAM | {"subnetMap": {"dal10": 7}}}, "/phpIPAM/subnetMap/dal10"),
        ({"phpIPAM": PHPIPAM | {"subnetMap": {"dal10": [7, 7]}}}, "/phpIPAM/subnetMap/dal10"),
        ({"phpIPAM": PHPIPAM | {"subnetMap": {"dal 10": [7]}}}, "dal 10"),
        ({"phpIPAM": PHPIPAM | {"auth": "basic"}}, "/phpIPAM/auth"),
        ({"phpIPAM": PHPIPAM | {"auth": "code", "url": "http://ipam.example.com"}}, "/phpIPAM/url"),
        ({"phpIPAM": PHPIPAM | {"settings": {"concurency": 4}}}, "concurency"),
        (
            {"phpIPAM": PHPIPAM | {"credentials": {"username": "u"}}},
            "auth token requires the keys username and password",
        ),
        (
            {"phpIPAM": PHPIPAM | {"credentials": USER, "existingSecret": "s"}},
            "set either existingSecret or credentials, not both",
        ),
    ],
)
def test_invalid_value_is_rejected_by_name(api_server: ApiServer, values: object, part: str, tmp_path: Path) -> None:
    with pytest.raises(CommandFailed) as refusal:
        rendered(api_server, tmp_path, values)
    assert part in str(refusal.value)


def rendered(
    api_server: ApiServer, folder: Path, values: object, release: str = "overlay-net"
) -> dict[tuple[str, str], Any]:
    """Renders the chart; returns its objects by kind and name."""
    file = folder / "values.json"
    file.write_text(json.dumps(values))
    shown = api_server.helm("template", release, str(CHART), f"--namespace={NAMESPACE}", WITH_IMAGE, f"--values={file}")
    return {(each["kind"], each["metadata"]["name"]): each for each in parse_manifests(shown)}


def test_service_subnets_are_required_where_the_cluster_does_not_publish_them(
    api_server: ApiServer, tmp_path: Path
) -> None:
    arguments = ("template", "overlay-net", str(CHART), "--kube-version=1.32.9", WITH_IMAGE)
    with pytest.raises(CommandFailed, match=r"controller\.settings\.service_subnets is required: Kubernetes v1\.32\.9"):
        api_server.helm(*arguments)
    shown = api_server.helm(*arguments, "--set=controller.settings.service_subnets={10.96.0.0/12}")
    objects = {(each["kind"], each["metadata"]["name"]): each for each in parse_manifests(shown)}
    controller = load(ControllerSettings, settings_file(objects, "controller", tmp_path))
    assert controller.service_subnets == ["10.96.0.0/12"]
    assert "servicecidrs" not in json.dumps(objects["ClusterRole", "overlay-net-controller"])


@pytest.mark.parametrize("missing", [(), ("--set=image=null",), ("--set=global.imageRegistry=registry.example.com",)])
def test_image_repository_is_required(api_server: ApiServer, missing: tuple[str, ...]) -> None:
    with pytest.raises(CommandFailed, match=r"image\.repository is required: .* add --set image\.repository="):
        api_server.helm("template", "overlay-net", str(CHART), *missing)


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ({"image": {"repository": "r.example.com/o"}}, "r.example.com/o:0.1.0"),
        ({"image": {"registry": "r.example.com:5000", "repository": "o", "tag": "t"}}, "r.example.com:5000/o:t"),
        (
            {
                "image": {"registry": "r.example.com", "repository": "o"},
                "global": {"imageRegistry": "m.example.com/r/"},
            },
            "m.example.com/r/o:0.1.0",
        ),
        (
            {"image": {"repository": "r.example.com/o", "tag": "t", "digest": f"sha256:{'0' * 64}"}},
            f"r.example.com/o@sha256:{'0' * 64}",
        ),
    ],
)
def test_every_container_has_the_image_of_the_values(
    api_server: ApiServer, tmp_path: Path, values: object, image: str
) -> None:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    shown = api_server.helm("template", "overlay-net", str(CHART), f"--values={file}", "--set=crds.keep=false")
    assert set(re.findall(r"image: (\S+)", shown)) == {image}


def settings_file(objects: dict[tuple[str, str], Any], mode: str, folder: Path) -> Path:
    file = folder / f"{mode}.yaml"
    file.write_text(objects["ConfigMap", f"overlay-net-{mode}"]["data"]["config.yaml"])
    return file


def test_rendered_settings_are_valid(api_server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = rendered(api_server, tmp_path, {})
    controller = load(ControllerSettings, settings_file(objects, "controller", tmp_path))
    assert controller.log.format == "json"
    assert controller.phpipam is None
    monkeypatch.setenv("OVERLAY_NODE_NAME", "n1")
    agent = load(AgentSettings, settings_file(objects, "agent", tmp_path))
    assert (agent.route_protocol, agent.source) == (117, None)


# --- phpIPAM ---------------------------------------------------------------------------------------------------------


def test_phpipam_values_become_controller_settings(api_server: ApiServer, tmp_path: Path) -> None:
    values = PHPIPAM | {"caConfigMap": "company-ca", "settings": {"timeout": "20s", "concurrency": 4}}
    objects = rendered(api_server, tmp_path, {"phpIPAM": values})
    phpipam = load(ControllerSettings, settings_file(objects, "controller", tmp_path)).phpipam
    assert phpipam is not None
    assert (phpipam.url, phpipam.app_id, phpipam.auth) == ("https://ipam.example.com", "overlay", "token")
    assert phpipam.subnet_map == {"dal10": [7, 12345678]}
    assert (phpipam.timeout.total_seconds(), phpipam.concurrency) == (20, 4)
    mounts = find_mounts(objects)
    assert mounts[str(phpipam.credentials_dir)]["secret"] == {
        "secretName": "phpipam-secret",
        "items": [{"key": key, "path": key} for key in ("username", "password")],
    }
    assert phpipam.ca_file is not None
    assert mounts[str(phpipam.ca_file.parent)]["configMap"]["name"] == "company-ca"


def find_mounts(objects: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """Mount path -> volume of the controller, without /tmp. Each is a whole directory, mounted read-only."""
    pod = objects["Deployment", "overlay-net-controller"]["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["mountPath"] != "/tmp"]
    assert all(mount["readOnly"] and "subPath" not in mount for mount in mounts)
    return {mount["mountPath"]: volumes[mount["name"]] for mount in mounts}


@pytest.mark.parametrize(
    ("values", "secret", "keys"),
    [
        ({"existingSecret": "mine"}, "mine", ["username", "password"]),
        ({"auth": "code"}, "phpipam-secret", ["code"]),
        ({"credentials": USER}, "overlay-net-phpipam", ["username", "password"]),
        ({"credentials": {"code": "c"}, "auth": "code"}, "overlay-net-phpipam", ["code"]),
    ],
)
def test_phpipam_secret_is_an_existing_one_or_created_by_the_chart(
    api_server: ApiServer, tmp_path: Path, values: dict[str, Any], secret: str, keys: list[str]
) -> None:
    objects = rendered(api_server, tmp_path, {"phpIPAM": PHPIPAM | values})
    mounted = find_mounts(objects)["/etc/overlay-net-phpipam"]["secret"]
    assert mounted["secretName"] == secret
    assert [item["key"] for item in mounted["items"]] == keys
    made = {name: set(each["data"]) for (kind, name), each in objects.items() if kind == "Secret"}
    # The uninstall hook brings its own copy.
    both = {name: set(keys) for name in (secret, "overlay-net-uninstall")}
    assert made == (both if "credentials" in values else {})


@pytest.mark.parametrize(
    ("values", "writes"), [({}, set()), ({"phpIPAM": PHPIPAM}, {"create", "patch", "delete"})], ids=["without", "with"]
)
def test_controller_may_write_pools_only_with_phpipam(
    api_server: ApiServer, tmp_path: Path, values: object, writes: set[str]
) -> None:
    objects = rendered(api_server, tmp_path, values)
    granted = [
        set(rule["verbs"])
        for rule in objects["ClusterRole", "overlay-net-controller"]["rules"]
        if "overlaypools" in rule["resources"]
    ]
    assert granted == [{"get", "list", "watch"} | writes]
    rules = [rule for each in objects.values() for rule in each.get("rules", [])]
    assert not any("secrets" in rule["resources"] for rule in rules), (
        "secrets must be mounted, not read through the API"
    )


def test_changed_phpipam_settings_restart_the_controller(api_server: ApiServer, tmp_path: Path) -> None:
    checksums = {
        rendered(api_server, tmp_path, {"phpIPAM": PHPIPAM | change})["Deployment", "overlay-net-controller"]["spec"][
            "template"
        ]["metadata"]["annotations"]["checksum/settings"]
        for change in ({}, {"appID": "other"}, {"subnetMap": {"dal10": [8]}})
    }
    assert len(checksums) == 3


def test_default_is_two_controllers_with_leader_election(api_server: ApiServer, tmp_path: Path) -> None:
    objects = rendered(api_server, tmp_path, {})
    deployment = objects["Deployment", "overlay-net-controller"]["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"] == {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    pod = deployment["template"]["spec"]
    assert {each["topologyKey"] for each in pod["topologySpreadConstraints"]} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    assert {each["name"] for each in pod["containers"][0]["env"]} == {"POD_NAME", "POD_NAMESPACE"}
    budget = objects["PodDisruptionBudget", "overlay-net-controller"]["spec"]
    assert budget["selector"] == deployment["selector"]
    settings = load(ControllerSettings, settings_file(objects, "controller", tmp_path)).leader_election
    assert settings.enabled
    assert settings.lease_name == "overlay-net-controller"


def test_controller_without_leader_election_uses_the_recreate_strategy(api_server: ApiServer, tmp_path: Path) -> None:
    alone = {"controller": {"replicas": 1, "settings": {"leader_election": {"enabled": False}}}}
    objects = rendered(api_server, tmp_path, alone)
    deployment = objects["Deployment", "overlay-net-controller"]["spec"]
    assert deployment["strategy"] == {"type": "Recreate"}
    assert "topologySpreadConstraints" not in deployment["template"]["spec"]


def test_controller_pod_meets_the_restricted_pod_security_standard(api_server: ApiServer, tmp_path: Path) -> None:
    objects = rendered(api_server, tmp_path, {"phpIPAM": PHPIPAM})
    template = objects["Deployment", "overlay-net-controller"]["spec"]["template"]
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "restricted", "labels": labels}})
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "restricted"}}
    dry_run = ("create", "--dry-run=server", "-f", "-")
    assert "created" in api_server.kubectl(*dry_run, stdin=json.dumps(pod | {"spec": template["spec"]}))
    privileged = json.loads(json.dumps(template["spec"]))
    privileged["containers"][0]["securityContext"]["capabilities"] = {}
    with pytest.raises(CommandFailed, match="violates PodSecurity"):
        api_server.kubectl(*dry_run, stdin=json.dumps(pod | {"spec": privileged}))
