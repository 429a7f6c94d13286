"""Everything that the checks of `overlay-net doctor` use. What could not be read is unread, and never nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from overlay_net.model.api import JsonObject
from overlay_net.model.lease import LeaseRecord
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool
from overlay_net.model.static_route import StaticRoute

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Unread:
    """Why something is not known, in one line."""

    message: str


@dataclass(frozen=True, slots=True)
class Read(Generic[T_co]):
    value: T_co


Reading: TypeAlias = Read[T] | Unread


class NotRead(Exception):
    """A check needs something that is unread."""


def known(reading: Reading[T]) -> T:
    """Return what was read. Raises NotRead."""
    if isinstance(reading, Unread):
        raise NotRead(reading.message)
    return reading.value


class Permission(NamedTuple):
    """What a service account of the release must be allowed to do."""

    component: str
    """``controller`` or ``agent``."""
    verb: str
    group: str
    resource: str
    """With the subresource, such as ``nodeoverlayips/status``."""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Workloads:
    """The Deployment of the controllers and the DaemonSet of the agents; None: there is none."""

    namespace: str
    controller: JsonObject | None
    agent: JsonObject | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    version: Reading[JsonObject]
    """The answer of ``/version``."""
    definitions: Reading[Mapping[str, JsonObject]]
    """CustomResourceDefinitions by name."""
    permissions: Reading[Mapping[Permission, bool]]
    policies: Reading[frozenset[str]]
    """Names of ValidatingAdmissionPolicies that have a binding."""
    workloads: Reading[Workloads]
    pods: Reading[Sequence[JsonObject]]
    """The pods of the release."""
    lease: Reading[LeaseRecord | None]
    """The Lease of the controllers; None: it does not exist."""
    cluster_lease: Reading[LeaseRecord | None]
    """The Lease of the cluster."""
    nodes: Reading[Sequence[Node]]
    """The Nodes on which an agent runs, as far as they are examined."""
    overlays: Reading[Sequence[NodeOverlay]]
    """The objects of all nodes."""
    pools: Reading[Sequence[Pool]]
    static_routes: Reading[Sequence[StaticRoute]]
    overlay_addresses: bool
    """Whether nodes get overlay addresses according to the settings."""
    leader_election: bool
    """Whether the controllers elect a leader according to the settings; without, their only lock is the cluster's."""
    now: datetime
    kernels: Mapping[str, Reading[JsonObject]] = field(default_factory=dict)
    """The answers of `overlay-net node-state`, by node."""
    cilium: Reading[JsonObject | None] = field(default_factory=lambda: Read(None))
    """The data of the ConfigMap of Cilium, if a kernel was read; None: it does not exist."""

    @property
    def examined(self) -> Sequence[tuple[Node, NodeOverlay | None]]:
        """The nodes with their objects. Raises NotRead."""
        objects = {each.name: each for each in known(self.overlays)}
        return [(node, objects.get(node.name)) for node in known(self.nodes)]
