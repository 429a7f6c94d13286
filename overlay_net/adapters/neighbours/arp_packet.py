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
# Hardware type Ethernet, protocol type IPv4, and their address lengths in bytes.
_ADDRESS_TYPES = (1, 0x0800, 6, 4)
FRAME_SIZE = _ETHERNET.size + _ARP.size


@dataclass(frozen=True, slots=True)
class ArpPacket:
    operation: int
    sender_mac: Mac
    sender: IPv4Address
    """0.0.0.0 in an ARP probe (RFC 5227 1.1)."""
    target_mac: Mac
    target: IPv4Address

    def encode(self, destination: Mac) -> bytes:
        """Return the whole Ethernet frame."""
        return _ETHERNET.pack(encode_mac(destination), encode_mac(self.sender_mac), ETH_P_ARP) + _ARP.pack(
            *_ADDRESS_TYPES,
            self.operation,
            encode_mac(self.sender_mac),
            self.sender.packed,
            encode_mac(self.target_mac),
            self.target.packed,
        )

    @classmethod
    def decode(cls, frame: bytes) -> "ArpPacket | None":
        """Parse a frame; None if it is truncated or not ARP for IPv4 over Ethernet."""
        if len(frame) < FRAME_SIZE:
            return None
        *types, operation, sender_mac, sender, target_mac, target = _ARP.unpack_from(frame, _ETHERNET.size)
        if tuple(types) != _ADDRESS_TYPES or operation not in (REQUEST, REPLY):
            return None
        return cls(operation, parse_mac(sender_mac), IPv4Address(sender), parse_mac(target_mac), IPv4Address(target))


def parse_mac(data: bytes) -> Mac:
    return data.hex(":")


def encode_mac(mac: Mac) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))
