"""A LAN for one test: eth0 and tmp0 of this machine, and other machines, on one switch.

tmp0 ─ eth0 ─ port0 ┐            ┌ host1 (a second network card of the test itself)
                    switch0 ─────┤
                                 └ eth0 of network namespaces, one per machine
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab.net.namespaces import Namespace
from overlay_net.adapters.neighbours import ArpLink
from tests.fakes.netns import ip, try_ip

SWITCH = "switch0"
MACHINE_MAC = "52:54:00:00:00:01"
OVERLAY_MAC = "52:54:00:00:00:02"
SIBLING_MAC = "52:54:00:00:00:03"
HOST_MAC = "52:54:00:00:00:04"
OWN_MACS = frozenset({MACHINE_MAC, OVERLAY_MAC, SIBLING_MAC})
"""Without that of host1, although its link is in this namespace."""


@dataclass
class Lan:
    """No link of this machine has an address. tmp0 is a macvlan in bridge mode over eth0."""

    others: list[Namespace] = field(default_factory=list)

    def machine(self, name: str, *addresses: str) -> Namespace:
        """Add another machine; its port on the switch has its name."""
        other = Namespace(name)
        self.others.append(other)
        mac = self.mac(other)
        ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "address", mac, "netns", str(other.pid))
        ip("link", "set", name, "arp", "off", "master", SWITCH, "up")
        for address in addresses:
            other.ip("address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
        other.ip("link", "set", "eth0", "up")
        return other

    def mac(self, other: Namespace) -> str:
        return f"52:54:00:00:01:{self.others.index(other):02x}"

    def host(self) -> ArpLink:
        """Another host, which sends only what the test sends."""
        make_port("host1", "port1", HOST_MAC)
        return ArpLink("host1", own_macs=lambda: {HOST_MAC})

    def close(self) -> None:
        for other in self.others:
            other.close()


@pytest.fixture
def lan(netns: None) -> Iterator[Lan]:
    """Skips where the kernel lacks a link type, and names it."""
    require("bridge", "type", "bridge")
    require("veth", "type", "veth", "peer", "name", "try1")
    # The switch is in this namespace, but must not answer like a machine: ARP is off.
    ip("link", "add", SWITCH, "address", "52:54:00:00:00:f0", "type", "bridge", "stp_state", "0", "forward_delay", "0")
    ip("link", "set", SWITCH, "arp", "off", "up")
    make_port("eth0", "port0", MACHINE_MAC)
    # As the agent sets it: otherwise eth0 answers ARP for the addresses of tmp0 as well, and the faster answer counts.
    Path("/proc/sys/net/ipv4/conf/eth0/arp_ignore").write_text("1")
    require("macvlan", "link", "eth0", "type", "macvlan", "mode", "bridge")
    make_macvlan("tmp0", OVERLAY_MAC)
    lan = Lan()
    try:
        yield lan
    finally:
        lan.close()


def require(kind: str, *arguments: str) -> None:
    refused = try_ip("link", "add", "try0", *arguments)
    if refused:
        pytest.skip(f"the kernel has no {kind} links: {refused.strip()}")
    ip("link", "delete", "try0")


def make_port(link: str, port: str, mac: str) -> None:
    ip("link", "add", link, "address", mac, "type", "veth", "peer", "name", port)
    ip("link", "set", port, "arp", "off", "master", SWITCH, "up")
    ip("link", "set", link, "up")


def make_macvlan(name: str, mac: str) -> None:
    ip("link", "add", name, "link", "eth0", "address", mac, "type", "macvlan", "mode", "bridge")
    ip("link", "set", name, "up")
