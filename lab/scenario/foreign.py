"""Kernel objects on a node that the product does not manage and must not change."""

import json

from lab.net import vlan
from lab.net.vlan import Node
from lab.processes import wait_until

ROUTE_PROTOCOL = "117"
OVERLAY_LINK = "tmp0"


def add_foreign_objects(node: Node) -> None:
    """Add a link, two addresses and two routes that belong to someone else."""
    node.ip("link", "add", "other0", "type", "veth", "peer", "name", "other1")
    node.ip("link", "set", "other0", "up")
    node.ip("link", "set", "other1", "up")
    node.ip("address", "add", "172.31.0.1/24", "dev", "other0")
    node.ip("address", "add", "172.31.9.1/32", "dev", "eth0")
    node.ip("route", "add", "172.31.5.0/24", "via", "172.31.0.2", "proto", "186")
    node.ip("route", "add", "172.31.6.0/24", "via", vlan.PRIVATE_GATEWAY)
    # The kernel changes the IPv6 addresses of new links until duplicate address detection has finished.
    wait_no_tentative_address(node)


def wait_no_tentative_address(node: Node) -> None:
    wait_until(lambda: "tentative" not in node.ip("-6", "address"), f"{node.name} has no tentative IPv6 address")


def foreign_state(node: Node) -> str:
    """Every link, address and route of a node that the product does not manage."""
    routes = [
        route
        for family in ("-4", "-6")
        for route in json.loads(node.ip("-j", family, "route", "show", "table", "all"))
        if route.get("protocol") != ROUTE_PROTOCOL and route.get("dev") != OVERLAY_LINK
    ]
    links = [link for link in json.loads(node.ip("-j", "address")) if link["ifname"] != OVERLAY_LINK]
    return json.dumps([routes, links], sort_keys=True)
