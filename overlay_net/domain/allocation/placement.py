"""The pools of a node, and whether its address is one that it would get now.

A node takes the IP family of the first pool that serves it, and never changes it by itself. An address that the node
would not get now is given up while no agent uses it; otherwise the condition ``UpToDate`` states how to move the node.
"""

from collections.abc import Collection
from dataclasses import replace
from ipaddress import ip_interface

from overlay_net.domain.allocation.missing_ipam import recorded_ipams
from overlay_net.domain.allocation.pool_addresses import may_hand_out
from overlay_net.model.conditions import UP_TO_DATE, Condition, transition
from overlay_net.model.ipam import CLUSTER_IPAM
from overlay_net.model.names import RENUMBER_ANNOTATION
from overlay_net.model.net import IpAddress
from overlay_net.model.node import Node
from overlay_net.model.node_actions import Announce, NodeView
from overlay_net.model.overlay import Assignment, NodeOverlay
from overlay_net.model.pool import Pool


def usable_pools(view: NodeView, node: Node) -> tuple[Pool, ...]:
    """Return the pools that the node may get an address from, in order of preference."""
    return tuple(
        pool
        for pool in view.pools
        if pool.serves(node) and not pool.deleting and not pool.problem and pool.ipam in view.ipams
    )


def ip_version(view: NodeView, overlay: NodeOverlay, node: Node) -> int | None:
    """Return the IP version of the node: that of its address, else of the first pool that serves it, even if unusable.

    A pool in phpIPAM whose subnet was never read is skipped. None if no pool serves the node.
    """
    if overlay.assignment.address is not None:
        return overlay.assignment.address.version
    cidrs = (pool.cidr for pool in view.pools if pool.serves(node) and not pool.deleting)
    return next((cidr.version for cidr in cidrs if cidr is not None), None)


def pools_for_any_address(view: NodeView, overlay: NodeOverlay, node: Node) -> tuple[Pool, ...]:
    """Return the usable pools of the IP version of the node."""
    version = ip_version(view, overlay, node)
    return tuple(pool for pool in usable_pools(view, node) if pool.cidr is not None and pool.cidr.version == version)


def find_pool(view: NodeView, node: Node, name: str, address: IpAddress, ipams: Collection[str]) -> Pool | None:
    """Return the pool of an address with a record in one of ``ipams``: the one named ``name`` if it serves the node.

    Otherwise one that serves the node and contains the address, as the pool may have been renamed, or be that of
    another zone of the same phpIPAM subnet. None if there is none, or if pool ``name`` was not read yet.
    """
    named = next((pool for pool in view.pools if pool.name == name), None)
    if named is not None and named.cidr is None:
        return None
    if named is not None and not _contains(named, address):
        named = None
    if named is not None and named.serves(node):
        return named
    others = (pool for pool in usable_pools(view, node) if pool.ipam in ipams and _contains(pool, address))
    return next((pool for pool in others if named is None or pool.subnet_id == named.subnet_id), named)


def _contains(pool: Pool, address: IpAddress) -> bool:
    return pool.cidr is not None and address in pool.cidr


def find_present_pool(view: NodeView, overlay: NodeOverlay, node: Node) -> Pool | None:
    """Return the pool of the address in the object."""
    current = overlay.assignment
    ipams = (recorded_ipams(view, overlay) & view.ipams) or {CLUSTER_IPAM}
    return find_pool(view, node, current.pool, current.address.ip, ipams) if current.address else None


def place(view: NodeView, overlay: NodeOverlay, node: Node, assignment: Assignment, pool: Pool | None) -> Assignment:
    """Return ``assignment`` with what follows from its pool, and with the condition ``UpToDate``.

    Without a pool, name, gateway and prefix length stay.
    """
    address, gateway, name = assignment.address, overlay.gateway_override or assignment.gateway, assignment.pool
    if pool is not None and pool.cidr is not None and address is not None:
        gateway, name = overlay.gateway_override or pool.gateway or gateway, pool.name
        address = ip_interface((address.ip, pool.cidr.prefixlen))
    placed = replace(assignment, address=address, gateway=gateway, pool=name)
    up_to_date = _up_to_date(view, overlay, node, placed, pool)
    return placed if up_to_date == placed.up_to_date else replace(placed, up_to_date=up_to_date)


def address_to_leave(view: NodeView, overlay: NodeOverlay, node: Node) -> IpAddress | None:
    """Return the address of the node if it must get another one now and there is a pool to get it from."""
    address = overlay.assignment.address
    if address is None or overlay.pin is not None:
        return None
    if overlay.renumber != address.ip:
        outdated = _find_outdated(view, node, overlay.assignment, find_present_pool(view, overlay, node))
        if outdated is None or not _is_unused(overlay):
            return None
    return address.ip if pools_for_any_address(view, overlay, node) else None


def announce_outdated(overlay: NodeOverlay, assignment: Assignment) -> tuple[Announce, ...]:
    """Return an event if the address in ``assignment`` is outdated for another reason than before."""
    before, now = overlay.assignment.up_to_date, assignment.up_to_date
    if now is None or (before is not None and before.reason == now.reason):
        return ()
    return (Announce(now.reason, now.message, warning=True),)


def _is_unused(overlay: NodeOverlay) -> bool:
    """Return whether no agent has reported the address; that of the earlier operator reports only its link."""
    return overlay.report.configured is None and (overlay.report.observed_generation > 0 or not overlay.report.link)


def _find_outdated(view: NodeView, node: Node, assignment: Assignment, pool: Pool | None) -> tuple[str, str] | None:
    """Return reason and message if the node would not get this address now."""
    if assignment.address is None:
        return None
    address = assignment.address.ip
    if pool is None:
        return _find_missing_pool(view, assignment.pool, address)
    if not pool.serves(node):
        zone = f"zone {node.zone}" if node.zone else "no zone"
        return "PoolNotSelected", f"{address} is from OverlayPool {pool.name}, which does not serve this node ({zone})"
    if pool.gateway is None or may_hand_out(pool, address):
        return None
    gateway = address in (pool.gateway, *pool.other_gateways)
    return "AddressExcluded", f"{address} is {'a gateway in' if gateway else 'excluded from'} OverlayPool {pool.name}"


def _find_missing_pool(view: NodeView, name: str, address: IpAddress) -> tuple[str, str] | None:
    named = next((pool for pool in view.pools if pool.name == name), None)
    if not name or (named is not None and named.cidr is None):
        return None
    what = f"OverlayPool {name} does not exist" if named is None else f"OverlayPool {name} has the subnet {named.cidr}"
    return "PoolMissing", f"{what} and no other pool of this node contains {address}, so its gateway stays as it is"


def _up_to_date(
    view: NodeView, overlay: NodeOverlay, node: Node, assignment: Assignment, pool: Pool | None
) -> Condition | None:
    """Return the condition; None if nothing is wrong."""
    named = next((each for each in view.pools if each.name == assignment.pool), None)
    if pool is None and named is not None and named.cidr is None:
        # The pool was not read yet.
        return overlay.assignment.up_to_date
    outdated = _find_outdated(view, node, assignment, pool)
    if outdated is None and overlay.pin is None and assignment.address and overlay.renumber == assignment.address.ip:
        outdated = "RenumberRequested", f"another address than {overlay.renumber} was requested"
    if outdated is None or assignment.address is None:
        return None
    reason, problem = outdated
    message = f"{problem}; {_advice(view, overlay, node, assignment.address.ip)}"
    before = (overlay.assignment.up_to_date,) if overlay.assignment.up_to_date else ()
    return transition(before, Condition(UP_TO_DATE, False, reason, message), view.now)


def _advice(view: NodeView, overlay: NodeOverlay, node: Node, address: IpAddress) -> str:
    pools = ", ".join(pool.name for pool in pools_for_any_address(view, overlay, node))
    if overlay.pin is not None:
        return "change or remove spec.ipAddr"
    if not pools:
        return "no usable pool serves this node: add one, or correct zones and nodeSelector"
    if view.exhausted:
        return f"no free address in OverlayPool {pools}; the node moves as soon as there is one"
    command = f"kubectl annotate noip {view.name} {RENUMBER_ANNOTATION}={address} --overwrite"
    return f"to move the node to OverlayPool {pools}, run {command}, or delete this object"
