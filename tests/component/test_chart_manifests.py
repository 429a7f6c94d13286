"""Rendered manifests, validated against the schemas of a real API server and with a server-side dry run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.build.assets import find_programs
from lab.cluster.api_server import ApiServer
from lab.manifests import parse_manifests
from lab.processes import CommandFailed, run
from lab.product import CHART, NAMESPACE, WITH_IMAGE
from lab.reference.values import README, SCHEMA, described_schema, page, schema_values, values
from lab.schemas import write_schemas

EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
EVERY_VALUE = yaml.safe_load((Path(__file__).parent / "every_value.yaml").read_text())
VALUES = {
    "default": {},
    "every value": EVERY_VALUE,
    **{file.stem: yaml.safe_load(file.read_text()) for file in EXAMPLES},
}
# Kinds of the Prometheus operator and of OpenShift.
UNKNOWN_KINDS = {"PodMonitor", "ServiceMonitor", "PrometheusRule", "SecurityContextConstraints"}


@pytest.fixture(scope="module")
def kubeconform(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    (program,) = find_programs(["kubeconform"]).values()
    location = write_schemas(api_server, tmp_path_factory.mktemp("schemas"))
    yield (
        str(program),
        "-strict",
        "-summary",
        f"-skip={','.join(sorted(UNKNOWN_KINDS))}",
        f"-schema-location={location}",
    )


@pytest.fixture(params=VALUES)
def manifest(request: pytest.FixtureRequest, api_server: ApiServer, tmp_path: Path) -> list[dict[str, Any]]:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(VALUES[request.param]))
    shown = api_server.helm("template", "other", str(CHART), f"--namespace={NAMESPACE}", WITH_IMAGE, f"--values={file}")
    return parse_manifests(shown)


def test_manifests_conform_to_the_schemas(
    kubeconform: tuple[str, ...], manifest: list[dict[str, Any]], tmp_path: Path
) -> None:
    file = tmp_path / "manifest.yaml"
    file.write_text(yaml.safe_dump_all(manifest))
    known = sum(each["kind"] not in UNKNOWN_KINDS for each in manifest)
    assert f"Valid: {known}, Invalid: 0, Errors: 0" in run([*kubeconform, str(file)])


def test_unknown_field_does_not_conform(kubeconform: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "manifest.yaml"
    spec = {"cidr": "192.168.100.0/24", "gatway": "192.168.100.1"}
    pool = {"apiVersion": "iks.ibm.com/v1alpha1", "kind": "OverlayPool", "metadata": {"name": "a"}, "spec": spec}
    file.write_text(yaml.safe_dump(pool))
    with pytest.raises(CommandFailed, match="gatway"):
        run([*kubeconform, str(file)])


def test_api_server_accepts_the_manifests(api_server: ApiServer, manifest: list[dict[str, Any]]) -> None:
    items = [each for each in manifest if each["kind"] not in UNKNOWN_KINDS]
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    shown = api_server.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=body)
    assert len(shown.splitlines()) == len(items)


def test_file_with_every_value_lacks_none() -> None:
    def has(path: str) -> bool:
        node: Any = EVERY_VALUE
        for key in path.split("."):
            if key not in node:
                return False
            node = node[key]
        return True

    assert [value.path for value in values() if not has(value.path)] == []


def test_values_table_in_the_readme_is_up_to_date() -> None:
    text = README.read_text()
    assert text == page(text), "run python -m lab.reference to update it"


def test_schema_describes_every_value_as_the_readme_does() -> None:
    text = SCHEMA.read_text()
    assert text == described_schema(text), "run python -m lab.reference to update it"
    # A comment above a group of values describes the first one.
    undescribed = [value.path for value in values() if not value.comment]
    assert undescribed == []


def test_schema_describes_also_values_without_default_and_those_of_sections_that_occur_twice() -> None:
    found = dict(schema_values(json.loads(SCHEMA.read_text())))
    # Fields of Kubernetes, and names of the chart that only consist of others.
    fields = ("updateStrategy.type", "rollingUpdate.maxSurge", "rollingUpdate.maxUnavailable")
    undescribed = [
        path
        for path, node in found.items()
        if "description" not in node and "properties" not in node and not path.endswith(fields)
    ]
    assert undescribed == []
    assert found["agent.settings.link_mode"]["description"].startswith("macvlan")
    assert found["metrics.serviceMonitor.enabled"]["description"].startswith("ServiceMonitor for")
    assert found["metrics.podMonitor.enabled"]["description"].startswith("PodMonitor for")


def test_kubectl_drain_evicts_the_controller(api_server: ApiServer) -> None:
    """It refuses pods with an emptyDir volume unless their data may be deleted."""
    shown = api_server.helm("template", "overlay-net", str(CHART), f"--namespace={NAMESPACE}", WITH_IMAGE)
    (deployment,) = [each for each in parse_manifests(shown) if each["kind"] == "Deployment"]
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "overlay-net", "uid": "x", "controller": True}
    pod = deployment["spec"]["template"] | {"apiVersion": "v1", "kind": "Pod"}
    pod["metadata"] |= {"name": "overlay-net-1", "namespace": NAMESPACE, "ownerReferences": [owner]}
    pod["spec"]["nodeName"] = "drained"
    api_server.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "drained"}}, pod)
    try:
        assert "evicting pod" in api_server.kubectl("drain", "drained", "--dry-run=client")
    finally:
        api_server.kubectl("delete", "pod", "overlay-net-1", f"--namespace={NAMESPACE}", "--force")
        api_server.kubectl("delete", "node", "drained")
