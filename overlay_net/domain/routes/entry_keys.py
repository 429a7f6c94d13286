"""The keys of the routes of an entry in a slice."""

from collections.abc import Collection
from dataclasses import replace

from overlay_net.model.net import IpNetwork
from overlay_net.model.route_key import RouteKey, encode_route_key
from overlay_net.model.slice_entry import SliceEntry


def find_keys(entry: SliceEntry) -> frozenset[RouteKey]:
    return frozenset(find_key(entry, subnet) for subnet in entry.subnets)


def find_key(entry: SliceEntry, subnet: IpNetwork) -> RouteKey:
    return encode_route_key(subnet, entry.spec.metric, entry.spec.table)


def find_lost(before: SliceEntry, after: SliceEntry) -> frozenset[RouteKey]:
    """Return the keys that only ``before`` has."""
    if before.subnets == after.subnets and _has_same_table(before, after):
        return frozenset()
    return find_keys(before) - find_keys(after)


def select_keys(entry: SliceEntry, keys: Collection[RouteKey]) -> SliceEntry:
    """Return the entry with only those of its subnets that have one of these keys."""
    return replace(entry, subnets=tuple(subnet for subnet in entry.subnets if find_key(entry, subnet) in keys))


def _has_same_table(before: SliceEntry, after: SliceEntry) -> bool:
    return (before.spec.metric, before.spec.table) == (after.spec.metric, after.spec.table)
