"""The routes of one node as `overlay-net routes` lists them: which are in place, and why a StaticRoute has none."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from overlay_net.domain.routes.desired_entries import DesiredEntry
from overlay_net.domain.routes.node_listing import NodeListing, list_routes
from overlay_net.domain.routes.route_sets import route_set_name
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route_slice import RouteSlice, SliceContent, slice_manifest, slice_name
from overlay_net.model.static_route import StaticRoute
from tests.unit.factories import node, overlay, static_route


def make_slices(routes: Iterable[StaticRoute], generation: int = 1) -> list[RouteSlice]:
    """One slice for each set, with the routes of this generation of it."""
    by_set: dict[str, list[StaticRoute]] = {}
    for route in routes:
        by_set.setdefault(route_set_name(route), []).append(route)
    found = []
    for name, members in by_set.items():
        entries = tuple(replace(DesiredEntry.parse(each).entry, slice_generation=generation) for each in members)
        found.append(RouteSlice.parse(slice_manifest(0, SliceContent(name, "*", (0,), entries, generation=generation))))
    return found


def reporting(slices: Iterable[RouteSlice], *, observed: int = 1, **status: Any) -> NodeOverlay:
    """A node that has all of these sets, and has observed this generation of each slice."""
    names = {each.route_set for each in slices}
    report = {
        "ipAddr": "192.168.100.4/24",
        "gateway": "192.168.100.1",
        "observedGeneration": 1,
        "observedSlices": {slice_name(name, 0): observed for name in names},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Ready"}],
    }
    return overlay(spec={"routeSets": [{"name": name} for name in sorted(names)]}, status=report | status)


def listed(listing: NodeListing) -> list[tuple[str, str, str, str]]:
    return [(str(each.subnet), each.static_route, each.state, each.message) for each in listing.routes]


def test_each_route_has_its_state_and_a_lost_one_the_winner() -> None:
    routes = [
        static_route("fine", "10.1.0.0/16", created="2026-01-01T00:00:01Z"),
        static_route("failing", "10.2.0.0/16", created="2026-01-01T00:00:02Z"),
        static_route("other", "10.1.0.0/16", gateway="192.168.100.9", created="2026-01-01T00:00:03Z"),
        static_route("same", "10.1.0.0/16", created="2026-01-01T00:00:04Z"),
        static_route("standby", "10.3.0.0/16", gateway="192.168.100.7", created="2026-01-01T00:00:05Z"),
    ]
    slices = make_slices(routes)
    failure = {"subnet": "10.2.0.0/16", "staticRoute": "failing", "state": "ForeignRoute", "message": "there is one"}
    silent = {"address": "192.168.100.7", "reason": "GatewayDown", "message": "no answer"}
    has = reporting(slices, routes=[failure], routesFailed=1, gateways=[silent])
    listing = list_routes(node(), has, slices, routes)
    assert listed(listing) == [
        ("10.2.0.0/16", "failing", "Failed", "ForeignRoute: there is one"),
        ("10.1.0.0/16", "other", "Conflict", "10.1.0.0/16 is already routed by the older StaticRoute fine"),
        ("10.1.0.0/16", "fine", "InPlace", ""),
        ("10.3.0.0/16", "standby", "InPlace", "gateway 192.168.100.7 is not used (GatewayDown)"),
        ("10.1.0.0/16", "same", "Shared", "the older StaticRoute fine has the same route"),
    ]
    # The overlay gateway is filled in, as the agent does.
    assert [str(gateway.address) for gateway in listing.routes[2].spec.gateways] == ["192.168.100.1"]


def test_a_static_route_without_routes_on_the_node_has_the_reason() -> None:
    protected = {"type": "Accepted", "status": "False", "reason": "Protected", "message": "10.4.0.0/16 overlaps it"}
    routes = [
        static_route("refused", "10.4.0.0/16", status={"conditions": [protected]}),
        static_route("invalid", "10.5.0.1/16"),
        static_route("new", "10.6.0.0/16"),
        static_route("elsewhere", "10.7.0.0/16", nodeSelector={"matchLabels": {"a": "b"}}),
        static_route("deleted", "10.8.0.0/16", deleting=True),
    ]
    listing = list_routes(node(), reporting([]), [], routes)
    assert listed(listing) == [
        (
            "None",
            "invalid",
            "Refused",
            "Invalid: spec.subnet '10.5.0.1/16' must be a subnet without host bits, such as 10.1.0.0/16",
        ),
        ("10.4.0.0/16", "refused", "Refused", "Protected: 10.4.0.0/16 overlaps it"),
        ("10.6.0.0/16", "new", "Pending", "not in a route slice yet"),
    ]


def test_a_route_is_pending_until_the_agent_has_observed_it() -> None:
    routes = [static_route("a", "10.1.0.0/16")]
    slices = make_slices(routes, generation=2)
    listing = list_routes(node(), reporting(slices, observed=1), slices, routes)
    assert listed(listing) == [("10.1.0.0/16", "a", "Pending", "the agent has not reported yet")]


def test_a_route_of_an_earlier_generation_names_the_present_one() -> None:
    before = static_route("a", "10.1.0.0/16", generation=1, rollout={"maxUnavailable": 1})
    after = static_route("a", "10.9.0.0/16", generation=2, rollout={"maxUnavailable": 1})
    slices = make_slices([before])
    listing = list_routes(node(), reporting(slices), slices, [after])
    message = "generation 1; generation 2 has not reached this node yet"
    assert listed(listing) == [("10.1.0.0/16", "a", "InPlace", message)]


def test_a_retained_route_has_a_message_unless_a_staticroute_has_it() -> None:
    before = static_route("a", "10.1.0.0/16", subnets=["10.2.0.0/16"], generation=1)
    after = static_route("a", "10.3.0.0/16", generation=2)
    other = static_route("b", "10.2.0.0/16", created="2026-02-01T00:00:00Z")
    (present,) = make_slices([after, other])
    retained = replace(DesiredEntry.parse(before).entry, retained=True)
    with_retained = replace(present.content, retained=(retained,))
    slices = [RouteSlice.parse(slice_manifest(0, with_retained))]
    listing = list_routes(node(), reporting(slices), slices, [after, other])
    message = "of generation 1, retained until the nodes have the route from another StaticRoute"
    assert listed(listing) == [
        ("10.1.0.0/16", "a", "InPlace", message),
        ("10.2.0.0/16", "b", "InPlace", ""),
        ("10.3.0.0/16", "a", "InPlace", ""),
    ]


def test_a_missing_slice_is_noted() -> None:
    slices = make_slices([static_route("a", "10.1.0.0/16")])
    (name,) = (each.name for each in slices)
    listing = list_routes(node(), reporting(slices), [], [])
    assert listing.routes == ()
    assert [name in note and "missing" in note for note in listing.notes] == [True]
