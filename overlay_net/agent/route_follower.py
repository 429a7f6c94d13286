"""Keeps the monitor informed of the routes of other processes that concern this node."""

from collections.abc import Iterable
from typing import Protocol

from overlay_net.domain.kernel.awaited_routes import find_awaited_routes, waits_for_foreign_route
from overlay_net.domain.kernel.desired import LinkConfig, link_config_for
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel_actions import Problem
from overlay_net.model.net import IpInterface
from overlay_net.model.overlay import NodeOverlay


class FollowRoutes(Protocol):
    """Sets the routes of other processes that concern us; ``waits``: one of them is in the place of ours."""

    def __call__(self, awaited: AwaitedRoutes, *, waits: bool) -> None: ...


def follow_none(awaited: AwaitedRoutes, *, waits: bool) -> None:
    """Follow no routes."""


class RouteFollower:
    """``follow`` is called with the routes, and with the same object while they are the same."""

    def __init__(self, config: LinkConfig, follow: FollowRoutes) -> None:
        self._config = config
        self._follow = follow
        self._last: tuple[tuple[DesiredRoute, ...], IpInterface | None, LinkConfig] | None = None
        self._awaited = AwaitedRoutes()
        self._waits = False

    def follow(self, overlay: NodeOverlay | None) -> None:
        """Follow the routes that matter to this object; none, if it is absent or being deleted."""
        present = None if overlay is None or overlay.deleting else overlay
        routes = present.routes if present is not None else ()
        address = (present.assignment.address or present.report.configured) if present is not None else None
        config = link_config_for(present, self._config)
        last = self._last
        if last is None or last[0] is not routes or last[1:] != (address, config):
            self._last = (routes, address, config)
            self._awaited = find_awaited_routes(routes, address, config)
        self._follow(self._awaited, waits=self._waits)

    def record(self, problems: Iterable[Problem]) -> None:
        """Note what the last plan waits for."""
        self._waits = waits_for_foreign_route(problems)
        self._follow(self._awaited, waits=self._waits)
