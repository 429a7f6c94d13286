"""Probes of an address by ICMP echo (RFC 792, RFC 4443) and TCP connect, through a given link and source address.

If the link is empty, the kernel routes the probe; if the source is None, the kernel chooses it.

The result is whether the address answered. KernelError means that this host could not send the probe, so the state of
the target is unknown.
"""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeAlias

from overlay_net.model.errors import KernelError
from overlay_net.model.net import IpAddress
from overlay_net.runtime.answer import wait_for_answer

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

# (protocol, echo request, echo reply), by IP version.
_ECHO: Final = {4: (socket.IPPROTO_ICMP, 8, 0), 6: (socket.IPPROTO_ICMPV6, 128, 129)}
HEADER_SIZE: Final = 8
"""Type, code, checksum, identifier, sequence number."""
NO_ANSWER: Final = {errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTDOWN}
"""Neighbour resolution failed, or the target refused the connection."""


async def echo(target: IpAddress, source: IpAddress | None, link: str, timeout: float) -> bool:
    """Return whether ``target`` answers one echo request within ``timeout`` seconds. Raises KernelError.

    Uses a ping socket if ``net.ipv4.ping_group_range`` allows it, otherwise a raw socket, which needs CAP_NET_RAW.
    """
    protocol, request, reply = _ECHO[target.version]
    cookie = os.urandom(16)
    with _kernel_errors(f"ping {target}{_on(link)}"), _echo_socket(target, protocol) as probe:
        _bind(probe, source, link)
        probe.connect(_socket_address(target, 0, link))
        probe.send(echo_request(request, cookie))

        def read() -> bool | None:
            # A raw socket receives the replies to all pings of this host.
            return is_reply(probe.recv(512), reply, cookie, target.version) or None

        try:
            return await wait_for_answer(probe, read, timeout) is not None
        except OSError as error:
            if _means_no_answer(error):
                return False
            raise


async def connects(target: IpAddress, port: int, source: IpAddress | None, link: str, timeout: float) -> bool:
    """Return whether a TCP connection to ``port`` is accepted within ``timeout`` seconds. Raises KernelError."""
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6
    with (
        _kernel_errors(f"connect to port {port} of {target}{_on(link)}"),
        _socket(family, socket.SOCK_STREAM) as probe,
    ):
        _bind(probe, source, link)
        try:
            with suppress(BlockingIOError):
                probe.connect(_socket_address(target, port, link))
            return await wait_for_answer(probe, lambda: _is_connected(probe), timeout, writable=True) is not None
        except OSError as error:
            if _means_no_answer(error):
                return False
            raise


def _is_connected(probe: socket.socket) -> bool:
    """Return True once connected. Raises BlockingIOError before, and OSError if the connection failed."""
    code = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
    try:
        probe.getpeername()
    except OSError:
        raise BlockingIOError from None
    return True


def _means_no_answer(error: OSError) -> bool:
    return error.errno in NO_ANSWER


def echo_request(kind: int, cookie: bytes) -> bytes:
    type_and_code, identifier, sequence = bytes((kind, 0)), cookie[:2], bytes((0, 1))
    # The kernel computes the checksum itself, except on a raw IPv4 socket.
    total = checksum(type_and_code + identifier + sequence + cookie)
    return type_and_code + total.to_bytes(2) + identifier + sequence + cookie


def is_reply(packet: bytes, kind: int, cookie: bytes, version: int) -> bool:
    """Return whether ``packet`` is the reply. Compares the cookie, as a ping socket replaces the identifier."""
    # A raw IPv4 socket includes the IP header, which begins with 0x4N; ICMP types 64 to 79 are not echo types.
    if version == 4 and packet[:1] and packet[0] >> 4 == 4:
        packet = packet[(packet[0] & 0xF) * 4 :]
    return packet[:2] == bytes((kind, 0)) and packet[HEADER_SIZE:] == cookie


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(int.from_bytes(data[offset : offset + 2]) for offset in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _echo_socket(target: IpAddress, protocol: int) -> socket.socket:
    family = socket.AF_INET if target.version == 4 else socket.AF_INET6
    try:
        return _socket(family, socket.SOCK_DGRAM, protocol)
    except PermissionError:
        return _socket(family, socket.SOCK_RAW, protocol)


def _socket(family: int, kind: int, protocol: int = 0) -> socket.socket:
    return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)


def _bind(probe: socket.socket, source: IpAddress | None, link: str) -> None:
    if link:
        # Otherwise a route could send the probe through a link other than the gateway's.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
    if source is not None:
        probe.bind(_socket_address(source, 0, link))


def _on(link: str) -> str:
    return f" on {link}" if link else ""


def _socket_address(address: IpAddress, port: int, link: str) -> SocketAddress:
    if address.version == 4:
        return (str(address), port)
    return (str(address), port, 0, socket.if_nametoindex(link) if address.is_link_local else 0)


@contextmanager
def _kernel_errors(purpose: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        code = error.errno or 0
        raise KernelError(f"{purpose}: {os.strerror(code) if code else error}", code=code) from None
