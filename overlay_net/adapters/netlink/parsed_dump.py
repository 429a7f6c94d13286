"""Parses dumps, at little cost if nothing has changed."""

from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from overlay_net.adapters.netlink.bulk.codec import find_bodies
from overlay_net.adapters.netlink.iproute import IpRoute
from overlay_net.adapters.netlink.raw_requests import Message

T = TypeVar("T")
V = TypeVar("V")


class ParsedDump(Generic[T, V]):
    """Reads dumps of one kind repeatedly.

    Only parsed bytes are cached, never the kernel's state. What is unchanged since the last dump is the same object,
    and is not parsed again; if nothing has changed, that is the whole result.
    """

    def __init__(self, kind: int, parse: Callable[[bytes], T | None], collect: Callable[[Iterable[T]], V]) -> None:
        """``kind`` is the type of the messages of the answer; those for which ``parse`` returns None are left out."""
        self._kind = kind
        self._parse = parse
        self._datagrams: list[bytes] = []
        self._parts: dict[bytes, list[tuple[bytes, T | None]]] = {}
        """The messages of each datagram, with what was parsed from them."""
        self._collect = collect
        self._parsed = collect(())

    def read(self, route: IpRoute, message: Callable[[], Message], request: int) -> V:
        """Request a dump and parse it. Raises KernelError and OSError."""
        return self.parse(route.dump(message, request, known=frozenset(self._datagrams[:-1])))

    def parse(self, datagrams: list[bytes]) -> V:
        if datagrams != self._datagrams:
            known = {body: value for part in self._parts.values() for body, value in part}
            self._parts = {each: self._parts.get(each) or self._parse_datagram(each, known) for each in datagrams}
            values = (value for each in datagrams for _, value in self._parts[each])
            self._parsed = self._collect(value for value in values if value is not None)
            self._datagrams = datagrams
        return self._parsed

    def _parse_datagram(self, datagram: bytes, known: Mapping[bytes, T | None]) -> list[tuple[bytes, T | None]]:
        bodies = find_bodies(datagram, self._kind)
        return [(body, known[body] if body in known else self._parse(body)) for body in bodies]
