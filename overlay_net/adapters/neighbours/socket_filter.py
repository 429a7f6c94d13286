"""A filter in the kernel for packet sockets: frames from one MAC (Documentation/networking/filter.rst in Linux)."""

import ctypes
import socket
import struct
from typing import Final

from overlay_net.adapters.neighbours.arp_packet import Mac, encode_mac

# asm-generic/socket.h
SO_ATTACH_FILTER: Final = 26
# linux/bpf_common.h: load a word or a half word from an offset of the frame, compare it with a constant, return.
LOAD_WORD, LOAD_HALF, JUMP_EQUAL, RETURN = 0x20, 0x28, 0x15, 0x06
SOURCE_OFFSET: Final = 6
WHOLE_FRAME, NOTHING = 0xFFFF, 0
_INSTRUCTION = struct.Struct("=HBBI")
"""struct sock_filter: code, instructions to skip if true, and if false, constant."""


def accept_only_from(packet_socket: socket.socket, source: Mac) -> None:
    """Make the kernel drop frames of other Ethernet sources before they reach the socket. Raises OSError."""
    program = encode_filter(source)
    buffer = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: number of instructions, and a pointer to them.
    packet_socket.setsockopt(
        socket.SOL_SOCKET,
        SO_ATTACH_FILTER,
        struct.pack("HP", len(program) // _INSTRUCTION.size, ctypes.addressof(buffer)),
    )


def encode_filter(source: Mac) -> bytes:
    first, last = struct.unpack("!IH", encode_mac(source))
    instructions = (
        (LOAD_WORD, 0, 0, SOURCE_OFFSET),
        (JUMP_EQUAL, 0, 3, first),
        (LOAD_HALF, 0, 0, SOURCE_OFFSET + 4),
        (JUMP_EQUAL, 0, 1, last),
        (RETURN, 0, 0, WHOLE_FRAME),
        (RETURN, 0, 0, NOTHING),
    )
    return b"".join(_INSTRUCTION.pack(*each) for each in instructions)
