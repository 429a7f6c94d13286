"""The chart on real kubelets: from its values to TCP without NAT, through failures of a node, until it is uninstalled.

The tests of this file go on from each other's state: a cluster for each would take longer than all of them.
"""

from ipaddress import ip_address, ip_network

from lab import vlan
from lab.cluster.cluster import Cluster
from lab.cluster.release import Release
from lab.processes import wait_until


def test_every_node_is_seen_on_premise_with_its_own_overlay_address(cluster: Cluster, release: Release) -> None:
    seen = {node: release.wait_source(node) for node in cluster.nodes}
    assert seen == release.addresses()
    assert len(set(seen.values())) == len(vlan.NODE_NAMES)
    assert not any(restarts(pod) for pod in release.pods())


def test_the_controller_reaches_the_api_from_a_pod_of_its_own_network(cluster: Cluster, release: Release) -> None:
    controller = release.controller()
    subnet = ip_network(cluster.nodes[controller["spec"]["nodeName"]].pod_subnet)
    assert ip_address(controller["status"]["podIP"]) in subnet


def test_traffic_goes_on_while_the_kubelet_is_dead(cluster: Cluster, release: Release, a_node: str) -> None:
    node = cluster.nodes[a_node]
    before = node.containers()
    node.kubelet.kill9()
    assert "kubelet" not in node.programs()
    assert release.wait_source(a_node) == release.addresses()[a_node]
    node.kubelet.start()
    node.wait_kubelet()
    assert node.containers() == before


def test_a_node_has_its_address_again_after_a_power_failure(cluster: Cluster, release: Release, a_node: str) -> None:
    before = release.addresses()
    cluster.power_off(a_node)
    wait_until(lambda: a_node not in cluster.ready_nodes(), f"{a_node} is missed", timeout=60)
    cluster.power_on(a_node)
    assert release.wait_source(a_node) == before[a_node]
    assert release.addresses() == before


def test_a_removed_node_gives_its_address_back(cluster: Cluster, release: Release) -> None:
    # Not the controller's own: it takes Kubernetes a minute to miss a pod whose node is gone.
    node = next(name for name in cluster.nodes if name != release.controller()["spec"]["nodeName"])
    others = {name: address for name, address in release.addresses().items() if name != node}
    cluster.remove_node(node)
    wait_until(
        lambda: release.addresses() == release.reserved() == others, f"the address of {node} is free", timeout=60
    )
    cluster.add_nodes(node)
    cluster.wait_ready(node)
    assert release.wait_source(node) == release.addresses()[node]
    assert release.addresses().items() > others.items()


def test_after_uninstalling_nothing_of_it_runs(cluster: Cluster, release: Release, a_node: str) -> None:
    release.uninstall()
    assert release.pods() == []
    assert not any("overlay-net" in image for node in cluster.nodes.values() for image in node.containers().values())


def restarts(pod: dict[str, object]) -> int:
    status = pod["status"]
    assert isinstance(status, dict)
    return sum(each["restartCount"] for each in status["containerStatuses"])
