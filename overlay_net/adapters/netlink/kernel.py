"""Observes and changes links, addresses, routes and policy rules through netlink, and sysctls through /proc.

Every action is idempotent: an object that already exists or is already deleted is not an error, unless another object
of the same key exists that may not be ours.
"""

import os
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path
from types import TracebackType

from overlay_net.adapters.netlink.bulk.route_lookups import look_up_routes
from overlay_net.adapters.netlink.bulk.routes import Routes
from overlay_net.adapters.netlink.bulk.socket import NetlinkSocket, open_netlink_socket
from overlay_net.adapters.netlink.changes import Change, change
from overlay_net.adapters.netlink.describe import describe
from overlay_net.adapters.netlink.executor import Executor
from overlay_net.adapters.netlink.interfaces import Interfaces
from overlay_net.adapters.netlink.missing_local_routes import MissingLocalRoutes
from overlay_net.adapters.netlink.policy_rules import PolicyRules
from overlay_net.adapters.netlink.sockets import KernelSockets
from overlay_net.adapters.netlink.sysctl import Sysctls
from overlay_net.model.address_spans import AddressSpans
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Observed, OwnershipMark
from overlay_net.model.kernel_actions import ROUTE_ACTIONS, KernelAction, RouteAction, SetSysctl
from overlay_net.model.kernel_changes import UNKNOWN, KernelChanges
from overlay_net.model.route import Route
from overlay_net.model.route_lookup import RouteLookup

MARKED_ADDRESSES_SINCE = (5, 18)
"""The first kernel that stores the protocol of an address (IFA_PROTO, commit 47f0bd503210)."""
MARKED_RULES_SINCE = (4, 17)
"""The first kernel that stores the protocol of a policy rule (FRA_PROTOCOL, commit 1b71af6053af)."""


class Kernel:
    """The kernel of this network namespace; an async context manager.

    ``opened`` is called with the ports of the open netlink sockets that change the kernel, whenever they change.
    """

    def __init__(
        self,
        mark: OwnershipMark,
        proc_sys_net: Path = Path("/proc/sys/net"),
        connect: Callable[[], KernelSockets] = KernelSockets,
        opened: Callable[[Set[int]], None] = lambda _: None,
    ) -> None:
        self._mark = mark
        self._sysctls = Sysctls(proc_sys_net)
        self._observed_sysctls: tuple[tuple[str, ...], dict[tuple[str, str], str]] = ((), {})
        """The links of the last observation and their sysctls; one value, because the executor's thread sets it."""
        release = kernel_release()
        self._keeps_address_protocol, self._keeps_rule_protocol = (
            release >= MARKED_ADDRESSES_SINCE,
            release >= MARKED_RULES_SINCE,
        )
        self._executor = Executor(connect, opened)
        self._lookup_executor = Executor(lambda: NetlinkSocket(open_netlink_socket()))
        """Its own socket and thread: a repair does not wait for thousands of lookups, or for a full table."""
        self._interfaces = Interfaces()
        self._missing_local_routes = MissingLocalRoutes(mark)
        self._rules = PolicyRules()
        self._routes = Routes(mark.protocol)

    async def __aenter__(self) -> "Kernel":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.close()
        self._lookup_executor.close()

    async def observe(
        self,
        sysctl_links: Iterable[str] = (),
        *,
        awaited: AwaitedRoutes | None = None,
        changes: KernelChanges = UNKNOWN,
    ) -> Observed:
        """Read links, addresses, rules, the routes of all tables but "local", and the sysctls of ``sysctl_links``.

        Of the routes of other processes, only those are read that ``awaited`` needs, unless it is None. ``changes``:
        what may have changed since the last observation; the rest is not read again. Unchanged routes are the same
        tuple as in the last observation, so comparing the two is cheap. Raises KernelError.
        """
        try:
            return await self._executor.run(self._observe, tuple(sysctl_links), awaited, changes)
        except KernelError as error:
            raise KernelError(f"read links, addresses, routes and rules: {error}", code=error.code) from None

    def _observe(
        self,
        kernel: KernelSockets,
        sysctl_links: tuple[str, ...],
        awaited: AwaitedRoutes | None,
        changes: KernelChanges,
    ) -> Observed:
        links = self._interfaces.read_links(kernel.route, changes)
        addresses = self._interfaces.read_addresses(kernel.route, changes)
        routes = self._routes.read(kernel.bulk, awaited, changes)
        sysctls = self._sysctls.read(sysctl_links)
        self._observed_sysctls = (sysctl_links, sysctls)
        return Observed(
            links=links,
            addresses=self._missing_local_routes.mark_in(kernel.bulk, addresses, links),
            routes=routes,
            sysctls=sysctls,
            keeps_address_protocol=self._keeps_address_protocol,
            rules=self._rules.read(kernel.route),
            keeps_rule_protocol=self._keeps_rule_protocol,
        )

    async def observe_rules(self) -> Observed:
        """Read links and rules only. Raises KernelError."""
        try:
            return await self._executor.run(self._observe_rules)
        except KernelError as error:
            raise KernelError(f"read links and rules: {error}", code=error.code) from None

    def _observe_rules(self, kernel: KernelSockets) -> Observed:
        return Observed(self._interfaces.read_links(kernel.route), rules=self._rules.read(kernel.route))

    async def read_main_table(self, spans: AddressSpans) -> tuple[Route, ...]:
        """Return the routes of the table main that begin inside ``spans``, of any process. Raises KernelError."""
        try:
            return tuple(await self._lookup_executor.run(self._routes.read_main_table, spans))
        except KernelError as error:
            raise KernelError(f"read the routes of the table main: {error}", code=error.code) from None

    async def look_up(self, lookups: Sequence[RouteLookup]) -> list[Route | None]:
        """Return the route that the kernel uses for each lookup; None: not known. Raises KernelError."""
        try:
            return await self._lookup_executor.run(look_up_routes, lookups)
        except KernelError as error:
            raise KernelError(f"look up {len(lookups)} routes: {error}", code=error.code) from None

    def sysctls_changed(self) -> bool:
        """Return whether a sysctl differs from the last observation; the kernel notifies of a few only."""
        links, observed = self._observed_sysctls
        return self._sysctls.read(links) != observed

    async def apply(self, action: KernelAction) -> None:
        """Apply one action. Raises KernelError, which names the action and the kernel's error."""
        if isinstance(action, ROUTE_ACTIONS):
            for _, error in await self.apply_routes([action]):
                raise error
            return
        try:
            await self._executor.run(self._change, action)
        except KernelError as error:
            raise KernelError(f"{describe(action)}: {error}", code=error.code) from None

    async def apply_sysctls(self, actions: Sequence[SetSysctl]) -> list[tuple[SetSysctl, KernelError]]:
        """Apply all actions. Returns the refused ones, with errors like those of ``apply``."""
        return await self._executor.run(self._write_sysctls, actions)

    async def apply_routes(self, actions: Sequence[RouteAction]) -> list[tuple[RouteAction, KernelError]]:
        """Apply route actions, all additions and replacements before the first deletion. Returns the refused ones.

        The result has no particular order. Raises KernelError if the outcome is unknown: observe the kernel again.
        """
        try:
            return await self._executor.run(self._write_routes, actions)
        except KernelError as error:
            raise KernelError(f"change {len(actions)} routes: {error}", code=error.code) from None

    def _write_routes(
        self, kernel: KernelSockets, actions: Sequence[RouteAction]
    ) -> list[tuple[RouteAction, KernelError]]:
        return self._routes.write(kernel.bulk, actions)

    def _write_sysctls(
        self, kernel: KernelSockets, actions: Sequence[SetSysctl]
    ) -> list[tuple[SetSysctl, KernelError]]:
        refused = []
        for action in actions:
            try:
                self._change(kernel, action)
            except KernelError as error:
                refused.append((action, KernelError(f"{describe(action)}: {error}", code=error.code)))
        return refused

    def _change(self, kernel: KernelSockets, action: Change | SetSysctl) -> None:
        if isinstance(action, SetSysctl):
            self._sysctls.write(action.link, action.key, action.value)
        else:
            change(kernel.route, action, self._mark)


def kernel_release() -> tuple[int, int]:
    """Return the major and minor version of the running kernel, e.g. (6, 18)."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(character for character in minor if character.isdigit()) or 0)
