"""A filter in the kernel for packet sockets: frames from one MAC (Documentation/networking/filter.rst in Linux)."""

import ctypes
import socket
from typing import Final

from overlay_net.adapters.neighbours.arp_packet import Mac, encode_mac

# asm-generic/socket.h
SO_ATTACH_FILTER: Final = 26
# linux/bpf_common.h: load a word or a half word from an offset of the frame, compare it with a constant, return.
LOAD_WORD, LOAD_HALF, JUMP_EQUAL, RETURN = 0x20, 0x28, 0x15, 0x06
SOURCE_OFFSET: Final = 6
WHOLE_FRAME, NOTHING = 0xFFFF, 0


class Instruction(ctypes.Structure):
    """struct sock_filter"""

    _fields_ = (
        ("code", ctypes.c_uint16),
        ("skipped_if_true", ctypes.c_uint8),
        ("skipped_if_false", ctypes.c_uint8),
        ("constant", ctypes.c_uint32),
    )


class Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(Instruction)))


def accept_only_from(packet_socket: socket.socket, source: Mac) -> None:
    """Make the kernel drop frames of other Ethernet sources before they reach the socket. Raises OSError."""
    mac = encode_mac(source)
    # The kernel loads numbers as big-endian.
    first, last = int.from_bytes(mac[:4]), int.from_bytes(mac[4:])
    instructions = (
        Instruction(LOAD_WORD, 0, 0, SOURCE_OFFSET),
        Instruction(JUMP_EQUAL, 0, 3, first),
        Instruction(LOAD_HALF, 0, 0, SOURCE_OFFSET + 4),
        Instruction(JUMP_EQUAL, 0, 1, last),
        Instruction(RETURN, 0, 0, WHOLE_FRAME),
        Instruction(RETURN, 0, 0, NOTHING),
    )
    program = Program(len(instructions), (Instruction * len(instructions))(*instructions))
    packet_socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
