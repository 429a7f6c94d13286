"""Lists and deletes source translations of connection tracking (linux/netfilter/nfnetlink_conntrack.h).

A node may have tens of thousands of flows, of which pyroute2 decodes 5,000 a second and deletes 2,000. So they are read
from datagrams and deleted in packed batches; what identifies a flow is copied as bytes, for every protocol.
"""

import errno
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Final

from overlay_net.adapters.netlink.bulk.codec import attribute, attributes, find_bodies
from overlay_net.adapters.netlink.bulk.socket import NetlinkSocket, open_netlink_socket
from overlay_net.adapters.netlink.executor import Executor
from overlay_net.model.errors import KernelError
from overlay_net.model.translation import SelectTranslations, Translation

NETLINK_NETFILTER: Final = 12
# The subsystem, NFNL_SUBSYS_CTNETLINK, is in the high byte of the message type.
CT_NEW, CT_GET, CT_DELETE = (1 << 8 | message for message in (0, 1, 2))
NFGENMSG_SIZE: Final = 4
"""struct nfgenmsg: family, version, and the resource in two bytes."""

CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_ID, CTA_ZONE, CTA_STATUS_MASK = 1, 2, 3, 12, 18, 26
CTA_TUPLE_IP, CTA_TUPLE_PROTO, CTA_PROTO_NUM = 1, 2, 1
CTA_IP_DST: Final = {socket.AF_INET: 2, socket.AF_INET6: 4}
NLA_F_NESTED: Final = 0x8000
IPS_SRC_NAT: Final = 1 << 4
"""Flag of CTA_STATUS: the source of the flow is translated (linux/netfilter/nf_conntrack_common.h)."""


class Conntrack:
    """The translations in this network namespace; an async context manager. Its requests delay no others.

    A kernel without connection tracking has none; it is not loaded for the question.
    """

    def __init__(self, proc_sys_net: Path = Path("/proc/sys/net")) -> None:
        self._count = proc_sys_net / "netfilter" / "nf_conntrack_count"
        self._executor = Executor(lambda: NetlinkSocket(open_netlink_socket(NETLINK_NETFILTER)))

    async def __aenter__(self) -> "Conntrack":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.close()

    async def list_translations(self, select: SelectTranslations = tuple) -> Sequence[Translation]:
        """Return those that ``select`` returns of each part of the list; the others are not kept. Raises KernelError.

        A node may have more flows than fit into the memory of the agent. ``select`` is called in another thread.
        """
        if not self._is_used():
            return ()
        try:
            return await self._executor.run(read_translations, select)
        except KernelError as error:
            raise KernelError(f"read connection tracking: {error}", code=error.code) from None

    async def delete(self, translations: Sequence[Translation]) -> None:
        """Delete flows, if they exist; the next packet of each starts a new one. Raises KernelError."""
        try:
            await self._executor.run(_delete, translations)
        except KernelError as error:
            raise KernelError(f"delete {len(translations)} tracked flows: {error}", code=error.code) from None

    def _is_used(self) -> bool:
        try:
            return self._count.read_text(encoding="ascii").strip() != "0"
        except OSError:
            return False


def read_translations(kernel: NetlinkSocket, select: SelectTranslations) -> Sequence[Translation]:
    """The same; raises KernelError and OSError."""
    # Kernels before 5.19 ignore the filter by status and list every flow.
    flag = IPS_SRC_NAT.to_bytes(4)
    body = _head(socket.AF_UNSPEC) + attribute(CTA_STATUS, flag) + attribute(CTA_STATUS_MASK, flag)

    def parse(datagram: bytes) -> Sequence[Translation]:
        found = map(parse_translation, find_bodies(datagram, CT_NEW))
        return select(each for each in found if each is not None)

    return kernel.dump_parsed(CT_GET, body, parse)


def parse_translation(body: bytes) -> Translation | None:
    """Parse a flow; None if its source is not translated, or it is not one of IPv4 or IPv6."""
    family = body[0]
    found = dict(attributes(body, NFGENMSG_SIZE))
    if family not in CTA_IP_DST or not int.from_bytes(found.get(CTA_STATUS, b"")) & IPS_SRC_NAT:
        return None
    original, reply = (dict(attributes(found.get(kind, b""))) for kind in (CTA_TUPLE_ORIG, CTA_TUPLE_REPLY))
    destination, source = (
        dict(attributes(each.get(CTA_TUPLE_IP, b""))).get(CTA_IP_DST[socket.AddressFamily(family)])
        for each in (original, reply)
    )
    protocol = dict(attributes(original.get(CTA_TUPLE_PROTO, b""))).get(CTA_PROTO_NUM)
    if not destination or not source or not protocol:
        return None
    # A zone has flows of its own. With the id, only this flow is deleted, and not a later one with the same addresses.
    identity = ((CTA_TUPLE_ORIG | NLA_F_NESTED, CTA_TUPLE_ORIG), (CTA_ZONE, CTA_ZONE), (CTA_ID, CTA_ID))
    key = b"".join(attribute(sent, found[kind]) for sent, kind in identity if kind in found)
    return Translation(ip_address(destination), ip_address(source), protocol[0], _head(family) + key)


def _head(family: int) -> bytes:
    return bytes((family, 0, 0, 0))


def _delete(kernel: NetlinkSocket, translations: Sequence[Translation]) -> None:
    for refusal in kernel.request((CT_DELETE, 0, each.key) for each in translations).values():
        if refusal.code != errno.ENOENT:
            raise KernelError(refusal.text, code=refusal.code)
