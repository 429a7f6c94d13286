"""Nodes with records in an IPAM that is not configured any more, where records can be neither read nor released.

``status.ipams`` names the external IPAMs with records of a node. A name is removed only after a read of that IPAM, so
it stays while the IPAM is not configured, also on a node that has moved to another IPAM meanwhile.
"""

from collections.abc import Iterable

from overlay_net.model.ipam import CLUSTER_IPAM, PHPIPAM, Reservation
from overlay_net.model.node_actions import NodeView
from overlay_net.model.overlay import NodeOverlay

HOW_TO_CONFIGURE = {PHPIPAM: ("phpIPAM", "set phpipam.url again until the address is released")}


def recorded_ipams(view: NodeView, overlay: NodeOverlay) -> frozenset[str]:
    """Return the external IPAMs that have records of the node; for objects without the field, that of its pool."""
    found = set(overlay.assignment.ipams)
    if overlay.assignment.address is not None:
        found |= {pool.ipam for pool in view.pools if pool.name == overlay.assignment.pool}
    return frozenset(found - {CLUSTER_IPAM})


def ipams_after_read(view: NodeView, overlay: NodeOverlay, reservations: Iterable[Reservation]) -> tuple[str, ...]:
    """Return ``status.ipams`` after all configured IPAMs were read."""
    found = {each.ipam for each in reservations} - {CLUSTER_IPAM}
    return tuple(sorted(found | (recorded_ipams(view, overlay) - view.ipams)))


def find_missing_ipam(view: NodeView, overlay: NodeOverlay) -> tuple[str, str] | None:
    """Return reason and message of a condition if a record of the node is in an IPAM that is not configured."""
    missing = sorted(recorded_ipams(view, overlay) - view.ipams)
    if not missing:
        return None
    name, fix = HOW_TO_CONFIGURE.get(missing[0], (missing[0], "configure it again"))
    return "IpamNotConfigured", f"an address of node {view.name} is recorded in {name}, which is not configured; {fix}"
