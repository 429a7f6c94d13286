"""The controller's view of one node, and the closed set of actions in its plan.

Each action is idempotent.
"""

from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from overlay_net.model.adoptable_route import AdoptableRoute
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.ipam import CLUSTER_IPAM, PHPIPAM, Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.node import UNKNOWN_INSTANCE, Node, NodeInstance
from overlay_net.model.overlay import Assignment, NodeOverlay, Withdrawal
from overlay_net.model.pool import Pool
from overlay_net.model.route_probe import RouteGeneration
from overlay_net.model.route_slice import NamedSet


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
    """Handle every node as if its Node were deleted and ``release_after`` had passed."""


@dataclass(frozen=True, slots=True)
class NodeRoutes:
    """What the spec of one node has about routes, without what an earlier version wrote."""

    sets: tuple[NamedSet, ...] | None = None
    """None: unknown, so the node keeps what it has."""
    complete: bool = True
    """Otherwise the sets are looked up again soon: slices are about to be written."""
    adoptable: tuple[AdoptableRoute, ...] = ()
    """Routes of an earlier operator that the agent takes over."""


@dataclass(frozen=True, slots=True)
class EarlierRoutes:
    """``routes``, ``generations`` and ``omitted`` of a spec, which only earlier versions wrote.

    They stay unchanged until an agent of this version has the routes from slices.
    """

    routes: tuple[DesiredRoute, ...]
    generations: tuple[RouteGeneration, ...] = ()
    omitted: tuple[str, ...] = ()

    @classmethod
    def of(cls, overlay: NodeOverlay) -> "EarlierRoutes | None":
        return cls(overlay.routes, overlay.generations, overlay.omitted) if overlay.has_routes else None


@dataclass(frozen=True, slots=True)
class Removal:
    """A StaticRoute that was removed from a slice, and that the agent of a node still may have routes of."""

    static_route: str
    waited: timedelta
    """For how long the controller's process has known of the removal."""


FactKind: TypeAlias = Literal["NodeGone", "Conflict", "Withdrawn"]


def _first_observed_now(_: FactKind, __: Hashable) -> timedelta:
    return timedelta()


@dataclass(frozen=True, slots=True)
class Holder:
    """A node that has a certain overlay address."""

    node: Node
    overlay: NodeOverlay


@dataclass(frozen=True, slots=True)
class NodeView:
    """A snapshot of one node. None as ``node`` or ``overlay`` means a confirmed absence.

    A Node on which no agent runs counts as absent: see domain.allocation.agent_nodes.
    """

    name: str
    node: Node | None
    overlay: NodeOverlay | None
    find_routes: Callable[[], NodeRoutes]
    """Looks up the route sets of this node."""
    pools: tuple[Pool, ...]
    """Every pool, in order of preference."""
    now: datetime
    """For times that are shown to people; never compared with a time that another machine wrote: see ``elapsed``."""
    cluster: str = ""
    """The id of this cluster."""
    ipams: frozenset[str] = frozenset({CLUSTER_IPAM, PHPIPAM})
    """Names of the configured IPAMs."""
    reservations: tuple[Reservation, ...] | None = None
    """The node's reservations in the IPAM; None: not read yet."""
    check_ipam: bool = False
    """The reservations must be read although the object appears settled: see controller.ipam_checks."""
    exhausted: bool = False
    """A reservation was just refused because every pool that matches the node is full."""
    taken: frozenset[IpAddress] = frozenset()
    """Requested addresses that the IPAM just refused, or that must not be used."""
    holders: Mapping[IpAddress, str] = field(default_factory=dict)
    """The addresses in ``taken`` whose record a person may have created or edited, with the name on that record."""
    find_holder: Callable[[IpAddress], Holder | None] = lambda _: None
    """Finds the node whose object has an address as its present one."""
    address_needed: bool = False
    """The Node is gone, and another node waits for an address of a full pool: see domain.allocation.early_release."""
    used_elsewhere: Container[IpAddress] = frozenset()
    """Addresses in the NodeOverlayIps of other nodes, with or without a record in the IPAM."""
    agent_silent_for: timedelta | None = None
    """For at least how long the agent has not renewed its Lease, if that is too long."""
    has_observed_slices: Callable[[], bool] = lambda: True
    """Returns whether the agent has reported every slice of the node's route sets as it is now."""
    find_removals: Callable[[Iterable[NamedSet]], Sequence[Removal]] = lambda _: ()
    """Finds the removals from slices of these sets that the agent has not confirmed."""
    find_static_routes: Callable[[Iterable[NamedSet]], Set[str]] = lambda _: frozenset()
    """Returns the StaticRoutes in these sets; called only if the node loses a set."""
    conflicts_with: Callable[[str], int] = lambda _: 0
    """How many addresses of all nodes were given up in a row because of the host with this MAC."""
    elapsed: Callable[[FactKind, Hashable], timedelta] = _first_observed_now
    """Returns for how long the controller's process has observed this fact about the node, by its own clock."""
    ipam_failure: tuple[str, str] | None = None
    """Reason and message if the IPAM has just failed to answer. Implies nothing about reservations."""


# --- Actions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FindReservations:
    """Read the reservations of this node from the IPAM, then plan again."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """Reserve ``requested``, or the first free address of the first pool with room; then plan again."""

    pools: tuple[Pool, ...]
    requested: IpAddress | None = None
    adopt: bool = False
    """The earlier operator assigned ``requested``, so take over its record, which has no owner tag."""


@dataclass(frozen=True, slots=True)
class Release:
    reservation: Reservation


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Quarantine an address that another host uses until ``until``, then plan again."""

    reservation: Reservation
    until: datetime


@dataclass(frozen=True, slots=True)
class ApplyOverlay:
    """Create the node's object, or update its labels, finalizer and spec."""

    labels: Mapping[str, str]
    route_sets: tuple[NamedSet, ...] | None = None
    """None: unknown, so the field is not written."""
    routes_only: bool = False
    withdrawn: tuple[Withdrawal, ...] = ()
    node: NodeInstance = UNKNOWN_INSTANCE
    cluster: str = ""
    adoptable: tuple[AdoptableRoute, ...] = ()
    earlier: EarlierRoutes | None = None


@dataclass(frozen=True, slots=True)
class ApplyAssignment:
    """Write the controller's part of status."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class ConfirmNodeGone:
    """Read the Node from the API server; if it exists, skip the rest of the plan."""


@dataclass(frozen=True, slots=True)
class DeleteOverlay:
    pass


@dataclass(frozen=True, slots=True)
class DropFinalizer:
    pass


@dataclass(frozen=True, slots=True)
class Announce:
    """Emit an Event for the node's object."""

    reason: str
    message: str
    warning: bool


@dataclass(frozen=True, slots=True)
class AnnounceFirst:
    """Name the node with its first address in an event of the pool, together with others that join."""

    pool: str
    address: IpAddress


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
    | AnnounceFirst
)


@dataclass(frozen=True, slots=True)
class NodePlan:
    actions: tuple[ClusterAction, ...] = ()
    """Carried out in this order; an error ends the plan."""
    requeue_after: timedelta | None = None
    """When to plan again although nothing has changed."""
