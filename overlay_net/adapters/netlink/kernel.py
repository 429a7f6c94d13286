"""Observes and changes links, addresses, routes and policy rules through netlink, and sysctls through /proc.

Every action is idempotent: an object that already exists or is already deleted is not an error, unless another object
of the same key exists that may not be ours.
"""

import contextlib
import errno
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from overlay_net.adapters.netlink import link_messages as links
from overlay_net.adapters.netlink import rule_messages as rules
from overlay_net.adapters.netlink.bulk.codec import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from overlay_net.adapters.netlink.bulk.route_encoder import encode_local_route
from overlay_net.adapters.netlink.bulk.route_lookups import look_up_routes
from overlay_net.adapters.netlink.bulk.route_messages import RTM_NEWROUTE
from overlay_net.adapters.netlink.bulk.routes import Routes
from overlay_net.adapters.netlink.bulk.socket import NOT_FOUND, NetlinkSocket, open_netlink_socket
from overlay_net.adapters.netlink.describe import describe
from overlay_net.adapters.netlink.executor import Executor
from overlay_net.adapters.netlink.requests import (
    Interfaces,
    change,
    list_rules,
    require_link,
)
from overlay_net.adapters.netlink.sysctl import Sysctls
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Address, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import (
    ROUTE_ACTIONS,
    AddAddress,
    AddLink,
    AddLocalRoute,
    AdoptLink,
    DeleteAddress,
    DeleteLink,
    KernelAction,
    RouteAction,
    SetLinkGroup,
    SetLinkUp,
    SetMacvlanMode,
    SetMtu,
    SetSysctl,
)
from overlay_net.model.policy_rule import AddPolicyRule, DeletePolicyRule
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
        connect: Callable[[], socket.socket] = open_netlink_socket,
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
        self._lookup_executor = Executor(connect)
        """Its own socket and thread: a repair does not wait for thousands of lookups."""
        self._interfaces = Interfaces()
        self._routes = Routes()

    async def __aenter__(self) -> "Kernel":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.close()
        self._lookup_executor.close()

    async def observe(self, sysctl_links: Iterable[str] = ()) -> Observed:
        """Read links, addresses, rules, the routes of all tables but "local", and the sysctls of ``sysctl_links``.

        Unchanged routes are the same tuple as in the previous observation, so comparing the two is cheap.
        Raises KernelError.
        """
        try:
            return await self._executor.run(self._observe, tuple(sysctl_links))
        except KernelError as error:
            raise KernelError(f"read links, addresses, routes and rules: {error}", code=error.code) from None

    def _observe(self, kernel: NetlinkSocket, sysctl_links: tuple[str, ...]) -> Observed:
        found_links = self._interfaces.read_links(kernel)
        addresses = self._interfaces.read_addresses(kernel)
        routes = self._routes.read(kernel)
        sysctls = self._sysctls.read(sysctl_links)
        self._observed_sysctls = (sysctl_links, sysctls)
        return Observed(
            links=found_links,
            addresses=tuple(self._with_local_routes(addresses, found_links)),
            routes=routes,
            sysctls=sysctls,
            keeps_address_protocol=self._keeps_address_protocol,
            rules=tuple(list_rules(kernel)),
            keeps_rule_protocol=self._keeps_rule_protocol,
        )

    def _with_local_routes(self, addresses: Iterable[Address], found_links: Iterable[Link]) -> Iterator[Address]:
        managed = {link.index for link in found_links if link.alias == self._mark.alias}
        for each in addresses:
            may_be_ours = each.protocol == self._mark.protocol or each.link in managed
            missing = may_be_ours and not self._routes.has_local(each.interface.ip)
            yield replace(each, has_local_route=False) if missing else each

    async def observe_routing(self) -> Observed:
        """Read links, rules and routes only. Raises KernelError."""
        try:
            return await self._executor.run(self._observe_routing)
        except KernelError as error:
            raise KernelError(f"read links, routes and rules: {error}", code=error.code) from None

    def _observe_routing(self, kernel: NetlinkSocket) -> Observed:
        found_links = self._interfaces.read_links(kernel)
        return Observed(found_links, routes=self._routes.read(kernel), rules=tuple(list_rules(kernel)))

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
            return await self._executor.run(self._routes.write, actions)
        except KernelError as error:
            raise KernelError(f"change {len(actions)} routes: {error}", code=error.code) from None

    def _write_sysctls(
        self, kernel: NetlinkSocket, actions: Sequence[SetSysctl]
    ) -> list[tuple[SetSysctl, KernelError]]:
        refused = []
        for action in actions:
            try:
                self._change(kernel, action)
            except KernelError as error:
                refused.append((action, KernelError(f"{describe(action)}: {error}", code=error.code)))
        return refused

    def _change(self, kernel: NetlinkSocket, action: KernelAction) -> None:
        match action:
            case AddLink():
                self._add_link(kernel, action)
            case AdoptLink(name):
                self._change_link(kernel, links.set_alias(require_link(kernel, name), self._mark.alias))
            case SetLinkUp(name):
                self._change_link(kernel, links.set_up(require_link(kernel, name)))
            case SetMtu(name, mtu):
                self._change_link(kernel, links.set_mtu(require_link(kernel, name), mtu))
            case SetMacvlanMode(name, mode):
                self._change_link(kernel, links.set_macvlan_mode(require_link(kernel, name), mode))
            case SetLinkGroup(name, group):
                self._change_link(kernel, links.set_group(require_link(kernel, name), group))
            case DeleteLink(index, _):
                change(kernel, links.RTM_DELLINK, links.encode_link(index), ignored=NOT_FOUND)
            case AddAddress(name, interface, metric):
                # "replace" also sets protocol and metric of an address that exists without them.
                body = links.encode_address(interface, require_link(kernel, name), self._mark.protocol, metric)
                change(kernel, links.RTM_NEWADDR, body, NLM_F_CREATE | NLM_F_REPLACE)
            case DeleteAddress(name, interface):
                body = links.encode_address(interface, require_link(kernel, name))
                change(kernel, links.RTM_DELADDR, body, ignored=NOT_FOUND)
            case AddLocalRoute(name, interface):
                body = encode_local_route(interface.ip, require_link(kernel, name))
                change(kernel, RTM_NEWROUTE, body, NLM_F_CREATE | NLM_F_EXCL, ignored={errno.EEXIST})
            case AddPolicyRule(rule):
                # NLM_F_EXCL prevents duplicates; rules of another protocol do not count as such.
                flags = NLM_F_CREATE | NLM_F_EXCL
                change(kernel, rules.RTM_NEWRULE, rules.encode_rule(rule), flags, ignored={errno.EEXIST})
            case DeletePolicyRule(rule):
                change(kernel, rules.RTM_DELRULE, rules.encode_rule(rule), ignored=NOT_FOUND)
            case SetSysctl(name, key, value):
                self._sysctls.write(name, key, value)

    def _change_link(self, kernel: NetlinkSocket, body: bytes, flags: int = 0) -> None:
        change(kernel, links.RTM_NEWLINK, body, flags)

    def _add_link(self, kernel: NetlinkSocket, action: AddLink) -> None:
        """Create the link with our group and a name of its own, then set its alias, then its name.

        So it is marked at every moment, and a link that an interrupted creation leaves is deleted by a later plan. The
        kernel accepts an alias only when a link is changed (do_setlink), not when it is created.
        """
        unfinished = f"{action.name[:8]}.{secrets.token_hex(3)}"
        parent = require_link(kernel, action.parent)
        body = links.add_link(unfinished, parent, action.kind, action.mode, action.mac, self._mark.group)
        self._change_link(kernel, body, NLM_F_CREATE | NLM_F_EXCL)
        index = require_link(kernel, unfinished)
        try:
            self._change_link(kernel, links.set_alias(index, self._mark.alias))
            self._change_link(kernel, links.rename(index, action.name))
        except KernelError:
            with contextlib.suppress(KernelError):
                change(kernel, links.RTM_DELLINK, links.encode_link(index))
            raise


def kernel_release() -> tuple[int, int]:
    """Return the major and minor version of the running kernel, e.g. (6, 18)."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(character for character in minor if character.isdigit()) or 0)
