"""What exists of the route sets: where each StaticRoute is, and which sets nodes may name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from overlay_net.model.route_probe import Revision
from overlay_net.model.static_route import StaticRoute


@dataclass(frozen=True, slots=True)
class Place:
    """Where the present revision of a StaticRoute is."""

    route_set: str
    slice: str
    """Name of the slice."""
    slice_generation: int
    """The generation of the slice with which it got its present form; 0: not in the cache yet."""


@dataclass(frozen=True, slots=True)
class SharedSet:
    """A route set of all StaticRoutes with one selector."""

    route: StaticRoute | None = field(compare=False)
    """A StaticRoute with this selector; None: unknown, so the nodes that name the set keep it."""
    open: bool
    """Whether nodes begin to name the set. Otherwise no StaticRoute has the selector any more."""
    known: bool
    """Whether the cache has all slices of the set."""
    closed: Mapping[str, datetime] = field(default_factory=dict, compare=False)
    """``closedSince`` of refused StaticRoutes and retained routes: a node that begins to name the set does so later."""


@dataclass(frozen=True, slots=True)
class StagedRoute:
    """A StaticRoute with a rollout, or that has left sets of its own because it had one."""

    route: StaticRoute = field(compare=False)
    revision: Revision
    refused: bool
    place: Place | None
    """None: it has none yet."""
    known: bool
    """Whether the cache has all slices of the set of ``place``."""
    previous: frozenset[str] = frozenset()
    """Shared sets that still have an earlier revision."""


@dataclass(frozen=True, slots=True)
class RouteSets:
    """The route sets that exist, as nodes may name them. Nodes need no plan while it is equal to the one before."""

    shared: Mapping[str, SharedSet] = field(default_factory=dict)
    """By name."""
    staged: Mapping[str, StagedRoute] = field(default_factory=dict)
    """By name of the StaticRoute."""
    rollouts: Mapping[str, str] = field(default_factory=dict, compare=False)
    """The StaticRoute of each set of a rollout."""
    retaining: frozenset[str] = frozenset()
    """The sets of rollouts with routes that are retained: nodes keep them."""
    settled: bool = field(default=False, compare=False)
    """Whether the cached slices have everything that the StaticRoutes say."""
