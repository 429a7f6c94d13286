"""Observes and changes links, addresses, routes and rules through netlink, and sysctls through /proc.

Every action can be applied twice: what exists already, or is gone already, is no error, except where the kernel says
that something of the same key exists which may not be ours.
"""

import errno
import os
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from overlay_net.adapters.netlink import link_messages as links
from overlay_net.adapters.netlink import route_messages, rule_messages
from overlay_net.adapters.netlink.channel import Channel, Request, open_route_socket
from overlay_net.adapters.netlink.routes import Routes
from overlay_net.adapters.netlink.sysctl import Sysctls
from overlay_net.adapters.netlink.wire import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, messages
from overlay_net.adapters.netlink.wording import describe
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Address, Link, Marks, Observed, Route
from overlay_net.model.kernel_actions import (
    AddAddress,
    AddLink,
    AddRoute,
    AdoptLink,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    KernelAction,
    ReplaceRoute,
    SetLinkUp,
    SetMacvlanMode,
    SetMtu,
    SetSysctl,
)
from overlay_net.model.rule import AddRule, DeleteRule, Rule
from overlay_net.runtime.aside import aside

RouteAction: TypeAlias = AddRoute | ReplaceRoute | DeleteRoute

GONE = {errno.ENODEV, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENOENT}
# The kernel keeps an address's protocol since this release (IFA_PROTO, commit 47f0bd503210).
MARKED_ADDRESSES_SINCE = (5, 18)
# And a rule's since this one (FRA_PROTOCOL, commit 1b71af6053af); earlier ones ignore it.
MARKED_RULES_SINCE = (4, 17)
# A kernel built without policy routing.
NO_RULES = {errno.EOPNOTSUPP, errno.EAFNOSUPPORT}


class Kernel:
    """One namespace's kernel; an async context manager.

    ``sysctl_links`` are the links whose sysctls are observed, as they are at each look: it may be a set that changes.
    """

    def __init__(
        self,
        marks: Marks,
        sysctl_links: Collection[str],
        proc_sys_net: Path = Path("/proc/sys/net"),
        connect: Callable[[], socket.socket] = open_route_socket,
    ) -> None:
        self._marks = marks
        self._sysctl_links = sysctl_links
        self._sysctls = Sysctls(proc_sys_net)
        self._seen_sysctls: dict[tuple[str, str], str] = {}
        release = kernel_release()
        self._marks_addresses, self._marks_rules = release >= MARKED_ADDRESSES_SINCE, release >= MARKED_RULES_SINCE
        self._channel = Channel(connect)
        self._routes = Routes(self._channel)

    async def __aenter__(self) -> "Kernel":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    async def observe(self) -> Observed:
        """One look at links, addresses, rules and the routes of all tables but "local". Raises KernelError.

        Where the routes are those of the look before, they are the same tuple: comparing two observations is cheap.
        """
        try:
            return Observed(
                links=tuple(await self._links()),
                addresses=tuple(await self._addresses()),
                routes=await self._routes.read(),
                sysctls=self._read_sysctls(),
                marks_addresses=self._marks_addresses,
                rules=tuple(await self._rules()),
                marks_rules=self._marks_rules,
            )
        except KernelError as error:
            raise KernelError(f"read links, addresses, routes and rules: {error}", code=error.code) from None

    def _read_sysctls(self) -> dict[tuple[str, str], str]:
        self._seen_sysctls = self._sysctls.read(self._sysctl_links)
        return self._seen_sysctls

    def sysctls_changed(self) -> bool:
        """Whether a sysctl differs from what the last look saw; of most of them nobody is told."""
        return self._sysctls.read(self._sysctl_links) != self._seen_sysctls

    async def _links(self) -> list[Link]:
        answer = await self._channel.dump(links.RTM_GETLINK, links.dump_links())
        return [links.link_of(body) for body in _bodies(answer, links.RTM_NEWLINK)]

    async def _addresses(self) -> list[Address]:
        answer = await self._channel.dump(links.RTM_GETADDR, links.dump_addresses())
        found = (links.address_of(body) for body in _bodies(answer, links.RTM_NEWADDR))
        return [address for address in found if address is not None]

    async def _rules(self) -> list[Rule]:
        try:
            answer = await self._channel.dump(rule_messages.RTM_GETRULE, rule_messages.dump_rules())
        except KernelError as error:
            if error.code in NO_RULES:
                return []
            raise
        found = (rule_messages.rule_of(body) for body in _bodies(answer, rule_messages.RTM_NEWRULE))
        return [rule for rule in found if rule is not None]

    async def apply(self, action: KernelAction) -> None:
        """Raises KernelError, whose text says what was tried and what the kernel answered."""
        if isinstance(action, SetSysctl):
            self._sysctls.write(action.link, action.key, action.value)
        elif isinstance(action, AddRoute | ReplaceRoute | DeleteRoute):
            for _, error in await self.apply_routes([action]):
                raise error
        else:
            try:
                await self._apply(action)
            except KernelError as error:
                raise KernelError(f"{describe(action)}: {error}", code=error.code) from None

    async def apply_routes(self, actions: Sequence[RouteAction]) -> list[tuple[RouteAction, KernelError]]:
        """Apply many, all additions and replacements before the first deletion; the refused ones, in no order.

        Raises KernelError where it is not known what became of them: the next look tells.
        """
        refused: list[tuple[RouteAction, KernelError]] = []
        additions, deletions = await aside(len(actions), _parted, actions)
        try:
            await self._write(additions, refused)
            await self._write(await self._there(deletions), refused)
        except KernelError as error:
            raise KernelError(f"write {len(actions)} routes: {error}", code=error.code) from None
        return refused

    async def _there(self, deletions: list[DeleteRoute]) -> list[DeleteRoute]:
        """Those of the deletions that may be asked for.

        "Metric 0" would take the first of any metric once the route itself is gone: so that is looked up before.
        """
        if all(route_messages.metric_of(action.route) for action in deletions):
            return deletions
        there = await self._routes.read()
        return await aside(len(there), _still_there, deletions, there)

    async def _write(self, actions: Sequence[RouteAction], refused: list[tuple[RouteAction, KernelError]]) -> None:
        sent: list[RouteAction] = []
        packer = route_messages.RoutePacker()

        def requests() -> Iterator[Request]:
            """Packed while the kernel works on the ones before."""
            for action in actions:
                kind, flags = _VERBS[type(action)]
                try:
                    body = packer.delete(action.route) if isinstance(action, DeleteRoute) else packer.new(action.route)
                except KernelError as error:
                    refused.append((action, KernelError(f"{describe(action)}: {error}", code=errno.EINVAL)))
                else:
                    sent.append(action)
                    yield (kind, flags, body)

        for position, refusal in (await self._channel.request(requests())).items():
            action = sent[position]
            if not (isinstance(action, DeleteRoute) and refusal.code in GONE):
                refused.append((action, KernelError(f"{describe(action)}: {refusal.text}", code=refusal.code)))

    async def _apply(self, action: KernelAction) -> None:
        match action:
            case AddLink():
                await self._add_link(action)
            case AdoptLink(name):
                await self._ask(links.RTM_NEWLINK, links.mark_link(await self._index(name), self._marks.alias))
            case SetLinkUp(name):
                await self._ask(links.RTM_NEWLINK, links.raise_link(await self._index(name)))
            case SetMtu(name, mtu):
                await self._ask(links.RTM_NEWLINK, links.set_mtu(await self._index(name), mtu))
            case SetMacvlanMode(name, mode):
                await self._ask(links.RTM_NEWLINK, links.set_macvlan_mode(await self._index(name), mode))
            case DeleteLink(index, _):
                await self._ask(links.RTM_DELLINK, links.link(index), unless=GONE)
            case AddAddress(name, interface):
                # "replace" marks an address that is there without our protocol number.
                body = links.address(interface, await self._index(name), self._marks.protocol)
                await self._ask(links.RTM_NEWADDR, body, NLM_F_CREATE | NLM_F_REPLACE)
            case DeleteAddress(name, interface):
                await self._ask(links.RTM_DELADDR, links.address(interface, await self._index(name)), unless=GONE)
            case AddRule(rule):
                # Without NLM_F_EXCL the kernel would keep the same rule twice; one of another protocol is no hindrance.
                flags = NLM_F_CREATE | NLM_F_EXCL
                await self._ask(rule_messages.RTM_NEWRULE, rule_messages.rule(rule), flags, unless={errno.EEXIST})
            case DeleteRule(rule):
                await self._ask(rule_messages.RTM_DELRULE, rule_messages.rule(rule), unless=GONE)

    async def _add_link(self, action: AddLink) -> None:
        """Make the link, then name and mark it in one message: no crash leaves a link of that name unmarked.

        The kernel takes an alias only from a change of a link (do_setlink), not at its creation.
        """
        unfinished = f"{action.name[:11]}.new"
        if await self._find(unfinished) is None:
            parent = await self._index(action.parent)
            body = links.new_link(unfinished, parent, action.kind, action.mode, action.mac)
            await self._ask(links.RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL)
        index = await self._index(unfinished)
        await self._ask(links.RTM_NEWLINK, links.mark_link(index, self._marks.alias, action.name))

    async def _ask(self, kind: int, body: bytes, flags: int = 0, unless: Iterable[int] = ()) -> None:
        for refusal in (await self._channel.request([(kind, flags, body)])).values():
            if refusal.code not in unless:
                raise KernelError(refusal.text, code=refusal.code)

    async def _find(self, name: str) -> int | None:
        return next((link.index for link in await self._links() if link.name == name), None)

    async def _index(self, name: str) -> int:
        found = await self._find(name)
        if found is None:
            raise KernelError(f"no link {name}", code=errno.ENODEV)
        return found


def _parted(actions: Sequence[RouteAction]) -> tuple[list[RouteAction], list[DeleteRoute]]:
    """Additions and replacements, and deletions."""
    return (
        [action for action in actions if not isinstance(action, DeleteRoute)],
        [action for action in actions if isinstance(action, DeleteRoute)],
    )


def _still_there(deletions: list[DeleteRoute], there: Sequence[Route]) -> list[DeleteRoute]:
    same = {id(route) for route in there}
    if all(id(action.route) in same for action in deletions):
        return deletions
    keys = {(route.protocol, route.quick_key) for route in there}
    return [
        action
        for action in deletions
        if route_messages.metric_of(action.route) or (action.route.protocol, action.route.quick_key) in keys
    ]


_VERBS = {
    AddRoute: (route_messages.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL),
    ReplaceRoute: (route_messages.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE),
    DeleteRoute: (route_messages.RTM_DELROUTE, 0),
}


def _bodies(datagrams: Iterable[bytes], wanted: int) -> list[bytes]:
    return [
        datagram[start:end] for datagram in datagrams for kind, _, _, start, end in messages(datagram) if kind == wanted
    ]


def kernel_release() -> tuple[int, int]:
    """Major and minor number of the running kernel, e.g. (6, 18)."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(character for character in minor if character.isdigit()) or 0)
