"""Routes of one node: from gateways to next hops, and from the kernel's routes to the wished ones."""

from dataclasses import dataclass

from overlay_net.domain.gateways import Active, active_gateways
from overlay_net.domain.ownership import owns_route
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
    RouteKind,
)
from overlay_net.model.kernel_actions import AddRoute, DeleteRoute, Problem, ReplaceRoute
from overlay_net.model.route_key import QuickKey, version_of


@dataclass(frozen=True, slots=True)
class RoutePlan:
    changes: tuple[AddRoute | ReplaceRoute, ...]
    deletions: tuple[DeleteRoute, ...]
    problems: tuple[Problem, ...]
    placed: tuple[tuple[DesiredRoute, str], ...]


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


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the next hops of a node are found from."""

    on_link: OnLink
    marks: Marks
    address: IpInterface | None
    overlay: Link | None
    """The overlay link, where it exists already."""
    off_link: Link | None
    """Where a gateway is that no subnet contains, for a route that says it is on the link all the same."""
    fallback: IpAddress | None
    """Gateway of routes without one, on a node without overlay address."""


def plan_routes(desired: Desired, observed: Observed, marks: Marks, link: Link | None) -> RoutePlan:
    """``link`` is the overlay link, where it exists already.

    A wished route that cannot be placed now keeps what the kernel has for its key: a dead route is better than one
    that leaks to the default gateway.
    """
    question = _Question(desired, observed, marks, link)
    for asked, plan in _LAST:
        if asked.is_same(question):
            return plan
    plan = _plan(question)
    _LAST[:] = [(question, plan)]
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


_LAST: list[tuple[_Question, RoutePlan]] = []
"""The last question and its answer: most looks at a kernel find nothing new. The answer depends on nothing else."""


def _plan(question: _Question) -> RoutePlan:
    desired, observed, marks, link = question.desired, question.observed, question.marks, question.link
    # Those of the source table are domain.source_plan's.
    apart = desired.source.place.table if desired.source is not None else None
    ours = [route for route in observed.routes if owns_route(route, marks) and route.table != apart]
    present = {route.quick_key: route for route in ours}
    foreign: dict[QuickKey, Route] | None = None
    names = {each.index: each.name for each in observed.links}
    resolver = _Resolver(
        Surroundings(
            on_link=OnLink(observed, link, desired.address),
            marks=marks,
            address=desired.address,
            overlay=link,
            off_link=link or next((each for each in observed.links if each.name == desired.interface), None),
            fallback=fallback_gateway(observed, desired.fallback, marks) if desired.fallback else None,
        )
    )
    changes: list[AddRoute | ReplaceRoute] = []
    problems: list[Problem] = []
    placed: list[tuple[DesiredRoute, str]] = []
    wanted_keys = set()
    # Thousands of routes share few gateways, as the very same values: what is active of them is found out once.
    known: dict[tuple[object, ...], Active] = {}
    for wish in desired.routes:
        same = (id(wish.gateways), id(wish.check), wish.kind, wish.on_all_down)
        active = known.get(same)
        if active is None:
            active = known[same] = active_gateways(wish, desired.down)
        if active.kind is None:
            problems.append(Problem("GatewaysDown", f"{wish.subnet} is withdrawn: no gateway is alive", wish))
            continue
        key = wish.quick_key
        if key in wanted_keys:
            problems.append(Problem("Duplicate", f"{wish.subnet} is wanted twice", wish))
            continue
        wanted_keys.add(key)
        if wish.table == apart:
            message = f"table {apart} is that of source routing: choose another table, or another source_table"
            problems.append(Problem("SourceTable", message, wish))
            continue
        way = resolver.way(wish, active.gateways, active.kind)
        if isinstance(way, Problem):
            problems.append(way)
            continue
        found = present.get(key)
        if found is None:
            if foreign is None:
                # Somebody may have put a route of the same key beside ours: ours is the one that counts.
                foreign = {route.quick_key: route for route in observed.routes}
            taken = foreign.get(key)
            if taken is None:
                changes.append(AddRoute(way.route(wish, active.kind, marks)))
                continue
            message = f"{wish.subnet} has a route of protocol {taken.protocol} already, which is not ours to change"
            problems.append(Problem("ForeignRoute", message, wish))
        elif not way.leads(found, wish, active.kind):
            changes.append(ReplaceRoute(way.route(wish, active.kind, marks)))
        elif active.kind != wish.kind:
            problems.append(Problem("GatewaysDown", f"{wish.subnet} is {active.kind}: no gateway is alive", wish))
        else:
            placed.append((wish, names.get(way.hops[0].link, "") if way.hops else ""))
    deletions = [DeleteRoute(route) for route in ours if route.quick_key not in wanted_keys]
    return RoutePlan(tuple(changes), tuple(deletions), tuple(problems), tuple(placed))


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


class _Way:
    """Where a route leads: shared by all the routes of one plan that lead there."""

    __slots__ = ("_last_found", "_made", "hops", "source")

    def __init__(self, hops: tuple[NextHop, ...], source: IpAddress | None) -> None:
        self.hops = hops
        self.source = source
        self._last_found: tuple[NextHop, ...] = hops
        self._made: dict[tuple[object, ...], Route] = {}

    def route(self, wish: DesiredRoute, kind: RouteKind, marks: Marks) -> Route:
        like = (kind, wish.metric, wish.table, wish.mtu, wish.advmss, version_of(wish.quick_key))
        made = self._made.get(like)
        if made is None:
            made = self._made[like] = self._route(wish, kind, marks)
        return made.at(wish.quick_key)

    def _route(self, wish: DesiredRoute, kind: RouteKind, marks: Marks) -> Route:
        subnet, metric, table = wish.subnet, kernel_metric(wish), wish.table
        if kind != "unicast":
            return Route(subnet, (), marks.protocol, metric, None, table, kind)
        return Route(subnet, self.hops, marks.protocol, metric, self.source, table, kind, wish.mtu, wish.advmss)

    def leads(self, found: Route, wish: DesiredRoute, kind: RouteKind) -> bool:
        """Whether a route of ours that has the key is what ``route`` would make."""
        limits = (wish.mtu, wish.advmss) if kind == "unicast" else (0, 0)
        if found.kind != kind or found.source != self.source or (found.mtu, found.advmss) != limits:
            return False
        if found.next_hops is not self._last_found:
            if found.next_hops != self.hops:
                return False
            # Observed routes that lead the same way share their next hops: the next comparison is one of identity.
            self._last_found = found.next_hops
        return True


class _Resolver:
    """Finds the way of each wish, once for all the wishes with the same gateways."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._source = around.address.ip if around.address is not None else None
        self._known: dict[tuple[object, ...], _Way | Problem] = {}
        self._nowhere = _Way((), None)

    def way(self, wish: DesiredRoute, gateways: tuple[Gateway, ...], kind: RouteKind) -> _Way | Problem:
        """``kind`` is that of the route now, with the gateways that are active."""
        if kind != "unicast":
            return self._nowhere
        around, version = self._around, version_of(wish.quick_key)
        # The gateways by identity, as addresses are slow to hash; they are alive as long as the plan is made.
        key = (version, wish.on_link, id(gateways))
        way = self._known.get(key)
        if way is None:
            if not gateways and around.fallback is not None and around.fallback.version == version:
                gateways = (Gateway(around.fallback),)
            if not gateways:
                message = f"{wish.subnet} has no gateway, and this node has no overlay gateway"
                return Problem("NoGateway", message, wish)
            way = self._known[key] = self._find(wish, gateways)
        return way if isinstance(way, _Way) else Problem(way.reason, way.message, wish)

    def _through_overlay(self, hop: NextHop) -> bool:
        """Not a gateway of the node's private network, where the overlay address is on that very interface."""
        address = self._around.address
        return hop.on_link or (address is not None and hop.gateway in address.network)

    def _find(self, wish: DesiredRoute, gateways: tuple[Gateway, ...]) -> _Way | Problem:
        around = self._around
        hops = []
        for gateway in gateways:
            index = around.on_link.link_of(gateway.address)
            off_link = index is None and wish.on_link and around.off_link is not None
            if off_link and around.off_link is not None:
                index = around.off_link.index
            if index is None:
                message = f"{gateway.address} is in no subnet of a link of this node"
                return Problem("GatewayNotOnLink", f"{message}; onLink: true would allow it", wish)
            hops.append(NextHop(gateway.address, index, gateway.weight if len(gateways) > 1 else 1, off_link))
        hops.sort(key=lambda hop: (int(hop.gateway) if hop.gateway else 0, hop.link))
        over_link = around.overlay is not None and all(
            hop.link == around.overlay.index and self._through_overlay(hop) for hop in hops
        )
        own = self._source is not None and self._source.version == version_of(wish.quick_key)
        return _Way(tuple(hops), self._source if over_link and own else None)
