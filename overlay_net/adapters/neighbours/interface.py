"""Properties of links in this network namespace, read by ioctl and from the thread's /proc.

Unlike /sys, both never show links of another namespace.
"""

import errno
import fcntl
import os
import socket
import sys
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from overlay_net.adapters.neighbours.arp_packet import Mac, parse_mac
from overlay_net.model.errors import KernelError

# linux/sockios.h
SIOCGIFFLAGS = 0x8913
SIOCGIFHWADDR = 0x8927
# linux/if.h: administratively up, and operational (there is a carrier).
IFF_UP = 0x1
IFF_RUNNING = 0x40
ARPHRD_ETHER = 1
# linux/if_addr.h: an address that failed duplicate address detection, or is still being checked.
IFA_F_DADFAILED, IFA_F_TENTATIVE = 0x08, 0x40
IF_INET6 = Path("/proc/thread-self/net/if_inet6")
"""One line per address: its 32 hex digits; link index, prefix length, scope and flags in hex; the link's name."""
IPV6_SYSCTLS = Path("/proc/sys/net/ipv6/conf")
"""Of the namespace of the thread that opens a file below."""
IFNAMSIZ = 16
IFREQ_SIZE = 40


def is_running(name: str) -> bool:
    """Return whether the link is up and has a carrier. Raises KernelError if the link does not exist."""
    flags = _short(_ioctl(name, SIOCGIFFLAGS))
    return bool(flags & IFF_UP and flags & IFF_RUNNING)


def hardware_address(name: str) -> Mac:
    """Return the MAC of a link. Raises KernelError, also if the link is not Ethernet."""
    answer = _ioctl(name, SIOCGIFHWADDR)
    if _short(answer) != ARPHRD_ETHER:
        raise KernelError(f"{name} is not an Ethernet link", code=errno.EPROTONOSUPPORT)
    return parse_mac(answer[IFNAMSIZ + 2 : IFNAMSIZ + 8])


def is_router(name: str) -> bool:
    """Return whether the link forwards IPv6, so that the kernel advertises its addresses as those of a router."""
    try:
        return (IPV6_SYSCTLS / name / "forwarding").read_text(encoding="ascii").strip() != "0"
    except OSError:
        return False


def find_index(name: str) -> int:
    """Return the index of a link. Raises KernelError if the link does not exist."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise KernelError(f"no link {name}", code=errno.ENODEV) from None


def require_address(address: IPv4Address) -> None:
    """Raise KernelError unless the address is configured in this namespace."""
    try:
        with _udp_socket() as udp_socket:
            udp_socket.bind((str(address), 0))
    except OSError as error:
        raise kernel_error(f"send ARP from {address}", error) from None


def link_local(name: str) -> IPv6Address | None:
    """Return the link-local address of a link; None until it is in use, or on a kernel without IPv6."""
    try:
        lines = IF_INET6.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for digits, _, _, _, flags, link in (line.split() for line in lines):
        address = IPv6Address(bytes.fromhex(digits))
        if link == name and address.is_link_local and not int(flags, 16) & (IFA_F_DADFAILED | IFA_F_TENTATIVE):
            return address
    return None


def kernel_error(purpose: str, error: OSError) -> KernelError:
    code = error.errno or 0
    return KernelError(f"{purpose}: {os.strerror(code) if code else error}", code=code)


def _ioctl(name: str, request: int) -> bytes:
    try:
        with _udp_socket() as udp_socket:
            return fcntl.ioctl(udp_socket, request, name.encode()[: IFNAMSIZ - 1].ljust(IFREQ_SIZE, b"\0"))
    except OSError as error:
        raise kernel_error(f"link {name}", error) from None


def _udp_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def _short(answer: bytes) -> int:
    """Return the number that follows the name in struct ifreq."""
    return int.from_bytes(answer[IFNAMSIZ : IFNAMSIZ + 2], sys.byteorder)
