"""Encodes and parses netlink headers and attributes (linux/netlink.h), without interpreting them.

All numbers are in the machine's byte order; messages and attributes are padded to four bytes.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Protocol

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""
ATTRIBUTE = struct.Struct("=HH")
"""struct nlattr: length, type."""
U32 = struct.Struct("=I")
I32 = struct.Struct("=i")
_ATTRIBUTE_U32 = struct.Struct("=HHI")

NLMSG_ERROR, NLMSG_DONE = 2, 3

NLM_F_REQUEST, NLM_F_ACK = 0x1, 0x4
NLM_F_DUMP = 0x300
NLM_F_DUMP_INTR = 0x10
"""Flag of an answer: the state changed during the dump, which may be inconsistent."""
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
"""Flags of an NLMSG_ERROR: only the header of the request is included; attributes follow."""

NLMSGERR_ATTR_MSG = 1
_NLA_TYPE_MASK = 0x3FFF
"""Excludes NLA_F_NESTED and NLA_F_NET_BYTEORDER."""


class FixedPart(Protocol):
    """A message class of pyroute2."""

    fields: ClassVar[Iterable[tuple[str, str]]]
    """Name and struct format of each field in front of the attributes."""


def fixed_part(message: type[FixedPart]) -> struct.Struct:
    return struct.Struct("=" + "".join(code for _, code in message.fields))


def align(length: int) -> int:
    """NLMSG_ALIGN and NLA_ALIGN."""
    return (length + 3) & ~3


def attribute(kind: int, payload: bytes) -> bytes:
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(payload), kind) + payload + bytes(-len(payload) & 3)


def attribute_u32(kind: int, value: int) -> bytes:
    return _ATTRIBUTE_U32.pack(_ATTRIBUTE_U32.size, kind, value)


def attributes(data: bytes, offset: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield (type, payload) of each attribute in ``data[offset:end]``, up to the first truncated one."""
    end = len(data) if end is None else end
    while offset + ATTRIBUTE.size <= end:
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if length < ATTRIBUTE.size or offset + length > end:
            return
        yield kind & _NLA_TYPE_MASK, data[offset + ATTRIBUTE.size : offset + length]
        offset += align(length)


def parse_u32(found: Mapping[int, bytes], kind: int, default: int) -> int:
    """Return the value of an attribute in ``found``, or ``default``."""
    payload = found.get(kind)
    return default if payload is None else int(U32.unpack(payload)[0])


def parse_text(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode(errors="replace")


def messages(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (type, flags, sequence number, start of the body, end) of each message in a datagram.

    Stops at the first truncated message.
    """
    offset, size, unpack = 0, len(data), HEADER.unpack_from
    while offset + 16 <= size:
        length, kind, flags, sequence, _ = unpack(data, offset)
        if length < 16 or offset + length > size:
            return
        yield kind, flags, sequence, offset + 16, offset + length
        offset += (length + 3) & ~3


def find_bodies(data: bytes, kind: int) -> Iterator[bytes]:
    """Yield the bodies of the messages of one type in a datagram."""
    return (data[start:end] for found, _, _, start, end in messages(data) if found == kind)


def parse_done(data: bytes, start: int, end: int) -> int:
    """Return the positive errno with which a dump ended, from its NLMSG_DONE; 0 if it is complete."""
    return max(0, -I32.unpack_from(data, start)[0]) if end - start >= I32.size else 0


def parse_error(data: bytes, flags: int, start: int, end: int) -> tuple[int, str]:
    """Parse an NLMSG_ERROR into (positive errno, the kernel's message or ""); an errno of 0 is an acknowledgement.

    struct nlmsgerr contains the negative errno, the request's header, its body unless NLM_F_CAPPED, and attributes.
    """
    code = -I32.unpack_from(data, start)[0]
    if not flags & NLM_F_ACK_TLVS or start + 20 > end:
        return code, ""
    request_length = HEADER.size if flags & NLM_F_CAPPED else align(U32.unpack_from(data, start + 4)[0])
    found = dict(attributes(data, start + 4 + request_length, end))
    return code, parse_text(found.get(NLMSGERR_ATTR_MSG, b""))
