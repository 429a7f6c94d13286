"""What this network namespace says of its links: by ioctl and in the thread's /proc.

Unlike /sys these never show those of another namespace.
"""

import errno
import fcntl
import os
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from overlay_net.adapters.neighbours.packet import Mac, mac_of
from overlay_net.model.errors import KernelError

# linux/sockios.h
SIOCGIFFLAGS = 0x8913
SIOCGIFHWADDR = 0x8927
# linux/if.h: administratively up, and operational (there is a carrier).
IFF_UP = 0x1
IFF_RUNNING = 0x40
ARPHRD_ETHER = 1
# linux/if_addr.h: an address that may not be used, or not yet.
IFA_F_DADFAILED, IFA_F_TENTATIVE = 0x08, 0x40
IF_INET6 = Path("/proc/thread-self/net/if_inet6")
"""A line for each address: 32 digits of it, then in hex link, prefix length, scope, flags; and the link's name."""
_NAME = 16
_REQUEST = 40


def is_running(name: str) -> bool:
    """Whether frames can leave: the link is up and has a carrier. Raises KernelError where there is no such link."""
    flags: int = struct.unpack_from("=H", _ask(name, SIOCGIFFLAGS), _NAME)[0]
    return bool(flags & IFF_UP and flags & IFF_RUNNING)


def hardware_address(name: str) -> Mac:
    """Raises KernelError, for a link that is not Ethernet too."""
    answer = _ask(name, SIOCGIFHWADDR)
    kind: int = struct.unpack_from("=H", answer, _NAME)[0]
    if kind != ARPHRD_ETHER:
        raise KernelError(f"{name} is no Ethernet link", code=errno.EPROTONOSUPPORT)
    return mac_of(answer[_NAME + 2 : _NAME + 8])


def find_index(name: str) -> int:
    """Raises KernelError."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise KernelError(f"there is no link {name}", code=errno.ENODEV) from None


def require_address(address: IPv4Address) -> None:
    """Raises KernelError where no link of this namespace has the address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            channel.bind((str(address), 0))
        except OSError as error:
            raise kernel_error(f"ask from {address}", error) from None


def link_local(name: str) -> IPv6Address | None:
    """The link-local address of a link, as far as it is in use; None on a kernel without IPv6 too."""
    try:
        lines = IF_INET6.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for digits, _, _, _, flags, link in (line.split() for line in lines):
        address = IPv6Address(bytes.fromhex(digits))
        if link == name and address.is_link_local and not int(flags, 16) & (IFA_F_DADFAILED | IFA_F_TENTATIVE):
            return address
    return None


def local_macs() -> frozenset[Mac]:
    """Those of every link of this namespace, whatever their kind."""
    macs = set()
    for _, name in socket.if_nameindex():
        try:
            macs.add(mac_of(_ask(name, SIOCGIFHWADDR)[_NAME + 2 : _NAME + 8]))
        except KernelError:
            # It went away between the two looks.
            continue
    return frozenset(macs)


def kernel_error(what: str, error: OSError) -> KernelError:
    code = error.errno or 0
    return KernelError(f"{what}: {os.strerror(code) if code else error}", code=code)


def _ask(name: str, request: int) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        try:
            return fcntl.ioctl(channel, request, name.encode()[: _NAME - 1].ljust(_REQUEST, b"\0"))
        except OSError as error:
            raise kernel_error(f"link {name}", error) from None
