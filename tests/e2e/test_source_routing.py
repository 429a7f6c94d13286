"""An agent with `source_routing`: which way answers go, what it repairs, and that it leaves nothing of it behind."""

from lab.net import vlan
from lab.net.vlan import Node
from lab.processes import wait_until
from lab.scenario.process_lab import ProcessLab

NAME = vlan.NODE_NAMES[0]
HELD = {"arp_ignore": "1", "arp_announce": "2", "promote_secondaries": "1"}
"""Of these the kernel announces no change."""


def way(node: Node, host: str, address: str) -> str:
    return node.ip("route", "get", host, "from", address, check=False)


def leaves_on_the_overlay(node: Node, address: str) -> bool:
    return f"via {vlan.OVERLAY_GATEWAY} dev tmp0" in way(node, vlan.ON_PREMISE_HOST, address)


def held(node: Node) -> dict[str, str]:
    return {key: node.run("cat", f"/proc/sys/net/ipv4/conf/tmp0/{key}").strip() for key in HELD}


def test_answers_leave_on_the_overlay_until_the_setting_is_switched_off(lab: ProcessLab) -> None:
    lab.build((NAME,))
    lab.product.agent_env = {"OVERLAY_SOURCE_ROUTING": "true"}
    node = lab.first_node
    before = node.ip("rule")
    lab.start()
    lab.register_nodes((NAME,))
    address = lab.addresses()[NAME]
    wait_until(lambda: leaves_on_the_overlay(node, address), "answers leave on the overlay, without any StaticRoute")
    assert "dev eth0" in way(node, vlan.PRIVATE_GATEWAY, address)
    made = node.ip("rule")
    for damage in (
        ("rule", "delete", "priority", "11700"),
        ("rule", "delete", "priority", "11701"),
        ("route", "flush", "table", "117"),
        ("link", "delete", "tmp0"),
    ):
        node.ip(*damage)
        wait_until(
            lambda: leaves_on_the_overlay(node, address) and node.ip("rule") == made,
            f"all is back after {' '.join(damage)}",
        )
    for key in HELD:
        node.sysctl(f"net.ipv4.conf.tmp0.{key}", 0)
        wait_until(lambda: held(node) == HELD, f"{key} is repaired")
    lab.product.agents[NAME].terminate()
    lab.product.agent_env = {}
    lab.product.start_agent(node)
    lab.product.wait_agent(node)
    wait_until(lambda: node.ip("rule") == before, "the rules are gone")
    wait_until(lambda: "table 117" not in node.ip("route", "show", "table", "all"), "so is the table")
    assert address in node.ip("address", "show", "tmp0")
