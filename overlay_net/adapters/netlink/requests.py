"""What a kernel is asked over its socket: one change, or all its links, addresses or rules."""

import errno
from collections.abc import Iterable

from overlay_net.adapters.netlink import link_messages as links
from overlay_net.adapters.netlink import rule_messages
from overlay_net.adapters.netlink.codec import messages
from overlay_net.adapters.netlink.socket import NetlinkSocket
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Address, Link
from overlay_net.model.policy_rule import PolicyRule

GONE = {errno.ENODEV, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENOENT}
"""What a deletion of something that is not there is refused with."""
NO_RULES = {errno.EOPNOTSUPP, errno.EAFNOSUPPORT}
"""What a kernel says that was built without policy routing."""


def ask(kernel: NetlinkSocket, kind: int, body: bytes, flags: int = 0, unless: Iterable[int] = ()) -> None:
    for refusal in kernel.request([(kind, flags, body)]).values():
        if refusal.code not in unless:
            raise KernelError(refusal.text, code=refusal.code)


def list_links(kernel: NetlinkSocket) -> list[Link]:
    answer = kernel.dump(links.RTM_GETLINK, links.dump_links())
    return [links.parse_link(body) for body in _bodies(answer, links.RTM_NEWLINK)]


def find_link(kernel: NetlinkSocket, name: str) -> int | None:
    return next((link.index for link in list_links(kernel) if link.name == name), None)


def find_index(kernel: NetlinkSocket, name: str) -> int:
    found = find_link(kernel, name)
    if found is None:
        raise KernelError(f"no link {name}", code=errno.ENODEV)
    return found


def list_addresses(kernel: NetlinkSocket) -> list[Address]:
    answer = kernel.dump(links.RTM_GETADDR, links.dump_addresses())
    found = (links.parse_address(body) for body in _bodies(answer, links.RTM_NEWADDR))
    return [address for address in found if address is not None]


def list_rules(kernel: NetlinkSocket) -> list[PolicyRule]:
    try:
        answer = kernel.dump(rule_messages.RTM_GETRULE, rule_messages.dump_rules())
    except KernelError as error:
        if error.code in NO_RULES:
            return []
        raise
    found = (rule_messages.rule_of(body) for body in _bodies(answer, rule_messages.RTM_NEWRULE))
    return [rule for rule in found if rule is not None]


def _bodies(datagrams: Iterable[bytes], desired: int) -> list[bytes]:
    return [
        datagram[start:end]
        for datagram in datagrams
        for kind, _, _, start, end in messages(datagram)
        if kind == desired
    ]
