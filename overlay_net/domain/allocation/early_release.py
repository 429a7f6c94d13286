"""Which deleted nodes lose the reservation for their return, because other nodes wait for an address of a full pool.

Only the wait for their return is skipped: their addresses are fenced like all others before they are released.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from overlay_net.model.net import IpAddress, IpNetwork
from overlay_net.model.node import Node
from overlay_net.model.pool import Pool

Subnets: TypeAlias = tuple[IpNetwork, ...]


@dataclass(frozen=True, slots=True)
class GoneNode:
    """The NodeOverlayIp of a deleted Node."""

    name: str
    address: IpAddress
    gone_since: datetime


def find_early_releases(
    waiting: Iterable[Subnets], gone: Iterable[GoneNode], fenced: Collection[IpAddress]
) -> frozenset[str]:
    """Return the names of the gone nodes to release, as many as nodes wait, the first gone first.

    ``waiting`` has the subnets of each node that found all its pools full, ``fenced`` the addresses that are being
    released already.
    """
    oldest = sorted(gone, key=lambda each: (each.gone_since, each.name))
    coming = set(fenced)
    released: set[str] = set()
    for subnets, count in Counter(waiting).items():
        expected = sorted((each for each in coming if _contain(subnets, each)), key=int)[:count]
        # Each address is for one waiting node.
        coming.difference_update(expected)
        useful = [each.name for each in oldest if each.name not in released and _contain(subnets, each.address)]
        released.update(useful[: count - len(expected)])
    return frozenset(released)


def subnets_for(node: Node, pools: Iterable[Pool]) -> Subnets:
    """Return the subnets that a node without an address may get one from: those of one IP family, see placement."""
    serving = (pool for pool in pools if pool.serves(node) and not pool.deleting)
    subnets = [pool.cidr for pool in serving if pool.cidr is not None]
    return tuple(each for each in subnets if each.version == subnets[0].version)


def _contain(subnets: Iterable[IpNetwork], address: IpAddress) -> bool:
    return any(address in subnet for subnet in subnets)
