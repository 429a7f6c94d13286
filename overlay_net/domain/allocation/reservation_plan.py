"""Plans the reservation for a node without a usable one: which address to reserve, or why none can be."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from overlay_net.domain.allocation.missing_ipam import find_missing_ipam
from overlay_net.domain.allocation.placement import ip_version, pools_for_any_address, usable_pools
from overlay_net.domain.allocation.pool_addresses import may_hand_out
from overlay_net.domain.allocation.reserved_condition import RETRY_WITHOUT_ADDRESS
from overlay_net.model.ipam import Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.node_actions import Announce, ClusterAction, NodePlan, NodeView, Reserve
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool

RETRY_RECORD_TAKEN = timedelta(minutes=5)
"""Retry delay while another owner has the record, which only a person can restore."""

NO_POOL = "no usable OverlayPool matches this node; check kubectl get overlaypools"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no address, or not the requested one, can be reserved: reason and message of a condition."""

    reason: str
    message: str
    retry: timedelta = RETRY_WITHOUT_ADDRESS


def requested_address(overlay: NodeOverlay) -> IpAddress | None:
    """Return the pinned address, else the one that the node already has."""
    address = overlay.assignment.address
    return overlay.pin or (address.ip if address else None)


def find_loss(view: NodeView, overlay: NodeOverlay, node: Node) -> Refusal | None:
    """Return why the node must get another address than the one that it shows; None if it keeps that or has none."""
    requested, pools = requested_address(overlay), usable_pools(view, node)
    if requested is None or not pools:
        return None
    refusal = _check_requested(view, overlay, _pools_with(overlay, pools, requested), requested)
    if refusal is None or _refuse_keeping(view, overlay, requested, refusal) is not None:
        return None
    return refusal


def report_loss(refusal: Refusal) -> Announce:
    return Announce("AddressLost", f"{refusal.message}; the node gets another address", warning=True)


def plan_reservation(
    view: NodeView, overlay: NodeOverlay, node: Node, requested: IpAddress | None
) -> NodePlan | Refusal:
    """Plan to reserve the requested address, else any free one, or return why there is none."""
    pools = usable_pools(view, node)
    if not pools and overlay.assignment.address is not None and (missing := find_missing_ipam(view, overlay)):
        return Refusal(*missing)
    if requested is None:
        return _plan_any(view, overlay, node)
    if not pools:
        return Refusal("NoPool", NO_POOL)
    matching = _pools_with(overlay, pools, requested)
    refusal = _check_requested(view, overlay, matching, requested)
    if refusal is None:
        # An address without the uid of a Node was assigned by the earlier operator.
        inherited = _is_shown(overlay, requested) and overlay.assignment.node_uid == ""
        return NodePlan((Reserve(matching, requested, adopt=inherited), *_report_moved(view, overlay, requested)))
    kept = _refuse_keeping(view, overlay, requested, refusal)
    if kept is not None:
        return kept
    return _plan_any(view, overlay, node, report_loss(refusal))


def _pools_with(overlay: NodeOverlay, pools: tuple[Pool, ...], address: IpAddress) -> tuple[Pool, ...]:
    """Return the pools whose subnet contains the address, first the one that the node has its address from."""
    matching = (pool for pool in pools if pool.cidr is not None and address in pool.cidr)
    return tuple(sorted(matching, key=lambda pool: pool.name != overlay.assignment.pool))


def _moved_records(view: NodeView, overlay: NodeOverlay, requested: IpAddress) -> tuple[Reservation, ...]:
    """Return the records that the node has instead of one for the address that it shows: a person edited them."""
    if not _is_shown(overlay, requested):
        return ()
    known = overlay.assignment.releasing
    return tuple(
        each for each in view.reservations or () if not each.double_assigned and str(each.address.ip) not in known
    )


def _report_moved(view: NodeView, overlay: NodeOverlay, requested: IpAddress) -> tuple[Announce, ...]:
    moved = _moved_records(view, overlay, requested)
    if not moved:
        return ()
    message = (
        f"the IPAM has no record of {requested} for this node, but of {_describe(moved)}; the node keeps {requested},"
        f" which is recorded again, and the other record is released; to renumber a node, set spec.ipAddr"
    )
    return (Announce("RecordEdited", message, warning=True),)


def _describe(records: Iterable[Reservation]) -> str:
    return " and ".join(
        f"{each.address.ip} in {f'OverlayPool {each.pool}' if each.pool else 'a subnet of no OverlayPool'}"
        for each in records
    )


def _plan_any(view: NodeView, overlay: NodeOverlay, node: Node, *before: ClusterAction) -> NodePlan | Refusal:
    pools, others = pools_for_any_address(view, overlay, node), usable_pools(view, node)
    family = f"IPv{ip_version(view, overlay, node)}"
    if not pools:
        because = f"; this node has {family}, the family of the first pool that serves it" if others else ""
        return Refusal("NoPool", f"{NO_POOL}{because}")
    if view.exhausted:
        names = ", ".join(pool.name for pool in pools)
        message = f"no free {family} address in OverlayPool {names}; add a pool for this node, or delete unused Nodes"
        return Refusal("Exhausted", message)
    return NodePlan((*before, Reserve(pools)))


def _check_requested(
    view: NodeView, overlay: NodeOverlay, matching: tuple[Pool, ...], requested: IpAddress
) -> Refusal | None:
    """Return why the requested address must not be reserved, or None."""
    if not matching:
        return Refusal("OutsidePools", f"{requested} is not in any OverlayPool that matches this node")
    # The node keeps an address that it already has, even if the pool no longer hands it out.
    allowed = _is_shown(overlay, requested) or any(may_hand_out(pool, requested) for pool in matching)
    if allowed and requested not in view.taken and requested not in view.used_elsewhere:
        return None
    if requested in view.holders:
        return Refusal("AddressTaken", f"{requested} is recorded for {view.holders[requested]!r} in the IPAM")
    return Refusal("AddressTaken", f"{requested} is in use by another node or never handed out by its pool")


def _refuse_keeping(view: NodeView, overlay: NodeOverlay, requested: IpAddress, refusal: Refusal) -> Refusal | None:
    """Return the refusal if the node must not be renumbered although its requested address cannot be reserved."""
    if overlay.pin is not None:
        return Refusal(refusal.reason, f"spec.ipAddr: {refusal.message}; change or remove it")
    if requested in view.holders:
        # A person may have edited the record by mistake.
        moved = _moved_records(view, overlay, requested)
        instead = f", and this node has a record of {_describe(moved)} instead" if moved else ""
        advice = "the node keeps using it; restore the record, or delete this object to get another address"
        return Refusal("RecordTaken", f"{refusal.message}{instead}; {advice}", RETRY_RECORD_TAKEN)
    missing = find_missing_ipam(view, overlay)
    if missing is not None and refusal.reason == "OutsidePools":
        return Refusal(*missing)
    if refusal.reason == "OutsidePools":
        # The pool is missing: deleting a pool by mistake must not renumber its nodes.
        advice = "the node keeps using it; restore its pool, or delete this object to get another address"
        return Refusal("PoolMissing", f"{refusal.message}; {advice}")
    return None


def _is_shown(overlay: NodeOverlay, address: IpAddress) -> bool:
    return overlay.assignment.address is not None and overlay.assignment.address.ip == address
