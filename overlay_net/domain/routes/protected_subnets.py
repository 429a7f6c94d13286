"""Protected subnets: a StaticRoute that overlaps one would cut off nodes, pods or the control plane."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from overlay_net.domain.routes.subnet_index import SubnetIndex
from overlay_net.model.net import IpNetwork
from overlay_net.model.parse import parse_network
from overlay_net.model.static_route import StaticRoute

PROTECTED = "Protected"
UNKNOWN = "ProtectedSubnetsUnknown"


@dataclass(frozen=True, slots=True)
class ProtectedSubnet:
    subnet: IpNetwork
    description: str
    """The use of the subnet, for conditions, such as ``address of node 10.176.162.151``."""


@dataclass(frozen=True, slots=True)
class _Decision:
    route: StaticRoute
    overlap: str


class RouteCheck(Protocol):
    def refusal(self, route: StaticRoute) -> tuple[str, str] | None:
        """Return reason and message if ``route`` must not be added to any node, else None."""
        ...


@dataclass(frozen=True, slots=True)
class Decided:
    """What a Protection has decided at one moment, for readers in another thread."""

    refusals: Mapping[str, tuple[str, str] | None]
    """By the name of the StaticRoute."""

    def refusal(self, route: StaticRoute) -> tuple[str, str] | None:
        return self.refusals[route.name]


class Protection:
    """The protected subnets by source, and for each StaticRoute whether it overlaps one.

    Each StaticRoute is checked once, and again only if a protected subnet that overlaps it is added or removed.
    """

    def __init__(
        self, protected: Iterable[ProtectedSubnet] = (), *, allow_default: bool = False, unknown: str = ""
    ) -> None:
        self.allow_default = allow_default
        self.unknown = unknown
        """Why not all protected subnets are known; no StaticRoute is accepted then. Empty: they are."""
        self._protected = SubnetIndex()
        self._by_source: dict[str, frozenset[ProtectedSubnet]] = {}
        self._routed = SubnetIndex()
        self._decided: dict[str, _Decision] = {}
        self.protect("", protected)

    def protect(self, source: str, subnets: Iterable[ProtectedSubnet]) -> set[str]:
        """Replace the subnets of ``source``. Returns the StaticRoutes for which the result is now different."""
        before, after = self._by_source.get(source, frozenset()), frozenset(subnets)
        for each in before - after:
            self._protected.remove(each.subnet, each.description)
        for each in after - before:
            self._protected.add(each.subnet, each.description)
        if after:
            self._by_source[source] = after
        else:
            self._by_source.pop(source, None)
        overlapping = chain.from_iterable(self._routed.overlapping(each.subnet) for each in before ^ after)
        return {name for name in set(chain.from_iterable(names for _, names in overlapping)) if self._changes(name)}

    def set_unknown(self, problem: str) -> set[str]:
        """Replace ``unknown``. Returns the StaticRoutes for which the result is now different."""
        if problem == self.unknown:
            return set()
        self.unknown = problem
        return {name for name, decided in self._decided.items() if not decided.overlap}

    def refusal(self, route: StaticRoute) -> tuple[str, str] | None:
        """Return reason and message if ``route`` must not be added to any node, else None."""
        overlap = self._overlap(route)
        if overlap:
            return PROTECTED, overlap
        return (UNKNOWN, self.unknown) if self.unknown else None

    def forget(self, name: str) -> None:
        """Forget the StaticRoute ``name``, which was deleted."""
        decided = self._decided.pop(name, None)
        if decided is not None:
            for subnet in decided.route.subnets:
                self._routed.remove(subnet, name)

    def find_overlap(self, subnet: IpNetwork) -> str:
        """Return which protected subnet ``subnet`` overlaps, or an empty string."""
        if subnet.prefixlen == 0:
            hint = f"{subnet} is a default route; set allow_default_route to allow it"
            return "" if self.allow_default else hint
        for protected, descriptions in self._protected.overlapping(subnet):
            return f"{subnet} overlaps {protected} ({min(descriptions)})"
        return ""

    def _overlap(self, route: StaticRoute) -> str:
        decided = self._decided.get(route.name)
        if decided is not None and decided.route is route:
            return decided.overlap
        if decided is not None and decided.route.subnets == route.subnets:
            # Each write of its status makes another object of the StaticRoute.
            self._decided[route.name] = _Decision(route, decided.overlap)
            return decided.overlap
        self.forget(route.name)
        for subnet in route.subnets:
            self._routed.add(subnet, route.name)
        return self._decide(route)

    def _decide(self, route: StaticRoute) -> str:
        overlap = next(filter(None, map(self.find_overlap, route.subnets)), "")
        self._decided[route.name] = _Decision(route, overlap)
        return overlap

    def _changes(self, name: str) -> bool:
        decided = self._decided[name]
        return self._decide(decided.route) != decided.overlap


NOTHING = Protection()


def find_configured(setting: str, texts: Iterable[str]) -> Iterator[ProtectedSubnet]:
    """Yield the subnets of a setting; its validation refuses what is none."""
    for text in texts:
        subnet = parse_network(text)
        if subnet is not None:
            yield ProtectedSubnet(subnet, f"in {setting}")


def refusal(route: StaticRoute, protection: RouteCheck) -> tuple[str, str] | None:
    """Return reason and message if ``route`` must not be added to any node, else None."""
    if route.problem:
        return "Invalid", route.problem
    return protection.refusal(route)
