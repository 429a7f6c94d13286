"""The source address that the on-premise host observes of a pod, with and without masquerading.

As with a CNI plug-in, the pod is a namespace behind a veth link, in a subnet of its node, which forwards.
"""

from collections.abc import Iterator

import pytest

from lab.build import debian
from lab.net import vlan
from lab.net.namespaces import Namespace, connect
from lab.net.traffic import Unreachable, observed_source
from lab.processes import wait_until
from lab.scenario.process_lab import ProcessLab

NAME = vlan.NODE_NAMES[0]
POD, POD_GATEWAY = "10.244.1.5", "10.244.1.1"
NODE_PODS, ALL_PODS = "10.244.1.0/24", "10.244.0.0/16"
# As CNI plug-ins configure it for traffic that leaves the cluster.
NFT_RULES = f"""
table ip cni {{
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {NODE_PODS} ip daddr != {ALL_PODS} masquerade
    }}
}}
"""


@pytest.fixture
def pod(lab: ProcessLab) -> Iterator[Namespace]:
    """A pod on a node with an overlay address and the route to the on-premise subnet."""
    lab.build((NAME,))
    lab.start()
    lab.register_nodes((NAME,))
    lab.apply_route()
    lab.wait_route(1)
    node = lab.first_node
    with Namespace("pod") as pod:
        connect(node, "pod0", pod, "eth0")
        node.ip("address", "add", f"{POD_GATEWAY}/24", "dev", "pod0")
        node.sysctl("net.ipv4.ip_forward", 1)
        pod.ip("address", "add", f"{POD}/24", "dev", "eth0")
        pod.ip("route", "add", "default", "via", POD_GATEWAY)
        yield pod


def overlay_address(lab: ProcessLab) -> str:
    return lab.addresses()[NAME]


@pytest.fixture
def nft() -> list[str]:
    try:
        return debian.command("nft", "nftables")
    except debian.PackageUnavailable as reason:
        pytest.skip(f"needs `nft`: {reason}")


def test_without_masquerading_the_source_is_the_pod_and_needs_a_return_route(lab: ProcessLab, pod: Namespace) -> None:
    with pytest.raises(Unreachable):
        observed_source(pod, vlan.ON_PREMISE_HOST, timeout=1)
    lab.vlan.on_premise.ip("route", "add", NODE_PODS, "via", vlan.ON_PREMISE_GATEWAY)
    lab.vlan.gateway.ip("route", "add", NODE_PODS, "via", overlay_address(lab))
    assert observed_source(pod, vlan.ON_PREMISE_HOST) == POD
    assert observed_source(lab.first_node, vlan.ON_PREMISE_HOST) == overlay_address(lab)


def test_with_masquerading_the_source_is_the_overlay_address_of_the_node(
    nft: list[str], lab: ProcessLab, pod: Namespace
) -> None:
    node = lab.first_node
    node.run(*nft, "-f", "-", stdin=NFT_RULES)
    assert observed_source(pod, vlan.ON_PREMISE_HOST) == overlay_address(lab)
    node.ip("link", "delete", "tmp0")
    wait_until(lambda: bool(node.ip("route", "show", vlan.ON_PREMISE_SUBNET)), "link, address and route are restored")
    assert observed_source(pod, vlan.ON_PREMISE_HOST) == overlay_address(lab)
    assert observed_source(node, vlan.ON_PREMISE_HOST) == overlay_address(lab)
