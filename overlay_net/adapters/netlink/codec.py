"""The bytes of netlink: headers and attributes (linux/netlink.h, linux/rtnetlink.h), and nothing of what they mean.

All numbers are in the machine's byte order; attributes are padded to four bytes (NLA_ALIGNTO).
"""

import struct
from collections.abc import Iterator

HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""
ATTRIBUTE = struct.Struct("=HH")
"""struct nlattr: length, type."""
U32 = struct.Struct("=I")
I32 = struct.Struct("=i")

NLMSG_ERROR, NLMSG_DONE = 2, 3
NLMSG_LOWEST_TYPE = 16

NLM_F_REQUEST, NLM_F_ACK = 0x1, 0x4
NLM_F_DUMP = 0x300
NLM_F_DUMP_INTR = 0x10
"""Of an answer: something changed while it was put together."""
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
"""Of an NLMSG_ERROR: the request is not repeated in full; attributes follow."""

NLMSGERR_ATTR_MSG = 1
_NLA_TYPE_MASK = 0x3FFF
"""Without NLA_F_NESTED and NLA_F_NET_BYTEORDER."""


def attribute(kind: int, payload: bytes) -> bytes:
    return ATTRIBUTE.pack(4 + len(payload), kind) + payload + bytes(-len(payload) & 3)


def attributes(data: bytes, offset: int, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of each attribute of ``data[offset:end]``; whatever is cut off ends it."""
    end = len(data) if end is None else end
    while offset + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            return
        yield kind & _NLA_TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def messages(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """(type, flags, sequence number, start of the body, end) of each message of a datagram."""
    offset, size, unpack = 0, len(data), HEADER.unpack_from
    while offset + 16 <= size:
        length, kind, flags, sequence, _ = unpack(data, offset)
        if length < 16 or offset + length > size:
            return
        yield kind, flags, sequence, offset + 16, offset + length
        offset += (length + 3) & ~3


def parse_error(data: bytes, flags: int, start: int, end: int) -> tuple[int, str]:
    """(positive errno, the kernel's words or "") of an NLMSG_ERROR; an errno of 0 is an acknowledgement.

    struct nlmsgerr: the negative errno, then the request's header; its body too unless NLM_F_CAPPED; then attributes.
    """
    if start + 20 > end:
        return -I32.unpack_from(data, start)[0], ""
    request_length = U32.unpack_from(data, start + 4)[0]
    words = ""
    if flags & NLM_F_ACK_TLVS:
        skip = 20 if flags & NLM_F_CAPPED else 4 + ((request_length + 3) & ~3)
        for kind, payload in attributes(data, start + skip, end):
            if kind == NLMSGERR_ATTR_MSG:
                words = payload.rstrip(b"\0").decode(errors="replace")
    return -I32.unpack_from(data, start)[0], words
