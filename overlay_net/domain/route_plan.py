"""Routes of one node: from gateways to next hops, and from the kernel's routes to the wished ones."""

from dataclasses import dataclass

from overlay_net.domain.gateways import active_gateways
from overlay_net.domain.ownership import owns_route
from overlay_net.domain.wishes import Alike, Wishes, sorted_out
from overlay_net.model.kernel import (
    IPV6_DEFAULT_METRIC,
    MAIN_TABLE,
    Desired,
    DesiredRoute,
    Gateway,
    IpAddress,
    IpInterface,
    IpNetwork,
    Link,
    Marks,
    NextHop,
    Observed,
    Route,
)
from overlay_net.model.kernel_actions import AddRoute, DeleteRoute, Problem, ReplaceRoute
from overlay_net.model.route_key import QuickKey, version_of


@dataclass(frozen=True, slots=True)
class RoutePlan:
    changes: tuple[AddRoute | ReplaceRoute, ...]
    deletions: tuple[DeleteRoute, ...]
    problems: tuple[Problem, ...]
    placed: tuple[tuple[DesiredRoute, str], ...]


def plan_routes(desired: Desired, observed: Observed, marks: Marks, link: Link | None) -> RoutePlan:
    """``link`` is the overlay link, where it exists already.

    A wished route that cannot be placed now keeps what the kernel has for its key: a dead route is better than one
    that leaks to the default gateway.
    """
    question = _Question(desired, observed, marks, link)
    wishes: Wishes | None = None
    for asked, sorted_before, plan in _LAST:
        if asked.is_same(question):
            return plan
        if asked.desired.routes is desired.routes:
            wishes = sorted_before
    if wishes is None:
        wishes = sorted_out(desired.routes)
    plan = _plan(question, wishes)
    _LAST[:] = [(question, wishes, plan)]
    return plan


@dataclass(frozen=True, slots=True)
class _Question:
    desired: Desired
    observed: Observed
    marks: Marks
    link: Link | None

    def is_same(self, other: "_Question") -> bool:
        """Thousands of routes are not compared, only whether they are the very same values."""
        return (
            self.desired.routes is other.desired.routes
            and self.observed.routes is other.observed.routes
            and (self.marks, self.link) == (other.marks, other.link)
            and (self.observed.links, self.observed.addresses) == (other.observed.links, other.observed.addresses)
            and self.desired == other.desired
        )


_LAST: list[tuple[_Question, Wishes, RoutePlan]] = []
"""The last question and its answer: most looks at a kernel find nothing new. The answer depends on nothing else."""


def _plan(question: _Question, wishes: Wishes) -> RoutePlan:
    desired, observed, marks = question.desired, question.observed, question.marks
    # Those of the source table are domain.source_plan's.
    apart = desired.source.place.table if desired.source is not None else None
    ours = [route for route in observed.routes if owns_route(route, marks) and route.table != apart]
    node = _Node(desired, observed, marks, question.link)
    comparison = _Comparison(observed, ours)
    for wish in wishes.repeated:
        comparison.problems.append(Problem("Duplicate", f"{wish.subnet} is wanted twice", wish))
    for alike in wishes.alike:
        if apart is not None and alike.like.table == apart:
            message = f"table {apart} is that of source routing: choose another table, or another source_table"
            decision: _Wanted | _Refused = _Refused("SourceTable", message)
        else:
            decision = _decide(alike.like, node)
        comparison.settle(alike, decision)
    deletions = [DeleteRoute(route) for route in ours if route.quick_key not in comparison.kept]
    return RoutePlan(tuple(comparison.changes), tuple(deletions), tuple(comparison.problems), tuple(comparison.placed))


# --- What is wanted --------------------------------------------------------------------------------------------------


class OnLink:
    """Which link reaches an address directly: that of the most specific subnet, and among equals the overlay link.

    Somebody else's link in the overlay subnet must not draw our routes to it, whichever the kernel had first.
    """

    def __init__(self, observed: Observed, link: Link | None, address: IpInterface | None) -> None:
        up = {each.index for each in observed.links if each.up}
        subnets = [(each.interface.network, each.link) for each in observed.addresses if each.link in up]
        if link is not None and address is not None:
            # The plan puts the address there, and the link up, before any route.
            subnets.append((address.network, link.index))
        own = link.index if link is not None else None
        self._subnets = sorted(set(subnets), key=lambda subnet: (-subnet[0].prefixlen, subnet[1] != own, subnet[1]))
        self._found: dict[IpAddress, int | None] = {}

    def link_of(self, gateway: IpAddress) -> int | None:
        if gateway not in self._found:
            self._found[gateway] = next((link for subnet, link in self._subnets if gateway in subnet), None)
        return self._found[gateway]


class _Node:
    """What the next hops of a node are found from."""

    def __init__(self, desired: Desired, observed: Observed, marks: Marks, link: Link | None) -> None:
        self.down = desired.down
        self.marks = marks
        self.address = desired.address
        self.overlay = link
        """The overlay link, where it exists already."""
        self.on_link = OnLink(observed, link, desired.address)
        self.off_link = link or next((each for each in observed.links if each.name == desired.interface), None)
        """Where a gateway is that no subnet contains, for a route that says it is on the link all the same."""
        self.fallback = fallback_gateway(observed, desired.fallback, marks) if desired.fallback else None
        """Gateway of routes without one, on a node without overlay address."""

    def next_hop(self, gateway: Gateway, like: DesiredRoute, *, alone: bool) -> NextHop | None:
        """None where no link reaches the gateway."""
        index = self.on_link.link_of(gateway.address)
        weight = 1 if alone else gateway.weight
        if index is not None:
            return NextHop(gateway.address, index, weight)
        if like.on_link and self.off_link is not None:
            return NextHop(gateway.address, self.off_link.index, weight, on_link=True)
        return None

    def source_of(self, hops: tuple[NextHop, ...], version: int) -> IpAddress | None:
        """The overlay address, for routes over the overlay."""
        overlay, address = self.overlay, self.address
        if overlay is None or address is None or address.version != version:
            return None
        # Not for a gateway of the node's private network, where the overlay address is on that very interface.
        through = all(
            hop.link == overlay.index and (hop.on_link or (hop.gateway is not None and hop.gateway in address.network))
            for hop in hops
        )
        return address.ip if through else None


@dataclass(frozen=True, slots=True)
class _Wanted:
    route: Route
    """For the subnet of any of the wishes."""
    degraded: bool
    """No gateway is alive, and the route says so to whoever uses it."""


@dataclass(frozen=True, slots=True)
class _Refused:
    reason: str
    message: str
    """``{subnet}`` is that of the wish."""
    withdrawn: bool = False
    """What the kernel has for it goes."""


def _decide(like: DesiredRoute, node: _Node) -> _Wanted | _Refused:
    active = active_gateways(like, node.down)
    if active.kind is None:
        return _Refused("GatewaysDown", "{subnet} is withdrawn: no gateway is alive", withdrawn=True)
    metric, protocol = kernel_metric(like), node.marks.protocol
    if active.kind != "unicast":
        rejecting = Route(like.subnet, (), protocol, metric, None, like.table, active.kind)
        return _Wanted(rejecting, degraded=active.kind != like.kind)
    version = version_of(like.quick_key)
    gateways = active.gateways
    if not gateways and node.fallback is not None and node.fallback.version == version:
        gateways = (Gateway(node.fallback),)
    if not gateways:
        return _Refused("NoGateway", "{subnet} has no gateway, and this node has no overlay gateway")
    hops = []
    for gateway in gateways:
        hop = node.next_hop(gateway, like, alone=len(gateways) == 1)
        if hop is None:
            message = f"{gateway.address} is in no subnet of a link of this node; onLink: true would allow it"
            return _Refused("GatewayNotOnLink", message)
        hops.append(hop)
    ways = tuple(sorted(hops, key=lambda hop: (int(hop.gateway) if hop.gateway else 0, hop.link)))
    source = node.source_of(ways, version)
    return _Wanted(
        Route(like.subnet, ways, protocol, metric, source, like.table, "unicast", like.mtu, like.advmss), degraded=False
    )


def kernel_metric(wish: DesiredRoute) -> int:
    """The metric under which the kernel keeps the route."""
    return wish.metric or (IPV6_DEFAULT_METRIC if version_of(wish.quick_key) == 6 else 0)


def fallback_gateway(observed: Observed, towards: IpNetwork, marks: Marks) -> IpAddress | None:
    """The gateway that the node uses already for a subnet: of its own route, or of the most specific one around it."""
    around = [
        route
        for route in observed.routes
        if route.table == MAIN_TABLE
        and not owns_route(route, marks)
        and version_of(route.quick_key) == towards.version
        and route.next_hops
        and route.next_hops[0].gateway is not None
        and towards.subnet_of(route.subnet)  # type: ignore[arg-type]
    ]
    best = min(around, key=lambda route: (-route.subnet.prefixlen, route.metric), default=None)
    return best.next_hops[0].gateway if best else None


# --- What of it is there ---------------------------------------------------------------------------------------------


class _Comparison:
    def __init__(self, observed: Observed, ours: list[Route]) -> None:
        self.changes: list[AddRoute | ReplaceRoute] = []
        self.problems: list[Problem] = []
        self.placed: list[tuple[DesiredRoute, str]] = []
        self.kept: set[QuickKey] = set()
        """Keys under which what the kernel has of ours stays."""
        self._observed = observed
        self._present = {route.quick_key: route for route in ours}
        self._names = {each.index: each.name for each in observed.links}
        self._taken: dict[QuickKey, Route] | None = None

    def settle(self, alike: Alike, decision: _Wanted | _Refused) -> None:
        if isinstance(decision, _Wanted):
            self.kept.update(alike.keys)
            self._compare(alike, decision)
            return
        if not decision.withdrawn:
            self.kept.update(alike.keys)
        reason, message = decision.reason, decision.message
        self.problems += [Problem(reason, message.format(subnet=wish.subnet), wish) for wish in alike.wishes]

    def _compare(self, alike: Alike, wanted: _Wanted) -> None:
        route, present = wanted.route, self._present
        info = same = route.info
        link = self._names.get(info.next_hops[0].link, "") if info.next_hops else ""
        for wish, key in zip(alike.wishes, alike.keys, strict=True):
            found = present.get(key)
            if found is None:
                self._add(wish, route.at(key))
            elif found.info is not same and found.info != info:
                self.changes.append(ReplaceRoute(route.at(key)))
            elif wanted.degraded:
                self.problems.append(
                    Problem("GatewaysDown", f"{wish.subnet} is {route.kind}: no gateway is alive", wish)
                )
            else:
                # Observed routes that are alike share this value: the next comparison is one of identity.
                same = found.info
                self.placed.append((wish, link))

    def _add(self, wish: DesiredRoute, route: Route) -> None:
        if self._taken is None:
            # Somebody may have put a route of the same key beside ours: ours is the one that counts.
            self._taken = {route.quick_key: route for route in self._observed.routes}
        taken = self._taken.get(route.quick_key)
        if taken is None:
            self.changes.append(AddRoute(route))
            return
        message = f"{wish.subnet} has a route of protocol {taken.protocol} already, which is not ours to change"
        self.problems.append(Problem("ForeignRoute", message, wish))
