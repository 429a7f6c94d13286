"""What the controller knows of one node, and the closed set of steps that a plan for it may ask for.

Each step can be applied twice.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from overlay_net.model.ipam import Reservation
from overlay_net.model.kernel import DesiredRoute
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.overlay import Assignment, NodeOverlay, Withdrawal
from overlay_net.model.pool import Pool
from overlay_net.model.route_probe import RouteGeneration


@dataclass(frozen=True, slots=True)
class LifecyclePolicy:
    release_after: timedelta
    fence_after: timedelta
    overlay_addresses: bool = True
    """Whether nodes get overlay addresses; if not, they have routes only."""
    startup_taint: str = ""
    """Key of the taint that keeps pods from a node until its overlay address works."""
    draining: bool = False
    """Every node gives back what it has, as if it were gone."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """All that is known of one node at one moment. ``None`` for ``node`` and ``overlay`` is a confirmed absence."""

    name: str
    node: Node | None
    overlay: NodeOverlay | None
    routes: tuple[DesiredRoute, ...]
    """Compiled for this node with its present overlay gateway; with none where nodes have routes only."""
    pools: tuple[Pool, ...]
    """Every pool, in the order in which they are tried."""
    now: datetime
    generations: tuple[RouteGeneration, ...] = ()
    """Of which generations ``routes`` are, of StaticRoutes with a probe or a staged roll-out."""
    reservations: tuple[Reservation, ...] | None = None
    """What the IPAM has for this node; None: nobody asked yet."""
    check_ipam: bool = False
    """The IPAM's change feed, where it has one, shows other records of this node than that of its address."""
    exhausted: bool = False
    """A reservation was just refused: every pool that serves the node is full."""
    taken: frozenset[IpAddress] = frozenset()
    """Wanted addresses that were just refused: somebody else has them."""
    holders: Mapping[IpAddress, str] = field(default_factory=dict)
    """Those of ``taken`` whose record is a person's entry, and what it is called."""
    used_elsewhere: Container[IpAddress] = frozenset()
    """Addresses that the objects of other nodes show, with or without a record in the IPAM."""
    ipam_failure: tuple[str, str] | None = None
    """Reason and message where the IPAM was just asked and could not answer; this says nothing about reservations."""


# --- Actions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FindReservations:
    """Ask the IPAM for the reservations of this node, then plan again."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """Take ``wanted``, or the first free address of the first pool with room; then plan again."""

    pools: tuple[Pool, ...]
    requested: IpAddress | None = None
    adopt: bool = False
    """The earlier operator assigned ``wanted``: its record, which carries nobody's mark, is taken over."""


@dataclass(frozen=True, slots=True)
class Release:
    reservation: Reservation


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Somebody unknown uses the address: its record is kept from everybody until then; then plan again."""

    reservation: Reservation
    until: datetime


@dataclass(frozen=True, slots=True)
class ApplyOverlay:
    """Create or update the node's object: labels, finalizer, the routes, and whether they are all that the node has."""

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
class DeleteOverlay:
    pass


@dataclass(frozen=True, slots=True)
class DropFinalizer:
    pass


@dataclass(frozen=True, slots=True)
class Announce:
    """An event on the node's object, for people."""

    reason: str
    message: str
    warning: bool


@dataclass(frozen=True, slots=True)
class RemoveTaint:
    """Take the taint of this key off the Node."""

    key: str


ClusterAction: TypeAlias = (
    FindReservations
    | Reserve
    | Release
    | Quarantine
    | ApplyOverlay
    | ApplyAssignment
    | DeleteOverlay
    | DropFinalizer
    | RemoveTaint
    | Announce
)


@dataclass(frozen=True, slots=True)
class NodePlan:
    actions: tuple[ClusterAction, ...] = ()
    requeue_after: timedelta | None = None
    """When to look again though nothing has changed."""
