"""Reads the rules that translate sources after routing in the order of the kernel, also those of iptables-nft.

pyroute2 imports nftables with much that an agent never uses, so only `overlay-net node-state` imports this package.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.nfnetlink import nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFTSocket

from overlay_net.adapters.netlink.nftables.address_sets import AddressSets
from overlay_net.adapters.netlink.nftables.expressions import FAMILIES, describe_rule
from overlay_net.adapters.netlink.nftables.rule_messages import Chain, Rule
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import KernelError

MODULES: Final = Path("/proc/modules")
LEGACY_TABLES: Final = (Path("/proc/net/ip_tables_names"), Path("/proc/net/ip6_tables_names"))
POSTROUTING: Final = 4
"""NF_INET_POST_ROUTING."""


def read_nat_rules() -> JsonObject:
    """Return ``natHooks``, the chains where the kernel begins, in its order, and ``nat``, the rules that they reach.

    Raises KernelError. A kernel that has not loaded nftables has none; it is not loaded for the question.
    """
    if not _is_loaded():
        return {"natHooks": [], "nat": []}
    try:
        with NFTSocket(nfgen_family=0) as kernel:
            kernel.bind()
            hooks = _find_hooks(kernel.request_get(nfgen_msg(), NFT_MSG_GETCHAIN))
            rules = [Rule(each) for each in kernel.request_get(nfgen_msg(), NFT_MSG_GETRULE)]
        reached = _find_reached(hooks, rules)
        with AddressSets() as sets:
            described = [describe_rule(rule, sets) for rule in rules if rule.place in reached]
    except (NetlinkError, OSError) as error:
        raise KernelError(f"read nftables: {error}") from None
    places = [
        {"family": FAMILIES.get(family, str(family)), "table": table, "chain": name} for family, table, name in hooks
    ]
    return {"natHooks": places, "nat": [each for each in described if each is not None]}


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


def _find_hooks(chains: Iterable[Any]) -> Sequence[Chain]:
    """Return the chains that the kernel begins with, those with the lowest priority first."""
    found = []
    for each in chains:
        hook = each.get_attr("NFTA_CHAIN_HOOK")
        if each.get_attr("NFTA_CHAIN_TYPE") == "nat" and hook and hook.get_attr("NFTA_HOOK_HOOKNUM") == POSTROUTING:
            table, name = str(each.get_attr("NFTA_CHAIN_TABLE")), str(each.get_attr("NFTA_CHAIN_NAME"))
            found.append((hook.get_attr("NFTA_HOOK_PRIORITY"), (int(each["nfgen_family"]), table, name)))
    return [place for _, place in sorted(found, key=lambda each: each[0])]


def _find_reached(hooks: Sequence[Chain], rules: Sequence[Rule]) -> set[Chain]:
    """Return these chains, and all that they jump to."""
    reached, waiting = set[Chain](), list(hooks)
    while waiting:
        chain = waiting.pop()
        if chain not in reached:
            reached.add(chain)
            jumps = (target for rule in rules if rule.place == chain for target in rule.find_jumps())
            waiting += [(*chain[:2], target) for target in jumps]
    return reached
