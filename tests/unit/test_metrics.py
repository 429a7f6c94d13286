"""Metrics as Prometheus scrapes them, with their names and labels."""

from collections.abc import Callable

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from overlay_net import __version__
from overlay_net.ops.agent_metrics import AgentMetrics
from overlay_net.ops.controller_metrics import ControllerMetrics
from overlay_net.ops.metrics import Metrics
from overlay_net.runtime.workqueue import WorkQueue

MODES: list[Callable[[], Metrics]] = [ControllerMetrics, AgentMetrics]


def scrape(metrics: Metrics) -> dict[str, float]:
    """Values of all samples, by name and labels in the exposition format."""
    found = {}
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


@pytest.mark.parametrize("mode", MODES)
def test_every_metric_is_declared_once(mode: Callable[[], Metrics]) -> None:
    metrics = mode()
    families = {family.name for family in metrics.registry.collect()}
    ours = {name for name in families if not name.startswith(("process_", "python_"))}
    assert ours == {each.name.removesuffix("_total") for each in metrics.declared}
    assert len({each.name for each in metrics.declared}) == len(metrics.declared)


def test_build_info_has_version_and_mode() -> None:
    (build,) = [name for name in scrape(ControllerMetrics()) if name.startswith("overlay_net_build_info")]
    assert f'version="{__version__}"' in build
    assert 'mode="controller"' in build


def test_reconciliations_are_counted_as_in_controller_runtime() -> None:
    metrics = ControllerMetrics()
    for result in ("success", "requeue", "error"):
        metrics.observe_reconcile("node", result, 0.1)
    found = scrape(metrics)
    for result in ("success", "requeue_after", "error"):
        assert found[f'controller_runtime_reconcile_total{{controller="node",result="{result}"}}'] == 1
    assert found['controller_runtime_reconcile_errors_total{controller="node"}'] == 1
    assert found['controller_runtime_reconcile_time_seconds_count{controller="node"}'] == 3


async def test_queues_are_measured_as_in_client_go() -> None:
    now = 0.0
    metrics, queue = ControllerMetrics(), WorkQueue(clock=lambda: now)
    metrics.watch_queue("node", queue)
    for key in ("a", "b", "b", "c"):
        queue.add(key)
    now = 10.0
    first, _ = await queue.get(), await queue.get()
    now = 13.0
    queue.done(first)
    now = 15.0
    queue.retry(first)
    found = scrape(metrics)
    assert found['workqueue_depth{name="node"}'] == 1
    assert found['workqueue_adds_total{name="node"}'] == 3, "a key in the queue is not added again"
    assert found['workqueue_queue_duration_seconds_sum{name="node"}'] == 20
    assert found['workqueue_work_duration_seconds_sum{name="node"}'] == 3
    assert found['workqueue_unfinished_work_seconds{name="node"}'] == 5
    assert found['workqueue_longest_running_processor_seconds{name="node"}'] == 5
    assert found['workqueue_retries_total{name="node"}'] == 1
    assert found['controller_runtime_active_workers{controller="node"}'] == 1


def test_requests_are_counted_by_http_method() -> None:
    metrics = AgentMetrics()
    for verb, code in (("apply", 200), ("list", 200), ("watch", 200), ("create", 409), ("get", "error")):
        metrics.observe_request(verb, "nodes", code, 0.1, "10.0.0.1:6443")
    found = scrape(metrics)
    assert found['rest_client_requests_total{code="200",host="10.0.0.1:6443",method="PATCH"}'] == 1
    assert found['rest_client_requests_total{code="200",host="10.0.0.1:6443",method="GET"}'] == 2
    assert found['rest_client_requests_total{code="409",host="10.0.0.1:6443",method="POST"}'] == 1
    assert found['rest_client_requests_total{code="error",host="10.0.0.1:6443",method="GET"}'] == 1


def test_a_pool_shows_only_its_present_conflict() -> None:
    metrics = ControllerMetrics()

    def conflicts() -> dict[str, float]:
        return {name: value for name, value in scrape(metrics).items() if "pool_inconsistent" in name}

    metrics.set_pool_conflict("p1", "Overlap")
    metrics.set_pool_conflict("p1", "GatewayInUse")
    metrics.set_pool_conflict("p2", "Overlap")
    assert conflicts() == {
        'overlay_net_pool_inconsistent{pool="p1",reason="GatewayInUse"}': 1,
        'overlay_net_pool_inconsistent{pool="p2",reason="Overlap"}': 1,
    }
    metrics.set_pool_conflict("p1", "")
    metrics.forget_pool("p2")
    assert conflicts() == {}


def test_removed_pools_gateways_and_reasons_have_no_metrics() -> None:
    controller, agent = ControllerMetrics(), AgentMetrics()
    controller.set_pool("p1", 3, 4)
    controller.forget_pool("p1")
    assert not [name for name in scrape(controller) if name.startswith("overlay_net_pool_addresses")]
    controller.set_failed_reservations({"RecordTaken": 2, "PoolMissing": 1})
    assert scrape(controller)['overlay_net_failed_reservations{reason="RecordTaken"}'] == 2
    controller.set_failed_reservations({"PoolMissing": 1})
    found = scrape(controller)
    assert [name for name in found if "failed_reservations" in name] == [
        'overlay_net_failed_reservations{reason="PoolMissing"}'
    ]
    controller.set_outdated_nodes({"PoolMissing": 1})
    controller.set_outdated_nodes({"PoolNotSelected": 3})
    assert [(name, value) for name, value in scrape(controller).items() if "outdated_nodes" in name] == [
        ('overlay_net_outdated_nodes{reason="PoolNotSelected"}', 3)
    ]
    agent.set_conflict(True)
    agent.set_gateways({"10.0.0.1": True, "10.0.0.2": False}, {"10.0.0.2": 3})
    found = scrape(agent)
    assert found['overlay_net_gateway_up{gateway="10.0.0.2"}'] == 0
    assert found['overlay_net_gateway_dead_routes{gateway="10.0.0.1"}'] == 0
    assert found['overlay_net_gateway_dead_routes{gateway="10.0.0.2"}'] == 3
    agent.set_conflict(False)
    agent.set_gateways({"10.0.0.1": True}, {})
    found = scrape(agent)
    assert sorted(name for name in found if name.startswith("overlay_net_gateway_")) == [
        'overlay_net_gateway_dead_routes{gateway="10.0.0.1"}',
        'overlay_net_gateway_up{gateway="10.0.0.1"}',
    ]
    assert found["overlay_net_duplicate_address"] == 0
