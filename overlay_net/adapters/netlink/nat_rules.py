"""Reads the source translations of nftables, also those that iptables-nft writes: for people, not for the agent.

pyroute2 imports nftables with much that an agent never uses, so only `overlay-net node-state` imports this module.
"""

import socket
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink import nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFTSocket

from overlay_net.model.api import JsonObject
from overlay_net.model.errors import KernelError

MODULES: Final = Path("/proc/modules")
LEGACY_TABLES: Final = (Path("/proc/net/ip_tables_names"), Path("/proc/net/ip6_tables_names"))
FAMILIES: Final = {1: "inet", socket.AF_INET: "ip", socket.AF_INET6: "ip6"}
POSTROUTING: Final = 4
"""NF_INET_POST_ROUTING."""
ADDRESSES: Final = {4: (12, 16), 6: (8, 24)}
"""Offsets of source and destination in the header, by IP version."""
VERDICTS: Final = {"NFT_RETURN": "return", "NF_ACCEPT": "accept", "NF_DROP": "drop"}
PASSIVE: Final = frozenset({"counter", "log", "immediate"})
"""Expressions that restrict no packets."""

Expression = tuple[str, Mapping[str, Any]]
"""Name and attributes."""


def read_nat_rules() -> list[JsonObject]:
    """Return the rules that may translate sources, or exempt from it, in the order of the kernel.

    Raises KernelError. A kernel that has not loaded nftables has none; it is not loaded for the question.
    """
    if not _is_loaded():
        return []
    try:
        with NFTSocket(nfgen_family=0) as kernel:
            kernel.bind()
            chains = list(kernel.request_get(nfgen_msg(), NFT_MSG_GETCHAIN))
            rules = list(kernel.request_get(nfgen_msg(), NFT_MSG_GETRULE))
    except (NetlinkError, OSError) as error:
        raise KernelError(f"read nftables: {error}") from None
    return list(_select(chains, [_Rule(each) for each in rules]))


def has_legacy_rules() -> bool:
    """Return whether the table nat of iptables-legacy is in use, whose rules nftables does not have."""
    return any("nat" in _read(path).split() for path in LEGACY_TABLES)


def _is_loaded() -> bool:
    # A kernel without modules has it built in, or not at all.
    return not MODULES.exists() or any(line.startswith("nf_tables ") for line in _read(MODULES).splitlines())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


class _Rule:
    def __init__(self, message: Any) -> None:
        self.family = int(message["nfgen_family"])
        self.table = str(message.get_attr("NFTA_RULE_TABLE"))
        self.chain = str(message.get_attr("NFTA_RULE_CHAIN"))
        found = message.get_attr("NFTA_RULE_EXPRESSIONS") or ()
        self.expressions: list[Expression] = [
            (str(each.get_attr("NFTA_EXPR_NAME")), _attributes(each.get_attr("NFTA_EXPR_DATA"))) for each in found
        ]

    @property
    def place(self) -> tuple[int, str, str]:
        """The chain of the rule."""
        return self.family, self.table, self.chain

    def find_jumps(self) -> Iterator[str]:
        for name, attributes in self.expressions:
            verdict = _verdict(attributes) if name == "immediate" else {}
            if verdict.get("NFTA_VERDICT_CODE") in ("NFT_JUMP", "NFT_GOTO"):
                yield str(verdict["NFTA_VERDICT_CHAIN"])


Chain = tuple[int, str, str]
"""Family, table and name."""


def _select(chains: Iterable[Any], rules: list[_Rule]) -> Iterator[JsonObject]:
    """Yield the rules of the chains for translations after routing, and of those that they jump to."""
    waiting = [
        (int(each["nfgen_family"]), str(each.get_attr("NFTA_CHAIN_TABLE")), str(each.get_attr("NFTA_CHAIN_NAME")))
        for each in chains
        if each.get_attr("NFTA_CHAIN_TYPE") == "nat" and _hook(each) == POSTROUTING
    ]
    reached = _find_reached(waiting, rules)
    translations = (_Translation(rule).to_json() for rule in rules if rule.place in reached)
    return (found for found in translations if found is not None)


def _find_reached(waiting: list[Chain], rules: list[_Rule]) -> set[Chain]:
    """Return these chains, and all that they jump to."""
    reached = set[Chain]()
    while waiting:
        chain = waiting.pop()
        if chain not in reached:
            reached.add(chain)
            jumps = (target for rule in rules if rule.place == chain for target in rule.find_jumps())
            waiting += [(*chain[:2], target) for target in jumps]
    return reached


def _hook(chain: Any) -> int | None:
    hook = chain.get_attr("NFTA_CHAIN_HOOK")
    return None if hook is None else hook.get_attr("NFTA_HOOK_HOOKNUM")


class _Translation:
    """Follows the expressions of one rule: what they load into registers, compare, and do."""

    def __init__(self, rule: _Rule) -> None:
        self._rule = rule
        self._loaded: dict[str, tuple[str, int]] = {}
        """What a register has: ``saddr`` or ``daddr`` of an IP version, ``oifname``, or something else."""
        self._masks: dict[str, bytes] = {}
        self._values: dict[str, bytes] = {}
        self._found: JsonObject = {"family": FAMILIES.get(rule.family, str(rule.family)), "table": rule.table}
        self._found["chain"] = rule.chain
        self._words: list[str] = []

    def to_json(self) -> JsonObject | None:
        """Return the rule; None if it is neither a translation nor an exemption."""
        for name, attributes in self._rule.expressions:
            self._follow(name, attributes)
        if "action" not in self._found:
            return None
        return self._found | {"text": " ".join((*self._words, self._describe_action()))}

    def _describe_action(self) -> str:
        target = self._found.get("target")
        return f"{self._found['action']} to {target}" if target else str(self._found["action"])

    def _follow(self, name: str, attributes: Mapping[str, Any]) -> None:
        match name:
            case "payload":
                self._load_payload(attributes)
            case "meta":
                key = {"NFT_META_OIFNAME": "oifname", "NFT_META_MARK": "mark"}.get(attributes.get("NFTA_META_KEY", ""))
                self._loaded[str(attributes.get("NFTA_META_DREG"))] = key or "other", 0
            case "bitwise":
                mask = attributes.get("NFTA_BITWISE_MASK")
                self._masks[str(attributes.get("NFTA_BITWISE_SREG"))] = _value(mask)
            case "cmp":
                self._compare(attributes)
            case "immediate":
                self._store(attributes)
            case "masq":
                self._found["action"] = "masquerade"
            case "nat":
                self._translate(attributes)
            case "target":
                self._use_target(str(attributes.get("NFTA_TARGET_NAME")))
            case _ if name not in PASSIVE:
                # Sets, maps and matches of iptables are not followed.
                self._restrict(name)

    def _restrict(self, word: str) -> None:
        self._found["conditional"] = True
        self._words.append(f"({word})")

    def _load_payload(self, attributes: Mapping[str, Any]) -> None:
        register, offset = str(attributes.get("NFTA_PAYLOAD_DREG")), attributes.get("NFTA_PAYLOAD_OFFSET")
        network = attributes.get("NFTA_PAYLOAD_BASE") == "NFT_PAYLOAD_NETWORK_HEADER"
        self._masks.pop(register, None)
        for version, offsets in ADDRESSES.items():
            is_family = self._rule.family == {4: socket.AF_INET, 6: socket.AF_INET6}[version]
            if network and is_family and offset in offsets:
                self._loaded[register] = ("saddr", "daddr")[offsets.index(offset)], version
                return
        self._loaded[register] = "other", 0

    def _compare(self, attributes: Mapping[str, Any]) -> None:
        register = str(attributes.get("NFTA_CMP_SREG"))
        kind, version = self._loaded.get(register, ("other", 0))
        value, inverted = _value(attributes.get("NFTA_CMP_DATA")), attributes.get("NFTA_CMP_OP") != "NFT_CMP_EQ"
        sign = "!= " if inverted else ""
        match kind:
            case "saddr" | "daddr":
                network = _network(value, self._masks.get(register), version)
                self._words.append(f"{kind} {sign}{network}")
                self._found["source" if kind == "saddr" else "destination"] = network
                if inverted and kind == "daddr":
                    self._found["inverted"] = True
            case "oifname" if not inverted:
                self._found["output"] = value.rstrip(b"\0").decode(errors="replace")
                self._words.append(f"oifname {self._found['output']}")
            case _:
                self._restrict(kind)

    def _store(self, attributes: Mapping[str, Any]) -> None:
        verdict = VERDICTS.get(str(_verdict(attributes).get("NFTA_VERDICT_CODE")))
        if verdict is not None:
            self._found["action"] = verdict
        self._values[str(attributes.get("NFTA_IMMEDIATE_DREG"))] = _value(attributes.get("NFTA_IMMEDIATE_DATA"))

    def _translate(self, attributes: Mapping[str, Any]) -> None:
        if attributes.get("NFTA_NAT_TYPE") != "NFT_NAT_SNAT":
            return
        address = self._values.get(str(attributes.get("NFTA_NAT_REG_ADDR_MIN")), b"")
        self._found["action"] = "snat"
        if len(address) in (4, 16):
            self._found["target"] = str(ip_address(address))

    def _use_target(self, name: str) -> None:
        """Follow a target of iptables, whose arguments are not read."""
        action = {"MASQUERADE": "masquerade", "SNAT": "snat"}.get(name)
        if action is not None:
            self._found["action"] = action
        if action == "snat":
            self._restrict("unread target")


def _attributes(data: Any) -> Mapping[str, Any]:
    return dict(data["attrs"]) if data is not None and "attrs" in data else {}


def _verdict(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    return _attributes(_attributes(attributes.get("NFTA_IMMEDIATE_DATA")).get("NFTA_DATA_VERDICT"))


def _value(data: Any) -> bytes:
    value = _attributes(data).get("NFTA_DATA_VALUE", b"")
    return value if isinstance(value, bytes) else b""


def _network(value: bytes, mask: bytes | None, version: int) -> str:
    size = 4 if version == 4 else 16
    bits = int.from_bytes(mask).bit_count() if mask else 8 * len(value)
    return str(ip_network((value.ljust(size, b"\0")[:size], bits), strict=False))
