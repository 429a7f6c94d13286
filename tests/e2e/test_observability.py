"""What operators observe: health endpoints, metrics, logs and events."""

import urllib.request
from pathlib import Path

from lab.net import vlan
from lab.processes import wait_until
from lab.product import AGENT_BIND, CONTROLLER_BIND
from lab.scenario.process_lab import ProcessLab


def read_controller(path: str) -> str:
    return read(f"http://{CONTROLLER_BIND}{path}")


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        return str(response.read().decode())


def test_metrics_health_logs_and_events(lab: ProcessLab) -> None:
    lab.build()
    lab.start()
    lab.register_nodes(vlan.NODE_NAMES)
    lab.create_route()
    wait_until(
        lambda: 'overlay_net_pool_addresses{pool="onprem",state="used"} 3.0' in read_controller("/metrics"), "3 used"
    )
    metrics = read_controller("/metrics")
    for line in (
        'overlay_net_pool_addresses{pool="onprem",state="free"} 249.0',
        'overlay_net_nodes{state="without_address"} 0.0',
        "overlay_net_node_without_address_since_timestamp_seconds 0.0",
        'overlay_net_cluster_routes{state="programmed"} 3.0',
        "overlay_net_synced 1.0",
        'overlay_net_build_info{mode="controller",',
        'controller_runtime_reconcile_total{controller="node",result="success"}',
        'rest_client_requests_total{code="201",',
        'leader_election_master_status{name="overlay-net-controller"} 1.0',
        'overlay_net_ipam_requests_total{backend="cluster",operation="reserve",outcome="ok"} ',
        'overlay_net_ipam_up{backend="cluster"} 1.0',
    ):
        assert line in metrics
    assert read_controller("/healthz") == "ok\n"
    assert read_controller("/readyz") == "ok\n"
    agent = lab.first_node.call(lambda: read(f"http://{AGENT_BIND}/metrics"))
    for line in (
        "overlay_net_address_configured 1.0",
        'overlay_net_routes{state="programmed"} 1.0',
        'overlay_net_gateway_up{gateway="192.168.100.1"} 1.0',
        "overlay_net_duplicate_address 0.0",
        'overlay_net_kernel_changes_total{kind="AddLink"} 1.0',
        "overlay_net_converge_seconds_count",
    ):
        assert line in agent
    for process in lab.product.agents.values():
        loaded = Path(f"/proc/{process.pid}/maps").read_text()
        assert "aiohttp" in loaded and "pydantic" not in loaded, "an agent does not keep what validated its settings"
    named = {f"{name} ({address})" for name, address in lab.addresses().items()}
    wait_until(
        lambda: all(each in lab.api_server.kubectl("get", "events", "-n", "default") for each in named),
        "an event of the pool names the nodes and their addresses",
    )
    events = lab.api_server.kubectl("get", "events", "-n", "default")
    # The API server has events of its own, such as ClusterIPNotAllocated of the Service kubernetes.
    ours = [line for line in events.splitlines() if "service/kubernetes" not in line]
    assert "Warning" not in "\n".join(ours), "no warning in a healthy cluster"
    logs = "".join(process.log.read_text() for process in lab.processes().values())
    assert "Traceback" not in logs
    assert "synced" in logs
