"""Unchanged links and addresses are parsed once, and those that are gone are forgotten."""

from overlay_net.adapters.netlink.requests import ParsedDump


def test_only_what_changed_since_the_last_dump_is_parsed() -> None:
    parsed: list[bytes] = []

    def parse(body: bytes) -> list[bytes]:
        parsed.append(body)
        return [body]

    dump = ParsedDump(parse)
    first = dump.parse([b"eth0", b"tmp0 up"])
    assert first == [[b"eth0"], [b"tmp0 up"]]
    second = dump.parse([b"tmp0 down", b"eth0"])
    assert second == [[b"tmp0 down"], [b"eth0"]]
    assert second[1] is first[0]
    dump.parse([b"tmp0 up", b"eth0"])
    assert parsed == [b"eth0", b"tmp0 up", b"tmp0 down", b"tmp0 up"]
