"""The selectors of the chart: they match its own pods and no others, also after an upgrade from an earlier chart."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.cluster.api_server import ApiServer
from lab.product import CHART, WITH_IMAGE
from lab.scenario.kubelet_scenario import earlier_chart
from tests.component.test_alerts import ALL_ON
from tests.component.test_chart import rendered

RELEASE = "platform"
NAMESPACE = "default"
FOREIGN = {
    f"{chart}/{component}": labels
    for chart, pods in yaml.safe_load((Path(__file__).parent / "foreign_pods.yaml").read_text()).items()
    for component, labels in pods.items()
}
Objects = Mapping[tuple[str, str], Any]
WORKLOADS = (("Deployment", "controller"), ("DaemonSet", "agent"))


MONITORS = {"metrics": {"serviceMonitor": {"enabled": True}, "networkPolicy": {"enabled": True}}}


@pytest.fixture(params=[ALL_ON, MONITORS], ids=["PodMonitor", "ServiceMonitor"])
def objects(request: pytest.FixtureRequest, api_server: ApiServer, tmp_path: Path) -> Objects:
    return rendered(api_server, tmp_path, request.param, release=RELEASE)


def selectors(objects: Objects) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each selector of pods, with the object that has it."""
    for (kind, name), each in objects.items():
        spec = each.get("spec", {})
        if kind == "Service":
            yield f"{kind} {name}", {"matchLabels": spec["selector"]}
            continue
        for key in ("selector", "podSelector"):
            if key in spec:
                yield f"{kind} {name}", spec[key]
        for constraint in spec.get("template", {}).get("spec", {}).get("topologySpreadConstraints", ()):
            yield f"{kind} {name}, spread", constraint["labelSelector"]


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    expressions = selector.get("matchExpressions", ())
    assert all(each["operator"] == "In" for each in expressions)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )


def pod_labels(objects: Objects) -> dict[str, dict[str, str]]:
    return {
        f"{kind} {name}": each["spec"]["template"]["metadata"]["labels"]
        for (kind, name), each in objects.items()
        if kind in ("Deployment", "DaemonSet", "Job")
    }


def test_no_selector_matches_a_pod_of_another_chart_in_the_same_release(objects: Objects) -> None:
    found = list(selectors(objects))
    own = pod_labels(objects)
    # Deployment with two spread constraints, DaemonSet, PodDisruptionBudget, NetworkPolicy
    # and a PodMonitor, or a ServiceMonitor and its two Services.
    assert len(found) == (9 if ("ServiceMonitor", "platform-overlay-net") in objects else 7)
    for where, selector in found:
        assert [name for name, labels in FOREIGN.items() if matches(selector, labels)] == [], where
        assert any(matches(selector, labels) for labels in own.values()), where


def test_no_selector_matches_a_pod_of_a_hook(objects: Objects) -> None:
    hooks = {name: labels for name, labels in pod_labels(objects).items() if name.startswith("Job")}
    assert hooks
    for where, selector in selectors(objects):
        assert [name for name, labels in hooks.items() if matches(selector, labels)] == [], where


def test_labels_of_a_release_named_by_a_number_are_texts(api_server: ApiServer, tmp_path: Path) -> None:
    objects = rendered(api_server, tmp_path, {"nameOverride": "1e3"}, release="42")
    found = {each["metadata"]["labels"]["app.kubernetes.io/instance"] for each in objects.values()}
    assert found == {"42"}
    for where, selector in selectors(objects):
        assert selector["matchLabels"]["app.kubernetes.io/name"] == "1e3", where


def test_spread_constraint_without_selector_counts_the_controllers(api_server: ApiServer, tmp_path: Path) -> None:
    given = {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
    own = {"labelSelector": {"matchLabels": {"example.com/own": "x"}}}
    values = {"controller": {"topologySpreadConstraints": [given, given | own]}}
    objects = rendered(api_server, tmp_path, values, release=RELEASE)
    deployment = objects["Deployment", f"{RELEASE}-overlay-net-controller"]["spec"]
    constraints = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert constraints == [given | {"labelSelector": deployment["selector"]}, given | own]


def test_a_new_version_of_the_chart_alone_does_not_restart_pods(objects: Objects) -> None:
    for name, labels in pod_labels(objects).items():
        assert labels.keys() <= {f"app.kubernetes.io/{each}" for each in ("name", "instance", "component")}, name


@pytest.fixture
def earlier_release(api_server: ApiServer, tmp_path: Path) -> Iterator[None]:
    """A release of a chart whose selectors had no name."""
    # A killed controller of another test may still hold it.
    api_server.kubectl("delete", "lease", "overlay-net", "--namespace=kube-system", "--ignore-not-found")
    chart = str(earlier_chart(tmp_path))
    api_server.helm("install", RELEASE, chart, f"--namespace={NAMESPACE}", "--no-hooks", WITH_IMAGE)
    yield
    api_server.helm("uninstall", RELEASE, f"--namespace={NAMESPACE}", "--no-hooks")


def workload(api_server: ApiServer, kind: str, component: str) -> Any:
    return api_server.get(kind.lower(), f"{RELEASE}-overlay-net-{component}", f"--namespace={NAMESPACE}")["spec"]


@pytest.mark.usefixtures("earlier_release")
def test_upgrade_from_selectors_without_a_name_keeps_those_that_cannot_be_changed(api_server: ApiServer) -> None:
    before = {component: workload(api_server, kind, component)["selector"] for kind, component in WORKLOADS}
    for _ in range(2):
        api_server.helm("upgrade", RELEASE, str(CHART), f"--namespace={NAMESPACE}", "--no-hooks", "--reuse-values")
        for kind, component in WORKLOADS:
            spec = workload(api_server, kind, component)
            assert spec["selector"] == before[component]
            # So another selector can be set later: an orphaned pod is adopted.
            assert spec["template"]["metadata"]["labels"]["app.kubernetes.io/name"] == "overlay-net"
    budget = api_server.get("pdb", f"{RELEASE}-overlay-net-controller", f"--namespace={NAMESPACE}")
    assert budget["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] == "overlay-net"
    api_server.helm("rollback", RELEASE, "1", f"--namespace={NAMESPACE}", "--no-hooks")
