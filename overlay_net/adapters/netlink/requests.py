"""Requests to the kernel over a netlink socket: one change, or a dump of all links, addresses or policy rules."""

import errno
from collections.abc import Container, Iterable

from overlay_net.adapters.netlink import link_messages as links
from overlay_net.adapters.netlink import rule_messages as rules
from overlay_net.adapters.netlink.codec import messages
from overlay_net.adapters.netlink.socket import NetlinkSocket
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Address, Link
from overlay_net.model.policy_rule import PolicyRule

NOT_FOUND = frozenset({errno.ENODEV, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENOENT})
"""Errors for the deletion of an object that does not exist."""
NO_POLICY_ROUTING = frozenset({errno.EOPNOTSUPP, errno.EAFNOSUPPORT})
"""Errors of a kernel that was built without policy routing."""


def change(kernel: NetlinkSocket, kind: int, body: bytes, flags: int = 0, ignored: Container[int] = ()) -> None:
    """Request one change. Raises KernelError, except for the error numbers in ``ignored``."""
    for refusal in kernel.request([(kind, flags, body)]).values():
        if refusal.code not in ignored:
            raise KernelError(refusal.text, code=refusal.code)


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


def list_addresses(kernel: NetlinkSocket) -> list[Address]:
    answer = kernel.dump(links.RTM_GETADDR, links.dump_addresses())
    found = (links.parse_address(body) for body in _bodies(answer, links.RTM_NEWADDR))
    return [address for address in found if address is not None]


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
