"""Finds which of a node's reservations it may use, and which one it uses now."""

from collections.abc import Iterable, Sequence

from overlay_net.domain.allocation.pool_addresses import is_in_pool, may_hand_out
from overlay_net.model.ipam import CLUSTER_IPAM, Reservation
from overlay_net.model.net import IpAddress
from overlay_net.model.node_actions import NodeView
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool


def find_current(
    view: NodeView, overlay: NodeOverlay, usable: Sequence[Reservation], requested: IpAddress | None
) -> Reservation | None:
    """Return the reservation of the requested address; a node without a requested one uses that of the lowest address.

    ``usable`` comes from ``find_usable``.
    """
    if requested is None:
        return next(iter(usable), None)
    exact = (each for each in usable if each.address.ip == requested)
    home = overlay.assignment.pool
    return next((each for each in exact if each.fresh or is_in_pool(each, home, view.pools)), None)


def find_usable(view: NodeView, overlay: NodeOverlay, reservations: Iterable[Reservation]) -> list[Reservation]:
    """Return the reservations that the node may use, lowest address first."""
    usable = [each for each in reservations if not each.double_assigned and _may_use(view, overlay, each)]
    return sorted(usable, key=lambda reservation: int(reservation.address.ip))


def find_shown(overlay: NodeOverlay, reservations: Iterable[Reservation]) -> Reservation | None:
    """Return the reservation of the address in the object, which the node keeps if it cannot have another one."""
    address = overlay.assignment.address
    usable = (each for each in reservations if not each.double_assigned)
    return next((each for each in usable if address is not None and each.address.ip == address.ip), None)


def _may_use(view: NodeView, overlay: NodeOverlay, reservation: Reservation) -> bool:
    """Return whether the node may use a reservation, which may be of any address: people edit records.

    The address may also be one that another node still uses: its record was deleted by hand, or is being released.
    """
    address = reservation.address.ip
    if overlay.assignment.address is not None and overlay.assignment.address.ip == address:
        return True
    if address in view.used_elsewhere:
        return False
    # The subnet of a pool of phpIPAM is unknown until it has been read once.
    pools = _find_pools(view, reservation)
    return any(address == overlay.pin or pool.cidr is None or may_hand_out(pool, address) for pool in pools)


def _find_pools(view: NodeView, reservation: Reservation) -> list[Pool]:
    """Return the pool of a record; if that is gone, as it was renamed, the in-cluster ones that have the address.

    A record of phpIPAM is in a subnet, and has the name of the pool of that subnet.
    """
    named = [pool for pool in view.pools if pool.name == reservation.pool]
    if named or reservation.ipam != CLUSTER_IPAM:
        return named
    address = reservation.address.ip
    return [pool for pool in view.pools if pool.ipam == CLUSTER_IPAM and pool.cidr and address in pool.cidr]
