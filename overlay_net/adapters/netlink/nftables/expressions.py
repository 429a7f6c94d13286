"""Follows the expressions of one rule of nftables: what they load into registers, compare, and do."""

import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final

from overlay_net.adapters.netlink.nftables import xtables
from overlay_net.adapters.netlink.nftables.address_sets import AddressSets
from overlay_net.adapters.netlink.nftables.matches import Match, describe_match
from overlay_net.adapters.netlink.nftables.rule_messages import Rule, find_value, find_verdict
from overlay_net.model.api import JsonObject

FAMILIES: Final = {1: "inet", socket.AF_INET: "ip", socket.AF_INET6: "ip6"}
VERSIONS: Final[Mapping[int, int]] = {socket.AF_INET: 4, socket.AF_INET6: 6}
ADDRESSES: Final = {12: ("source", 4), 16: ("destination", 4), 8: ("source", 6), 24: ("destination", 6)}
"""What is at these offsets of an IP header, and in which version."""
VERDICTS: Final = {
    "NFT_RETURN": "return",
    "NF_ACCEPT": "accept",
    "NF_DROP": "drop",
    "NFT_JUMP": "jump",
    "NFT_GOTO": "goto",
}
META: Final = {"NFT_META_OIFNAME": "output", "NFT_META_MARK": "mark", "NFT_META_NFPROTO": "version"}
META_WORDS: Final = {"NFT_META_L4PROTO": "protocol", "NFT_META_IIFNAME": "iifname", "NFT_META_OIF": "oif"}
UNREAD: Final = "unread"
"""What a register has if it is not examined."""
PASSIVE: Final = frozenset({"counter", "log"})
"""Expressions that restrict no packets."""
EQUAL: Final = {"NFT_CMP_EQ": False, "NFT_CMP_NEQ": True}
"""Whether a comparison is inverted; others compare ranges."""
ADDRESS_TYPE: Final = frozenset({"NFT_FIB_RESULT_UNSPEC", "NFT_FIB_RESULT_OIF"})
FIB_KEYS: Final = {"NFTA_FIB_F_DADDR": "sourceType", "NFTA_FIB_F_MARK": "destinationType"}
"""pyroute2 takes the result of fib, the number 3, for flags, and its flags, 1 and 2, for numbers that start at 0."""
RTN_LOCAL: Final = 2


def describe_rule(rule: Rule, sets: AddressSets) -> JsonObject | None:
    """Return what the rule does with which packets; None if it neither translates nor decides where to go on."""
    return _Follower(rule, sets).describe()


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What a register has."""

    field: str
    """That of a match."""
    version: int = 0
    """Of IP, if it is an address."""
    word: str = ""
    """Names what is not examined."""


class _Follower:
    def __init__(self, rule: Rule, sets: AddressSets) -> None:
        self._rule, self._sets = rule, sets
        self._loaded: dict[str, _Loaded] = {}
        self._masks: dict[str, bytes] = {}
        self._values: dict[str, bytes] = {}
        self._matches: list[Match] = []
        self._action: JsonObject = {}

    def describe(self) -> JsonObject | None:
        for name, attributes in self._rule.expressions:
            self._follow(name, attributes)
        if not self._action:
            return None
        family = FAMILIES.get(self._rule.family, str(self._rule.family))
        place = {"family": family, "table": self._rule.table, "chain": self._rule.chain}
        words = [text for text in map(describe_match, self._matches) if text]
        words.append(str(self._action["action"]))
        if "target" in self._action:
            words += ["to", str(self._action["target"])]
        elif "to" in self._action:
            words.append(str(self._action["to"]))
        return place | self._action | {"matches": self._matches, "text": " ".join(words)}

    def _follow(self, name: str, attributes: Mapping[str, Any]) -> None:
        match name:
            case "payload":
                self._load_payload(attributes)
            case "meta" if "NFTA_META_DREG" in attributes:
                key = str(attributes.get("NFTA_META_KEY"))
                self._load(attributes["NFTA_META_DREG"], _Loaded(META.get(key, UNREAD), word=META_WORDS.get(key, name)))
            case "fib":
                kind = FIB_KEYS.get(str(attributes.get("NFTA_FIB_FLAGS")), UNREAD)
                is_type = attributes.get("NFTA_FIB_RESULT") == ADDRESS_TYPE
                self._load(attributes.get("NFTA_FIB_DREG"), _Loaded(kind if is_type else UNREAD, word=name))
            case "bitwise":
                self._mask(attributes)
            case "cmp":
                self._compare(attributes)
            case "lookup":
                self._look_up(attributes)
            case "match":
                self._matches += xtables.read_match(attributes, self._sets)
            case "immediate":
                self._store(attributes)
            case "masq" | "nat" | "target":
                self._translate(name, attributes)
            case "meta" | "redir":
                pass
            case _ if name not in PASSIVE:
                register = next((value for key, value in attributes.items() if key.endswith("_DREG")), None)
                if register is None:
                    self._restrict(name)
                else:
                    self._load(register, _Loaded(UNREAD, word=name))

    def _load(self, register: Any, content: _Loaded) -> None:
        self._loaded[str(register)] = content
        self._masks.pop(str(register), None)

    def _restrict(self, word: str) -> None:
        unread: Match = {"field": UNREAD, "text": word}
        if unread not in self._matches:
            self._matches.append(unread)

    def _load_payload(self, attributes: Mapping[str, Any]) -> None:
        base = str(attributes.get("NFTA_PAYLOAD_BASE"))
        kind, version = ADDRESSES.get(attributes.get("NFTA_PAYLOAD_OFFSET", 0), (UNREAD, 0))
        if base != "NFT_PAYLOAD_NETWORK_HEADER" or VERSIONS.get(self._rule.family, version) != version:
            kind = UNREAD
        word = "port" if base == "NFT_PAYLOAD_TRANSPORT_HEADER" else "header"
        self._load(attributes.get("NFTA_PAYLOAD_DREG"), _Loaded(kind, version, word))

    def _mask(self, attributes: Mapping[str, Any]) -> None:
        register = str(attributes.get("NFTA_BITWISE_SREG"))
        if any(find_value(attributes.get("NFTA_BITWISE_XOR"))):
            self._loaded[register] = _Loaded(UNREAD, word="bitwise")
        self._masks[register] = find_value(attributes.get("NFTA_BITWISE_MASK"))

    def _compare(self, attributes: Mapping[str, Any]) -> None:
        register = str(attributes.get("NFTA_CMP_SREG"))
        loaded = self._loaded.get(register, _Loaded(UNREAD, word="register"))
        value, mask = find_value(attributes.get("NFTA_CMP_DATA")), self._masks.get(register)
        inverted = EQUAL.get(str(attributes.get("NFTA_CMP_OP")))
        found: Match = {"field": loaded.field}
        match loaded.field:
            case _ if inverted is None:
                self._restrict("range")
                return
            case "source" | "destination":
                found["networks"] = [_network(value, mask, loaded.version)]
            case "output":
                # A name without its end is the beginning of a name.
                name = value.rstrip(b"\0").decode(errors="replace")
                found["name"] = name if value.endswith(b"\0") or len(value) == 16 else f"{name}*"
            case "mark":
                found |= {"value": _number(value), "mask": _number(mask) if mask else 0xFFFFFFFF}
            case "sourceType" | "destinationType":
                found["local"] = _number(value) == RTN_LOCAL
            case "version":
                found["version"] = VERSIONS.get(int.from_bytes(value), 0)
            case _:
                self._restrict(loaded.word)
                return
        self._matches.append(found | ({"inverted": True} if inverted else {}))

    def _look_up(self, attributes: Mapping[str, Any]) -> None:
        loaded = self._loaded.get(str(attributes.get("NFTA_LOOKUP_SREG")), _Loaded(UNREAD))
        name = str(attributes.get("NFTA_LOOKUP_SET"))
        networks = self._sets.read_nft_set(self._rule.family, self._rule.table, name, loaded.version)
        if "NFTA_LOOKUP_DREG" in attributes or networks is None:
            # A map, or a set of something else.
            self._load(attributes.get("NFTA_LOOKUP_DREG"), _Loaded(UNREAD, word=f"@{name}"))
            self._restrict(f"@{name}")
            return
        # The name of an anonymous set means nothing.
        named = {} if name.startswith("__") else {"set": name}
        found: Match = {"field": loaded.field, "networks": networks} | named
        inverted = "NFT_LOOKUP_F_INV" in (attributes.get("NFTA_LOOKUP_FLAGS") or ())
        self._matches.append(found | ({"inverted": True} if inverted else {}))

    def _store(self, attributes: Mapping[str, Any]) -> None:
        verdict = find_verdict(attributes)
        action = VERDICTS.get(str(verdict.get("NFTA_VERDICT_CODE")))
        if action is not None:
            chain = verdict.get("NFTA_VERDICT_CHAIN")
            self._action = {"action": action} | ({"to": str(chain)} if chain else {})
        self._values[str(attributes.get("NFTA_IMMEDIATE_DREG"))] = find_value(attributes.get("NFTA_IMMEDIATE_DATA"))

    def _translate(self, name: str, attributes: Mapping[str, Any]) -> None:
        if name == "masq":
            self._action = {"action": "masquerade"}
        elif name == "target":
            self._action = xtables.read_target(attributes, self._rule.family) or self._action
        elif attributes.get("NFTA_NAT_TYPE") == "NFT_NAT_SNAT":
            address = self._values.get(str(attributes.get("NFTA_NAT_REG_ADDR_MIN")), b"")
            target = {"target": str(ip_address(address))} if len(address) in (4, 16) else {}
            self._action = {"action": "snat"} | target


def _number(value: bytes) -> int:
    return int.from_bytes(value, sys.byteorder)


def _network(value: bytes, mask: bytes | None, version: int) -> str:
    size = 4 if version == 4 else 16
    bits = int.from_bytes(mask).bit_count() if mask else 8 * len(value)
    return str(ip_network((value.ljust(size, b"\0")[:size], bits), strict=False))
