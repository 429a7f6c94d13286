"""What the controller knows about one node, and the closed set of steps that a plan for it consists of.

Each step can be applied twice.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.ipam import Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.overlay import Assignment, NodeOverlay, Withdrawal
from overlay_net.model.pool import Pool
from overlay_net.model.route_probe import RouteGeneration


@dataclass(frozen=True, slots=True)
class LifecyclePolicy:
    release_after: timedelta
    """How long the object of a deleted Node is kept, so that a node of the same name gets its address back."""
    fence_after: timedelta
    """How long to wait for an unresponsive agent of a deleted Node before its address is released."""
    overlay_addresses: bool = True
    """Whether nodes get overlay addresses; otherwise they have routes only."""
    startup_taint: str = ""
    """Key of the taint that keeps pods off a node until its overlay address and routes are in place."""
    draining: bool = False
    """Every node is handled as if its Node were deleted and ``release_after`` over."""


@dataclass(frozen=True, slots=True)
class NodeRoutes:
    """``spec.routes`` and ``spec.generations`` of one node."""

    routes: tuple[DesiredRoute, ...] = ()
    generations: tuple[RouteGeneration, ...] = ()
    """Which generations of StaticRoutes with a probe or a staged rollout ``routes`` are from."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """What is known about one node at one moment. ``None`` for ``node`` and ``overlay`` is a confirmed absence."""

    name: str
    node: Node | None
    overlay: NodeOverlay | None
    compile_routes: Callable[[], NodeRoutes]
    """The routes of this node with its present overlay gateway (none where nodes have routes only).

    A pure function of the StaticRoutes. It is expensive, so only a plan that decides the object's spec calls it.
    """
    pools: tuple[Pool, ...]
    """Every pool, in the order in which they are tried."""
    now: datetime
    reservations: tuple[Reservation, ...] | None = None
    """What the IPAM has for this node; None: not asked yet."""
    check_ipam: bool = False
    """The IPAM must be asked although the object appears settled: see controller.ipam_checks."""
    exhausted: bool = False
    """A reservation was just refused: every pool that matches the node is full."""
    taken: frozenset[IpAddress] = frozenset()
    """Requested addresses that the IPAM just refused, or that must not be used."""
    holders: Mapping[IpAddress, str] = field(default_factory=dict)
    """Those of ``taken`` whose record was entered by a person, and the name on that record."""
    used_elsewhere: Container[IpAddress] = frozenset()
    """Addresses that the objects of other nodes show, with or without a record in the IPAM."""
    ipam_failure: tuple[str, str] | None = None
    """Reason and message if the IPAM was just asked and could not answer. Implies nothing about reservations."""


# --- Actions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FindReservations:
    """Ask the IPAM for the reservations of this node, then plan again."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """Reserve ``requested``, or the first free address of the first pool with room; then plan again."""

    pools: tuple[Pool, ...]
    requested: IpAddress | None = None
    adopt: bool = False
    """The earlier operator assigned ``requested``: its record, which has no owner tag, is taken over."""


@dataclass(frozen=True, slots=True)
class Release:
    reservation: Reservation


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Another host uses the address: nothing gets it until then. Afterwards, plan again."""

    reservation: Reservation
    until: datetime


@dataclass(frozen=True, slots=True)
class ApplyOverlay:
    """Create the node's object, or update its labels, finalizer and spec."""

    labels: Mapping[str, str]
    routes: tuple[DesiredRoute, ...]
    routes_only: bool = False
    generations: tuple[RouteGeneration, ...] = ()
    withdrawn: tuple[Withdrawal, ...] = ()


@dataclass(frozen=True, slots=True)
class ApplyAssignment:
    """Write the controller's part of status."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class ConfirmNodeGone:
    """Read the Node from the API server; if it exists, the rest of the plan is not carried out."""


@dataclass(frozen=True, slots=True)
class DeleteOverlay:
    pass


@dataclass(frozen=True, slots=True)
class DropFinalizer:
    pass


@dataclass(frozen=True, slots=True)
class Announce:
    """An Event on the node's object."""

    reason: str
    message: str
    warning: bool


@dataclass(frozen=True, slots=True)
class RemoveTaint:
    """Remove the taint with this key from the Node."""

    key: str


ClusterAction: TypeAlias = (
    FindReservations
    | Reserve
    | Release
    | Quarantine
    | ApplyOverlay
    | ApplyAssignment
    | ConfirmNodeGone
    | DeleteOverlay
    | DropFinalizer
    | RemoveTaint
    | Announce
)


@dataclass(frozen=True, slots=True)
class NodePlan:
    actions: tuple[ClusterAction, ...] = ()
    """Carried out in this order; an error ends the plan."""
    requeue_after: timedelta | None = None
    """When to plan again although nothing has changed."""
