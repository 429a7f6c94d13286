"""Requests to the kernel over a netlink socket: one change, or a dump of all links, addresses or policy rules."""

import errno
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Generic, TypeVar

from overlay_net.adapters.netlink import link_messages as links
from overlay_net.adapters.netlink import rule_messages as rules
from overlay_net.adapters.netlink.bulk.codec import messages
from overlay_net.adapters.netlink.bulk.socket import NetlinkSocket
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Address, Link
from overlay_net.model.policy_rule import PolicyRule

T = TypeVar("T")

NO_POLICY_ROUTING = frozenset({errno.EOPNOTSUPP, errno.EAFNOSUPPORT})
"""Errors of a kernel that was built without policy routing."""


def change(kernel: NetlinkSocket, kind: int, body: bytes, flags: int = 0, ignored: Container[int] = ()) -> None:
    """Request one change. Raises KernelError, except for the error numbers in ``ignored``."""
    for refusal in kernel.request([(kind, flags, body)]).values():
        if refusal.code not in ignored:
            raise KernelError(refusal.text, code=refusal.code)


class ParsedDump(Generic[T]):
    """Parses dumps of one kind; what is unchanged since the last dump is the same object, and is not parsed again."""

    def __init__(self, parse: Callable[[bytes], T]) -> None:
        self._parse = parse
        self._known: dict[bytes, T] = {}

    def parse(self, bodies: Sequence[bytes]) -> list[T]:
        known = self._known
        self._known = {body: known[body] if body in known else self._parse(body) for body in bodies}
        return [self._known[body] for body in bodies]


class Interfaces:
    """Reads all links and addresses repeatedly, of which a node with many pods has hundreds."""

    def __init__(self) -> None:
        self._links = ParsedDump(links.parse_link)
        self._addresses = ParsedDump(links.parse_address)

    def read_links(self, kernel: NetlinkSocket) -> tuple[Link, ...]:
        return tuple(self._links.parse(_bodies(kernel.dump(links.RTM_GETLINK, links.dump_links()), links.RTM_NEWLINK)))

    def read_addresses(self, kernel: NetlinkSocket) -> list[Address]:
        answer = kernel.dump(links.RTM_GETADDR, links.dump_addresses())
        found = self._addresses.parse(_bodies(answer, links.RTM_NEWADDR))
        return [address for address in found if address is not None]


def list_links(kernel: NetlinkSocket) -> list[Link]:
    answer = kernel.dump(links.RTM_GETLINK, links.dump_links())
    return [links.parse_link(body) for body in _bodies(answer, links.RTM_NEWLINK)]


def find_link(kernel: NetlinkSocket, name: str) -> int | None:
    """Return the index of a link, or None."""
    return next((link.index for link in list_links(kernel) if link.name == name), None)


def require_link(kernel: NetlinkSocket, name: str) -> int:
    """Return the index of a link. Raises KernelError if it does not exist."""
    index = find_link(kernel, name)
    if index is None:
        raise KernelError(f"no link {name}", code=errno.ENODEV)
    return index


def list_rules(kernel: NetlinkSocket) -> list[PolicyRule]:
    """List the policy rules; empty on a kernel without policy routing."""
    try:
        answer = kernel.dump(rules.RTM_GETRULE, rules.dump_rules())
    except KernelError as error:
        if error.code in NO_POLICY_ROUTING:
            return []
        raise
    found = (rules.parse_rule(body) for body in _bodies(answer, rules.RTM_NEWRULE))
    return [rule for rule in found if rule is not None]


def _bodies(datagrams: Iterable[bytes], message_type: int) -> list[bytes]:
    return [
        datagram[start:end]
        for datagram in datagrams
        for kind, _, _, start, end in messages(datagram)
        if kind == message_type
    ]
