"""Observes and changes links, addresses, routes and rules through netlink, and sysctls through /proc.

Every action can be applied twice: what exists already, or is gone already, is no error, except where the kernel says
that something of the same key exists which may not be ours.
"""

import errno
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType

from overlay_net.adapters.netlink import link_messages as links
from overlay_net.adapters.netlink import rule_messages
from overlay_net.adapters.netlink.codec import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from overlay_net.adapters.netlink.describe import describe
from overlay_net.adapters.netlink.executor import Executor
from overlay_net.adapters.netlink.requests import (
    GONE,
    ask,
    find_index,
    find_link,
    list_addresses,
    list_links,
    list_rules,
)
from overlay_net.adapters.netlink.routes import Routes
from overlay_net.adapters.netlink.socket import NetlinkSocket, open_netlink_socket
from overlay_net.adapters.netlink.sysctl import Sysctls
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Observed, OwnershipMark
from overlay_net.model.kernel_actions import (
    ROUTE_ACTIONS,
    AddAddress,
    AddLink,
    AdoptLink,
    DeleteAddress,
    DeleteLink,
    KernelAction,
    RouteAction,
    SetLinkUp,
    SetMacvlanMode,
    SetMtu,
    SetSysctl,
)
from overlay_net.model.policy_rule import AddPolicyRule, DeletePolicyRule

# The kernel keeps an address's protocol since this release (IFA_PROTO, commit 47f0bd503210).
MARKED_ADDRESSES_SINCE = (5, 18)
# And a rule's since this one (FRA_PROTOCOL, commit 1b71af6053af); earlier ones ignore it.
MARKED_RULES_SINCE = (4, 17)


class Kernel:
    """One namespace's kernel; an async context manager.

    ``opened`` is called with the port of the socket through which changes are made from then on; 0 is none.
    """

    def __init__(
        self,
        mark: OwnershipMark,
        proc_sys_net: Path = Path("/proc/sys/net"),
        connect: Callable[[], socket.socket] = open_netlink_socket,
        opened: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._marks = mark
        self._sysctls = Sysctls(proc_sys_net)
        self._observed_sysctls: tuple[tuple[str, ...], dict[tuple[str, str], str]] = ((), {})
        """The links of the last observation, and their sysctls; one value, as the executor's thread sets it."""
        release = kernel_release()
        self._marks_addresses, self._marks_rules = release >= MARKED_ADDRESSES_SINCE, release >= MARKED_RULES_SINCE
        self._channel = Executor(connect, opened)
        self._routes = Routes()

    async def __aenter__(self) -> "Kernel":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    async def observe(self, sysctl_links: Iterable[str] = ()) -> Observed:
        """Links, addresses, rules, the routes of all tables but "local", and the sysctls of ``sysctl_links``.

        Unchanged routes are the same tuple as in the previous observation, so that comparing the two is cheap.
        Raises KernelError.
        """
        try:
            return await self._channel.do(self._observe, tuple(sysctl_links))
        except KernelError as error:
            raise KernelError(f"read links, addresses, routes and rules: {error}", code=error.code) from None

    def _observe(self, kernel: NetlinkSocket, sysctl_links: tuple[str, ...]) -> Observed:
        links_there = tuple(list_links(kernel))
        addresses = tuple(list_addresses(kernel))
        routes = self._routes.read(kernel)
        sysctls = self._sysctls.read(sysctl_links)
        self._observed_sysctls = (sysctl_links, sysctls)
        return Observed(
            links=links_there,
            addresses=addresses,
            routes=routes,
            sysctls=sysctls,
            marks_addresses=self._marks_addresses,
            rules=tuple(list_rules(kernel)),
            marks_rules=self._marks_rules,
        )

    def sysctls_changed(self) -> bool:
        """Whether a sysctl differs from the last observation; the kernel notifies of rp_filter alone."""
        links, observed = self._observed_sysctls
        return self._sysctls.read(links) != observed

    async def apply(self, action: KernelAction) -> None:
        """Raises KernelError, whose text says what was tried and what the kernel answered."""
        if isinstance(action, ROUTE_ACTIONS):
            for _, error in await self.apply_routes([action]):
                raise error
            return
        try:
            await self._channel.do(self._change, action)
        except KernelError as error:
            raise KernelError(f"{describe(action)}: {error}", code=error.code) from None

    async def apply_routes(self, actions: Sequence[RouteAction]) -> list[tuple[RouteAction, KernelError]]:
        """Apply many, all additions and replacements before the first deletion; the refused ones, in no order.

        Raises KernelError where it is not known what became of them: the next look tells.
        """
        try:
            return await self._channel.do(self._routes.write, actions)
        except KernelError as error:
            raise KernelError(f"write {len(actions)} routes: {error}", code=error.code) from None

    def _change(self, kernel: NetlinkSocket, action: KernelAction) -> None:
        match action:
            case AddLink():
                self._add_link(kernel, action)
            case AdoptLink(name):
                ask(kernel, links.RTM_NEWLINK, links.mark_link(find_index(kernel, name), self._marks.alias))
            case SetLinkUp(name):
                ask(kernel, links.RTM_NEWLINK, links.raise_link(find_index(kernel, name)))
            case SetMtu(name, mtu):
                ask(kernel, links.RTM_NEWLINK, links.set_mtu(find_index(kernel, name), mtu))
            case SetMacvlanMode(name, mode):
                ask(kernel, links.RTM_NEWLINK, links.set_macvlan_mode(find_index(kernel, name), mode))
            case DeleteLink(index, _):
                ask(kernel, links.RTM_DELLINK, links.link(index), unless=GONE)
            case AddAddress(name, interface):
                # "replace" marks an address that is there without our protocol number.
                body = links.address(interface, find_index(kernel, name), self._marks.protocol)
                ask(kernel, links.RTM_NEWADDR, body, NLM_F_CREATE | NLM_F_REPLACE)
            case DeleteAddress(name, interface):
                ask(kernel, links.RTM_DELADDR, links.address(interface, find_index(kernel, name)), unless=GONE)
            case AddPolicyRule(rule):
                # Without NLM_F_EXCL the kernel would keep the same rule twice; one of another protocol is no hindrance.
                flags = NLM_F_CREATE | NLM_F_EXCL
                ask(kernel, rule_messages.RTM_NEWRULE, rule_messages.rule(rule), flags, unless={errno.EEXIST})
            case DeletePolicyRule(rule):
                ask(kernel, rule_messages.RTM_DELRULE, rule_messages.rule(rule), unless=GONE)
            case SetSysctl(name, key, value):
                self._sysctls.write(name, key, value)

    def _add_link(self, kernel: NetlinkSocket, action: AddLink) -> None:
        """Make the link, then name and mark it in one message: no crash leaves a link of that name unmarked.

        The kernel takes an alias only from a change of a link (do_setlink), not at its creation.
        """
        unfinished = f"{action.name[:11]}.new"
        if find_link(kernel, unfinished) is None:
            parent = find_index(kernel, action.parent)
            body = links.new_link(unfinished, parent, action.kind, action.mode, action.mac)
            ask(kernel, links.RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL)
        index = find_index(kernel, unfinished)
        ask(kernel, links.RTM_NEWLINK, links.mark_link(index, self._marks.alias, action.name))


def kernel_release() -> tuple[int, int]:
    """Major and minor number of the running kernel, e.g. (6, 18)."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(character for character in minor if character.isdigit()) or 0)
