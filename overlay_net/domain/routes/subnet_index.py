"""An index of subnets that finds those that overlap a subnet without comparing all of them."""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple

from overlay_net.model.net import IpNetwork

FEW = 16
"""Up to this number, new keys are inserted one by one."""


class _Key(NamedTuple):
    version: int
    start: int
    length: int

    @property
    def network(self) -> IpNetwork:
        return IPv4Network(self[1:]) if self.version == 4 else IPv6Network(self[1:])


class SubnetIndex:
    """Texts by subnet; a text that was added several times must be removed as often.

    A search takes one lookup for each prefix length in use, and a binary search. Keys are sorted at the first search
    after a change, so adding many subnets costs one sort.
    """

    def __init__(self) -> None:
        self._texts: dict[_Key, Counter[str]] = {}
        self._lengths: dict[int, Counter[int]] = {4: Counter(), 6: Counter()}
        self._sorted: list[_Key] = []
        self._added: list[_Key] = []
        self._removed = False

    def add(self, subnet: IpNetwork, text: str) -> None:
        key = _key(subnet)
        texts = self._texts.get(key)
        if texts is None:
            texts = self._texts[key] = Counter()
            self._lengths[key.version][key.length] += 1
            self._added.append(key)
        texts[text] += 1

    def remove(self, subnet: IpNetwork, text: str) -> None:
        key = _key(subnet)
        texts = self._texts[key]
        texts[text] -= 1
        if not texts[text]:
            del texts[text]
        if texts:
            return
        del self._texts[key]
        lengths = self._lengths[key.version]
        lengths[key.length] -= 1
        if not lengths[key.length]:
            del lengths[key.length]
        self._removed = True

    def overlapping(self, subnet: IpNetwork) -> Iterator[tuple[IpNetwork, Counter[str]]]:
        """Yield each subnet that overlaps ``subnet``: the ones that contain it, largest first, then those inside it."""
        target = _key(subnet)
        bits = subnet.max_prefixlen
        for length in sorted(each for each in self._lengths[target.version] if each < target.length):
            found = _Key(target.version, target.start >> (bits - length) << (bits - length), length)
            if found in self._texts:
                yield found.network, self._texts[found]
        for key in self._inside(target, int(subnet.broadcast_address)):
            yield key.network, self._texts[key]

    def _inside(self, target: _Key, last: int) -> Iterator[_Key]:
        self._sort()
        position = bisect_left(self._sorted, target)
        while position < len(self._sorted):
            key = self._sorted[position]
            if key.version != target.version or key.start > last:
                return
            yield key
            position += 1

    def _sort(self) -> None:
        if self._removed:
            # A key that was removed and added again is in both lists.
            self._sorted, self._removed = sorted(self._texts), False
        elif len(self._added) > FEW:
            self._sorted = sorted(self._sorted + self._added)
        else:
            for key in self._added:
                insort(self._sorted, key)
        self._added = []


def _key(subnet: IpNetwork) -> _Key:
    return _Key(subnet.version, int(subnet.network_address), subnet.prefixlen)
