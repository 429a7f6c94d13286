"""Reads the members of the sets that rules refer to: those of nftables, and ipsets."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_network, summarize_address_range
from itertools import chain
from typing import Any, Final, Self

from pyroute2.ipset import IPSet
from pyroute2.netlink.nfnetlink.ipset import IPSET_FLAG_LIST_HEADER, IPSET_FLAG_NOMATCH
from pyroute2.netlink.nfnetlink.nftsocket import NFT_MSG_GETSETELEM, NFTSocket, nft_set_elem_list_msg

from overlay_net.model.net import IpAddress

MAX_MEMBERS: Final = 1000
"""Larger sets, such as of the nodes of a large cluster, are not read."""
ADDRESSES: Final[Mapping[int, tuple[Callable[[int], IpAddress], int]]] = {4: (IPv4Address, 32), 6: (IPv6Address, 128)}
"""By version of IP; and their bits."""
IPSET_TYPES: Final = frozenset({"hash:net", "hash:ip", "bitmap:ip"})


class AddressSets:
    """A context manager. Networks are None for sets that are too large, or of anything but addresses."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self._sockets: dict[int, NFTSocket] = {}
        self._read: dict[object, list[str] | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def read_nft_set(self, family: int, table: str, name: str, version: int) -> list[str] | None:
        key = family, table, name
        if key not in self._read:
            self._read[key] = _merge(self._dump(family, table, name), version) if version in ADDRESSES else None
        return self._read[key]

    def _dump(self, family: int, table: str, name: str) -> list[Any]:
        if family not in self._sockets:
            self._sockets[family] = self._open.enter_context(NFTSocket(nfgen_family=family))
            self._sockets[family].bind()
        request = nft_set_elem_list_msg()
        request["attrs"] = [("NFTA_SET_ELEM_LIST_TABLE", table), ("NFTA_SET_ELEM_LIST_SET", name)]
        messages = self._sockets[family].request_get(request, NFT_MSG_GETSETELEM)
        return list(chain.from_iterable(each.get_attr("NFTA_SET_ELEM_LIST_ELEMENTS") or () for each in messages))

    def read_ipset(self, index: int) -> tuple[str, list[str] | None]:
        """Return the name of an ipset, and its networks."""
        name, type_name, size = self._headers.get(index, (f"set {index}", "", 0))
        if name not in self._read:
            is_readable = type_name in IPSET_TYPES and size <= MAX_MEMBERS
            self._read[name] = _list_members(self._ipsets.list(name)) if is_readable else None
        return name, self._read[name]

    @cached_property
    def _ipsets(self) -> IPSet:
        return self._open.enter_context(IPSet())

    @cached_property
    def _headers(self) -> dict[int, tuple[str, str, int]]:
        """Name, type and number of members of each ipset, by the index that rules refer to (since Linux 4.20)."""
        found = {}
        for each in self._ipsets.list(flags=IPSET_FLAG_LIST_HEADER):
            data = each.get_attr("IPSET_ATTR_DATA")
            names = str(each.get_attr("IPSET_ATTR_SETNAME")), str(each.get_attr("IPSET_ATTR_TYPENAME"))
            found[each.get_attr("IPSET_ATTR_INDEX")] = (*names, data.get_attr("IPSET_ATTR_ELEMENTS") or 0)
        return found


def _list_members(messages: Iterable[Any]) -> list[str] | None:
    """Return the members of an ipset; None if some of them are exceptions from others."""
    found = []
    for member in chain.from_iterable(_find_members(each) for each in messages):
        if (member.get_attr("IPSET_ATTR_CADT_FLAGS") or 0) & IPSET_FLAG_NOMATCH:
            return None
        address = member.get_attr("IPSET_ATTR_IP_FROM")
        text = address.get_attr("IPSET_ATTR_IPADDR_IPV4") or address.get_attr("IPSET_ATTR_IPADDR_IPV6")
        length = member.get_attr("IPSET_ATTR_CIDR")
        found.append(str(ip_network(f"{text}/{length}" if length is not None else text)))
    return found


def _find_members(message: Any) -> Iterator[Any]:
    content = message.get_attr("IPSET_ATTR_ADT")
    return iter(content.get_attrs("IPSET_ATTR_DATA") if content is not None else ())


def _merge(elements: list[Any], version: int) -> list[str] | None:
    """Return the networks of a set of addresses, or of intervals, whose ends are elements of their own."""
    address, bits = ADDRESSES[version]
    bounds = []
    for each in elements:
        value = each.get_attr("NFTA_SET_ELEM_KEY").get_attr("NFTA_DATA_VALUE") or b""
        if 8 * len(value) != bits or len(elements) > MAX_MEMBERS:
            return None
        bounds.append((int.from_bytes(value), not _is_end(each)))
    found: list[str] = []
    has_intervals = not all(begins for _, begins in bounds)
    for position, (begin, begins) in enumerate(bounds := sorted(bounds)):
        if begins:
            following = bounds[position + 1][0] if position + 1 < len(bounds) else 1 << bits
            last = following - 1 if has_intervals else begin
            found += map(str, summarize_address_range(address(begin), address(last)))
    return found


def _is_end(element: Any) -> bool:
    # NFT_SET_ELEM_INTERVAL_END is the only flag that pyroute2 knows, under a name that is no text.
    return bool(element.get_attr("NFTA_SET_ELEM_FLAGS"))
