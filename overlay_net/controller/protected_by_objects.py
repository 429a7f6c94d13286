"""Keeps the protected subnets up to date with the watched Nodes, NodeOverlayIps and OverlayPools."""

from collections.abc import Callable, Collection, Iterable
from typing import Final

from overlay_net.domain.routes.cluster_networks import ClusterNetworks
from overlay_net.domain.routes.protected_subnets import ProtectedSubnet, Protection
from overlay_net.domain.routes.protecting_objects import (
    node_networks,
    protected_by_node,
    protected_by_overlay,
    protected_by_pool,
)
from overlay_net.model.net import IpNetwork
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool
from overlay_net.model.static_route import StaticRoute
from overlay_net.runtime.store import Store
from overlay_net.runtime.turns import in_turns

POOLS_MUST_NOT_OVERLAP: Final = frozenset({"services", "service_subnets", "Calico", "Cilium", "pod_subnets"})
"""The sources of services and pods, besides the Nodes themselves."""
UNREAD = "the protected subnets have not been read yet"


class ProtectedByObjects:
    def __init__(
        self, nodes: Store[Node], overlays: Store[NodeOverlay], pools: Store[Pool], routes: Store[StaticRoute]
    ) -> None:
        self.protection = Protection(unknown=UNREAD)
        self._routes = routes
        self.networks = ClusterNetworks()
        """What no OverlayPool should overlap."""
        self._subscribers: list[Callable[[Iterable[str]], None]] = []
        self._network_subscribers: list[Callable[[Collection[IpNetwork]], None]] = []
        nodes.subscribe(self._node_changed)
        overlays.subscribe(self._overlay_changed)
        pools.subscribe(self._pool_changed)
        routes.subscribe(self._route_changed)

    def subscribe(self, subscriber: Callable[[Iterable[str]], None]) -> None:
        """Call ``subscriber`` with the names of the StaticRoutes that are refused now, or no longer, or otherwise."""
        self._subscribers.append(subscriber)

    def subscribe_networks(self, subscriber: Callable[[Collection[IpNetwork]], None]) -> None:
        """Call ``subscriber`` with the subnets that were added to or removed from ``networks``."""
        self._network_subscribers.append(subscriber)

    def protect(self, source: str, subnets: Iterable[ProtectedSubnet]) -> None:
        """Replace the protected subnets of ``source``."""
        found = tuple(subnets)
        self._notify(self.protection.protect(source, found))
        if source in POOLS_MUST_NOT_OVERLAP:
            self._replace_networks(source, found)

    def _replace_networks(self, source: str, subnets: Iterable[ProtectedSubnet]) -> None:
        changed = self.networks.replace(source, subnets)
        for subscriber in self._network_subscribers if changed else ():
            subscriber(changed)

    async def check_all(self) -> None:
        """Check every StaticRoute in a turn of its own: the first node to be reconciled would check all in one."""
        async for route in in_turns(self._routes.values()):
            self.protection.refusal(route)

    def set_unknown(self, problem: str) -> None:
        """Set why not all protected subnets are known, or an empty string if they are."""
        self._notify(self.protection.set_unknown(problem))

    def _notify(self, static_routes: Collection[str]) -> None:
        for subscriber in self._subscribers if static_routes else ():
            subscriber(static_routes)

    def _node_changed(self, name: str, old: Node | None, new: Node | None) -> None:
        if (old.protected if old else ()) != (new.protected if new else ()):
            self.protect(f"node {name}", protected_by_node(new) if new else ())
            self._replace_networks(f"node {name}", node_networks(new) if new else ())

    def _overlay_changed(self, name: str, old: NodeOverlay | None, new: NodeOverlay | None) -> None:
        if _addresses(old) != _addresses(new):
            self.protect(f"overlay {name}", protected_by_overlay(new) if new else ())

    def _pool_changed(self, name: str, old: Pool | None, new: Pool | None) -> None:
        self.protect(f"pool {name}", protected_by_pool(new) if new else ())

    def _route_changed(self, name: str, _: StaticRoute | None, new: StaticRoute | None) -> None:
        if new is None:
            self.protection.forget(name)


def _addresses(overlay: NodeOverlay | None) -> tuple[object, ...]:
    if overlay is None:
        return ()
    return overlay.assignment.address, overlay.assignment.gateway, overlay.gateway_override
