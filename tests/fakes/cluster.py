"""A cluster of one node, its IPAM and its agent, in memory: enough to run plans of domain.node_plan to their end.

It refuses what the real parts refuse: an address has one owner, an object with a finalizer stays until it is removed.
"""

from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Interface, ip_address, ip_interface
from typing import Any

from overlay_net.domain.allocation.node_plan import plan_node
from overlay_net.domain.allocation.pool_addresses import free_addresses
from overlay_net.domain.routes.compile import compile_routes
from overlay_net.model.ipam import QUARANTINE, Owner, Reservation
from overlay_net.model.names import FINALIZER
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.node_actions import (
    Announce,
    ApplyAssignment,
    ApplyOverlay,
    ClusterAction,
    ConfirmNodeGone,
    DeleteOverlay,
    DropFinalizer,
    FindReservations,
    LifecyclePolicy,
    NodePlan,
    NodeRoutes,
    NodeView,
    Quarantine,
    Release,
    RemoveTaint,
    Reserve,
)
from overlay_net.model.overlay import Assignment, NodeOverlay
from overlay_net.model.parse import encode_time, parse_time
from overlay_net.model.pool import Pool
from overlay_net.model.route_spec import encode_route
from overlay_net.model.static_route import StaticRoute

NAME = "n1"
ASKS_IPAM = FindReservations | Reserve | Release | Quarantine
STATUS_NAMES = {
    "address": "ipAddr",
    "node_uid": "nodeUID",
    "node_gone_since": "nodeGoneSince",
    "last_conflict": "lastConflict",
}
"""Fields of Assignment whose name in status is another one."""

POLICY = LifecyclePolicy(release_after=timedelta(minutes=10), fence_after=timedelta(minutes=20))


class Refused(Exception):
    """The IPAM refused; ``taken`` (by a person, where ``holder`` is set) or exhausted."""

    def __init__(self, taken: IpAddress | None, holder: str = "") -> None:
        super().__init__()
        self.taken = taken
        self.holder = holder


class Away(Exception):
    """The IPAM does not answer."""


@dataclass
class Cluster:
    pools: list[Pool]
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    node: Node | None = None
    overlay: dict[str, Any] | None = None
    routes: list[StaticRoute] = field(default_factory=list)
    records: dict[IpAddress, Reservation] = field(default_factory=dict)
    kernel: IPv4Interface | None = None
    """The overlay address that the node's kernel has."""
    policy: LifecyclePolicy = POLICY
    gone_at: datetime | None = None
    feed: bool = True
    """Whether the IPAM tells of its changes by itself."""
    squatted: set[IpAddress] = field(default_factory=set)
    """Addresses that somebody unknown uses on the link."""
    away: bool = False
    """The IPAM does not answer."""
    announced: list[str] = field(default_factory=list)
    decided: list[Release] = field(default_factory=list)
    """What the controller that was stopped last would release next."""
    serial: int = 0

    # --- What other people do ---

    def switch_addresses(self, on: bool) -> None:
        self.policy = replace(self.policy, overlay_addresses=on)

    def join(self, node: Node) -> None:
        self.node, self.gone_at = node, None

    def leave(self) -> None:
        if self.node is not None:
            self.node, self.gone_at = None, self.now

    def pin(self, address: str | None) -> None:
        if self.overlay is None or "deletionTimestamp" in self.overlay["metadata"]:
            return
        self.overlay["spec"].pop("ipAddr", None)
        if address:
            self.overlay["spec"]["ipAddr"] = address
        self.overlay["metadata"]["generation"] += 1

    def delete_overlay(self) -> None:
        if self.overlay is not None and "deletionTimestamp" not in self.overlay["metadata"]:
            self.overlay["metadata"]["deletionTimestamp"] = self.now.isoformat()
            self.overlay["metadata"]["generation"] += 1

    def take(self, address: str, node: str = "somebody-else") -> None:
        """Another node (a person, if it has no name) reserves an address, if it is free."""
        self.records.setdefault(ip_address(address), self._record(ip_address(address), self.pools[0], node, "x"))

    def duplicate(self, address: str) -> None:
        """A reservation whose answer was lost appears: the node has a second record."""
        if self.node is not None and self.overlay is not None:
            self.take(address, NAME)

    def audit(self) -> None:
        """Records whose quarantine is over are released."""
        for address, record in tuple(self.records.items()):
            until = parse_time(record.owner.uid) if record.owner.node == QUARANTINE else None
            if until is not None and self.now >= until:
                del self.records[address]

    def agent(self) -> None:
        """The node's agent brings its kernel to what the object says, and reports."""
        if self.overlay is None:
            self.kernel = None
            return
        parsed = NodeOverlay.parse(self.overlay)
        without = parsed.deleting or parsed.routes_only
        address = None if without else parsed.assignment.address or parsed.report.configured
        status = self.overlay.setdefault("status", {})
        status.pop("configuredIpAddr", None)
        status.pop("conflictingIpAddr", None)
        if address is not None and address.ip in self.squatted and address != self.kernel:
            # Found before it is used: the address that the node has already stays until then.
            status["conflictingIpAddr"] = str(address.ip)
        else:
            self.kernel = address if isinstance(address, IPv4Interface) else None
        if self.kernel:
            status["configuredIpAddr"] = str(self.kernel)
        status["observedGeneration"] = parsed.generation
        others = [each for each in status.get("conditions", []) if each["type"] != "Configured"]
        state = {"type": "Configured", "status": "True" if self.kernel else "False"}
        kept = "RoutesOnly" if parsed.routes_only else "NoAddress"
        state["reason"] = "Configured" if self.kernel else "Released" if parsed.deleting else kept
        status["conditions"] = [*others, state]

    # --- The controller ---

    def go_on(self) -> None:
        """A controller that stood still, and that others have replaced since, goes on where it was."""
        for action in self.decided:
            self.apply(action)
        self.decided = []

    def view(self, **known: Any) -> NodeView:
        overlay = NodeOverlay.parse(self.overlay) if self.overlay else None
        gateway = overlay.assignment.gateway if overlay and self.policy.overlay_addresses else None
        address = overlay.assignment.address if overlay else None
        return NodeView(
            name=NAME,
            node=self.node,
            overlay=overlay,
            compile_routes=lambda: compile_routes(self.routes, self.node, gateway) if self.node else NodeRoutes(),
            pools=tuple(self.pools),
            now=self.now,
            check_ipam=self.feed
            and {record.address.ip for record in self.found()} != ({address.ip} if address else set()),
            **known,
        )

    def reconcile(self, steps: int | None = None, *, doubt: bool = False) -> bool:
        """Plan and apply until nothing is left, as the controller does; dies after ``steps`` writes.

        Whether it came to its end. ``doubt``: the audit has seen records that do not agree with the object.
        """
        view, left = self.view(), steps
        if doubt and not self.away:
            view = replace(view, reservations=self.found())
        for _ in range(20):
            plan: NodePlan = plan_node(view, self.policy)
            if not plan.actions:
                return True
            try:
                for number, action in enumerate(plan.actions):
                    if not isinstance(action, FindReservations):
                        if left == 0:
                            self.decided = [each for each in plan.actions[number:] if isinstance(each, Release)]
                            return False
                        left = None if left is None else left - 1
                    self.apply(action)
            except Away:
                for action in plan_node(self.view(ipam_failure=("IpamUnavailable", "it is away")), self.policy).actions:
                    self.apply(action)
                return False
            except Refused as refused:
                view = self.view(
                    reservations=self.found(),
                    exhausted=refused.taken is None,
                    taken=view.taken | ({refused.taken} if refused.taken else set()),
                    holders={refused.taken: refused.holder} if refused.taken and refused.holder else {},
                )
                continue
            looked = any(isinstance(action, ASKS_IPAM) for action in plan.actions)
            view = self.view(reservations=self.found()) if looked else self.view()
            if any(isinstance(action, Reserve) for action in plan.actions):
                # The last one that was written.
                view = replace(view, reservations=tuple(self._freshened(each) for each in view.reservations or ()))
        raise AssertionError(f"it does not come to an end: {plan_node(view, self.policy)}")

    def _freshened(self, reservation: Reservation) -> Reservation:
        return replace(reservation, fresh=reservation.version == str(self.serial))

    def found(self) -> tuple[Reservation, ...]:
        return tuple(record for record in self.records.values() if record.owner.node == NAME)

    def apply(self, action: ClusterAction) -> None:
        if self.away and isinstance(action, ASKS_IPAM):
            raise Away
        match action:
            case ApplyOverlay():
                self._apply_overlay(action)
            case ApplyAssignment():
                self._apply_assignment(action)
            case Reserve(pools, requested, adopt):
                self._reserve(pools, requested, adopt)
            case Release() | Quarantine():
                self._give_up(action)
            case ConfirmNodeGone():
                assert self.node is None
            case DeleteOverlay():
                assert self.overlay is not None
                self.delete_overlay()
            case DropFinalizer():
                assert self.overlay is not None
                self.overlay = None
            case RemoveTaint(key):
                assert self.node is not None
                self.node = replace(self.node, taints=tuple(each for each in self.node.taints if each != key))
            case Announce(reason, _, __):
                self.announced.append(reason)
            case FindReservations():
                pass

    def _apply_overlay(self, action: ApplyOverlay) -> None:
        if self.overlay is None:
            self.serial += 1
            metadata = {"name": NAME, "uid": f"o{self.serial}", "generation": 1, "resourceVersion": "1"}
            self.overlay = {"metadata": metadata, "spec": {}, "status": {}}
        self.overlay["metadata"] |= {"labels": dict(action.labels), "finalizers": [FINALIZER]}
        self.overlay["spec"] |= {
            "routes": [encode_route(route) for route in action.routes],
            "routesOnly": action.routes_only,
        }
        self.overlay["metadata"]["generation"] += 1

    def _apply_assignment(self, action: ApplyAssignment) -> None:
        assert self.overlay is not None
        status = self.overlay["status"]
        mine = action.assignment.to_json()
        others = [each for each in status.get("conditions", []) if each["type"] != "Reserved"]
        for name in fields(Assignment):
            status.pop(STATUS_NAMES.get(name.name, name.name), None)
        status |= mine
        status["conditions"] = [*others, *mine.get("conditions", [])]

    def _give_up(self, action: Release | Quarantine) -> None:
        reservation = action.reservation
        assert reservation.owner.node == NAME, "a record of another owner was changed"
        present = self.records.get(reservation.address.ip)
        if isinstance(action, Quarantine):
            owner = Owner(reservation.owner.cluster, QUARANTINE, encode_time(action.until))
            self.records[reservation.address.ip] = replace(reservation, owner=owner)
        elif present is not None and (present.record, present.version) == (reservation.record, reservation.version):
            del self.records[reservation.address.ip]

    def _reserve(self, pools: tuple[Pool, ...], requested: IpAddress | None, adopt: bool) -> None:
        assert self.node is not None
        for pool in pools:
            candidates = free_addresses(pool, self.records) if requested is None else iter([requested])
            address = next(candidates, None)
            if address is None:
                continue
            owner = self.records[address].owner.node if address in self.records else NAME
            if owner != NAME and not (adopt and owner == ""):
                raise Refused(address, "" if owner else "a printer")
            before = self.records.get(address)
            written = self._record(address, pool, NAME, self.node.uid)
            # What is taken over stays the same record, in a later state.
            self.records[address] = written if before is None else replace(written, record=before.record)
            return
        raise Refused(None)

    def _record(self, address: IpAddress, pool: Pool, node: str, uid: str) -> Reservation:
        assert pool.cidr is not None
        interface = ip_interface((address, pool.cidr.prefixlen))
        self.serial += 1
        return Reservation(
            interface, pool.name, Owner("c", node, uid), f"record-{self.serial}", version=str(self.serial)
        )
