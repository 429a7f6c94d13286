"""Two states of a node's object -> what people should hear of the change that its agent reported.

Only what is worth a look: an address that somebody else uses, gateways, routes that are not in place, a link that
cannot be made. What every node goes through when it joins is no news.
"""

from collections.abc import Iterator, Mapping

from overlay_net.model.conditions import ADDRESS_CLAIMED, CONFIGURED, Condition, find
from overlay_net.model.node_actions import Announce
from overlay_net.model.overlay import NodeOverlay, RouteFailure
from overlay_net.model.route_key import RouteKey

ON_THE_WAY = frozenset({"Pending", "NoAddress", "Releasing", "Released"})
"""Reasons of ``Configured=False`` that pass by themselves."""

NAMED = 3
"""Gateways and routes that one event names at the most."""


def report_events(before: NodeOverlay, after: NodeOverlay) -> tuple[Announce, ...]:
    """The events of a change; none where another object took the place of the first one, or while it goes."""
    if before.uid != after.uid or after.deleting or before.report == after.report:
        return ()
    return (*_address(before, after), *_gateways(before, after), *_routes(before, after))


def _address(before: NodeOverlay, after: NodeOverlay) -> Iterator[Announce]:
    was, now = _trouble(before), _trouble(after)
    if now is not None:
        # With its words: another address, or another host that uses it, is another trouble.
        if was is None or (was.reason, was.message) != (now.reason, now.message):
            yield Announce(now.reason, now.message, warning=True)
        return
    configured = find(after.report.conditions, CONFIGURED)
    if was is not None and configured is not None and configured.status:
        yield Announce(configured.reason, f"{configured.message}; over: {was.message}", warning=False)


def _trouble(overlay: NodeOverlay) -> Condition | None:
    configured = find(overlay.report.conditions, CONFIGURED)
    if configured is None or configured.reason in ON_THE_WAY:
        return None
    return configured if not configured.status or configured.reason == ADDRESS_CLAIMED else None


def _gateways(before: NodeOverlay, after: NodeOverlay) -> Iterator[Announce]:
    was = {each.address for each in before.report.silent_gateways}
    now = {each.address for each in after.report.silent_gateways}
    fresh = [f"{each.address}: {each.message}" for each in after.report.silent_gateways if each.address not in was]
    if fresh:
        yield Announce("GatewayDown", _some(fresh, "; "), warning=True)
    gone = was - now
    if gone:
        # A gateway that no route has any more is not asked any more, which says nothing about it.
        used = {gateway.address for route in after.routes for gateway in route.gateways}
        again = sorted(map(str, gone & used))
        if again:
            yield Announce("GatewayUp", f"{_some(again, ', ')} answers again", warning=False)


def _routes(before: NodeOverlay, after: NodeOverlay) -> Iterator[Announce]:
    was, now = _failing(before), _failing(after)
    fresh = [
        f"{failure.subnet}: {failure.message}"
        for key, failure in now.items()
        if key not in was or was[key].reason != failure.reason
    ]
    if fresh:
        yield Announce("RoutesFailing", _some(fresh, "; "), warning=True)
    elif was and not after.report.routes_failed:
        yield Announce("RoutesInPlace", f"{after.report.routes_desired} routes are in place", warning=False)


def _failing(overlay: NodeOverlay) -> Mapping[RouteKey, RouteFailure]:
    return {failure.key: failure for failure in overlay.report.failures if failure.reason != "Pending"}


def _some(texts: list[str], separator: str) -> str:
    shown = separator.join(texts[:NAMED])
    return shown if len(texts) <= NAMED else f"{shown}{separator}and {len(texts) - NAMED} more"
