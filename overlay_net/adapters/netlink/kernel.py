"""Observes and changes links, addresses and routes through netlink, and sysctls through /proc.

Every action can be applied twice: what exists already, or is gone already, is no error, except where the kernel says
that something of the same key exists which may not be ours.
"""

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from overlay_net.adapters.netlink.messages import address_of, link_of, route_of
from overlay_net.adapters.netlink.sysctl import Sysctls
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import (
    AddAddress,
    AddLink,
    AddRoute,
    AdoptLink,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    KernelAction,
    Marks,
    Observed,
    ReplaceRoute,
    Route,
    SetLinkUp,
    SetSysctl,
)

log = logging.getLogger(__name__)

RouteAction: TypeAlias = AddRoute | ReplaceRoute | DeleteRoute

GONE = {errno.ENODEV, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENOENT}
# pyroute2 waits for ever with thousands of requests in flight on one socket.
IN_FLIGHT = 64
TIMEOUT = 30.0
# A dump that the kernel says was interrupted by a change is read again.
DUMP_TRIES = 5
# The kernel keeps an address's protocol since this release (IFA_PROTO, commit 47f0bd503210).
MARKED_ADDRESSES_SINCE = (5, 18)


class Kernel:
    """One namespace's kernel; an async context manager. ``sysctl_links`` are the links whose sysctls are observed."""

    def __init__(self, marks: Marks, sysctl_links: Iterable[str], proc_sys_net: Path = Path("/proc/sys/net")) -> None:
        self._marks = marks
        self._sysctl_links = tuple(sysctl_links)
        self._sysctls = Sysctls(proc_sys_net)
        self._marks_addresses = kernel_release() >= MARKED_ADDRESSES_SINCE
        self._netlink: Any = None
        # One dump at a time on a socket, else the kernel answers EBUSY.
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> "Kernel":
        self._netlink = AsyncIPRoute(ext_ack=True, strict_check=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._netlink.close()

    async def observe(self) -> Observed:
        """One look at links, addresses and main-table routes. Raises KernelError."""
        for _ in range(DUMP_TRIES):
            async with self._exclusive("read links, addresses and routes"):
                try:
                    links = [link_of(message) async for message in await self._netlink.link("dump")]
                    addresses = [address_of(message) async for message in await self._netlink.addr("dump")]
                    routes = [route_of(message) async for message in await self._netlink.route("dump", table=254)]
                except NetlinkError as error:
                    if error.code != errno.EINTR:
                        raise
                    continue
            return Observed(
                links=tuple(links),
                addresses=tuple(addresses),
                routes=tuple(route for route in routes if route is not None),
                sysctls=self._sysctls.read(self._sysctl_links),
                marks_addresses=self._marks_addresses,
            )
        raise KernelError("the kernel changes faster than it can be read", code=errno.EINTR)

    async def apply(self, action: KernelAction) -> None:
        """Raises KernelError, whose text says what was tried and what the kernel answered."""
        if isinstance(action, SetSysctl):
            self._sysctls.write(action.link, action.key, action.value)
            return
        async with self._exclusive(describe(action)):
            await self._apply(action)

    async def apply_routes(self, actions: Sequence[RouteAction]) -> list[tuple[RouteAction, KernelError]]:
        """Apply many, in runs of one kind so that every addition comes before the first deletion; the refused ones."""
        refused: list[tuple[RouteAction, KernelError]] = []

        async def one(action: RouteAction) -> None:
            try:
                await self._route(action)
            except NetlinkError as error:
                refused.append((action, translated(error, describe(action))))
            except (ValueError, OSError) as error:
                # pyroute2 could not even put it into a message.
                refused.append((action, KernelError(f"{describe(action)}: {error}")))

        async with self._exclusive(f"write {len(actions)} routes"):
            additions = [action for action in actions if not isinstance(action, DeleteRoute)]
            deletions = [action for action in actions if isinstance(action, DeleteRoute)]
            for run in (additions, deletions):
                for start in range(0, len(run), IN_FLIGHT):
                    await asyncio.gather(*(one(action) for action in run[start : start + IN_FLIGHT]))
        return refused

    @asynccontextmanager
    async def _exclusive(self, what: str) -> AsyncIterator[None]:
        async with self._turn:
            try:
                async with asyncio.timeout(TIMEOUT):
                    yield
            except NetlinkError as error:
                raise translated(error, what) from None
            except (OSError, TimeoutError) as error:
                # Whatever is still under way on this socket would be taken for the answer to the next request.
                self._netlink.close()
                self._netlink = AsyncIPRoute(ext_ack=True, strict_check=True)
                raise KernelError(f"{what}: {type(error).__name__} {error}".rstrip()) from None
            except asyncio.CancelledError:
                self._netlink.close()
                self._netlink = AsyncIPRoute(ext_ack=True, strict_check=True)
                raise

    async def _apply(self, action: KernelAction) -> None:
        match action:
            case AddLink(name, parent):
                await self._add_link(name, parent)
            case AdoptLink(name):
                await self._netlink.link("set", index=await self._index(name), ifalias=self._marks.alias)
            case SetLinkUp(name):
                await self._netlink.link("set", index=await self._index(name), state="up")
            case DeleteLink(index, _):
                await unless_gone(lambda: self._netlink.link("del", index=index))
            case AddAddress(link, interface):
                # "replace" marks an address that is there without our protocol number.
                await self._netlink.addr(
                    "replace",
                    index=await self._index(link),
                    address=str(interface.ip),
                    prefixlen=interface.network.prefixlen,
                    proto=self._marks.protocol,
                )
            case DeleteAddress(link, interface):
                index = await self._index(link)
                await unless_gone(
                    lambda: self._netlink.addr(
                        "del", index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen
                    )
                )
            case AddRoute() | ReplaceRoute() | DeleteRoute():
                await self._route(action)

    async def _add_link(self, name: str, parent: str) -> None:
        """Make the macvlan, then name and mark it in one message: no crash leaves a link of that name unmarked.

        The kernel takes an alias only from a change of a link (do_setlink), not at its creation.
        """
        unfinished = f"{name[:11]}.new"
        leftover = await self._netlink.link_lookup(ifname=unfinished)
        if not leftover:
            await self._netlink.link(
                "add", ifname=unfinished, kind="macvlan", link=await self._index(parent), macvlan_mode="bridge"
            )
            leftover = await self._netlink.link_lookup(ifname=unfinished)
        if not leftover:
            raise NetlinkError(errno.ENODEV, f"{unfinished} vanished")
        await self._netlink.link("set", index=leftover[0], ifname=name, ifalias=self._marks.alias)

    async def _index(self, name: str) -> int:
        found = await self._netlink.link_lookup(ifname=name)
        if not found:
            raise NetlinkError(errno.ENODEV, f"no link {name}")
        return int(found[0])

    async def _route(self, action: RouteAction) -> None:
        route = action.route
        fields: dict[str, Any] = {"dst": str(route.subnet), "table": route.table, "proto": route.protocol}
        if route.metric:
            fields["priority"] = route.metric
        if isinstance(action, DeleteRoute):
            await unless_gone(lambda: self._netlink.route("del", **fields))
            return
        fields |= _next_hop_fields(route)
        await self._netlink.route("add" if isinstance(action, AddRoute) else "replace", **fields)


def _next_hop_fields(route: Route) -> dict[str, Any]:
    hops = [
        {"oif": hop.link} | ({"gateway": str(hop.gateway)} if hop.gateway is not None else {})
        for hop in route.next_hops
    ]
    fields: dict[str, Any] = hops[0] if len(hops) == 1 else {"multipath": hops}
    return fields | ({"prefsrc": str(route.source)} if route.source is not None else {})


async def unless_gone(request: Callable[[], Awaitable[Any]]) -> None:
    try:
        await request()
    except NetlinkError as error:
        if error.code not in GONE:
            raise


def translated(error: NetlinkError, what: str) -> KernelError:
    reason = error.args[-1] if error.args and isinstance(error.args[-1], str) else os.strerror(error.code)
    return KernelError(f"{what}: {reason}", code=error.code)


def describe(action: KernelAction) -> str:
    """The action as a person would type it."""
    match action:
        case AddRoute(route) | ReplaceRoute(route) | DeleteRoute(route):
            verb = {AddRoute: "add", ReplaceRoute: "replace", DeleteRoute: "delete"}[type(action)]
            hops = ", ".join(str(hop.gateway or f"link {hop.link}") for hop in route.next_hops)
            return f"{verb} route {route.subnet} via {hops or 'nothing'}"
        case AddLink(name, parent):
            return f"add macvlan {name} over {parent}"
        case AdoptLink(name):
            return f"mark link {name}"
        case SetLinkUp(name):
            return f"set link {name} up"
        case DeleteLink(_, name):
            return f"delete link {name}"
        case AddAddress(link, interface):
            return f"add address {interface} to {link}"
        case DeleteAddress(link, interface):
            return f"delete address {interface} from {link}"
        case SetSysctl(link, key, value):
            return f"set net.ipv4.conf.{link}.{key} = {value}"


def kernel_release() -> tuple[int, int]:
    """Major and minor number of the running kernel, e.g. (6, 18)."""
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(character for character in minor if character.isdigit()) or 0)
