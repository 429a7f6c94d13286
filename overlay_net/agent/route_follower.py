"""Keeps the monitor informed of the routes of other processes that concern this node, and collects what has changed."""

from collections.abc import Iterable
from typing import Protocol

from overlay_net.domain.kernel.awaited_routes import find_awaited_routes, waits_for_foreign_route
from overlay_net.domain.kernel.desired import LinkConfig, link_config_for
from overlay_net.model.adoptable_route import AdoptableRoute
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel_actions import Problem
from overlay_net.model.kernel_changes import EVERYTHING, NOTHING, UNKNOWN, KernelChanges
from overlay_net.model.net import IpInterface
from overlay_net.model.overlay import NodeOverlay


class FollowRoutes(Protocol):
    """Sets the routes of other processes that concern us; ``waits``: one of them is in the place of ours.

    Returns what may have changed in the kernel since the last call.
    """

    def __call__(self, awaited: AwaitedRoutes, *, waits: bool) -> KernelChanges: ...


def follow_none(awaited: AwaitedRoutes, *, waits: bool) -> KernelChanges:
    """Follow no routes."""
    return UNKNOWN


class RouteFollower:
    """``follow`` is called with the routes, and with the same object while they are the same."""

    def __init__(self, config: LinkConfig, follow: FollowRoutes) -> None:
        self._config = config
        self._follow = follow
        self._routes: tuple[DesiredRoute, ...] | None = None
        self._rest: tuple[IpInterface | None, LinkConfig, tuple[AdoptableRoute, ...]] | None = None
        self._waits = False
        self._changes = UNKNOWN
        self.awaited = AwaitedRoutes()

    def follow(self, overlay: NodeOverlay | None) -> None:
        """Follow the routes that matter to this object; none, if it is absent or being deleted."""
        present = None if overlay is None or overlay.deleting else overlay
        routes = present.routes if present is not None else ()
        address = (present.assignment.address or present.report.configured) if present is not None else None
        config = link_config_for(present, self._config)
        adoptable = present.adoptable if present is not None else ()
        rest = (address, config, adoptable)
        if self._routes is not routes or self._rest != rest:
            self._routes, self._rest = routes, rest
            self.awaited = find_awaited_routes(routes, address, config, adoptable)
        self._request()

    def observing(self) -> KernelChanges:
        """Return what is to be read: what may have changed since the last observation that ``observed`` ended."""
        self._request()
        return self._changes.to_read

    def observed(self) -> None:
        """Note that the kernel has been observed as far as ``observing`` asked for."""
        self._changes = NOTHING

    def changing(self) -> None:
        """Note that this agent changes the kernel, of which there are no notifications."""
        self._changes |= EVERYTHING

    def record(self, problems: Iterable[Problem]) -> None:
        """Note what the last plan waits for."""
        self._waits = waits_for_foreign_route(problems)
        self._request()

    def _request(self) -> None:
        self._changes |= self._follow(self.awaited, waits=self._waits)
