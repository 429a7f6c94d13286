"""Which StaticRoutes fit into the NodeOverlayIp of one node.

etcd refuses a request of more than 1.5 MiB (--max-request-bytes). Routes get 1 MiB of that; the rest is for the report
of the agent and the metadata. A larger object could not be written at all, not even to remove routes.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.route_spec import max_encoded_size

MAX_BYTES: Final = 2**20

MAX_ROUTES: Final = 20_000
"""Limit of the schema for ``spec.routes``."""

ALWAYS_FITS: Final = 250
"""Number of routes that are within MAX_BYTES even if each has a probe, all fields and 16 gateways."""


def max_size(entries: Sequence[DesiredRoute], *, probed: bool) -> int:
    """Return the maximum size, in bytes, of the routes of one StaticRoute.

    The report of an agent repeats the previous routes of a StaticRoute with a ``probe``.
    """
    if not entries:
        return 0
    # All routes of a StaticRoute have one specification.
    each = max(max_encoded_size(entries[0]), -(-MAX_BYTES // MAX_ROUTES))
    return len(entries) * each * (2 if probed else 1)


def find_oversized(sizes: Mapping[str, int], present: Mapping[str, int], limit: int = MAX_BYTES) -> tuple[str, ...]:
    """Return the StaticRoutes that must not grow, so that the routes of the node have at most ``limit`` bytes.

    ``sizes`` are those of the routes by StaticRoute, oldest first, and ``present`` those that the node has now. What
    the node has keeps its room, and less is always possible; then the oldest StaticRoutes take what is left.
    """
    total = sum(min(size, present.get(name, 0)) for name, size in sizes.items())
    oversized = []
    for name, size in sizes.items():
        growth = max(0, size - present.get(name, 0))
        if growth and total + growth > limit:
            oversized.append(name)
        else:
            total += growth
    return tuple(oversized)
