"""The chart's alerts, by Prometheus' own tool: they parse, come and go as they should, and each has its runbook."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.build.debian import PackageUnavailable, program, unpack
from lab.cluster.api_server import ApiServer
from lab.processes import run
from tests.component.test_chart import rendered

HERE = Path(__file__).parent
DOCS = HERE.parent.parent / "docs"
ALL_ON = {
    "metrics": {
        "labels": {"release": "kube-prometheus-stack"},
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
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


def test_the_rules_are_valid(promtool: str, rules: Path, objects: dict[tuple[str, str], Any]) -> None:
    assert f"SUCCESS: {len(alerts(objects))} rules found" in run([promtool, "check", "rules", str(rules)])


def test_each_alert_comes_when_it_should_and_only_then(promtool: str, rules: Path) -> None:
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
    names = [rule["alert"] for rule in alerts(objects)]
    assert sorted(tested) == sorted(names)
    assert sections == names, "one section for each, in their order"
    for rule in alerts(objects):
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{rule['alert'].lower()}"


def test_nothing_of_it_is_there_unless_it_is_asked_for(api_server: ApiServer, tmp_path: Path) -> None:
    without = rendered(api_server, tmp_path, {}).keys()
    more = rendered(api_server, tmp_path, ALL_ON).keys() - without
    assert more == {
        ("PodMonitor", "overlay-net"),
        ("PrometheusRule", "overlay-net"),
        ("ConfigMap", "overlay-net-dashboard"),
        ("NetworkPolicy", "overlay-net-controller"),
    }


def test_what_prometheus_and_grafana_find_it_by(objects: dict[tuple[str, str], Any]) -> None:
    for key in (
        ("PodMonitor", "overlay-net"),
        ("PrometheusRule", "overlay-net"),
        ("ConfigMap", "overlay-net-dashboard"),
    ):
        assert objects[key]["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    assert objects["ConfigMap", "overlay-net-dashboard"]["metadata"]["labels"]["grafana_dashboard"] == "1"
    json.loads(objects["ConfigMap", "overlay-net-dashboard"]["data"]["overlay-net.json"])


def test_both_modes_are_scraped_at_the_port_that_they_serve(objects: dict[tuple[str, str], Any]) -> None:
    monitor = objects["PodMonitor", "overlay-net"]["spec"]
    (expression,) = monitor["selector"]["matchExpressions"]
    (endpoint,) = monitor["podMetricsEndpoints"]
    for kind, name in (("Deployment", "overlay-net-controller"), ("DaemonSet", "overlay-net-agent")):
        template = objects[kind, name]["spec"]["template"]
        labels = template["metadata"]["labels"]
        assert labels["app.kubernetes.io/component"] in expression["values"]
        assert monitor["selector"]["matchLabels"].items() <= labels.items()
        assert endpoint["port"] in {port["name"] for port in template["spec"]["containers"][0]["ports"]}


def test_the_policy_is_one_of_kubernetes_and_for_the_controllers(
    api_server: ApiServer, objects: dict[tuple[str, str], Any]
) -> None:
    policy = objects["NetworkPolicy", "overlay-net-controller"]
    assert policy["spec"]["podSelector"] == objects["Deployment", "overlay-net-controller"]["spec"]["selector"]
    ask = ("apply", "--dry-run=server", "-f", "-")
    assert "created" in api_server.kubectl(*ask, stdin=json.dumps(policy))


def test_probes_follow_the_address_that_an_agent_listens_on(api_server: ApiServer, tmp_path: Path) -> None:
    for bind, host in ((":9477", None), ("127.0.0.1:9477", "127.0.0.1"), ("[::1]:9477", "::1")):
        values = {"agent": {"settings": {"http": {"bind": bind}}}}
        daemons = rendered(api_server, tmp_path, values)["DaemonSet", "overlay-net-agent"]
        container = daemons["spec"]["template"]["spec"]["containers"][0]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"].get("host") == host
