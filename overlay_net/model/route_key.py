"""The key under which the kernel has a route, in one number; the subnet of a route is kept in it alone."""

from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, TypeAlias

QuickKey: TypeAlias = int


def quick_key(subnet: IPv4Network | IPv6Network, metric: int, table: int) -> QuickKey:
    """The key of a route in one number, metric and table of 32 bits each as the kernel's.

    Networks of the standard library are ten times as slow to hash and to compare, and a tuple takes three times the
    memory.
    """
    place = (int(subnet.network_address) << 8 | subnet.prefixlen) << 8 | subnet.version
    return (place << 32 | metric) << 32 | table


def version_of(key: QuickKey) -> int:
    return key >> 64 & 0xFF


def prefix_of(key: QuickKey) -> int:
    return key >> 72 & 0xFF


def metric_of(key: QuickKey) -> int:
    return key >> 32 & 0xFFFFFFFF


def number_of(key: QuickKey) -> int:
    """The first address of the subnet."""
    return key >> 80


def subnet_of(key: QuickKey) -> IPv4Network | IPv6Network:
    return (IPv4Network if version_of(key) == 4 else IPv6Network)((number_of(key), prefix_of(key)))


class Numbered:
    """Has its ``subnet`` in ``quick_key`` alone: made when somebody asks, kept it would take half of the memory."""

    __slots__ = ()

    quick_key: QuickKey

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            if name == "subnet":
                return subnet_of(self.quick_key)
            raise AttributeError(f"{type(self).__name__} has no {name}")

    def _number(self, key: QuickKey) -> None:
        object.__setattr__(self, "quick_key", key)
        object.__delattr__(self, "subnet")
