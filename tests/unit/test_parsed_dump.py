"""Unchanged links and addresses are parsed once, and those that are gone are forgotten."""

import struct

from overlay_net.adapters.netlink.parsed_dump import ParsedDump

NEW_LINK, DONE = 16, 3


def message(body: bytes, kind: int = NEW_LINK) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def test_only_what_changed_since_the_last_dump_is_parsed() -> None:
    parsed: list[bytes] = []

    def parse(body: bytes) -> list[bytes] | None:
        parsed.append(body)
        return None if body == b"none" else [body]

    dump = ParsedDump(NEW_LINK, parse, tuple[list[bytes], ...])
    eth0, tmp0, down, none = (message(body) for body in (b"eth0", b"tmp0", b"down", b"none"))
    end = message(b"done", DONE)
    first = dump.parse([eth0 + tmp0, none + end])
    assert first == ([b"eth0"], [b"tmp0"])
    assert dump.parse([eth0 + tmp0, none + end]) is first
    second = dump.parse([down + eth0, none, end])
    assert second == ([b"down"], [b"eth0"])
    assert second[1] is first[0]
    assert dump.parse([tmp0 + eth0, eth0 + end]) == ([b"tmp0"], [b"eth0"], [b"eth0"])
    assert parsed == [b"eth0", b"tmp0", b"none", b"down", b"tmp0"]
