"""The status of StaticRoutes that results from the reports of nodes, and conflicts between StaticRoutes."""

from datetime import UTC, datetime
from typing import Any

from overlay_net.domain.routes.node_status import MAX_NODES
from overlay_net.domain.routes.node_table import NodeTable
from overlay_net.domain.routes.status import route_status
from overlay_net.model.route_spec import encode_route
from overlay_net.model.static_route import StaticRoute
from tests.unit.factories import merged, node, overlay, static_route

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def table(
    name: str,
    *routes: StaticRoute,
    observed: int = 1,
    generation: int = 1,
    failures: Any = (),
    failed: int | None = None,
    spec: dict[str, Any] | None = None,
    **reported: Any,
) -> NodeTable:
    """``reported`` are more fields of the status."""
    entries = [encode_route(each) for each in merged(routes)]
    status = {
        "ipAddr": "192.168.100.4/24",
        "gateway": "192.168.100.1",
        "interface": "eth0",
        "interfaceLabel": "tmp0",
        "observedGeneration": observed,
        "routes": list(failures),
        "routesFailed": len(failures) if failed is None else failed,
    }
    desired = {"routes": entries, **(spec or {})}
    return NodeTable.index(node(name), overlay(name, spec=desired, status=status | reported, generation=generation))


def condition(status: dict[str, Any], type_: str) -> tuple[str, str]:
    (found,) = [each for each in status["conditions"] if each["type"] == type_]
    return found["status"], found["reason"]


def test_a_route_in_place_on_all_nodes_is_programmed() -> None:
    route = static_route()
    status = route_status(route, [table("n1", route), table("n2", route)], NOW)
    assert status["nodeStatus"] == [
        {"hostname": name, "gateway": "192.168.100.1", "device": "tmp0", "state": "Ready"} for name in ("n1", "n2")
    ]
    assert (status["desired"], status["ready"], status["failed"]) == (2, 2, 0)
    assert condition(status, "Accepted") == ("True", "Accepted")
    assert condition(status, "Programmed") == ("True", "Programmed")
    again = route_status(static_route(status=status), [table("n1", route), table("n2", route)], NOW.replace(year=2027))
    assert again == status, "an unchanged status stays equal"


def test_a_gateway_outside_the_overlay_uses_the_parent_interface() -> None:
    route = static_route(gateway="10.176.162.129")
    assert route_status(route, [table("n1", route)], NOW)["nodeStatus"][0]["device"] == "eth0"


def test_failing_nodes_are_listed_first_with_their_cause() -> None:
    route = static_route()
    failure = {"subnet": "192.168.0.0/24", "state": "GatewayNotOnLink", "message": "no such subnet"}
    tables = [table("n1", route), table("n2", route, failures=[failure]), table("n3", route, generation=2)]
    status = route_status(route, tables, NOW)
    states = [(each["hostname"], each["state"]) for each in status["nodeStatus"]]
    assert states == [("n2", "Failed"), ("n3", "Pending"), ("n1", "Ready")]
    assert "no such subnet" in status["nodeStatus"][0]["message"]
    assert (status["desired"], status["ready"], status["failed"]) == (3, 1, 1)
    assert condition(status, "Programmed") == ("False", "Failing")


def test_an_unchanged_route_keeps_its_last_state_until_the_agent_has_observed_the_spec() -> None:
    route = static_route()
    known = route_status(route, [table("n1", route)], NOW)
    behind = table("n1", route, generation=2)
    assert route_status(static_route(status=known), [behind], NOW)["ready"] == 1
    moved = static_route(status=known, gateway="192.168.100.254")
    assert route_status(moved, [table("n1", moved, generation=2)], NOW)["ready"] == 0


def test_a_changed_subnet_is_pending_until_the_agent_has_observed_it() -> None:
    known = route_status(static_route(), [table("n1", static_route())], NOW)
    changed = static_route(subnet="10.7.0.0/16", status=known, generation=2)
    status = route_status(changed, [table("n1", changed, generation=2)], NOW)
    assert (status["ready"], condition(status, "Programmed")) == (0, ("False", "Pending"))


def test_a_node_with_more_failures_than_it_can_list_is_not_ready() -> None:
    route = static_route()
    failures = [{"subnet": "10.0.0.0/24", "state": "KernelRefused", "message": "no"}]
    crowded = table("n1", route, failures=failures, failed=2)
    assert route_status(route, [crowded], NOW)["ready"] == 0
    assert route_status(route, [table("n1", route, failures=failures, failed=1)], NOW)["ready"] == 1


def test_nodes_that_the_list_has_no_room_for_stay_ready_while_agents_catch_up() -> None:
    route = static_route()
    names = [f"n{number:04}" for number in range(1200)]
    known = route_status(route, [table(name, route) for name in names], NOW)
    behind = [table(name, route, generation=2) for name in names]
    assert route_status(static_route(status=known), behind, NOW)["ready"] == 1200


def test_a_conflict_is_reported_on_the_younger_object_only() -> None:
    old = static_route("old", gateway="10.0.0.1", created="2025-01-01T00:00:00Z")
    new = static_route("new", gateway="10.0.0.2")
    both = [table("n1", old, new)]
    lost = route_status(new, both, NOW)
    assert condition(lost, "Accepted") == ("False", "Conflict")
    assert "old" in lost["nodeStatus"][0]["message"]
    assert condition(route_status(old, both, NOW), "Programmed") == ("True", "Programmed")


def test_identical_routes_share_an_entry_and_both_are_ready() -> None:
    old, new = static_route("old", created="2025-01-01T00:00:00Z"), static_route("new")
    assert route_status(new, [table("n1", old, new)], NOW)["ready"] == 1


def test_an_invalid_spec_and_a_selector_without_nodes_are_reported() -> None:
    status = route_status(static_route(subnet="10.1.2.3/24"), [], NOW)
    assert condition(status, "Accepted") == ("False", "Invalid")
    assert condition(route_status(static_route(), [], NOW), "Programmed") == ("False", "NoNodes")


def test_the_node_list_is_limited_and_the_counts_cover_all_nodes() -> None:
    route = static_route()
    status = route_status(route, [table(f"n{number:04}", route) for number in range(1200)], NOW)
    assert len(status["nodeStatus"]) == 1000
    assert status["ready"] == 1200


def test_an_unlisted_node_counts_as_ready_only_if_the_list_ends_with_ready_nodes() -> None:
    route = static_route()
    for state, then in (("Pending", "Pending"), ("Ready", "Ready")):
        listed = [{"hostname": f"m{number:04}", "state": state} for number in range(MAX_NODES)]
        status = {"observedGeneration": 1, "nodeStatus": listed}
        found = route_status(static_route(status=status), [table("n1", route, observed=1, generation=2)], NOW)
        assert [each["state"] for each in found["nodeStatus"]] == [then]


def test_ipv6_routes_without_metric_and_with_the_kernels_default_are_the_same_route() -> None:
    older = static_route("older", "2001:db8::/32", gateway="fd00::1")
    younger = static_route("younger", "2001:db8::/32", gateway="fd00::2", metric=1024, created="2026-01-02T00:00:00Z")
    status = route_status(younger, [table("n1", older, younger)], NOW)
    assert condition(status, "Accepted") == ("False", "Conflict")
