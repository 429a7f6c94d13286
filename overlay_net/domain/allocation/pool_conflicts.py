"""Pools that contradict each other or the cluster: their subnets overlap, or the gateway of one is used by another.

Nodes with different gateways in one subnet do not reach each other, and a gateway whose address a node has is cut off.
Overlapping pools still hand out addresses, as no address is handed out twice, but never the gateway of any pool.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from overlay_net.model.conditions import CONSISTENT, Condition
from overlay_net.model.ipam import QUARANTINE
from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.pool import Pool
from overlay_net.model.wording import name_some

MAX_NAMES = 5
"""Maximum number of pools that a message names."""


def with_other_gateways(pools: Iterable[Pool]) -> tuple[Pool, ...]:
    """Return the pools, each with the gateways of other pools in its subnet, which it must not hand out."""
    given = tuple(pools)
    gateways = sorted({(each.gateway.version, int(each.gateway), each.gateway) for each in given if each.gateway})
    keys = [(version, number) for version, number, _ in gateways]
    return tuple(_with_gateways(each, [gateway for _, _, gateway in gateways], keys) for each in given)


def _with_gateways(pool: Pool, gateways: Sequence[IpAddress], keys: Sequence[tuple[int, int]]) -> Pool:
    if pool.cidr is None:
        return pool
    first = bisect_left(keys, (pool.cidr.version, int(pool.cidr.network_address)))
    last = bisect_right(keys, (pool.cidr.version, int(pool.cidr.broadcast_address)))
    return replace(pool, other_gateways=tuple(each for each in gateways[first:last] if each != pool.gateway))


def find_pool_conflicts(pools: Iterable[Pool]) -> Mapping[str, Condition]:
    """Return the condition ``Consistent=False`` for each pool that contradicts another one, by name."""
    overlaps: defaultdict[str, list[Pool]] = defaultdict(list)
    found: dict[str, Pool] = {}
    for one, other in _overlapping(pools):
        found |= {one.name: one, other.name: other}
        overlaps[one.name].append(other)
        overlaps[other.name].append(one)
    return {name: _condition(pool, sorted(overlaps[name], key=lambda each: each.name)) for name, pool in found.items()}


def overlaps_cluster(
    pool: Pool, networks: Iterable[tuple[IpNetwork, str]], conflict: Condition | None
) -> Condition | None:
    """Return the condition for a pool that overlaps ``networks`` of nodes, pods or services, else ``conflict``.

    Each network has its use. Those that the pool excludes do not count: the pool is meant to be beside them.
    """
    overlapping = (f"{subnet} ({use})" for subnet, use in networks if not _excludes(pool, subnet))
    named = tuple(islice(overlapping, MAX_NAMES + 1))
    if not named:
        return conflict
    more = " and others" if len(named) > MAX_NAMES else ""
    message = (
        f"{pool.cidr} overlaps {', '.join(named[:MAX_NAMES])}{more}: traffic of a node with an overlay address to that "
        "network leaves through the overlay; use a subnet of its own"
    )
    if conflict is not None:
        return replace(conflict, message=f"{conflict.message}; {message}")
    return Condition(CONSISTENT, False, "OverlapsCluster", message)


def _excludes(pool: Pool, subnet: IpNetwork) -> bool:
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    return any(low <= first and last <= high for low, high in pool.exclude)


def gateway_in_use(pool: Pool, nodes: Iterable[str], conflict: Condition | None) -> Condition | None:
    """Return the condition for a pool whose gateway is the overlay address of ``nodes``, else ``conflict``."""
    names = sorted(set(nodes) - {QUARANTINE})
    if not names:
        return conflict
    message = (
        f"gateway {pool.gateway} is the overlay address of node {name_some(names, MAX_NAMES)}: delete its "
        "NodeOverlayIp for another address, or correct the gateway"
    )
    return Condition(CONSISTENT, False, "GatewayInUse", "; ".join((message, *([conflict.message] if conflict else []))))


def _overlapping(pools: Iterable[Pool]) -> Iterator[tuple[Pool, Pool]]:
    """Yield all pairs of pools with overlapping subnets: two subnets overlap if one contains the other."""
    known = [(pool.cidr, pool) for pool in pools if pool.cidr is not None and not pool.deleting]
    known.sort(key=lambda each: (each[0].version, int(each[0].network_address), each[0].prefixlen, each[1].name))
    enclosing: list[tuple[tuple[int, int], Pool]] = []
    for cidr, pool in known:
        while enclosing and enclosing[-1][0] < (cidr.version, int(cidr.network_address)):
            enclosing.pop()
        yield from ((each, pool) for _, each in enclosing if not _share_subnet(each, pool))
        enclosing.append(((cidr.version, int(cidr.broadcast_address)), pool))


def _share_subnet(one: Pool, other: Pool) -> bool:
    """Return whether both pools are of one phpIPAM subnet, such as that of two zones, with the same gateway."""
    return one.subnet_id is not None and one.subnet_id == other.subnet_id and one.gateway == other.gateway


def _condition(pool: Pool, others: Sequence[Pool]) -> Condition:
    named = name_some([f"{each.name} ({each.cidr}, gateway {each.gateway})" for each in others], MAX_NAMES)
    gateways = any(_holds_gateway(one, other) for each in others for one, other in ((pool, each), (each, pool)))
    reason = "GatewayInOtherPool" if gateways else "Overlap"
    effect = "; their nodes may not reach each other, and no pool assigns these gateways" if gateways else ""
    message = f"{pool.cidr} with gateway {pool.gateway} overlaps OverlayPool {named}{effect}: use disjoint subnets"
    return Condition(CONSISTENT, False, reason, message)


def _holds_gateway(pool: Pool, other: Pool) -> bool:
    """Return whether ``pool`` contains the gateway of ``other``, and has another one itself."""
    return (
        pool.cidr is not None
        and other.gateway is not None
        and other.gateway in pool.cidr
        and other.gateway != pool.gateway
    )
