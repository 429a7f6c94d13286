"""An agent with `source_routing`: the path of responses, repairs, and removal."""

from lab.net import vlan
from lab.net.vlan import Node
from lab.processes import wait_until
from lab.scenario.process_lab import ProcessLab

NAME = vlan.NODE_NAMES[0]
SYSCTLS = {"arp_ignore": "1", "arp_announce": "2", "promote_secondaries": "1"}
"""The kernel sends no notification when these change."""


def lookup(node: Node, host: str, address: str) -> str:
    return node.ip("route", "get", host, "from", address, check=False)


def leaves_through_the_overlay(node: Node, address: str) -> bool:
    return f"via {vlan.OVERLAY_GATEWAY} dev tmp0" in lookup(node, vlan.ON_PREMISE_HOST, address)


def sysctls(node: Node) -> dict[str, str]:
    return {key: node.run("cat", f"/proc/sys/net/ipv4/conf/tmp0/{key}").strip() for key in SYSCTLS}


def test_responses_leave_through_the_overlay_until_the_setting_is_disabled(lab: ProcessLab) -> None:
    lab.build((NAME,))
    lab.product.agent_env = {"OVERLAY_SOURCE_ROUTING": "true"}
    node = lab.first_node
    before = node.ip("rule")
    lab.start()
    lab.register_nodes((NAME,))
    address = lab.addresses()[NAME]
    wait_until(lambda: leaves_through_the_overlay(node, address), "responses use the overlay without a StaticRoute")
    assert "dev eth0" in lookup(node, vlan.PRIVATE_GATEWAY, address)
    configured = node.ip("rule")
    for damage in (
        ("rule", "delete", "priority", "11700"),
        ("rule", "delete", "priority", "11701"),
        ("route", "flush", "table", "117"),
        ("link", "delete", "tmp0"),
    ):
        node.ip(*damage)
        wait_until(
            lambda: leaves_through_the_overlay(node, address) and node.ip("rule") == configured,
            f"everything is restored after `ip {' '.join(damage)}`",
        )
    for key in SYSCTLS:
        node.sysctl(f"net.ipv4.conf.tmp0.{key}", 0)
        wait_until(lambda: sysctls(node) == SYSCTLS, f"{key} is repaired")
    lab.product.agents[NAME].terminate()
    lab.product.agent_env = {}
    lab.product.start_agent(node)
    lab.product.wait_agent(node)
    wait_until(lambda: node.ip("rule") == before, "the policy rules are removed")
    wait_until(lambda: "table 117" not in node.ip("route", "show", "table", "all"), "the table is removed")
    assert address in node.ip("address", "show", "tmp0")
