"""Wakes the agent when links, addresses, our routes and policy rules, or routes that ours depend on change.

Notifications only decide whether to wake the agent, and what it then reads. Lost notifications wake it as well.
"""

from collections.abc import Callable, Iterable, Set
from functools import partial
from itertools import chain
from typing import Final

from overlay_net.adapters.netlink.concerns import CHANGES, Concern, Concerns, find_links
from overlay_net.adapters.netlink.notification_filter import except_from
from overlay_net.adapters.netlink.notifications import Group, Notifications, open_notification_socket
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.kernel_changes import NOTHING, UNKNOWN, KernelChanges

GROUPS: Final = (
    Group.LINKS,
    Group.IPV4_ADDRESSES,
    Group.IPV6_ADDRESSES,
    Group.IPV4_ROUTES,
    Group.IPV6_ROUTES,
    Group.IPV4_RULES,
    Group.IPV6_RULES,
    # Forwarding and rp_filter, the only ones of our sysctls that have a notification.
    Group.IPV4_NETCONF,
    Group.IPV6_NETCONF,
    # The kernel deletes the routes of a nexthop object without a notification of each.
    Group.NEXTHOPS,
)
RECEIVE_BUFFER = 8 * 2**20


class Monitor:
    """``wake`` is called on the event loop, at most once for all that is pending.

    ``wake_by_foreign_route`` is called instead if there are changes of other processes' routes only.
    """

    def __init__(
        self, protocol: int, wake: Callable[[], None], wake_by_foreign_route: Callable[[], None] | None = None
    ) -> None:
        self._concerns = Concerns(protocol)
        self._wake = wake
        self._routing_changed: Callable[[], None] = _ignore
        self._wake_by_foreign_route = wake_by_foreign_route or wake
        self._changes = UNKNOWN
        """What may have changed since the last ``follow``."""
        connect = partial(open_notification_socket, GROUPS, RECEIVE_BUFFER)
        self._notifications = Notifications(connect, self._received, self._missed)

    async def run(self) -> None:
        """Listen until cancelled. A broken socket is replaced, which wakes the agent."""
        await self._notifications.run()

    def ignore(self, ports: Set[int]) -> None:
        """Ignore changes made through the netlink sockets with these ports, and no longer those of earlier ones.

        The agent observes the kernel after its own changes anyway.
        """
        self._notifications.accept(except_from(ports))

    def watch_routing(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` for all that is pending: it must be cheap, as other daemons change routes by the thousand.

        Notifications that are lost wake the agent, which observes the kernel.
        """
        self._routing_changed = changed

    def follow(self, awaited: AwaitedRoutes, *, waits: bool = False) -> KernelChanges:
        """Set the routes of other processes that concern us; call this before the kernel is observed.

        ``waits``: one of them was in the place of ours when the kernel was last observed. Returns what may have changed
        since the last call, except by the sockets in ``ignore``. The kernel notifies of every change of an address or
        a link, unless that is down: alias, group and alternative names of such a link (netdev_state_change) are known
        when it comes up, or at the next resync. It notifies of every route that is added or replaced, unlike of those
        that it deletes with a link, an address or a nexthop object.
        """
        # A change that preceded an observation must not be unknown to it because its notification was not read yet.
        is_complete = self._notifications.catch_up()
        changes = self._changes if is_complete else self._changes | UNKNOWN
        if self._concerns.follow(awaited, waits=waits):
            changes |= KernelChanges(awaited_routes=True)
        self._changes = NOTHING
        return changes

    def _missed(self) -> None:
        self._changes = UNKNOWN
        self._wake()

    def _received(self, datagrams: Iterable[bytes]) -> None:
        self._routing_changed()
        concerns = set(chain.from_iterable(map(self._concerns.find, datagrams))) - {Concern.NONE}
        if not concerns:
            return
        for concern in concerns:
            self._changes |= CHANGES[concern]
        most = max(concerns)
        if most >= Concern.ADDRESS:
            links = frozenset(chain.from_iterable(map(find_links, datagrams)))
            self._changes |= KernelChanges(addresses=links)
        if most >= Concern.OURS:
            self._wake()
        elif most >= Concern.FOREIGN_ROUTE:
            self._wake_by_foreign_route()

    def concerns(self, data: bytes) -> bool:
        """Return whether a message in ``data`` wakes the agent."""
        return max(self._concerns.find(data), default=Concern.NONE) > Concern.DERIVED_ROUTE


def _ignore() -> None:
    """Nothing watches the routing."""
