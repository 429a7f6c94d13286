"""Events for changes reported by an agent: address conflicts, gateways, failing routes, a link that cannot be set up.

The normal steps of a joining node cause no events of their own: one event of the pool is for all nodes that join.
"""

from collections.abc import Callable, Iterator, Mapping, Set
from typing import TypeAlias

from overlay_net.model.conditions import ADDRESS_CLAIMED, CONFIGURED, MAC_CONFLICT, READY, Condition, find_condition
from overlay_net.model.net import IpAddress
from overlay_net.model.node_actions import Announce
from overlay_net.model.node_report import GATEWAY_DOWN, RouteFailure
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_key import RouteKey
from overlay_net.model.wording import count, name_some, routes_in_place

TRANSIENT = frozenset({"Pending", "NoAddress", "Releasing", "Released"})
"""Reasons of ``Configured=False`` that resolve without intervention."""

NAMED = 3
"""Maximum number of gateways or routes that an event names."""


FindGateways: TypeAlias = Callable[[NodeOverlay], Set[IpAddress]]
"""Returns the gateways of the routes of a node."""


def report_events(before: NodeOverlay, after: NodeOverlay, find_gateways: FindGateways) -> tuple[Announce, ...]:
    """Return the events for a change of a NodeOverlayIp; none if it was replaced or is being deleted."""
    if before.uid != after.uid or after.deleting or before.report == after.report or not after.has_own_report:
        return ()
    return (
        *_address_events(before, after),
        *_gateway_events(before, after, find_gateways),
        *_route_events(before, after),
    )


def reserved_event(addresses: Mapping[str, IpAddress]) -> Announce:
    """Return the event of a pool for the first addresses of these nodes."""
    named = name_some([f"{node} ({address})" for node, address in addresses.items()], NAMED)
    return Announce("Reserved", f"addresses reserved for {count(len(addresses), 'node')}: {named}", warning=False)


def _address_events(before: NodeOverlay, after: NodeOverlay) -> Iterator[Announce]:
    was, now = _address_problem(before), _address_problem(after)
    if now is not None:
        # Compare the message as well: another address or another conflicting host is a new problem.
        if was is None or (was.reason, was.message) != (now.reason, now.message):
            yield Announce(now.reason, now.message, warning=True)
        return
    configured = find_condition(after.report.conditions, CONFIGURED)
    if was is not None and configured is not None and configured.status:
        yield Announce(configured.reason, f"{configured.message}; resolved: {was.message}", warning=False)


def _address_problem(overlay: NodeOverlay) -> Condition | None:
    configured = find_condition(overlay.report.conditions, CONFIGURED)
    ready = find_condition(overlay.report.conditions, READY)
    if ready is not None and ready.reason == MAC_CONFLICT:
        return ready
    if configured is None or configured.reason in TRANSIENT:
        return None
    return configured if not configured.status or configured.reason == ADDRESS_CLAIMED else None


def _gateway_events(before: NodeOverlay, after: NodeOverlay, find_gateways: FindGateways) -> Iterator[Announce]:
    was = {each.address: each.reason for each in before.report.silent_gateways}
    down: dict[str, list[str]] = {}
    for each in after.report.silent_gateways:
        if each.address not in was:
            down.setdefault(each.reason, []).append(f"{each.address}: {each.message}")
    for reason, gateways in down.items():
        yield Announce(reason, name_some(gateways, NAMED, "; "), warning=True)
    recovered = was.keys() - {each.address for each in after.report.silent_gateways}
    if recovered:
        # A gateway that no route uses is no longer probed, so it has not recovered.
        used = recovered & find_gateways(after)
        yield from _recovery_events({address: was[address] for address in used})


def _recovery_events(reasons: Mapping[IpAddress, str]) -> Iterator[Announce]:
    """Yield the events for gateways that can be used again; ``reasons`` is why they could not."""
    answering = sorted(str(address) for address, reason in reasons.items() if reason == GATEWAY_DOWN)
    if answering:
        verb = "answers" if len(answering) == 1 else "answer"
        yield Announce("GatewayUp", f"{name_some(answering, NAMED)} {verb} again", warning=False)
    linked = sorted(str(address) for address, reason in reasons.items() if reason != GATEWAY_DOWN)
    if linked:
        yield Announce("GatewayUp", f"the link to {name_some(linked, NAMED)} can carry traffic again", warning=False)


def _route_events(before: NodeOverlay, after: NodeOverlay) -> Iterator[Announce]:
    was, now = _failing_routes(before), _failing_routes(after)
    new = [
        f"{failure.subnet}: {failure.message}"
        for key, failure in now.items()
        if key not in was or was[key].reason != failure.reason
    ]
    if new:
        yield Announce("RoutesFailing", name_some(new, NAMED, "; "), warning=True)
    elif was and not after.report.routes_failed:
        yield Announce("RoutesInPlace", routes_in_place(after.report.routes_desired), warning=False)


def _failing_routes(overlay: NodeOverlay) -> Mapping[RouteKey, RouteFailure]:
    return {failure.key: failure for failure in overlay.report.failures if failure.reason != "Pending"}
