"""Does an address answer: ICMP echo (RFC 792, RFC 4443) and TCP connect, out of one link and from one source address.

Without a link (an empty text) the kernel's routes lead there, and without a source (None) the kernel chooses one.

An answer is True, its absence False. What this machine itself cannot do raises KernelError, and says nothing about the
other one.
"""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

from overlay_net.model.errors import KernelError

Address: TypeAlias = IPv4Address | IPv6Address
SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

# (protocol, echo request, echo reply), by IP version.
_ECHO: Final = {4: (socket.IPPROTO_ICMP, 8, 0), 6: (socket.IPPROTO_ICMPV6, 128, 129)}
_HEADER = struct.Struct("!BBHHH")
NOT_THERE: Final = {errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTDOWN}
"""Its neighbour entry failed, or it refused."""


async def echo(target: Address, source: Address | None, link: str, timeout: float) -> bool:
    """Whether ``target`` answers one echo request within ``timeout`` seconds. Raises KernelError.

    Through a ping socket where ``net.ipv4.ping_group_range`` allows it, else a raw one, which needs CAP_NET_RAW.
    """
    protocol, request, reply = _ECHO[target.version]
    loop = asyncio.get_running_loop()
    cookie = os.urandom(16)
    with _translated(f"ping {target}{_on(link)}"), _echo_socket(target, protocol) as channel:
        _bind(channel, source, link)
        channel.connect(_socket_address(target, 0, link))
        channel.send(echo_request(request, cookie))
        try:
            async with asyncio.timeout(timeout):
                while not is_reply(await loop.sock_recv(channel, 512), reply, cookie, target.version):
                    # A raw socket hears the answers to everybody's pings.
                    pass
                return True
        except OSError as error:
            # TimeoutError is one of them, without a number.
            if error.errno is None or error.errno in NOT_THERE:
                return False
            raise


async def connects(target: Address, port: int, source: Address | None, link: str, timeout: float) -> bool:
    """Whether a TCP connection to ``port`` is accepted within ``timeout`` seconds. Raises KernelError."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6
    with _translated(f"connect to port {port} of {target}{_on(link)}"), _socket(family, socket.SOCK_STREAM) as channel:
        _bind(channel, source, link)
        try:
            async with asyncio.timeout(timeout):
                await loop.sock_connect(channel, _socket_address(target, port, link))
                return True
        except OSError as error:
            if error.errno is None or error.errno in NOT_THERE:
                return False
            raise


def echo_request(kind: int, cookie: bytes) -> bytes:
    identifier = int.from_bytes(cookie[:2])
    packet = _HEADER.pack(kind, 0, 0, identifier, 1) + cookie
    # The kernel fills it in itself, except on a raw IPv4 socket.
    return _HEADER.pack(kind, 0, checksum(packet), identifier, 1) + cookie


def is_reply(packet: bytes, kind: int, cookie: bytes, version: int) -> bool:
    """The identifier is not looked at: a ping socket replaces it with its own."""
    # A raw IPv4 socket gives the IP header too; an ICMP message cannot begin with 0x4N: 64 to 79 are no echo types.
    if version == 4 and packet[:1] and packet[0] >> 4 == 4:
        packet = packet[(packet[0] & 0xF) * 4 :]
    return packet[:2] == bytes((kind, 0)) and packet[_HEADER.size :] == cookie


def checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _echo_socket(target: Address, protocol: int) -> socket.socket:
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6
    try:
        return _socket(family, socket.SOCK_DGRAM, protocol)
    except PermissionError:
        return _socket(family, socket.SOCK_RAW, protocol)


def _socket(family: int, kind: int, protocol: int = 0) -> socket.socket:
    return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)


def _bind(channel: socket.socket, source: Address | None, link: str) -> None:
    if link:
        # No default route may lead the probe around the link whose gateway is in question.
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
    if source is not None:
        channel.bind(_socket_address(source, 0, link))


def _on(link: str) -> str:
    return f" on {link}" if link else ""


def _socket_address(address: Address, port: int, link: str) -> SocketAddress:
    if address.version == 4:
        return (str(address), port)
    return (str(address), port, 0, socket.if_nametoindex(link) if address.is_link_local else 0)


@contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        code = error.errno or 0
        raise KernelError(f"{what}: {os.strerror(code) if code else error}", code=code) from None
