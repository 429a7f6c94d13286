"""The chart with tools that render it and apply the result: no hooks, no difference to what is in the cluster."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.cluster.api_server import ApiServer
from lab.manifests import parse_manifests
from lab.product import CHART, WITH_IMAGE

RELEASE = "gitops"
NAMESPACE = "gitops"
LABELS = {"example.com/owner": "x", "grafana_dashboard": "1"}
# Kinds that this API server does not serve, and what must be as it is without hooks.
WITHOUT_HOOKS: dict[str, Any] = {
    "namespaceOverride": "",
    "hooks": {"enabled": False},
    "podSecurity": {"labelNamespace": False},
    "openshift": {"enabled": False},
    "crds": {"keep": True},
    "metrics": {"serviceMonitor": {"enabled": False}, "prometheusRule": {"enabled": False}},
}
VALUES: dict[str, dict[str, Any]] = {
    "default": {
        "hooks": {"enabled": False},
        "pools": {"gitops": {"cidr": "192.168.77.0/24", "gateway": "192.168.77.1"}},
    },
    "every value": WITHOUT_HOOKS,
}


def render(api_server: ApiServer, folder: Path, name: str) -> list[dict[str, Any]]:
    """As Argo CD does: with the CustomResourceDefinitions."""
    files = []
    if name == "every value":
        files.append(f"--values={Path(__file__).parent / 'every_value.yaml'}")
    changed = folder / "values.json"
    changed.write_text(json.dumps(VALUES[name]))
    shown = api_server.helm(
        "template",
        RELEASE,
        str(CHART),
        f"--namespace={NAMESPACE}",
        "--include-crds",
        WITH_IMAGE,
        *files,
        f"--values={changed}",
    )
    return parse_manifests(shown)


@pytest.fixture(params=VALUES)
def objects(request: pytest.FixtureRequest, api_server: ApiServer, tmp_path: Path) -> Iterator[list[dict[str, Any]]]:
    """What the tool has applied."""
    rendered = render(api_server, tmp_path, request.param)
    assert rendered == render(api_server, tmp_path, request.param), "two renderings must be equal"
    crds = [each for each in rendered if each["kind"] == "CustomResourceDefinition"]
    others = [each for each in rendered if each["kind"] != "CustomResourceDefinition"]
    assert len(crds) == len(list((CHART / "crds").glob("*.yaml")))
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    apply(api_server, [*crds, namespace])
    apply(api_server, others)
    yield rendered
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": others})
    api_server.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=body)


def apply(api_server: ApiServer, objects: list[dict[str, Any]]) -> None:
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    manager = "--field-manager=argocd-controller"
    api_server.kubectl("apply", "--server-side", "--force-conflicts", manager, "-f", "-", stdin=body)


def differences(desired: Any, live: Any, place: str = "") -> Iterator[str]:
    """Fields of the manifest that the object in the cluster lacks or has another value of."""
    if isinstance(desired, Mapping) and isinstance(live, Mapping):
        for key, value in desired.items():
            if key in live:
                yield from differences(value, live[key], f"{place}/{key}")
            else:
                yield f"{place}/{key}: {value!r} is not in the cluster"
    elif isinstance(desired, list) and isinstance(live, list) and len(desired) == len(live):
        for index, (value, other) in enumerate(zip(desired, live, strict=True)):
            yield from differences(value, other, f"{place}/{index}")
    elif desired != live:
        yield f"{place}: {desired!r} is {live!r} in the cluster"


def test_nothing_is_a_hook_and_nothing_differs_once_applied(
    api_server: ApiServer, objects: list[dict[str, Any]]
) -> None:
    assert not any("helm.sh/hook" in json.dumps(each) for each in objects)
    assert not {"Job", "Pod"} & {each["kind"] for each in objects}
    found = []
    for each in objects:
        metadata = each["metadata"]
        where = [f"--namespace={metadata['namespace']}"] if "namespace" in metadata else []
        group = each["apiVersion"].partition("/")[0] if "/" in each["apiVersion"] else ""
        live = api_server.get(f"{each['kind']}.{group}".rstrip("."), metadata["name"], *where)
        if each["kind"] == "Secret":
            # Never returned by the API server.
            each.pop("stringData", None)
        found += list(differences(each, live, f"{each['kind']} {metadata['name']}"))
    assert found == []


def test_documentation_names_all_namespaces_and_cluster_scoped_kinds(api_server: ApiServer, tmp_path: Path) -> None:
    page = (CHART.parent.parent / "docs" / "how-to" / "gitops.md").read_text()
    (paragraph,) = [each for each in page.split("\n\n") if each.startswith("An AppProject")]
    text, _, kinds = paragraph.partition("cluster-scoped kinds ")
    objects = [each for name in VALUES for each in render(api_server, tmp_path, name)]
    namespaces = {each["metadata"].get("namespace", NAMESPACE) for each in objects}
    assert namespaces - {NAMESPACE} == set(re.findall(r"`([\w-]+)`", text))
    assert {each["kind"] for each in objects if "namespace" not in each["metadata"]} == {
        *re.findall("[A-Z]\\w+", kinds)
    }


class _Strict(yaml.SafeLoader):
    """As the parser of kustomize, which Flux applies to every release: it refuses a key that occurs twice."""


def _mapping(loader: _Strict, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    assert len(keys) == len(set(keys)), f"{keys}{node.start_mark}"
    return loader.construct_mapping(node, deep=True)


_Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def test_no_key_occurs_twice_if_values_have_the_same_labels_and_annotations(
    api_server: ApiServer, tmp_path: Path
) -> None:
    pod = {"podLabels": LABELS, "podAnnotations": {"prometheus.io/scrape": "false", "checksum/settings": "x"}}
    values = {
        "commonLabels": LABELS,
        "controller": pod,
        "agent": pod,
        "hooks": {"podLabels": LABELS, "podAnnotations": LABELS},
        "metrics": {
            "labels": LABELS,
            "scrapeAnnotations": {"enabled": True},
            "serviceMonitor": {"enabled": True},
            "dashboard": {"enabled": True},
        },
    }
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    shown = api_server.helm("template", RELEASE, str(CHART), WITH_IMAGE, "--set=crds.keep=false", f"--values={file}")
    assert len([*yaml.load_all(shown, _Strict)]) > 20
