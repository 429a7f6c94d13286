"""Matches and targets of iptables as the kernel dumps them, in forms that the iptables of the tests does not write."""

import socket
import struct
from typing import Any

import pytest

from overlay_net.adapters.netlink.nftables.xtables import read_match, read_target


class Sets:
    """Two ipsets; the second one is not of addresses alone."""

    def read_ipset(self, index: int) -> tuple[str, list[str] | None]:
        return [("pools", ["10.244.0.0/16"]), ("ports", None)][index]


def as_dumped(data: bytes) -> str:
    return data.hex(":")


@pytest.mark.parametrize(
    ("name", "revision", "data", "expected"),
    [
        # xt_mark_mtinfo1: older versions of iptables-nft write it.
        ("mark", 1, struct.pack("=IIB3x", 0x4000, 0x4000, 1), {"field": "mark", "value": 0x4000, "mask": 0x4000}),
        # xt_addrtype_info_v1: source and destination, and what is inverted.
        ("addrtype", 1, struct.pack("=HHI", 4, 0, 1), {"field": "sourceType", "local": True}),
        # xt_set_info: index, dimensions, and flags for inverted and for the source.
        ("set", 4, struct.pack("=HBB", 0, 1, 3), {"field": "source", "networks": ["10.244.0.0/16"], "set": "pools"}),
    ],
)
def test_an_inverted_match_is_read(name: str, revision: int, data: bytes, expected: dict[str, Any]) -> None:
    attributes = {"NFTA_MATCH_NAME": name, "NFTA_MATCH_REV": revision, "NFTA_MATCH_INFO": as_dumped(data)}
    assert read_match(attributes, Sets()) == [{**expected, "inverted": True}]


@pytest.mark.parametrize(
    ("name", "revision", "data", "text"),
    [
        ("mark", 0, b"", "mark"),
        # Of the interface; of broadcasts.
        ("addrtype", 1, struct.pack("=HHI", 0, 4, 8), "addrtype"),
        ("addrtype", 1, struct.pack("=HHI", 0, 8, 0), "addrtype"),
        ("set", 4, struct.pack("=HBB", 1, 1, 2), "@ports"),
        # Of address and port.
        ("set", 4, struct.pack("=HBB", 0, 2, 2), "@pools"),
        ("physdev", 0, b"", "physdev"),
    ],
)
def test_a_match_that_is_not_known_is_unread(name: str, revision: int, data: bytes, text: str) -> None:
    attributes = {"NFTA_MATCH_NAME": name, "NFTA_MATCH_REV": revision, "NFTA_MATCH_INFO": as_dumped(data)}
    assert read_match(attributes, Sets()) == [{"field": "unread", "text": text}]


ADDRESS = bytes((10, 0, 0, 9))


@pytest.mark.parametrize(
    ("revision", "data", "expected"),
    [
        # nf_nat_ipv4_multi_range_compat; nf_nat_range2; only ports.
        (0, struct.pack("=II4s", 1, 1, ADDRESS), {"target": "10.0.0.9"}),
        (2, struct.pack("=I4s12x", 1, ADDRESS), {"target": "10.0.0.9"}),
        (2, struct.pack("=I16x", 2), {}),
    ],
)
def test_the_source_that_a_target_sets_is_read(revision: int, data: bytes, expected: dict[str, str]) -> None:
    attributes = {"NFTA_TARGET_NAME": "SNAT", "NFTA_TARGET_REV": revision, "NFTA_TARGET_INFO": as_dumped(data)}
    assert read_target(attributes, socket.AF_INET) == {"action": "snat", **expected}
