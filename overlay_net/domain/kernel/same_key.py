"""Managed routes beside others with the same key, of which the kernel uses one.

In IPv4, ``ip route prepend`` and ``append`` add a route before or after those with its key; the kernel uses the first
one, and replaces the first one (fib_table_insert). In IPv6, routes with a gateway are joined to one ECMP route,
whichever process added them: each next hop keeps its protocol, but a dump has only that of the first one. Other routes
stay separate, and which one is used depends on the state of the gateway (fib6_add_rt2node, find_rr_leaf).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from overlay_net.domain.kernel.ownership import owns_route
from overlay_net.model.kernel import OwnershipMark
from overlay_net.model.kernel_actions import DeleteRoute
from overlay_net.model.route import NextHop, Route
from overlay_net.model.route_key import RouteKey, decode_version


@dataclass(frozen=True, slots=True)
class Blocked:
    """A managed route that must not be replaced, because the kernel may replace ``foreign`` instead."""

    route: Route
    foreign: Route
    """The kernel uses this route instead, or may do so."""


@dataclass(frozen=True, slots=True)
class ManagedRoutes:
    usable: dict[RouteKey, Route]
    blocked: Mapping[RouteKey, Blocked] = field(default_factory=dict)
    surplus: tuple[Route, ...] = ()
    """Managed routes behind another one with the same key, which the kernel does not use."""


def find_managed(routes: Sequence[Route], mark: OwnershipMark, reserved_tables: Collection[int]) -> ManagedRoutes:
    """Return the managed routes of all tables but ``reserved_tables``; ``routes`` are in the order of the kernel."""
    managed = [route for route in routes if owns_route(route, mark)]
    if reserved_tables:
        managed = [route for route in managed if route.table not in reserved_tables]
    usable, surplus = _split_surplus(managed)
    # Not owns_route(): a call for each of thousands of routes takes longer than the rest.
    foreign = [route for route in routes if route.info.protocol != mark.protocol and route.key in usable]
    blocked = _take_blocked(usable, foreign, routes) if foreign else {}
    return ManagedRoutes(usable, blocked, surplus)


def _split_surplus(managed: Sequence[Route]) -> tuple[dict[RouteKey, Route], tuple[Route, ...]]:
    """Return the first route of each key, and the others."""
    usable = {route.key: route for route in managed}
    if len(usable) == len(managed):
        return usable, ()
    usable = {route.key: route for route in reversed(managed)}
    return usable, tuple(route for route in managed if usable[route.key] is not route)


def _take_blocked(
    usable: dict[RouteKey, Route], foreign: Sequence[Route], routes: Sequence[Route]
) -> dict[RouteKey, Blocked]:
    """Remove the routes from ``usable`` that the first foreign one with their key blocks, and return them."""
    others = {route.key: route for route in reversed(foreign)}
    first = {route.key: route for route in reversed(routes) if route.key in others}
    return {
        key: Blocked(usable.pop(key), foreign)
        for key, foreign in others.items()
        if decode_version(key) == 6 or first[key] is foreign
    }


def extra_hops(found: Route, target: Route) -> tuple[NextHop, ...]:
    """Return the next hops of ``found`` to delete before it is replaced by ``target``, as another process may own them.

    The kernel deletes a next hop of an IPv6 route only if it has our protocol (ip6_route_del). If none of them is
    desired, one is left, so that there is no moment without a route: if it stays alone, it is ours, as the dump shows.
    """
    if decode_version(found.key) == 4 or len(found.next_hops) < 2:
        return ()
    desired = {(hop.gateway, hop.link) for hop in target.next_hops}
    extra = tuple(hop for hop in found.next_hops if (hop.gateway, hop.link) not in desired)
    return extra if len(extra) < len(found.next_hops) else extra[1:]


def delete_hops(found: Route, hops: tuple[NextHop, ...]) -> DeleteRoute:
    """Return the action that deletes these next hops of an IPv6 route, and leaves the others."""
    return DeleteRoute(found.replace(next_hops=hops))
