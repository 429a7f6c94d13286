"""Routes that pass from one StaticRoute to another are retained where they were until the nodes have the others."""

from typing import Any

from overlay_net.domain.routes.removal_check import LONGEST_WAIT
from overlay_net.model.route_slice import RouteSlice
from tests.unit.slice_cluster import Cluster

ZONE = {"labels": {"topology.kubernetes.io/zone": "dal10"}}
ROLLOUT = {"rollout": {"maxUnavailable": 1}}
A, B = "10.0.0.0/24", "10.0.1.0/24"
GATEWAY, OTHER = "192.168.100.1", "192.168.100.2"


def started(**options: Any) -> Cluster:
    """Two nodes of the zone with a StaticRoute ``from`` that has A and B."""
    made = Cluster()
    made.create("from", A, B, gateway=GATEWAY, **options)
    for name in ("n1", "n2"):
        made.join(name)
    made.settle(3)
    return made


def retained(made: Cluster) -> list[tuple[str, str]]:
    """Each retained route, with its StaticRoute."""
    found = (each for _, present in sorted(made.api.slices.items()) for each in present.content.retained)
    return [(each.name, str(subnet)) for each in found for subnet in each.subnets]


def routes(made: Cluster, name: str) -> dict[str, tuple[str, str]]:
    """The StaticRoute and the gateway of each route of a node."""
    found = made.agents[name].routes.values()
    return {str(each.subnet): (each.static_route, str(each.spec.gateways[0].address)) for each in found}


def write_all(made: Cluster) -> None:
    made.synchronize()
    made.plan()
    made.synchronize()
    made.plan(0)


def test_a_subnet_that_another_staticroute_takes_over_is_retained_until_every_node_has_observed_that() -> None:
    made = started()
    made.create("to", A, gateway=OTHER, **ZONE)
    made.edit("from", B, gateway=OTHER)
    made.complete("n1")
    assert routes(made, "n1") == {A: ("to", OTHER), B: ("from", OTHER)}, "the rest of the change is not delayed"
    assert retained(made) == [("from", A)], "n2 does not have the other one yet"
    made.agents["n2"].list_slices()
    assert routes(made, "n2") == {A: ("from", GATEWAY), B: ("from", OTHER)}, "it stays as it was"
    made.complete("n2")
    made.plan()
    assert retained(made) == []


def test_of_a_deleted_staticroute_only_what_another_one_takes_over_is_retained() -> None:
    made = started()
    made.create("to", A, gateway=OTHER, **ZONE)
    made.delete("from")
    made.complete("n1")
    made.agents["n2"].list_slices()
    assert routes(made, "n2") == {A: ("from", GATEWAY)}
    made.complete("n2")
    made.plan()
    assert retained(made) == []
    assert routes(made, "n2") == {A: ("to", OTHER)}


def test_of_a_refused_staticroute_what_another_one_takes_over_is_retained() -> None:
    made = started()
    made.refuse("from")
    made.create("to", A, gateway=OTHER, **ZONE)
    made.edit("from", B, gateway=GATEWAY)
    made.complete("n1")
    made.agents["n2"].list_slices()
    assert routes(made, "n2") == {A: ("from", GATEWAY), B: ("from", GATEWAY)}
    made.settle(2)
    assert routes(made, "n2") == {A: ("to", OTHER), B: ("from", GATEWAY)}
    assert retained(made) == []


def test_staticroutes_that_exchange_subnets_and_selectors_do_not_wait_for_each_other() -> None:
    made = started()
    made.create("zone", "10.0.2.0/24", gateway=GATEWAY, **ZONE)
    made.settle(3)
    made.edit("from", "10.0.2.0/24", gateway=OTHER, **ZONE)
    made.edit("zone", A, B, gateway=OTHER)
    clock = made.clock
    made.settle(2)
    assert made.clock == clock
    assert routes(made, "n1") == {A: ("zone", OTHER), B: ("zone", OTHER), "10.0.2.0/24": ("from", OTHER)}
    assert retained(made) == []


def test_a_node_that_joins_later_does_not_get_what_is_retained() -> None:
    made = started()
    made.create("to", A, gateway=OTHER, **ZONE)
    made.edit("from", B, gateway=GATEWAY)
    write_all(made)
    made.label("n2", **{"topology.kubernetes.io/zone": "dal12"})
    made.clock += 5
    made.join("n3", **{"topology.kubernetes.io/zone": "dal12"})
    made.complete("n3")
    assert retained(made) == [("from", A)]
    assert routes(made, "n3") == {B: ("from", GATEWAY)}


def test_an_agent_that_does_not_report_is_waited_for_a_minute_but_not_one_whose_object_is_not_written() -> None:
    made = started()
    made.create("to", A, gateway=OTHER, **ZONE)
    made.edit("from", B, gateway=GATEWAY)
    made.complete("n1")
    for _ in range(2):
        made.clock += LONGEST_WAIT
        made.plan()
    assert retained(made) == [("from", A)], "the object of n2 does not name the new set"
    made.reconcile("n2")
    made.plan()
    assert retained(made) == []


def test_a_route_stays_on_nodes_that_a_rollout_holds_back_however_long_it_takes() -> None:
    made = started()
    made.create("to", A, gateway=OTHER, **ROLLOUT)
    made.delete("from")
    made.admit("n1")
    for _ in range(3):
        for name in ("n1", "n2"):
            made.complete(name)
        made.clock += 2 * LONGEST_WAIT
    assert routes(made, "n1") == {A: ("to", OTHER)}
    assert routes(made, "n2") == {A: ("from", GATEWAY)}
    made.settle(2)
    assert routes(made, "n2") == {A: ("to", OTHER)}
    assert retained(made) == []


def test_what_a_revision_with_a_rollout_loses_is_retained_on_the_nodes_that_have_the_next_one() -> None:
    made = started(**ROLLOUT)
    made.create("to", A, gateway=OTHER, **ROLLOUT)
    made.edit("from", B, gateway=OTHER, **ROLLOUT)
    from_route = made.static_routes["from"]
    for _ in range(2):
        write_all(made)
        made.admitted.setdefault(from_route.revision, set()).add("n1")
        made.complete("n1")
    assert routes(made, "n1") == {A: ("from", GATEWAY), B: ("from", OTHER)}
    made.settle(4)
    assert routes(made, "n1") == {A: ("to", OTHER), B: ("from", OTHER)}
    assert retained(made) == []


def test_an_edit_that_moves_a_staticroute_is_written_only_after_the_old_slice_retains_what_it_loses() -> None:
    made = started()
    made.create("to", A, gateway=OTHER, **ROLLOUT)
    made.edit("from", B, gateway=OTHER, **ZONE)
    made.synchronize()
    made.plan()
    assert retained(made) == [("from", A)]
    assert generations(made, "from") == [1]
    write_all(made)
    assert generations(made, "from") == [1, 2]
    made.restart()
    made.settle(3)
    assert (retained(made), generations(made, "from")) == ([], [2])


def test_a_subnet_that_comes_back_to_its_staticroute_is_not_retained_any_more() -> None:
    made = started()
    made.create("to", A, gateway=OTHER, **ROLLOUT)
    made.edit("from", B, gateway=GATEWAY)
    write_all(made)
    assert retained(made) == [("from", A)]
    made.edit("from", A, B, gateway=GATEWAY)
    write_all(made)
    assert retained(made) == []


def test_a_controller_that_is_restarted_goes_on_retaining_and_writes_nothing_twice() -> None:
    made = started()
    made.create("to", A, gateway=OTHER, **ROLLOUT)
    made.edit("from", B, gateway=GATEWAY)
    write_all(made)
    made.clock += 7
    made.restart()
    made.writes.clear()
    write_all(made)
    assert (retained(made), made.writes) == ([("from", A)], [])


def generations(made: Cluster, static_route: str) -> list[int]:
    """The generations of a StaticRoute that slices have."""
    found: list[RouteSlice] = list(made.api.slices.values())
    return sorted(each.generation for present in found for each in present.content.entries if each.name == static_route)
