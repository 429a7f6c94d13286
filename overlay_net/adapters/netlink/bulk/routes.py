"""Reads and writes the kernel's routes in bulk, at little cost if nothing has changed."""

import errno
import socket
from collections.abc import Iterator, Sequence

from overlay_net.adapters.netlink.bulk.batches import Request
from overlay_net.adapters.netlink.bulk.codec import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from overlay_net.adapters.netlink.bulk.route_encoder import RouteEncoder
from overlay_net.adapters.netlink.bulk.route_messages import (
    RTM_DELROUTE,
    RTM_NEWROUTE,
)
from overlay_net.adapters.netlink.bulk.route_reader import RouteReader
from overlay_net.adapters.netlink.bulk.socket import NOT_FOUND, NetlinkSocket
from overlay_net.adapters.netlink.describe import describe
from overlay_net.model.address_spans import AddressSpans
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel_actions import AddRoute, DeleteRoute, ReplaceRoute, RouteAction
from overlay_net.model.kernel_changes import EVERYTHING, UNKNOWN, KernelChanges
from overlay_net.model.route import Route

FAMILIES = (socket.AF_INET, socket.AF_INET6)


class Routes:
    """The routes of the network namespace of the socket."""

    def __init__(self, protocol: int) -> None:
        """``protocol`` is that of our routes."""
        self._readers = [RouteReader(family, protocol) for family in FAMILIES]
        self._awaited: AwaitedRoutes | None = None
        self._by_family: list[tuple[Route, ...]] = []
        self._all: tuple[Route, ...] = ()

    def read(
        self, kernel: NetlinkSocket, awaited: AwaitedRoutes | None = None, changes: KernelChanges = UNKNOWN
    ) -> tuple[Route, ...]:
        """Read our routes, and those of other processes that ``awaited`` needs; None: those of all tables but "local".

        ``changes``: what may have changed since the last read. Raises KernelError and OSError.
        """
        self._awaited = awaited
        found = [reader.read(kernel, awaited, changes) for reader in self._readers]
        if [id(routes) for routes in found] != [id(routes) for routes in self._by_family]:
            self._by_family, self._all = found, tuple(route for routes in found for route in routes)
        return self._all

    def read_main_table(self, kernel: NetlinkSocket, spans: AddressSpans) -> list[Route]:
        """Read the routes of the table main that begin inside ``spans``, of any process. Any thread may call this.

        Raises KernelError and OSError.
        """
        return [route for reader in self._readers for route in reader.read_main_table(kernel, spans)]

    def write(self, kernel: NetlinkSocket, actions: Sequence[RouteAction]) -> list[tuple[RouteAction, KernelError]]:
        """Apply additions and replacements, then deletions. Returns refused ones. Raises KernelError and OSError."""
        additions = [action for action in actions if not isinstance(action, DeleteRoute)]
        deletions = [action for action in actions if isinstance(action, DeleteRoute)]
        refused = _write(kernel, additions) + _write(kernel, self._safe(kernel, deletions))
        if any(error.code == errno.EEXIST for _, error in refused):
            self.search()
        return refused

    def search(self) -> None:
        """Search all routes at the next read: there may be one that was not read."""
        for reader in self._readers:
            reader.forget()

    def _safe(self, kernel: NetlinkSocket, deletions: list[DeleteRoute]) -> list[DeleteRoute]:
        """Return the deletions without those that could delete another route.

        The kernel takes metric 0 as any metric: if the route is already gone, it would delete one with another metric.
        Therefore a route of metric 0 is deleted only if it still exists.
        """
        if all(action.route.metric for action in deletions):
            return deletions
        observed = self.read(kernel, self._awaited, EVERYTHING)
        identities = {id(route) for route in observed}
        if all(id(action.route) in identities for action in deletions):
            return deletions
        keys = {(route.protocol, route.key) for route in observed}
        return [
            action for action in deletions if action.route.metric or (action.route.protocol, action.route.key) in keys
        ]


def _write(kernel: NetlinkSocket, actions: Sequence[RouteAction]) -> list[tuple[RouteAction, KernelError]]:
    refused: list[tuple[RouteAction, KernelError]] = []
    sent: list[RouteAction] = []
    encoder = RouteEncoder()
    message_types = {
        AddRoute: (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, encoder.new),
        ReplaceRoute: (RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, encoder.new),
        DeleteRoute: (RTM_DELROUTE, 0, encoder.delete),
    }

    def requests() -> Iterator[Request]:
        for action in actions:
            kind, flags, encode = message_types[type(action)]
            try:
                body = encode(action.route)
            except KernelError as error:
                refused.append((action, KernelError(f"{describe(action)}: {error}", code=errno.EINVAL)))
            else:
                sent.append(action)
                yield kind, flags, body

    for position, refusal in kernel.request(requests()).items():
        action = sent[position]
        if not (isinstance(action, DeleteRoute) and refusal.code in NOT_FOUND):
            refused.append((action, KernelError(f"{describe(action)}: {refusal.text}", code=refusal.code)))
    return refused
