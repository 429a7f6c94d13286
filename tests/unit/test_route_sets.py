"""The agent of a node whose routes are in slices: what it has, keeps and reports while some slices are unknown."""

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from overlay_net.model.conditions import Condition, find_condition
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route import NextHop, Route
from overlay_net.model.route_slice import slice_checksum
from tests.fakes.route_slices import GATEWAY, FakeSlices, entry, raw_slice
from tests.unit.factories import overlay
from tests.unit.test_node_agent import MARK, OURS, Node, assigned

STATUS = {"ipAddr": str(OURS), "gateway": GATEWAY}
A, B = "10.1.0.0/16", "10.2.0.0/16"


def naming(*sets: str, version: str = "7", **spec: Any) -> NodeOverlay:
    named = [{"name": name, "since": "2026-01-01T00:00:00Z"} for name in sets]
    return replace(overlay(spec={"routeSets": named, **spec}, status=STATUS), resource_version=version)


def legacy(*subnets: str, **spec: Any) -> list[dict[str, Any]]:
    return [
        {"subnet": each, "staticRoute": f"r-{each}", "gateways": [{"address": GATEWAY}], **spec} for each in subnets
    ]


class Sliced(Node):
    """A node with slices; ``show`` is its object as the agent's last report has left it."""

    def __init__(self, *slices: dict[str, Any], kept: NodeOverlay | None = None) -> None:
        self.slices = FakeSlices(*slices)
        super().__init__(kept, slices=self.slices)

    async def show(self, found: NodeOverlay) -> None:
        self.answer(replace(found, report=self.reports[-1]) if self.reports else found)
        await self.reconcile()

    @property
    def routes(self) -> set[str]:
        return {str(route.subnet) for route in self.kernel.fake.routes if route.protocol == MARK.protocol} - {
            str(OURS.network)
        }

    @property
    def report(self) -> Report:
        return self.reports[-1]

    def condition(self, type_: str = "RouteSetsKnown") -> Condition | None:
        return find_condition(self.report.conditions, type_)

    def has_route(self, subnet: str) -> None:
        """Put a route of an earlier run of the agent into the kernel."""
        self.kernel.fake.routes = [
            *self.kernel.fake.routes,
            Route(ip_network(subnet), (NextHop(None, 2),), MARK.protocol),
        ]


async def test_routes_of_all_sets_are_merged_and_the_report_names_the_slices() -> None:
    node = Sliced(
        raw_slice("rs-1", 0, entry("old", A), generation=4, slices=(0, 2)),
        raw_slice("rs-1", 2, entry("z", "10.9.0.0/16"), generation=9),
        raw_slice("rs-1", 3, entry("unlisted", "10.8.0.0/16")),
        raw_slice("rs-2", 0, entry("young", A, B)),
        raw_slice("rs-3", 0, entry("not-named", "10.7.0.0/16")),
    )
    await node.show(naming("rs-1", "rs-2"))
    assert node.routes == {A, B, "10.9.0.0/16"}
    assert node.report.observed_slices == {"rs-1-0": 4, "rs-1-2": 9, "rs-2-0": 1}
    assert (len(node.reports), node.condition()) == (1, None)
    assert owners(node) == {A: "old", B: "young", "10.9.0.0/16": "z"}, "the oldest StaticRoute wins"


async def test_a_change_of_a_slice_causes_one_report() -> None:
    node = Sliced(raw_slice("rs-1", 0, entry("r1", A)))
    await node.show(naming("rs-1"))
    node.slices.put(raw_slice("rs-1", 0, entry("r1", B), generation=2))
    await node.reconcile()
    assert (node.routes, len(node.reports)) == ({B}, 2)
    assert node.report.observed_slices == {"rs-1-0": 2}
    await node.show(naming("rs-1", version="8"))
    assert len(node.reports) == 2


async def test_routes_without_a_gateway_use_that_of_the_overlay_unless_the_node_has_routes_only() -> None:
    node = Sliced(raw_slice("rs-1", 0, entry("r1", A, gateways=[])))
    await node.show(naming("rs-1"))
    assert node.disk.checkpoint is not None
    assert [str(hop.address) for hop in node.disk.checkpoint.overlay.routes[0].spec.gateways] == [GATEWAY]
    await node.show(naming("rs-1", routesOnly=True, version="8"))
    assert node.disk.checkpoint.overlay.routes[0].spec.gateways == ()


@pytest.mark.parametrize("absent", [0, 1])
async def test_a_deleted_slice_removes_nothing_and_is_named_until_it_is_back(absent: int) -> None:
    slices = (
        raw_slice("rs-1", 0, entry("r1", A), slices=(0, 1)),
        raw_slice("rs-1", 1, entry("r2", B)),
    )
    node = Sliced(*slices)
    await node.show(naming("rs-1"))
    changes = len(node.kernel.changes)
    node.slices.remove("rs-1", absent)
    await node.reconcile()
    assert node.metrics.registry.get_sample_value("overlay_net_routes_unknown") == 1
    assert (node.routes, len(node.kernel.changes)) == ({A, B}, changes)
    for type_ in ("RouteSetsKnown", "Ready"):
        found = node.condition(type_)
        assert found is not None
        assert (found.status, found.reason) == (False, "SliceMissing")
        assert f"OverlayRouteSlice rs-1-{absent} of route set rs-1 does not exist" in found.message
    assert node.report.observed_slices == {"rs-1-0": 1, "rs-1-1": 1}, "of these the node has everything"
    node.slices.put(slices[absent])
    await node.reconcile()
    assert (node.routes, len(node.kernel.changes), node.condition()) == ({A, B}, changes, None)
    assert node.metrics.registry.get_sample_value("overlay_net_routes_unknown") == 0


async def test_what_is_removed_from_a_known_set_stays_while_another_one_is_unknown() -> None:
    """It may have moved there."""
    node = Sliced(raw_slice("rs-1", 0, entry("r1", A), entry("r2", B)))
    await node.show(naming("rs-1"))
    node.slices.put(raw_slice("rs-1", 0, entry("r2", B, "10.3.0.0/16", generation=2), generation=2))
    await node.show(naming("rs-1", "rs-2", version="8"))
    assert node.routes == {A, B, "10.3.0.0/16"}
    assert node.report.observed_slices == {"rs-1-0": 1}, "the removal is not confirmed"
    node.slices.put(raw_slice("rs-2", 0, entry("other", "10.4.0.0/16")))
    await node.reconcile()
    assert node.routes == {B, "10.3.0.0/16", "10.4.0.0/16"}
    assert node.report.observed_slices == {"rs-1-0": 2, "rs-2-0": 1}


async def test_what_a_later_revision_lacks_stays_while_a_set_is_unknown() -> None:
    """The unknown set may have it from another StaticRoute now."""
    node = Sliced(raw_slice("rs-1", 0, entry("r1", A)), raw_slice("rs-2", 0))
    await node.show(naming("rs-1", "rs-2"))
    node.slices.remove("rs-2", 0)
    node.slices.put(raw_slice("rs-1", 0, entry("r1", B, generation=2), generation=2))
    for _ in range(2):
        await node.reconcile()
        assert node.routes == {A, B}
    node.slices.put(raw_slice("rs-2", 0, generation=2))
    await node.reconcile()
    assert node.routes == {B}


async def test_a_retained_route_applies_to_nodes_that_have_had_the_set_and_gives_way_to_any_staticroute() -> None:
    present = raw_slice("rs-1", 0, entry("r1", B, generation=2))
    present["spec"]["retained"] = [entry("r1", A, closedSince="2026-02-01T00:00:00Z")]
    present["spec"]["checksum"] = slice_checksum(present["spec"])
    node = Sliced(present, raw_slice("rs-2", 0))
    await node.show(naming("rs-1", "rs-2"))
    assert owners(node) == {A: "r1", B: "r1"}
    changes = len(node.kernel.changes)
    node.slices.put(raw_slice("rs-2", 0, entry("young", A, created="2026-03-01T00:00:00Z"), generation=2))
    await node.reconcile()
    assert (owners(node), len(node.kernel.changes)) == ({A: "young", B: "r1"}, changes)
    late = Sliced(present)
    spec = {"routeSets": [{"name": "rs-1", "since": "2026-03-01T00:00:00Z"}]}
    await late.show(overlay(spec=spec, status=STATUS))
    assert late.routes == {B}


def owners(node: Sliced) -> dict[str, str]:
    """The StaticRoute of each route, as the checkpoint has it."""
    assert node.disk.checkpoint is not None
    return {str(route.subnet): route.static_route for route in node.disk.checkpoint.overlay.routes}


async def test_a_new_set_that_is_unknown_delays_no_other_set() -> None:
    node = Sliced(raw_slice("rs-1", 0, entry("r1", A)))
    await node.show(naming("rs-1", "rs-2"))
    node.slices.put(raw_slice("rs-1", 0, entry("r1", A, B), generation=2))
    await node.reconcile()
    assert node.routes == {A, B}


async def test_a_moved_static_route_is_never_absent_also_if_its_new_set_is_read_late() -> None:
    node = Sliced(raw_slice("ro-1", 0, entry("r1", A)))
    await node.show(naming("ro-1"))
    changes = len(node.kernel.changes)
    await node.show(naming("ro-2", version="8"))
    node.slices.remove("ro-1", 0)
    await node.reconcile()
    node.slices.put(raw_slice("ro-2", 0, entry("r1", A, generation=2)))
    await node.reconcile()
    assert (node.routes, len(node.kernel.changes)) == ({A}, changes)
    assert node.report.observed_slices == {"ro-2-0": 1}


async def test_a_set_that_is_no_longer_named_is_withdrawn() -> None:
    node = Sliced(raw_slice("rs-1", 0, entry("r1", A)), raw_slice("rs-2", 0, entry("r2", B)))
    await node.show(naming("rs-1", "rs-2"))
    await node.show(naming("rs-2", version="8"))
    assert node.routes == {B}
    await node.show(naming(version="9"))
    assert (node.routes, node.report.observed_slices, node.condition()) == (set(), {}, None)
    assert node.slices.selected == frozenset()


async def test_a_refused_static_route_applies_only_to_nodes_that_have_had_the_set() -> None:
    refused = entry("r1", A, closedSince="2026-02-01T00:00:00Z")
    node = Sliced(raw_slice("rs-1", 0, refused))
    await node.show(naming("rs-1"))
    assert node.routes == {A}
    late = Sliced(raw_slice("rs-1", 0, refused))
    spec = {"routeSets": [{"name": "rs-1", "since": "2026-03-01T00:00:00Z"}]}
    await late.show(overlay(spec=spec, status=STATUS))
    assert late.routes == set()


# --- When the agent starts --------------------------------------------------------------------------------------------


async def test_slices_that_are_about_to_be_read_are_waited_for_without_a_report() -> None:
    node = Sliced()
    node.has_route(A)
    node.slices.unread, node.slices.is_awaited = frozenset({"rs-1"}), True
    node.answer(naming("rs-1"))
    assert await node.reconcile() == 1
    assert (node.kernel.changes, node.reports, node.disk.checkpoint) == ([], [], None)
    node.slices.unread, node.slices.is_awaited = frozenset(), False
    node.slices.put(raw_slice("rs-1", 0, entry("r1", A), entry("r2", B)))
    await node.reconcile()
    assert (node.routes, len(node.reports)) == ({A, B}, 1)


async def test_unreadable_slices_remove_no_route_of_an_earlier_run_without_a_checkpoint() -> None:
    node = Sliced(raw_slice("rs-1", 0, entry("r1", B)))
    node.has_route(A)
    node.slices.unread, node.slices.problem = frozenset({"rs-2"}), "403 Forbidden: may not list"
    await node.show(naming("rs-1", "rs-2"))
    assert node.routes == {A, B}
    assert node.addresses == {OURS}
    found = node.condition()
    assert found is not None
    assert (found.status, found.reason) == (False, "SlicesUnreadable")
    assert "cannot read the OverlayRouteSlices of route set rs-2: 403 Forbidden: may not list" in found.message
    assert node.report.observed_slices == {}
    assert node.disk.checkpoint is None, "it would lack routes that the node has"
    node.slices.unread, node.slices.problem = frozenset(), ""
    node.slices.put(raw_slice("rs-2", 0))
    await node.reconcile()
    assert (node.routes, node.condition()) == ({B}, None)
    assert node.disk.checkpoint is not None


async def test_unreadable_slices_leave_what_the_checkpoint_and_the_kernel_have() -> None:
    node = Sliced(kept=assigned())
    node.has_route(B)
    node.slices.unread = frozenset({"rs-1"})
    await node.show(naming("rs-1"))
    assert node.routes == {A, B}
    assert node.disk.checkpoint is not None
    assert {str(route.subnet) for route in node.disk.checkpoint.overlay.routes} == {A}
    assert node.condition() is not None


async def test_a_watch_that_is_refused_is_reported_and_what_was_read_stays() -> None:
    node = Sliced(raw_slice("rs-1", 0, entry("r1", A)))
    await node.show(naming("rs-1"))
    node.slices.problem = "403 Forbidden: may not watch"
    node.slices.put()
    await node.reconcile()
    found = node.condition()
    assert found is not None
    assert found.message.startswith("cannot read OverlayRouteSlices: 403 Forbidden: may not watch")
    assert (node.routes, node.report.observed_slices) == ({A}, {"rs-1-0": 1})


# --- Upgrade and rollback ---------------------------------------------------------------------------------------------


async def test_no_route_changes_from_spec_routes_to_slices_and_back() -> None:
    node = Sliced()
    earlier = overlay(spec={"routes": legacy(A, B)}, status=STATUS)
    await node.show(earlier)
    assert (node.routes, node.report.observed_slices) == ({A, B}, None)
    changes = len(node.kernel.changes)
    await node.show(naming("rs-1", routes=legacy(A, B), version="8"))
    assert node.condition() is not None
    node.slices.put(raw_slice("rs-1", 0, entry(f"r-{A}", A), entry(f"r-{B}", B)))
    await node.reconcile()
    assert (node.condition(), node.report.observed_slices) == (None, {"rs-1-0": 1})
    await node.show(naming("rs-1", version="9"))
    await node.show(replace(earlier, resource_version="10"))
    assert (node.routes, len(node.kernel.changes), node.report.observed_slices) == ({A, B}, changes, None)


async def test_a_new_agent_keeps_spec_routes_until_it_has_read_the_slices() -> None:
    node = Sliced()
    node.has_route("10.3.0.0/16")
    node.slices.unread = frozenset({"rs-1"})
    await node.show(naming("rs-1", routes=legacy(A)))
    assert node.routes == {A, "10.3.0.0/16"}
    node.slices.unread = frozenset()
    node.slices.put(raw_slice("rs-1", 0, entry(f"r-{A}", A)))
    await node.reconcile()
    assert node.routes == {A}


async def test_an_object_without_routes_and_sets_is_not_one_that_has_none() -> None:
    """The schema of an earlier version removes the field when the object is read."""
    node = Sliced(raw_slice("rs-1", 0, entry("r1", A)))
    await node.show(naming("rs-1"))
    changes = len(node.kernel.changes)
    await node.show(replace(overlay(status=STATUS), resource_version="8"))
    found = node.condition()
    assert found is not None
    assert (found.status, found.reason) == (False, "RouteSetsMissing")
    assert (node.routes, len(node.kernel.changes), node.report.observed_slices) == ({A}, changes, None)


# --- What has not changed ---------------------------------------------------------------------------------------------


async def test_unchanged_routes_are_the_same_values() -> None:
    first = raw_slice("rs-1", 0, entry("r1", A), entry("r2", B))
    node = Sliced(first)
    await node.show(naming("rs-1"))
    route_sets = node.agent._route_sets
    found = naming("rs-1", version="8")
    before = await route_sets.resolve(found)
    assert await route_sets.resolve(found) is before
    node.slices.put(raw_slice("rs-1", 0, entry("r1", A), entry("r2", B), generation=2))
    same = await route_sets.resolve(found)
    assert same.routes is before.routes
    assert same.slices == {"rs-1-0": 2}
    node.slices.put(raw_slice("rs-1", 0, entry("r1", A), entry("r2", "10.3.0.0/16"), generation=3))
    changed = await route_sets.resolve(found)
    assert changed.routes[0] is before.routes[0]
    assert changed.routes[1] != before.routes[1]
