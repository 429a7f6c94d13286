"""A pod behind a node, on its way to the on-premise host: whose address is seen there, with and without masquerading.

The pod is what a CNI makes of it: a namespace behind a veth, a subnet of the node's own, and forwarding.
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
# What CNIs write for pods that leave the cluster.
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
    """On a node that has its overlay address and the route to the on-premise subnet."""
    lab.build((NAME,))
    lab.start()
    lab.register_nodes((NAME,))
    lab.apply_route()
    lab.wait_route(1)
    node = lab.first_node
    with Namespace("pod") as made:
        connect(node, "pod0", made, "eth0")
        node.ip("address", "add", f"{POD_GATEWAY}/24", "dev", "pod0")
        node.sysctl("net.ipv4.ip_forward", 1)
        made.ip("address", "add", f"{POD}/24", "dev", "eth0")
        made.ip("route", "add", "default", "via", POD_GATEWAY)
        yield made


def overlay_address(lab: ProcessLab) -> str:
    return lab.addresses()[NAME]


@pytest.fixture
def nft() -> list[str]:
    try:
        return debian.command("nft", "nftables")
    except debian.PackageUnavailable as reason:
        pytest.skip(f"needs `nft`: {reason}")


def test_without_masquerading_the_pod_is_seen_with_its_own_address_once_the_way_back_is_known(
    lab: ProcessLab, pod: Namespace
) -> None:
    with pytest.raises(Unreachable):
        observed_source(pod, vlan.ON_PREMISE_HOST, timeout=1)
    lab.vlan.on_premise.ip("route", "add", NODE_PODS, "via", vlan.ON_PREMISE_GATEWAY)
    lab.vlan.gateway.ip("route", "add", NODE_PODS, "via", overlay_address(lab))
    assert observed_source(pod, vlan.ON_PREMISE_HOST) == POD
    assert observed_source(lab.first_node, vlan.ON_PREMISE_HOST) == overlay_address(lab)


def test_a_masqueraded_pod_is_seen_with_the_overlay_address_of_its_node(
    nft: list[str], lab: ProcessLab, pod: Namespace
) -> None:
    node = lab.first_node
    node.run(*nft, "-f", "-", stdin=NFT_RULES)
    assert observed_source(pod, vlan.ON_PREMISE_HOST) == overlay_address(lab)
    node.ip("link", "delete", "tmp0")
    wait_until(lambda: bool(node.ip("route", "show", vlan.ON_PREMISE_SUBNET)), "link, address and route are back")
    assert observed_source(pod, vlan.ON_PREMISE_HOST) == overlay_address(lab)
    assert observed_source(node, vlan.ON_PREMISE_HOST) == overlay_address(lab)
