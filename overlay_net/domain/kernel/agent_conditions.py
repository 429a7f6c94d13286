"""The agent's conditions of a NodeOverlayIp: Configured, GatewayReachable, Ready and those that exist only if False."""

from dataclasses import dataclass
from enum import Enum, auto

from overlay_net.domain.kernel.checkpoint import HEALTHY, CheckpointHealth
from overlay_net.domain.kernel.own_frames import MacConflict
from overlay_net.model.conditions import (
    ADDRESS_CLAIMED,
    ADDRESS_CONFLICT,
    CHECKPOINT_STORED,
    CONFIGURED,
    GATEWAY_REACHABLE,
    MAC_CONFLICT,
    METRICS_SERVED,
    READY,
    RELEASED,
    ROUTE_SETS_KNOWN,
    SHADOWED,
    Condition,
)
from overlay_net.model.kernel import Desired, DesiredLink
from overlay_net.model.kernel_actions import DeleteRoute, KernelPlan, Problem
from overlay_net.model.net import IpAddress, IpInterface
from overlay_net.model.node_report import GATEWAY_DOWN, LINK_DOWN, RouteFailure, SilentGateway
from overlay_net.model.overlay import NodeOverlay, UnknownSets
from overlay_net.model.route_probe import RouteProbe
from overlay_net.model.wording import count, routes_in_place

NAMED_GATEWAYS = 5
"""Maximum number of gateways that a condition names."""


class ProbeResult(Enum):
    """What the probes of all gateways of a node have shown so far."""

    NONE = auto()
    """No gateway is probed."""
    AWAITED = auto()
    """Some gateway has neither answered nor failed often enough to count as down."""
    KNOWN = auto()


@dataclass(frozen=True, slots=True)
class NeighbourState:
    """The agent's knowledge about other hosts on its links."""

    conflict: IpAddress | None = None
    """The assigned address, if it is not configured because another host uses it."""
    conflict_mac: str = ""
    """MAC of that host; empty: unknown, because no neighbour could be queried."""
    claimed_by: str = ""
    """MAC of another host that claims the address in use here."""
    mac_conflict: MacConflict | None = None
    """Another host that has the MAC of the overlay link."""
    silent: tuple[SilentGateway, ...] = ()
    probes: ProbeResult = ProbeResult.NONE
    unproven: frozenset[IpAddress] = frozenset()
    """The probed gateways on the overlay link, if none of them has answered yet."""
    link_down: str = ""
    """Why the overlay link, or each link of the gateways of some route, cannot carry traffic."""


NO_NEIGHBOURS = NeighbourState()


def configured_condition(
    overlay: NodeOverlay,
    desired: Desired,
    link: DesiredLink,
    configured: IpInterface | None,
    problem: Problem | None,
    error: str | None,
    neighbours: NeighbourState,
    checkpoint: CheckpointHealth = HEALTHY,
    held: IpInterface | None = None,
) -> Condition:
    """Return Configured; ``error`` is the kernel's for link or address, other arguments are as in ``make_report``.

    ``held`` is a previous address that the checkpoint may still have.
    """
    if overlay.deleting:
        return _released(
            configured, problem, error or (_describe_outdated(checkpoint) if checkpoint.is_outdated else None)
        )
    if problem is not None:
        message = problem.message if error is None else f"{problem.message}; {error}"
        return Condition(CONFIGURED, False, problem.reason, message)
    if neighbours.conflict is not None:
        host = neighbours.conflict_mac or "another host"
        message = f"{neighbours.conflict} is in use by {host} and was not configured"
        return Condition(CONFIGURED, False, ADDRESS_CONFLICT, message)
    if error is not None:
        return Condition(CONFIGURED, False, "KernelRefused", error)
    if held is not None:
        return Condition(CONFIGURED, False, "CheckpointOutdated", f"{held}: {_describe_outdated(checkpoint)}")
    if link.kind == "none":
        return _routes_only(configured)
    return _address_configured(desired.address, configured, neighbours)


def _released(configured: IpInterface | None, problem: Problem | None, error: str | None) -> Condition:
    if configured is None and problem is None and error is None:
        return Condition(CONFIGURED, False, RELEASED, "link, address and routes are removed")
    rest = f"{configured} is still in the kernel" if configured else "link, address and routes are being removed"
    return Condition(CONFIGURED, False, "Releasing", error or (problem.message if problem else rest))


def _describe_outdated(checkpoint: CheckpointHealth) -> str:
    why = checkpoint.problem.message if checkpoint.problem is not None else "it is not stored yet"
    return f"a restart of the agent could restore the previous address from the checkpoint: {why}"


def _routes_only(configured: IpInterface | None) -> Condition:
    if configured is not None:
        message = f"{configured} is still in the kernel, although this node has routes only"
        return Condition(CONFIGURED, False, "Pending", message)
    return Condition(CONFIGURED, True, "RoutesOnly", "this node has routes and no overlay address")


def _address_configured(
    desired: IpInterface | None, configured: IpInterface | None, neighbours: NeighbourState
) -> Condition:
    if desired is None:
        return Condition(CONFIGURED, False, "NoAddress", "no overlay address is assigned yet")
    if configured is None:
        return Condition(CONFIGURED, False, "Pending", f"{desired} is not on the link yet")
    if configured != desired:
        return Condition(CONFIGURED, False, "Pending", f"{configured} is still in the kernel besides {desired}")
    if neighbours.claimed_by:
        message = f"{desired} is on the link and defended; {neighbours.claimed_by} claims it too"
        return Condition(CONFIGURED, True, ADDRESS_CLAIMED, message)
    return Condition(CONFIGURED, True, "Configured", f"{desired} is on the link")


def gateway_condition(neighbours: NeighbourState, reported: Condition | None) -> Condition:
    """Return GatewayReachable. ``reported`` is the last one, which an agent that was restarted keeps until it knows."""
    if neighbours.silent:
        message = "; ".join(f"{each.address}: {each.message}" for each in neighbours.silent[:NAMED_GATEWAYS])
        reasons = [each.reason for each in neighbours.silent]
        reason = GATEWAY_DOWN if GATEWAY_DOWN in reasons else reasons[0]
        return Condition(GATEWAY_REACHABLE, False, reason, message)
    match neighbours.probes:
        case ProbeResult.NONE:
            return Condition(GATEWAY_REACHABLE, None, "NotProbed", "no gateway is probed")
        case ProbeResult.AWAITED if reported is not None and reported.status is not None:
            return reported
        case ProbeResult.AWAITED:
            return Condition(GATEWAY_REACHABLE, None, "NotProbed", "waiting for the first answers of the gateways")
        case ProbeResult.KNOWN:
            return Condition(GATEWAY_REACHABLE, True, "Reachable")


def _names(gateways: frozenset[IpAddress]) -> str:
    names = sorted(gateways, key=lambda each: (each.version, int(each)))
    more = f" or {len(names) - NAMED_GATEWAYS} more" if len(names) > NAMED_GATEWAYS else ""
    return " or ".join(str(each) for each in names[:NAMED_GATEWAYS]) + more


def _find_obstacle(neighbours: NeighbourState, unknown_sets: UnknownSets | None) -> Condition | None:
    """Return Ready if the overlay link cannot carry traffic, or not reliably, or not all routes are known."""
    if neighbours.link_down:
        return Condition(READY, False, LINK_DOWN, neighbours.link_down)
    if neighbours.mac_conflict is None:
        return _describe_unknown(READY, unknown_sets)
    link, address = neighbours.mac_conflict.link, neighbours.mac_conflict.address
    message = (
        f"another host, which uses {address}, has the MAC address {link.mac} of {link.name} as well; if it is a "
        f"node of another cluster, delete the link on one of the two (ip link delete {link.name}): the new one has "
        "another MAC address"
    )
    return Condition(READY, False, MAC_CONFLICT, message)


def ready_condition(
    desired: Desired,
    link: DesiredLink,
    configured: IpInterface | None,
    unusable: Problem | None,
    failures: tuple[RouteFailure, ...],
    route_probes: tuple[RouteProbe, ...],
    plan: KernelPlan,
    neighbours: NeighbourState = NO_NEIGHBOURS,
    unknown_sets: UnknownSets | None = None,
) -> Condition:
    """Return Ready, which is true if the address is in use, all routes are in place and all changes are proven.

    That includes that the links can carry traffic; whether a gateway answers is another condition. ``failures`` does
    not include routes that are not needed on this node. ``unusable`` is why the configured address is not used as it
    must be.
    """
    routes_only = link.kind == "none"
    if not _is_in_use(desired, configured, unusable, routes_only=routes_only):
        message = unusable.message if unusable is not None else "the overlay address is not in use"
        return Condition(READY, False, "NotConfigured", message)
    obstacle = _find_obstacle(neighbours, unknown_sets)
    if obstacle is not None:
        return obstacle
    needed = len(desired.routes) - len(plan.not_needed)
    if failures:
        first = failures[0]
        state = "used" if all(each.reason == SHADOWED for each in failures) else "in place"
        message = f"{len(failures)} of {needed} routes are not {state}; {first.subnet}: {first.message}"
        return Condition(READY, False, "RoutesFailing", message)
    obsolete = [action.route for action in plan.actions if isinstance(action, DeleteRoute)]
    if obsolete:
        message = f"obsolete routes that are still in the kernel: {len(obsolete)}, such as {obsolete[0].subnet}"
        return Condition(READY, False, "RoutesLeft", message)
    if route_probes:
        worst = min(route_probes, key=lambda route_probe: route_probe.state == "Probing")
        message = f"generation {worst.generation} of StaticRoute {worst.static_route}: {worst.message}"
        return Condition(READY, False, worst.state, message)
    if neighbours.unproven:
        message = f"everything is in place; waiting for the first answer from gateway {_names(neighbours.unproven)}"
        return Condition(READY, False, "WaitingForGateway", message)
    if routes_only:
        return Condition(READY, True, "Ready", routes_in_place(needed))
    return Condition(READY, True, "Ready", f"address and {count(needed, 'route')} are in place")


def _is_in_use(
    desired: Desired, configured: IpInterface | None, unusable: Problem | None, *, routes_only: bool
) -> bool:
    """Return whether the node uses its overlay address as it must; with routes only, whether it has none."""
    has_desired = desired.address is not None or routes_only
    return unusable is None and configured == desired.address and has_desired


def checkpoint_condition(checkpoint: CheckpointHealth) -> tuple[Condition, ...]:
    """CheckpointStored, which exists only while the checkpoint cannot be stored."""
    problem = checkpoint.problem
    if problem is None:
        return ()
    effect = "the data plane is not affected, but a reboot while the API server is unreachable would be"
    return (Condition(CHECKPOINT_STORED, False, problem.reason, f"{problem.message}; {effect}"),)


def route_sets_condition(unknown_sets: UnknownSets | None) -> tuple[Condition, ...]:
    """RouteSetsKnown, which exists only while the routes of the node are not all known."""
    condition = _describe_unknown(ROUTE_SETS_KNOWN, unknown_sets)
    return () if condition is None else (condition,)


def _describe_unknown(type_: str, unknown_sets: UnknownSets | None) -> Condition | None:
    return None if unknown_sets is None else Condition(type_, False, unknown_sets.reason, unknown_sets.message)


def metrics_condition(problem: str) -> tuple[Condition, ...]:
    """MetricsServed, which exists only while the agent cannot serve its metrics."""
    if not problem:
        return ()
    advice = "metrics and readiness are not served; free the port, or set agent.settings.http.bind"
    return (Condition(METRICS_SERVED, False, "CannotListen", f"{problem}; {advice}"),)
