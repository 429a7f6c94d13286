"""IPv6's part of it: unsolicited advertisements and solicitations over raw ICMPv6 (RFC 4861).

Duplicate address detection is the kernel's own for IPv6: an address that is added without ``nodad`` is tentative until
the kernel has asked, and carries IFA_F_DADFAILED where somebody else has it (linux/if_addr.h, RFC 4862 5.4).
"""

import asyncio
import socket
import struct
from contextlib import closing
from ipaddress import IPv6Address
from typing import Final

from overlay_net.adapters.neighbours.interface import find_index, hardware_address, kernel_error
from overlay_net.adapters.neighbours.packet import Mac, mac_of, packed

SOLICITATION: Final = 135
ADVERTISEMENT: Final = 136
OVERRIDE: Final = 0x20000000
SOURCE_LINK_ADDRESS: Final = 1
TARGET_LINK_ADDRESS: Final = 2
ALL_NODES: Final = IPv6Address("ff02::1")
HOP_LIMIT: Final = 255
"""So that no packet that was forwarded is believed (RFC 4861 7.1)."""
ICMP6_FILTER: Final = 1
"""linux/icmpv6.h"""

# Type, code, checksum (filled in by the kernel), flags, target.
_MESSAGE = struct.Struct("!BBHI16s")
_OPTION = struct.Struct("!BB6s")


class NeighbourDiscovery:
    """On one link; each request has a socket of its own, so that a link may come and go. Needs CAP_NET_RAW."""

    def __init__(self, name: str) -> None:
        self._name = name

    def announce(self, address: IPv6Address) -> None:
        """Tell all nodes of the link that the address is here (RFC 4861 7.2.6).

        Raises KernelError, with EADDRNOTAVAIL while the kernel itself still looks for duplicates.
        """
        what = f"advertise {address} on {self._name}"
        message = self._message(ADVERTISEMENT, OVERRIDE, address, TARGET_LINK_ADDRESS)
        with closing(self._open(what, address)) as channel:
            self._send(what, channel, message, ALL_NODES)

    async def resolve(self, target: IPv6Address, source: IPv6Address, timeout: float = 0.4) -> Mac | None:
        """The MAC that answers for ``target`` in time (RFC 4861 7.2), or None. Raises KernelError: not known."""
        what = f"solicit {target} on {self._name}"
        message = self._message(SOLICITATION, 0, target, SOURCE_LINK_ADDRESS)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Mac] = loop.create_future()

        def readable() -> None:
            try:
                data, ancillary, _, _ = channel.recvmsg(512, 64)
            except BlockingIOError:
                return
            except OSError as error:
                if not answer.done():
                    answer.set_exception(kernel_error(what, error))
                return
            limits = [value for level, kind, value in ancillary if (level, kind) == _HOP_LIMIT]
            if limits == [struct.pack("=i", HOP_LIMIT)] and not answer.done():
                mac = advertised(data, target)
                if mac is not None:
                    answer.set_result(mac)

        with closing(self._open(what, source)) as channel:
            loop.add_reader(channel, readable)
            try:
                self._send(what, channel, message, solicited_node(target))
                async with asyncio.timeout(timeout):
                    return await answer
            except TimeoutError:
                return None
            finally:
                loop.remove_reader(channel)

    def _message(self, kind: int, flags: int, target: IPv6Address, option: int) -> bytes:
        mac = packed(hardware_address(self._name))
        return _MESSAGE.pack(kind, 0, 0, flags, target.packed) + _OPTION.pack(option, 1, mac)

    def _open(self, what: str, source: IPv6Address) -> socket.socket:
        index = find_index(self._name)
        try:
            channel = socket.socket(
                socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_ICMPV6
            )
        except OSError as error:
            raise kernel_error(what, error) from None
        try:
            channel.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, _only(ADVERTISEMENT))
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._name.encode())
            channel.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
            channel.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            channel.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            channel.bind((str(source), 0, 0, index if source.is_link_local else 0))
        except OSError as error:
            channel.close()
            raise kernel_error(what, error) from None
        return channel

    def _send(self, what: str, channel: socket.socket, message: bytes, destination: IPv6Address) -> None:
        try:
            channel.sendto(message, (str(destination), 0, 0, find_index(self._name)))
        except OSError as error:
            raise kernel_error(what, error) from None


_HOP_LIMIT = (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The multicast group of its last 24 bits (RFC 4291 2.7.1)."""
    return IPv6Address(int(IPv6Address("ff02::1:ff00:0")) | int(address) & 0xFFFFFF)


def advertised(message: bytes, target: IPv6Address) -> Mac | None:
    """The link-layer address in an advertisement of ``target``."""
    if len(message) < _MESSAGE.size:
        return None
    kind, code, _, _, about = _MESSAGE.unpack_from(message)
    if (kind, code, about) != (ADVERTISEMENT, 0, target.packed):
        return None
    offset = _MESSAGE.size
    while offset + _OPTION.size <= len(message):
        option, length, mac = _OPTION.unpack_from(message, offset)
        if length == 0:
            # RFC 4861 4.6: such a packet is to be discarded.
            return None
        if option == TARGET_LINK_ADDRESS:
            return mac_of(mac)
        offset += length * 8
    return None


def _only(kind: int) -> bytes:
    """A struct icmp6_filter (RFC 3542 3.2) that lets one type through: set bits block."""
    words = [0xFFFFFFFF] * 8
    words[kind >> 5] &= ~(1 << (kind & 31)) & 0xFFFFFFFF
    return struct.pack("=8I", *words)
