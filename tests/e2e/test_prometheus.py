"""A Prometheus server scrapes both modes: every query of the dashboard has a result, every alert is evaluated."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.build.debian import PackageUnavailable
from lab.manifests import parse_manifests
from lab.net import vlan
from lab.processes import wait_until
from lab.product import CHART, CONTROLLER_BIND, NAMESPACE, WITH_IMAGE
from lab.prometheus import Prometheus
from lab.scenario.process_lab import ProcessLab
from lab.scenario.process_scenario import ProcessScenario

AGENTS = [f"{name}:9477" for name in vlan.NODE_NAMES]


def expressions(dashboard: dict[str, Any]) -> list[str]:
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    # Grafana replaces its variables; ".*" is their value for all.
    return [re.sub(r"\$(cluster|namespace|node)\b", ".*", each).replace("$__rate_interval", "1m") for each in found]


def test_every_dashboard_query_has_a_result_and_every_alert_is_evaluated(lab: ProcessLab, tmp_path: Path) -> None:
    lab.build()
    lab.start()
    values = tmp_path / "metrics.json"
    enabled = {"enabled": True}
    values.write_text(json.dumps({"metrics": {"prometheusRule": enabled, "dashboard": enabled}}))
    rendered = lab.api_server.helm(
        "template", "overlay-net", str(CHART), f"--namespace={NAMESPACE}", f"--values={values}", WITH_IMAGE
    )
    objects = {(each["kind"], each["metadata"]["name"]): each for each in parse_manifests(rendered)}
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump(objects["PrometheusRule", "overlay-net"]["spec"]))
    dashboard = json.loads(objects["ConfigMap", "overlay-net-dashboard"]["data"]["overlay-net.json"])
    try:
        server = Prometheus.start_in(tmp_path / "prometheus", [CONTROLLER_BIND, *AGENTS], rules)
    except PackageUnavailable as error:
        pytest.skip(f"no prometheus: {error}")
    with server:
        wait_until(
            lambda: server.targets() == dict.fromkeys([CONTROLLER_BIND, *AGENTS], "up"), "every target is scraped"
        )
        lab.register_nodes(vlan.NODE_NAMES)
        lab.create_route()
        ProcessScenario(lab).repair_route()
        without_result = expressions(dashboard)
        assert len(without_result) > 20

        def all_have_results() -> bool:
            without_result[:] = [each for each in without_result if not server.query(each)]
            return not without_result

        try:
            wait_until(all_have_results, "every query of the dashboard has a result", timeout=60, every=1)
        finally:
            assert not without_result
        assert one(server, "sum(overlay_net_routes{state='programmed'})") == len(vlan.NODE_NAMES)
        assert one(server, "max(overlay_net_cluster_routes{state='desired'})") == len(vlan.NODE_NAMES)
        assert one(server, "sum(overlay_net_drift_repairs_total)") >= 1
        alerts = {rule["name"]: rule for rule in server.rules()}
        wait_until(lambda: all(rule["health"] == "ok" for rule in server.rules()), "every alert was evaluated")
        rendered_rules = objects["PrometheusRule", "overlay-net"]["spec"]["groups"]
        assert set(alerts) == {rule["alert"] for group in rendered_rules for rule in group["rules"]}
        assert {name for name, rule in alerts.items() if rule["state"] == "firing"} == set(), (
            "no alert fires in a healthy cluster"
        )


def one(server: Prometheus, expression: str) -> float:
    (sample,) = server.query(expression)
    return float(sample["value"][1])
