"""ARP frames on a link with the MAC 02:00:00:00:00:02: which of them show that another host uses 192.168.100.2."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from overlay_net.adapters.neighbours.arp_packet import encode_mac

ADDRESS = IPv4Address("192.168.100.2")
LINK_MAC = "02:00:00:00:00:02"
OTHER_MAC = "02:00:00:00:0b:0b"
SWITCH_MAC = "02:00:00:00:0a:0a"
BROADCAST = "ff:ff:ff:ff:ff:ff"
ASKED, NONE = "192.168.100.9", "0.0.0.0"
REQUEST, REPLY, REVERSE_REQUEST = 1, 2, 3


@dataclass(frozen=True)
class Frame:
    name: str
    data: bytes
    evidence: bool

    def __str__(self) -> str:
        return self.name


def arp(
    destination: str = BROADCAST,
    source: str = OTHER_MAC,
    operation: int = REQUEST,
    sender_mac: str = OTHER_MAC,
    sender: str = str(ADDRESS),
    target: str = ASKED,
    tags: bytes = b"",
    hardware: int = 1,
) -> bytes:
    return (
        encode_mac(destination)
        + encode_mac(source)
        + tags
        + struct.pack("!HHHBBH", 0x0806, hardware, 0x0800, 6, 4, operation)
        + encode_mac(sender_mac)
        + IPv4Address(sender).packed
        + bytes(6)
        + IPv4Address(target).packed
    )


def tag(vlan: int, kind: int = 0x8100) -> bytes:
    return struct.pack("!HH", kind, vlan)


OURS = str(ADDRESS)
RECORDED = [
    Frame(
        "request of another VLAN",
        bytes.fromhex(
            "ffffffffffff020000000b0b810000c808060001080006040001020000000b0bc0a86402000000000000c0a86409",
        ),
        evidence=False,
    ),
    Frame(
        "unicast probe of a switch that tracks devices",
        bytes.fromhex("020000000002020000000a0a08060001080006040001020000000a0a00000000000000000000c0a86402"),
        evidence=False,
    ),
    Frame(
        "broadcast probe in the frame of another MAC",
        bytes.fromhex("ffffffffffff020000000a0a08060001080006040001020000000b0b00000000000000000000c0a86402"),
        evidence=False,
    ),
    Frame(
        "broadcast probe of another host",
        bytes.fromhex("ffffffffffff020000000b0b08060001080006040001020000000b0b00000000000000000000c0a86402"),
        evidence=True,
    ),
    Frame(
        "announcement of another host",
        bytes.fromhex("ffffffffffff020000000b0b08060001080006040001020000000b0bc0a86402000000000000c0a86402"),
        evidence=True,
    ),
]
MORE = [
    Frame("probe of another VLAN", arp(sender=NONE, target=OURS, tags=tag(200)), evidence=False),
    Frame("announcement of another VLAN", arp(target=OURS, tags=tag(200)), evidence=False),
    Frame("reply of another VLAN", arp(LINK_MAC, operation=REPLY, tags=tag(1)), evidence=False),
    Frame("request of a stacked VLAN", arp(tags=tag(200, 0x88A8) + tag(7)), evidence=False),
    Frame("request with a priority but no VLAN", arp(tags=tag(0x2000)), evidence=True),
    Frame(
        "unicast probe with the MAC of another host",
        arp(LINK_MAC, SWITCH_MAC, sender=NONE, target=OURS),
        evidence=False,
    ),
    Frame("probe for another address", arp(sender=NONE), evidence=False),
    Frame("reply from 0.0.0.0", arp(operation=REPLY, sender=NONE, target=OURS), evidence=False),
    Frame("request for the address", arp(sender=ASKED, target=OURS), evidence=False),
    Frame("reverse ARP", arp(operation=REVERSE_REQUEST), evidence=False),
    Frame("request for a multicast address", arp(target="224.0.0.1"), evidence=False),
    Frame("request for a loopback address", arp(target="127.0.0.1"), evidence=False),
    Frame("ARP of another kind of network", arp(hardware=15), evidence=False),
    Frame("truncated request", arp()[:-4], evidence=False),
    Frame("unicast request", arp(LINK_MAC), evidence=True),
    Frame("unicast reply", arp(LINK_MAC, operation=REPLY), evidence=True),
    Frame("broadcast reply", arp(operation=REPLY), evidence=True),
    Frame("reply that another host relays, as an ARP proxy does", arp(LINK_MAC, SWITCH_MAC, REPLY), evidence=True),
    Frame("request on an IEEE 802 network", arp(hardware=6), evidence=True),
]
FRAMES = [*RECORDED, *MORE]
