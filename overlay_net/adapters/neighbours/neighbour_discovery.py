"""IPv6 neighbour discovery: solicitations and unsolicited advertisements over raw ICMPv6 (RFC 4861).

Duplicate address detection is left to the kernel: an address added without ``nodad`` is tentative until the kernel has
probed for it, and has IFA_F_DADFAILED if another host uses it (linux/if_addr.h, RFC 4862 5.4).
"""

import errno
import socket
import struct
from contextlib import closing
from ipaddress import IPv6Address
from typing import Final

from overlay_net.adapters.neighbours.arp_packet import Mac, encode_mac, parse_mac
from overlay_net.adapters.neighbours.interface import find_index, hardware_address, is_router, is_running, kernel_error
from overlay_net.model.errors import KernelError
from overlay_net.runtime.answer import wait_for_answer

SOLICITATION: Final = 135
ADVERTISEMENT: Final = 136
ROUTER: Final = 0x80000000
OVERRIDE: Final = 0x20000000
SOURCE_LINK_ADDRESS: Final = 1
TARGET_LINK_ADDRESS: Final = 2
ALL_NODES: Final = IPv6Address("ff02::1")
HOP_LIMIT: Final = 255
"""Proves that a packet was not forwarded (RFC 4861 7.1)."""
ICMP6_FILTER: Final = 1
"""linux/icmpv6.h"""

# Type, code, checksum (filled in by the kernel), flags, target.
_MESSAGE = struct.Struct("!BBHI16s")
_OPTION = struct.Struct("!BB6s")


class NeighbourDiscovery:
    """Neighbour discovery on one link. Needs CAP_NET_RAW.

    The link may be deleted and re-created, as each request opens a socket.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def announce(self, address: IPv6Address) -> None:
        """Send an unsolicited advertisement of the address to all nodes on the link (RFC 4861 7.2.6).

        Raises KernelError, with EADDRNOTAVAIL during the kernel's duplicate address detection, and also if the link has
        no carrier and would silently drop the packet.
        """
        purpose = f"advertise {address} on {self._name}"
        if not is_running(self._name):
            raise KernelError(f"{purpose}: no carrier", code=errno.ENETDOWN)
        # A router that advertises itself without the flag is no router any more for its neighbours (RFC 4861 7.2.5).
        flags = OVERRIDE | ROUTER if is_router(self._name) else OVERRIDE
        message = self._message(ADVERTISEMENT, flags, address, TARGET_LINK_ADDRESS)
        with closing(self._open(purpose, address)) as icmp_socket:
            self._send(purpose, icmp_socket, message, ALL_NODES)

    async def resolve(self, target: IPv6Address, source: IPv6Address, timeout: float = 0.4) -> Mac | None:
        """Return the MAC that answers for ``target`` in time (RFC 4861 7.2), or None. Raises KernelError if unknown."""
        purpose = f"solicit {target} on {self._name}"
        message = self._message(SOLICITATION, 0, target, SOURCE_LINK_ADDRESS)
        with closing(self._open(purpose, source)) as icmp_socket:
            self._send(purpose, icmp_socket, message, solicited_node(target))
            try:
                return await wait_for_answer(icmp_socket, lambda: _receive_advertised(icmp_socket, target), timeout)
            except OSError as error:
                raise kernel_error(purpose, error) from None

    def _message(self, kind: int, flags: int, target: IPv6Address, option: int) -> bytes:
        mac = encode_mac(hardware_address(self._name))
        return _MESSAGE.pack(kind, 0, 0, flags, target.packed) + _OPTION.pack(option, 1, mac)

    def _open(self, purpose: str, source: IPv6Address) -> socket.socket:
        index = find_index(self._name)
        try:
            icmp_socket = socket.socket(
                socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_ICMPV6
            )
        except OSError as error:
            raise kernel_error(purpose, error) from None
        try:
            icmp_socket.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, _accept_only(ADVERTISEMENT))
            icmp_socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._name.encode())
            icmp_socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
            icmp_socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            icmp_socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            icmp_socket.bind((str(source), 0, 0, index if source.is_link_local else 0))
        except OSError as error:
            icmp_socket.close()
            raise kernel_error(purpose, error) from None
        return icmp_socket

    def _send(self, purpose: str, icmp_socket: socket.socket, message: bytes, destination: IPv6Address) -> None:
        try:
            icmp_socket.sendto(message, (str(destination), 0, 0, find_index(self._name)))
        except OSError as error:
            raise kernel_error(purpose, error) from None


_HOP_LIMIT = (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)


def _receive_advertised(icmp_socket: socket.socket, target: IPv6Address) -> Mac | None:
    """Receive a packet: the MAC if it is an advertisement of ``target``, else None. Raises OSError."""
    data, ancillary, _, _ = icmp_socket.recvmsg(512, 64)
    hop_limits = [value for level, kind, value in ancillary if (level, kind) == _HOP_LIMIT]
    return advertised_mac(data, target) if hop_limits == [struct.pack("=i", HOP_LIMIT)] else None


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The solicited-node multicast group: the last 24 bits of the address (RFC 4291 2.7.1)."""
    return IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | int(address) & 0xFFFFFF)


def advertised_mac(message: bytes, target: IPv6Address) -> Mac | None:
    """Return the link-layer address in an advertisement of ``target``."""
    if len(message) < _MESSAGE.size:
        return None
    kind, code, _, _, advertised = _MESSAGE.unpack_from(message)
    if (kind, code, advertised) != (ADVERTISEMENT, 0, target.packed):
        return None
    offset = _MESSAGE.size
    while offset + _OPTION.size <= len(message):
        option, length, mac = _OPTION.unpack_from(message, offset)
        if length == 0:
            # RFC 4861 4.6: such a packet must be discarded.
            return None
        if option == TARGET_LINK_ADDRESS:
            return parse_mac(mac)
        offset += length * 8
    return None


def _accept_only(kind: int) -> bytes:
    """Return a struct icmp6_filter (RFC 3542 3.2) that accepts one type; set bits block a type."""
    words = [0xFFFFFFFF] * 8
    words[kind >> 5] &= ~(1 << (kind & 31)) & 0xFFFFFFFF
    return struct.pack("=8I", *words)
