"""Filters in the kernel for notifications, which then do not wake the process (networking/filter.rst in Linux)."""

import socket
from collections.abc import Set
from typing import Final, TypeAlias

from overlay_net.adapters.netlink.pyroute2_parts import BPF, NUD_FAILED, compile_filter, rtnl

Program: TypeAlias = list[list[int]]
"""Instructions: code, how many to skip if it holds, how many if not, constant."""

SO_ATTACH_FILTER: Final = 26

# Offsets in a notification: it is one message, which begins with struct nlmsghdr, then struct ndmsg of a neighbour.
TYPE, PORT, FAMILY, STATE = 4, 12, 16, 24

LOAD_WORD, LOAD_HALF, LOAD_BYTE = (BPF.LD | BPF.ABS | size for size in (BPF.W, BPF.H, BPF.B))
IF_EQUAL, IF_SET = BPF.JMP | BPF.JEQ | BPF.K, BPF.JMP | BPF.JSET | BPF.K
RETURN = BPF.RET | BPF.K
ACCEPT, DROP = [RETURN, 0, 0, 0xFFFFFFFF], [RETURN, 0, 0, 0]

EVERYTHING: Final[Program] = [ACCEPT]

# Constants are compared with big-endian numbers, hence htons.
LOST_NEIGHBOURS: Final[Program] = [
    [LOAD_HALF, 0, 0, TYPE],
    [IF_EQUAL, 2, 0, socket.htons(rtnl.RTM_DELNEIGH)],
    [LOAD_HALF, 0, 0, STATE],
    [IF_SET, 0, 4, socket.htons(NUD_FAILED)],
    # Forwarding entries of a bridge have another family.
    [LOAD_BYTE, 0, 0, FAMILY],
    [IF_EQUAL, 1, 0, socket.AF_INET],
    [IF_EQUAL, 0, 1, socket.AF_INET6],
    ACCEPT,
    DROP,
]
"""Neighbours that could not be resolved, or whose entry was removed."""


def except_from(ports: Set[int]) -> Program:
    """Accept all notifications but those of changes that were made through the netlink sockets with these ports.

    The header contains the port of the socket that requested the change (nlmsg_pid), or 0 for the kernel's own changes,
    which are always accepted; 0 is also the port of a socket before it is bound.
    """
    words = [socket.htonl(port) for port in sorted(ports - {0})]
    comparisons = [[IF_EQUAL, len(words) - position, 0, word] for position, word in enumerate(words)]
    return [[LOAD_WORD, 0, 0, PORT], *comparisons, ACCEPT, DROP]


def attach(connection: socket.socket, program: Program) -> None:
    """Replace the filter of the socket. Raises OSError."""
    pointer, instructions = compile_filter(program)
    connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, pointer)
    # The pointer refers to them until the kernel has copied them.
    del instructions
