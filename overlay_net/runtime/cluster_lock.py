"""The Lease of the cluster: it names the one release that manages the overlay of all nodes.

Releases in different namespaces have Leases of their own for their replicas, but the same nodes, objects and records.
"""

from overlay_net.model.errors import NotFound
from overlay_net.model.lease import LeaseRecord, LeaseTimes
from overlay_net.model.names import LEASES
from overlay_net.runtime.lease_lock import LeaseApi

NAMESPACE = "kube-system"
NAME = "overlay-net"

RETRY_PERIOD = 10.0
"""Seconds between two renewals, and between two attempts of a release on standby."""


def cluster_lock_times(duration: float, release: LeaseTimes) -> LeaseTimes:
    """Return the times of the Lease that another release may take over after ``duration`` seconds.

    A replica that replaces a crashed leader has to wait for the Lease of the release first, and must not be too late.
    """
    duration = max(duration, 2 * release.duration)
    return LeaseTimes(duration, duration / 2, min(RETRY_PERIOD, duration / 10))


async def find_other_release(api: LeaseApi, release: str) -> str:
    """Return which release other than ``release`` is recorded as holder, also if it has expired; or an empty string.

    Raises the errors of model.errors.
    """
    try:
        holder = LeaseRecord.parse(await api.get(LEASES, NAME, namespace=NAMESPACE)).holder
    except NotFound:
        return ""
    return "" if holder == release else holder
