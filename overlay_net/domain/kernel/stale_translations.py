"""Finds source translations that no longer fit the route of their flow.

The kernel chooses the source of a masqueraded flow with its first packet and keeps it for as long as the flow lasts. If
the flow leaves through another link it chooses again, but not if only the next hop changes, as with link_mode
``address``: the packets then leave with the private address over the overlay, or the other way round, and no answer
arrives.
"""

import socket
from collections.abc import Iterable, Mapping
from typing import Final

from overlay_net.model.kernel import Desired, Observed
from overlay_net.model.net import IpAddress
from overlay_net.model.route import Route
from overlay_net.model.translation import Translation

CONNECTIONS: Final = frozenset({socket.IPPROTO_TCP, socket.IPPROTO_SCTP, 33})
"""Protocols with connections (33: DCCP): these end with their translation, and may work in spite of it."""


def find_candidates(
    translations: Iterable[Translation], desired: Desired, observed: Observed
) -> tuple[Translation, ...]:
    """Return the translations to an address of this node that may depend on our routes.

    There are none before the overlay address is in use. Without the address, the kernel drops its translations itself.
    """
    index = observed.address_index

    def in_use(ip: IpAddress) -> bool:
        return any(each.in_use for each in index.at(ip))

    if desired.address is None or not in_use(desired.address.ip):
        return ()
    version = desired.address.version
    return tuple(
        each
        for each in translations
        if each.protocol not in CONNECTIONS and each.source.version == version and in_use(each.source)
    )


def find_stale(
    candidates: Iterable[Translation], desired: Desired, routes: Mapping[IpAddress, Route | None]
) -> tuple[Translation, ...]:
    """Return the candidates whose route uses the overlay address although they do not, or the other way round.

    ``routes`` has the route to each destination; None: not known, so its flows are left alone.
    """
    overlay = desired.address.ip if desired.address is not None else None

    def is_stale(translation: Translation) -> bool:
        route = routes.get(translation.destination)
        return route is not None and (route.source == overlay) != (translation.source == overlay)

    return tuple(each for each in candidates if is_stale(each))
