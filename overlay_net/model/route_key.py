"""The key under which the kernel has a route, in one number; the subnet of a route is kept in it alone."""

from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, TypeAlias

RouteKey: TypeAlias = int


def route_key(subnet: IPv4Network | IPv6Network, metric: int, table: int) -> RouteKey:
    """The key of a route in one number, metric and table of 32 bits each as the kernel's.

    Networks of the standard library are ten times as slow to hash and to compare, and a tuple takes three times the
    memory.
    """
    place = (int(subnet.network_address) << 8 | subnet.prefixlen) << 8 | subnet.version
    return (place << 32 | metric) << 32 | table


def version_of(key: RouteKey) -> int:
    return key >> 64 & 0xFF


def prefix_of(key: RouteKey) -> int:
    return key >> 72 & 0xFF


def metric_of(key: RouteKey) -> int:
    return key >> 32 & 0xFFFFFFFF


def number_of(key: RouteKey) -> int:
    """The first address of the subnet."""
    return key >> 80


def subnet_of(key: RouteKey) -> IPv4Network | IPv6Network:
    return (IPv4Network if version_of(key) == 4 else IPv6Network)((number_of(key), prefix_of(key)))


class Numbered:
    """Has its ``subnet`` in ``route_key`` alone: made when somebody asks, kept it would take half of the memory."""

    __slots__ = ()

    route_key: RouteKey

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            if name == "subnet":
                return subnet_of(self.route_key)
            raise AttributeError(f"{type(self).__name__} has no {name}")

    def _number(self, key: RouteKey) -> None:
        object.__setattr__(self, "route_key", key)
        object.__delattr__(self, "subnet")
