"""python -m lab.bench.drift: repeatedly changes the agent's kernel objects on a node, and times each repair.

This process injects faults through netlink and reads the state from /proc and by ioctl, so that no program has to start
in between. It prints one JSON object per line: the kind of fault, and the milliseconds until it is repaired.
"""

import argparse
import fcntl
import json
import random
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

SIOCGIFADDR, SIOCGIFFLAGS = 0x8915, 0x8913
IFF_UP = 0x1
PATIENCE = 30.0
POLL = 0.001


@dataclass(frozen=True, slots=True)
class Node:
    link: str
    address: IPv4Address
    gateway: IPv4Address
    other_gateway: IPv4Address
    subnets: tuple[IPv4Network, ...]
    protocol: int


class Kernel:
    def __init__(self, node: Node) -> None:
        self.node = node
        self.netlink: Any = IPRoute()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.changed = node.subnets[0]
        """The subnet whose route this process has changed last."""
        self._rp_filter = Path(f"/proc/sys/net/ipv4/conf/{node.link}/rp_filter")

    @property
    def index(self) -> int:
        return socket.if_nametoindex(self.node.link)

    def intact(self) -> bool:
        """Link up, address, rp_filter, and every route through its gateway."""
        return self._link() and self._setting() and self.routes()

    def set_rp_filter(self, value: str) -> None:
        self._rp_filter.write_text(value)

    def _link(self) -> bool:
        request = struct.pack("16s16x", self.node.link.encode())
        try:
            flags = struct.unpack_from("H", fcntl.ioctl(self._socket, SIOCGIFFLAGS, request), 16)[0]
            address = fcntl.ioctl(self._socket, SIOCGIFADDR, request)[20:24]
        except OSError:
            return False
        return bool(flags & IFF_UP) and address == self.node.address.packed

    def _setting(self) -> bool:
        try:
            return self._rp_filter.read_text().strip() == "2"
        except OSError:
            return False

    def routes(self) -> bool:
        # Counted, not parsed: reading must not compete with the agent for the processor.
        gateway = f"{struct.unpack('=I', self.node.gateway.packed)[0]:08X}"
        return Path("/proc/net/route").read_text().count(f"\t{gateway}\t") == len(self.node.subnets)


class CrowdedKernel(Kernel):
    """For a node with so many other routes that reading all of them takes longer than a repair."""

    def routes(self) -> bool:
        """Whether every subnet is reached from the overlay address, and the last changed one through the gateway."""
        if not all(map(self._has_source, self.node.subnets)):
            return False
        (route,) = self.netlink.route("get", dst=str(self.changed[1]))
        return bool(route.get("gateway") == str(self.node.gateway))

    def _has_source(self, subnet: IPv4Network) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flow:
            try:
                flow.connect((str(subnet[1]), 9))
            except OSError:
                return False
            return bool(flow.getsockname()[0] == str(self.node.address))


def faults(kernel: Kernel, chance: random.Random) -> dict[str, Callable[[], None]]:
    node, netlink = kernel.node, kernel.netlink

    def a_subnet() -> str:
        kernel.changed = chance.choice(node.subnets)
        return str(kernel.changed)

    def change_route() -> None:
        hop = {"gateway": str(node.other_gateway), "oif": kernel.index, "prefsrc": str(node.address)}
        netlink.route("replace", dst=a_subnet(), proto=node.protocol, **hop)

    return {
        "route deleted": lambda: netlink.route("del", dst=a_subnet()),
        "route changed": change_route,
        "address deleted": lambda: netlink.addr("del", index=kernel.index, address=str(node.address), prefixlen=24),
        "link down": lambda: netlink.link("set", index=kernel.index, state="down"),
        "link deleted": lambda: netlink.link("del", index=kernel.index),
        "rp_filter changed": lambda: kernel.set_rp_filter("1"),
    }


def until_intact(kernel: Kernel, since: float) -> float:
    while not kernel.intact():
        if time.monotonic() - since > PATIENCE:
            raise TimeoutError
        time.sleep(POLL)
    return time.monotonic() - since


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab.bench.drift")
    parser.add_argument("--link", default="tmp0")
    parser.add_argument("--address", required=True, type=ip_address)
    parser.add_argument("--gateway", required=True, type=ip_address)
    parser.add_argument("--other-gateway", required=True, type=ip_address)
    parser.add_argument("--subnet", action="append", required=True, type=ip_network)
    parser.add_argument("--protocol", type=int, default=117)
    parser.add_argument("--crowded", action="store_true", help="for a node with very many other routes")
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    node = Node(
        arguments.link,
        arguments.address,
        arguments.gateway,
        arguments.other_gateway,
        tuple(arguments.subnet),
        arguments.protocol,
    )
    chance = random.Random(arguments.seed)
    kernel = CrowdedKernel(node) if arguments.crowded else Kernel(node)
    kinds = list(faults(kernel, chance).items())
    until_intact(kernel, time.monotonic())
    for number in range(arguments.faults):
        name, inject = kinds[number % len(kinds)]
        began = time.monotonic()
        try:
            inject()
            took = until_intact(kernel, began)
        except TimeoutError:
            print(f"{name}: not repaired within {PATIENCE:g} s", file=sys.stderr)
            return 1
        print(json.dumps({"fault": name, "ms": round(1000 * took, 3)}), flush=True)
        # Separates the events of two faults, and keeps repair damping from delaying the next repair.
        time.sleep(0.1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
