"""`overlay-net node-state`: the network state of this node as JSON, for `overlay-net doctor` and `sysdump`.

It runs in the pod of an agent, so it needs neither iproute2 nor the extra ``cli``, and little memory.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from overlay_net.adapters.netlink.kernel import Kernel
from overlay_net.adapters.netlink.nftables.nat_rules import has_legacy_rules, read_nat_rules
from overlay_net.adapters.netlink.pyroute2_parts import AsyncIPRoute
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Address, Link, Observed, OwnershipMark
from overlay_net.model.names import LINK_ALIAS
from overlay_net.model.policy_rule import PolicyRule
from overlay_net.model.route import Route

PROC_SYS_NET: Final = Path("/proc/sys/net")
READ_ONLY: Final = OwnershipMark(protocol=0, alias=LINK_ALIAS)
"""Nothing is written, so the protocol does not matter."""
VIRTUAL: Final = frozenset({"veth", "ifb"})
"""Kinds of links that pods have by the hundred; their sysctls are left out."""
STATES: Final = {
    0x01: "INCOMPLETE",
    0x02: "REACHABLE",
    0x04: "STALE",
    0x08: "DELAY",
    0x10: "PROBE",
    0x20: "FAILED",
    0x80: "PERMANENT",
}
"""NUD_* (linux/neighbour.h), without the entries that nothing resolves."""


def read_node_state() -> JsonObject:
    """Return links, addresses, routes, rules, neighbours, sysctls and source translations. Raises KernelError."""
    state = asyncio.run(_read())
    try:
        state |= read_nat_rules()
    except KernelError as error:
        state["natUnread"] = str(error)
    if has_legacy_rules():
        state["natUnread"] = "the rules of iptables-legacy are not read; see iptables-legacy-save -t nat on the node"
    return state


async def _read() -> JsonObject:
    async with Kernel(READ_ONLY, PROC_SYS_NET) as kernel:
        links = (await kernel.observe_rules()).links
        observed = await kernel.observe([each.name for each in links if each.kind not in VIRTUAL])
    names = {link.index: link.name for link in observed.links}
    return _encode(observed, names) | {"neighbours": await _read_neighbours(names)}


def _encode(observed: Observed, names: Mapping[int, str]) -> JsonObject:
    return {
        "links": [_encode_link(each, names) for each in observed.links],
        "addresses": [_encode_address(each, names) for each in observed.addresses],
        "routes": [_encode_route(each, names) for each in observed.routes],
        "rules": [_encode_rule(each) for each in observed.rules],
        "sysctls": {f"{link}.{key}": value for (link, key), value in sorted(observed.sysctls.items())},
    }


def _without_empty(content: Mapping[str, Any]) -> JsonObject:
    return {key: value for key, value in content.items() if value not in (None, "", 0, (), [])}


def _encode_link(link: Link, names: Mapping[int, str]) -> JsonObject:
    return {"name": link.name, "up": link.up} | _without_empty(
        {
            "kind": link.kind,
            "alias": link.alias,
            "mac": link.mac,
            "mtu": link.mtu,
            "mode": link.mode,
            "parent": names.get(link.parent) if link.parent is not None else None,
            "master": names.get(link.master) if link.master is not None else None,
            "obstacle": link.obstacle,
            "group": link.group,
        }
    )


def _encode_address(address: Address, names: Mapping[int, str]) -> JsonObject:
    return {
        "link": names.get(address.link, ""),
        "address": str(address.interface),
        **_without_empty({"protocol": address.protocol, "metric": address.metric}),
        **({} if address.in_use else {"inUse": False}),
    }


def _encode_route(route: Route, names: Mapping[int, str]) -> JsonObject:
    return {
        "subnet": str(route.subnet),
        "links": [names.get(hop.link, "") for hop in route.next_hops],
        "table": route.table,
        "protocol": route.protocol,
    } | _without_empty(
        {
            "type": route.kind if route.kind != "unicast" else None,
            "gateways": [str(hop.gateway) for hop in route.next_hops if hop.gateway is not None],
            "metric": route.metric,
            "source": str(route.source or ""),
            "mtu": route.info.mtu,
        }
    )


def _encode_rule(rule: PolicyRule) -> JsonObject:
    return {"version": rule.version, "priority": rule.priority, "table": rule.table} | _without_empty(
        {
            "source": str(rule.source or ""),
            "protocol": rule.protocol,
            "suppressGroup": rule.suppress_group,
            "suppressPrefixLength": None if rule.suppress is None else str(rule.suppress),
        }
    )


async def _read_neighbours(names: Mapping[int, str]) -> list[JsonObject]:
    async with AsyncIPRoute() as kernel:
        found = [_encode_neighbour(each, names) async for each in await kernel.neigh("dump")]
    return sorted((each for each in found if each is not None), key=lambda each: (each["link"], each["address"]))


def _encode_neighbour(message: Any, names: Mapping[int, str]) -> JsonObject | None:
    state = STATES.get(message["state"])
    address = message.get_attr("NDA_DST")
    if state is None or not isinstance(address, str):
        return None
    entry = {"link": names.get(message["ifindex"], ""), "address": address, "state": state}
    return entry | _without_empty({"mac": message.get_attr("NDA_LLADDR")})
