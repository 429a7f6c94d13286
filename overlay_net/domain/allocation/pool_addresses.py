"""The addresses of a pool that may be handed out: all but network, broadcast, gateways and excluded ones."""

from collections.abc import Container, Iterable, Iterator
from ipaddress import IPv4Network

from overlay_net.model.ipam import CLUSTER_IPAM, Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.pool import Pool


def blocked_ranges(pool: Pool) -> list[tuple[int, int]]:
    """Return the ranges of the pool's subnet that are never handed out: inclusive, ascending and disjoint.

    Raises ValueError for a pool with an invalid spec.
    """
    if pool.cidr is None or pool.gateway is None:
        raise ValueError(f"OverlayPool {pool.name}: {pool.problem}")
    first, last = int(pool.cidr.network_address), int(pool.cidr.broadcast_address)
    ranges = [*((int(each), int(each)) for each in (pool.gateway, *pool.other_gateways)), *pool.exclude]
    if isinstance(pool.cidr, IPv4Network):
        if pool.cidr.prefixlen < 31:
            ranges += [(first, first), (last, last)]
    elif pool.cidr.prefixlen < 127:
        # The all-zero host is the Subnet-Router anycast address (RFC 4291, 2.6.1).
        ranges.append((first, first))
    merged: list[tuple[int, int]] = []
    for low, high in sorted((max(low, first), min(high, last)) for low, high in ranges):
        if low > high:
            continue
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged


def capacity(pool: Pool) -> int:
    """Return how many addresses may be handed out in total."""
    blocked = sum(high - low + 1 for low, high in blocked_ranges(pool))
    return (pool.cidr.num_addresses if pool.cidr else 0) - blocked


def may_hand_out(pool: Pool, address: IpAddress) -> bool:
    """Return whether ``address`` is in the pool's subnet and not in a blocked range."""
    if pool.cidr is None or address not in pool.cidr:
        return False
    return not any(low <= int(address) <= high for low, high in blocked_ranges(pool))


def count_usable(pool: Pool, addresses: Iterable[IpAddress]) -> int:
    """Return how many of the addresses may be handed out."""
    blocked, cidr = blocked_ranges(pool), pool.cidr
    assert cidr is not None, "blocked_ranges checks the pool"
    first, last = int(cidr.network_address), int(cidr.broadcast_address)
    numbers = (int(each) for each in addresses if each.version == cidr.version)
    inside = (number for number in numbers if first <= number <= last)
    return sum(not any(low <= number <= high for low, high in blocked) for number in inside)


def is_in_pool(reservation: Reservation, home: str, pools: Iterable[Pool]) -> bool:
    """Return whether a record blocks its address in the pool named ``home``, or that pool no longer has the address.

    A person may have moved the record to another subnet with the same range. Several pools may share one subnet, and an
    in-cluster record blocks its address in all in-cluster pools.
    """
    if reservation.pool == home:
        return True
    address = reservation.address.ip
    subnets = {pool.name: pool.subnet_id for pool in pools if pool.cidr is not None and address in pool.cidr}
    if home not in subnets:
        return True
    if reservation.ipam == CLUSTER_IPAM:
        return subnets[home] is None
    return reservation.pool in subnets and subnets[reservation.pool] == subnets[home]


def free_addresses(pool: Pool, taken: Container[IpAddress]) -> Iterator[IpAddress]:
    """Yield the addresses that may be handed out and are not ``taken``, lowest first."""
    if pool.cidr is None:
        return
    family = type(pool.cidr.network_address)
    current = int(pool.cidr.network_address)
    end = int(pool.cidr.broadcast_address)
    for low, high in [*blocked_ranges(pool), (end + 1, end + 1)]:
        for number in range(current, low):
            address = family(number)
            if address not in taken:
                yield address
        current = high + 1
