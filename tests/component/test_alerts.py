"""The alerts of the chart, checked with promtool: valid rules, when they fire and resolve, and a runbook for each."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.build.debian import PackageUnavailable, program, unpack
from lab.cluster.api_server import ApiServer
from lab.manifests import parse_manifests
from lab.processes import run
from lab.product import CHART, WITH_IMAGE
from tests.component.test_chart import rendered

HERE = Path(__file__).parent
DOCS = HERE.parent.parent / "docs"
RUNBOOKS = "https://docs.example.com/overlay-net/runbooks"
ALL_ON = {
    "metrics": {
        "labels": {"release": "kube-prometheus-stack"},
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True, "runbookURL": RUNBOOKS},
        "dashboard": {"enabled": True},
        "networkPolicy": {"enabled": True, "from": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]},
    }
}


@pytest.fixture(scope="session")
def promtool() -> str:
    try:
        return str(program(unpack(["prometheus"], print), "promtool"))
    except PackageUnavailable as error:
        pytest.skip(f"no promtool: {error}")


@pytest.fixture
def objects(api_server: ApiServer, tmp_path: Path) -> dict[tuple[str, str], Any]:
    return rendered(api_server, tmp_path, ALL_ON)


@pytest.fixture
def rules(objects: dict[tuple[str, str], Any], tmp_path: Path) -> Path:
    file = tmp_path / "alerts-rules.yaml"
    file.write_text(yaml.safe_dump(objects["PrometheusRule", "overlay-net"]["spec"]))
    return file


def alerts(objects: dict[tuple[str, str], Any]) -> list[dict[str, Any]]:
    return [rule for group in objects["PrometheusRule", "overlay-net"]["spec"]["groups"] for rule in group["rules"]]


def test_alert_rules_are_valid(promtool: str, rules: Path, objects: dict[tuple[str, str], Any]) -> None:
    assert f"SUCCESS: {len(alerts(objects))} rules found" in run([promtool, "check", "rules", str(rules)])


def test_queries_of_the_dashboard_are_valid(promtool: str, objects: dict[tuple[str, str], Any], tmp_path: Path) -> None:
    dashboard = json.loads(objects["ConfigMap", "overlay-net-dashboard"]["data"]["overlay-net.json"])
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    rules = [
        {"record": f"query_{number}", "expr": query.replace("$__rate_interval", "1m")}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"SUCCESS: {len(queries)} rules found" in run([promtool, "check", "rules", "--lint=none", str(file)])


def test_each_alert_fires_only_under_its_condition(promtool: str, rules: Path) -> None:
    tests = rules.parent / "alerts.yaml"
    shutil.copy(HERE / "alerts.yaml", tests)
    assert "SUCCESS" in run([promtool, "test", "rules", str(tests)])


def test_each_alert_is_tested_and_has_a_runbook(objects: dict[tuple[str, str], Any]) -> None:
    tested = {
        case["alertname"]
        for test in yaml.safe_load((HERE / "alerts.yaml").read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    sections = re.findall(r"^## (\w+)$", (DOCS / "runbooks.md").read_text(), re.MULTILINE)
    # An alert may have one rule for each severity.
    names = list(dict.fromkeys(rule["alert"] for rule in alerts(objects)))
    assert sorted(tested) == sorted(names)
    assert sections == names, "the runbooks must have one section per alert, in the same order"
    for rule in alerts(objects):
        assert rule["annotations"]["runbook_url"] == f"{RUNBOOKS}#{rule['alert'].lower()}"


def test_runbook_url_is_an_address_or_missing(api_server: ApiServer, tmp_path: Path) -> None:
    """The default of earlier charts was a path."""
    for given in ({}, {"runbookURL": "docs/runbooks.md"}):
        values = {"metrics": {"prometheusRule": {"enabled": True} | given}}
        assert not any("runbook_url" in rule["annotations"] for rule in alerts(rendered(api_server, tmp_path, values)))
    chart = tmp_path / "chart"
    shutil.copytree(CHART, chart)
    with (chart / "Chart.yaml").open("a") as metadata:
        metadata.write("home: https://git.example.com/overlay_net/\n")
    on = "--set=metrics.prometheusRule.enabled=true"
    shown = api_server.helm("template", "x", str(chart), WITH_IMAGE, on, "--show-only=templates/metrics.yaml")
    (rule,) = (each for each in parse_manifests(shown) if each["kind"] == "PrometheusRule")
    url = rule["spec"]["groups"][0]["rules"][0]["annotations"]["runbook_url"]
    assert re.fullmatch(r"https://git\.example\.com/overlay_net/blob/v[0-9.]+/docs/runbooks\.md#overlaynet\w+", url)


def test_monitoring_objects_are_created_only_if_enabled(api_server: ApiServer, tmp_path: Path) -> None:
    without = rendered(api_server, tmp_path, {}).keys()
    more = rendered(api_server, tmp_path, ALL_ON).keys() - without
    assert more == {
        ("PodMonitor", "overlay-net"),
        ("PrometheusRule", "overlay-net"),
        ("ConfigMap", "overlay-net-dashboard"),
        ("NetworkPolicy", "overlay-net-controller"),
    }


def test_monitoring_objects_have_the_labels_for_discovery(objects: dict[tuple[str, str], Any]) -> None:
    for key in (
        ("PodMonitor", "overlay-net"),
        ("PrometheusRule", "overlay-net"),
        ("ConfigMap", "overlay-net-dashboard"),
    ):
        assert objects[key]["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    assert objects["ConfigMap", "overlay-net-dashboard"]["metadata"]["labels"]["grafana_dashboard"] == "1"
    json.loads(objects["ConfigMap", "overlay-net-dashboard"]["data"]["overlay-net.json"])


def test_pod_monitor_selects_the_metrics_port_of_both_modes(objects: dict[tuple[str, str], Any]) -> None:
    monitor = objects["PodMonitor", "overlay-net"]["spec"]
    (expression,) = monitor["selector"]["matchExpressions"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    for kind, name in (("Deployment", "overlay-net-controller"), ("DaemonSet", "overlay-net-agent")):
        template = objects[kind, name]["spec"]["template"]
        labels = template["metadata"]["labels"]
        assert labels["app.kubernetes.io/component"] in expression["values"]
        assert monitor["selector"]["matchLabels"].items() <= labels.items()
        assert endpoint["port"] in {port["name"] for port in template["spec"]["containers"][0]["ports"]}


def test_network_policy_is_valid_and_selects_the_controllers(
    api_server: ApiServer, objects: dict[tuple[str, str], Any]
) -> None:
    policy = objects["NetworkPolicy", "overlay-net-controller"]
    assert policy["spec"]["podSelector"] == objects["Deployment", "overlay-net-controller"]["spec"]["selector"]
    dry_run = ("apply", "--dry-run=server", "-f", "-")
    assert "created" in api_server.kubectl(*dry_run, stdin=json.dumps(policy))


def test_agent_probes_use_the_bind_address(api_server: ApiServer, tmp_path: Path) -> None:
    for bind, host in ((":9477", None), ("127.0.0.1:9477", "127.0.0.1"), ("[::1]:9477", "::1")):
        values = {"agent": {"settings": {"http": {"bind": bind}}}}
        daemons = rendered(api_server, tmp_path, values)["DaemonSet", "overlay-net-agent"]
        container = daemons["spec"]["template"]["spec"]["containers"][0]
        assert container["readinessProbe"]["httpGet"].get("host") == host
        # The kubelet must not restart an agent whose port another process on the node has taken.
        assert not container.keys() & {"startupProbe", "livenessProbe"}
