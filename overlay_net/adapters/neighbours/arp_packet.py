"""ARP packets for IPv4 over Ethernet as bytes (RFC 826)."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, TypeAlias

Mac: TypeAlias = str
"""Six bytes in lower-case hexadecimal with colons, as `ip link` shows them."""

BROADCAST: Final[Mac] = "ff:ff:ff:ff:ff:ff"
NO_MAC: Final[Mac] = "00:00:00:00:00:00"
NO_ADDRESS: Final = IPv4Address(0)

ETH_P_ARP: Final = 0x0806
REQUEST: Final = 1
REPLY: Final = 2

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
# Protocol type IPv4, and the lengths in bytes of a MAC and an IPv4 address.
_ADDRESS_TYPES = (0x0800, 6, 4)
# Ethernet, and IEEE 802 networks, which Linux accepts as well (arp_process in net/ipv4/arp.c).
_HARDWARE_TYPES = (1, 6)
FRAME_SIZE = _ETHERNET.size + _ARP.size


@dataclass(frozen=True, slots=True)
class ArpPacket:
    operation: int
    sender_mac: Mac
    sender: IPv4Address
    """0.0.0.0 in an ARP probe (RFC 5227 1.1)."""
    target_mac: Mac
    target: IPv4Address
    source: Mac = ""
    """Source of the Ethernet frame that was received."""
    destination: Mac = ""
    """Its destination."""

    @property
    def is_probe(self) -> bool:
        """Return whether a host broadcasts an ARP probe, because it is about to use the target address (RFC 5227 1.1).

        Switches that track the devices on their ports send requests from 0.0.0.0 as well, but by unicast to a host that
        has the address, or with a MAC other than that of the frame. They do not use the address.
        """
        return (
            self.operation == REQUEST
            and self.sender == NO_ADDRESS
            and self.destination == BROADCAST
            and self.source == self.sender_mac
        )

    def encode(self, destination: Mac) -> bytes:
        """Return the whole Ethernet frame."""
        return _ETHERNET.pack(encode_mac(destination), encode_mac(self.sender_mac), ETH_P_ARP) + _ARP.pack(
            _HARDWARE_TYPES[0],
            *_ADDRESS_TYPES,
            self.operation,
            encode_mac(self.sender_mac),
            self.sender.packed,
            encode_mac(self.target_mac),
            self.target.packed,
        )

    @classmethod
    def decode(cls, frame: bytes) -> "ArpPacket | None":
        """Parse a frame; None if Linux would ignore it: it is truncated, not ARP for IPv4, or about no unicast address.

        The rules are those of arp_rcv and arp_process in net/ipv4/arp.c.
        """
        if len(frame) < FRAME_SIZE:
            return None
        destination, source, protocol = _ETHERNET.unpack_from(frame)
        hardware, *types, operation, sender_mac, sender, target_mac, target = _ARP.unpack_from(frame, _ETHERNET.size)
        if protocol != ETH_P_ARP or hardware not in _HARDWARE_TYPES or tuple(types) != _ADDRESS_TYPES:
            return None
        asked = IPv4Address(target)
        if operation not in (REQUEST, REPLY) or asked.is_multicast or asked.is_loopback:
            return None
        macs = parse_mac(sender_mac), parse_mac(target_mac), parse_mac(source), parse_mac(destination)
        return cls(operation, macs[0], IPv4Address(sender), macs[1], asked, macs[2], macs[3])


def parse_mac(data: bytes) -> Mac:
    return data.hex(":")


def encode_mac(mac: Mac) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
