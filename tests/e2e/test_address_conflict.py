"""Address conflicts: which host answers for the address on the VLAN, and what the cluster reports."""

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Address
from typing import Any

import pytest

from lab.manifests import node_manifest
from lab.net import vlan
from lab.net.namespaces import Namespace, join_bridge
from lab.net.traffic import Unreachable, observed_source
from lab.net.vlan import Node
from lab.processes import Process, wait_until
from lab.scenario.process_lab import ProcessLab
from overlay_net.adapters.neighbours.arp_packet import ArpPacket
from overlay_net.model.ipam import QUARANTINE

FIRST, SECOND = vlan.NODE_NAMES[:2]
LOWEST = "192.168.100.2"
STRANGER_MAC = "52:54:00:00:00:99"
ETH_P_ALL = 0x0003

CLAIM = """
import asyncio, sys
from ipaddress import IPv4Address
from overlay_net.adapters.neighbours import ArpLink
async def main():
    link = ArpLink("eth0")
    await link.probe(IPv4Address("192.168.100.77"), probes=1)
    link.announce(IPv4Address(sys.argv[1]), count=1)
asyncio.run(main())
"""
WHO_HAS = """
import asyncio, sys
from ipaddress import IPv4Address
from overlay_net.adapters.neighbours import ArpLink
print(asyncio.run(ArpLink("inner").probe(IPv4Address(sys.argv[1]))))
"""


class ArpCapture:
    """Captures ARP on the ports of some nodes, in both directions."""

    def __init__(self, *ports: str) -> None:
        self._packets: list[ArpPacket] = []
        self._stop = threading.Event()
        self._threads = []
        for port in ports:
            # On a bridge port only ETH_P_ALL sockets receive packets.
            capture = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            capture.bind((port, 0))
            capture.settimeout(0.1)
            self._threads.append(threading.Thread(target=self._read, args=(capture,)))
        for thread in self._threads:
            thread.start()

    def _read(self, capture: socket.socket) -> None:
        with capture:
            while not self._stop.is_set():
                # The port is removed with its node.
                with suppress(OSError):
                    packet = ArpPacket.decode(capture.recv(2048))
                    if packet is not None:
                        self._packets.append(packet)

    def claims(self, address: str) -> set[str]:
        """The MAC addresses that announced the address on these ports."""
        return {packet.sender_mac for packet in self._packets if packet.sender == IPv4Address(address)}

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@contextmanager
def capturing(*nodes: Node) -> Iterator[ArpCapture]:
    arp = ArpCapture(*(node.port for node in nodes))
    try:
        yield arp
    finally:
        arp.stop()


@contextmanager
def recording_conditions(lab: ProcessLab) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Records every condition of NodeOverlayIps meanwhile: some change within a second."""
    output = lab.directory / "watched.json"
    command = [str(lab.assets.kubectl), f"--kubeconfig={lab.api_server.admin()}", "get", "nodeoverlayips"]
    jsonpath = '-o=jsonpath={.status.conditions}{"\\n"}'
    with Process("watch", [*command, "--watch", jsonpath], log=output):
        yield lambda: [one for line in output.read_text().splitlines() if line for one in json.loads(line)]


@pytest.fixture
def join_stranger() -> Iterator[Callable[..., Namespace]]:
    """Adds an unknown host to the VLAN."""
    with ExitStack() as cleanup:

        def join(*addresses: str) -> Namespace:
            stranger = cleanup.enter_context(Namespace("stranger"))
            join_bridge(stranger, vlan.BRIDGE, port="stranger", mac=STRANGER_MAC)
            for address in addresses:
                stranger.ip("address", "add", f"{address}/24", "dev", "eth0")
            return stranger

        yield join


def begin(lab: ProcessLab, nodes: tuple[str, ...]) -> None:
    lab.build(nodes)
    lab.start()
    lab.apply_route()


def register(lab: ProcessLab, *names: str) -> dict[str, str]:
    """Register nodes one after the other until each is Ready with the route; returns their addresses."""
    for name in names:
        lab.api_server.apply(node_manifest(name))
        wait_until(lambda name=name: lab.is_ready(name), f"{name} is Ready")  # type: ignore[misc]
    addresses = lab.addresses()

    routes = {f"src {addresses[name]}": lab.nodes[name] for name in names}
    shown = ("route", "show", vlan.ON_PREMISE_SUBNET)
    wait_until(lambda: all(src in node.ip(*shown) for src, node in routes.items()), "the nodes have the route")
    return addresses


def link_mac(host: Namespace, link: str) -> str:
    return str(json.loads(host.ip("-j", "link", "show", link))[0]["address"])


def who_has(lab: ProcessLab, address: str) -> str:
    """The MAC address that answers an ARP request of the gateway."""
    return lab.vlan.gateway.run(sys.executable, "-c", WHO_HAS, address).strip()


def reaches(lab: ProcessLab, name: str) -> str:
    return observed_source(lab.nodes[name], vlan.ON_PREMISE_HOST)


def expect_events(lab: ProcessLab, address: str, *macs: str) -> None:
    def reported() -> bool:
        lines = [
            line for line in lab.api_server.kubectl("get", "events", "-A").splitlines() if "AddressConflict" in line
        ]
        return any(f"{address} is in use by {mac}" in line for line in lines for mac in macs)

    wait_until(reported, f"an event reports that {' or '.join(macs)} uses {address}")


def test_an_address_in_use_by_an_unknown_host_is_never_announced_and_the_node_gets_another(
    lab: ProcessLab, join_stranger: Callable[..., Namespace]
) -> None:
    begin(lab, (FIRST,))
    join_stranger(LOWEST)
    node = lab.first_node
    with capturing(node) as arp, recording_conditions(lab) as conditions:
        addresses = register(lab, FIRST)
        assert addresses[FIRST] not in ("", LOWEST)
        assert reaches(lab, FIRST) == addresses[FIRST]
        lab.vlan.gateway.ip("neighbour", "flush", "all")
        assert who_has(lab, LOWEST) == STRANGER_MAC
        assert arp.claims(LOWEST) == {STRANGER_MAC}, "the node announced the address"
        wait_until(
            lambda: any(
                each["type"] == "Configured"
                and (each["status"], each["reason"]) == ("False", "AddressConflict")
                and each["message"] == f"{LOWEST} is in use by {STRANGER_MAC} and was not configured"
                for each in conditions()
            ),
            "the condition named the address and the stranger",
        )
    assert lab.reserved() == {LOWEST: QUARANTINE, addresses[FIRST]: FIRST}
    expect_events(lab, LOWEST, STRANGER_MAC)
    assert LOWEST not in node.ip("address")
    assert who_has(lab, addresses[FIRST]) == link_mac(node, "tmp0")


def test_an_address_on_a_manually_created_link_of_another_node_is_unchanged(lab: ProcessLab) -> None:
    begin(lab, (FIRST, SECOND))
    other, node = lab.nodes[FIRST], lab.nodes[SECOND]
    other.ip("link", "add", "hand0", "link", "eth0", "type", "macvlan", "mode", "bridge")
    other.ip("link", "set", "hand0", "up")
    other.ip("address", "add", f"{LOWEST}/24", "dev", "hand0")
    wait_until(lambda: "tentative" not in other.ip("address"), "the new link has no tentative address")
    before = other.ip("-j", "address", "show", "hand0")
    with capturing(node) as arp:
        addresses = register(lab, SECOND, FIRST)
        assert len({LOWEST, *addresses.values()}) == 3
        assert link_mac(node, "tmp0") not in arp.claims(LOWEST)
    # With arp_ignore=0 Linux answers for an address of any link, with the MAC address of the receiving link.
    expect_events(lab, LOWEST, link_mac(other, "hand0"), link_mac(other, "eth0"))
    assert lab.reserved() == {LOWEST: QUARANTINE, **{address: name for name, address in addresses.items()}}
    assert other.ip("-j", "address", "show", "hand0") == before
    assert [reaches(lab, name) for name in (FIRST, SECOND)] == [addresses[FIRST], addresses[SECOND]]


def test_an_address_still_set_on_a_node_with_a_dead_agent_is_not_used_twice(lab: ProcessLab) -> None:
    begin(lab, (FIRST, SECOND))
    old, new = lab.nodes[FIRST], lab.nodes[SECOND]
    address = register(lab, FIRST)[FIRST]
    owner = link_mac(old, "tmp0")
    lab.product.agents[FIRST].kill9()
    lab.api_server.kubectl("delete", "node", FIRST)
    wait_until(lambda: address not in lab.reserved(), "the address is free after the fence time")
    with capturing(new) as arp:
        addresses = register(lab, SECOND)
        assert reaches(lab, SECOND) == addresses[SECOND] != address
        assert link_mac(new, "tmp0") not in arp.claims(address)
    expect_events(lab, address, owner)
    assert lab.reserved() == {address: QUARANTINE, addresses[SECOND]: SECOND}
    assert reaches(lab, FIRST) == address, "the node without an agent has lost its traffic"


def test_an_address_in_use_is_defended_against_an_unknown_host(
    lab: ProcessLab, join_stranger: Callable[..., Namespace]
) -> None:
    begin(lab, (FIRST,))
    node = lab.first_node
    address = register(lab, FIRST)[FIRST]
    assert reaches(lab, FIRST) == address
    own = link_mac(node, "tmp0")
    stranger = join_stranger(address)
    with capturing(node) as arp:
        stranger.run(sys.executable, "-c", CLAIM, address)
        wait_until(lambda: arp.claims(address) >= {STRANGER_MAC, own}, "both hosts announce the address")
        wait_until(lambda: own in neighbour(lab, address), "the gateway sends to the node again")
        for _ in range(3):
            assert reaches(lab, FIRST) == address

    def reported() -> bool:
        conditions = {each["type"]: each for each in lab.overlays()[0]["status"]["conditions"]}
        status, reason, message = (conditions["Configured"][key] for key in ("status", "reason", "message"))
        return (status, reason) == ("True", "AddressClaimed") and STRANGER_MAC in message

    wait_until(reported, "the condition names the stranger")
    events = lab.api_server.kubectl("get", "events", "-A")
    assert any("AddressClaimed" in line and STRANGER_MAC in line for line in events.splitlines())
    assert (lab.addresses(), lab.reserved()) == ({FIRST: address}, {address: FIRST})
    assert lab.is_ready(FIRST)


def neighbour(lab: ProcessLab, address: str) -> str:
    """The gateway's neighbour entry, after the node has sent traffic."""
    with suppress(Unreachable):
        observed_source(lab.first_node, vlan.ON_PREMISE_HOST, timeout=0.5)
    return lab.vlan.gateway.ip("neighbour", "show", address)
