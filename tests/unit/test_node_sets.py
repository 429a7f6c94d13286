"""Which route sets a node names: by its labels, by its turn in a rollout, and what it keeps until then."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from overlay_net.domain.routes.node_sets import NodeSets, find_fitting, find_route_sets
from overlay_net.domain.routes.route_sets import rollout_set_name, shared_set_name
from overlay_net.domain.routes.set_states import Place, RouteSets, SharedSet, StagedRoute
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.static_route import StaticRoute
from tests.unit.factories import node, overlay, static_route

NOW = datetime(2026, 6, 1, tzinfo=UTC)
EVERYWHERE = static_route("r1")
IN_DAL10 = static_route("r2", labels={"topology.kubernetes.io/zone": "dal10"})
IN_DAL12 = static_route("r3", labels={"topology.kubernetes.io/zone": "dal12"})
BEFORE = "2025-01-01T00:00:00Z"
AFTER = "2027-01-01T00:00:00Z"


def shared(*routes: StaticRoute, **facts: Any) -> Mapping[str, SharedSet]:
    return {shared_set_name(each): SharedSet(each, **{"open": True, "known": True, **facts}) for each in routes}


def staged(route: StaticRoute, **facts: Any) -> Mapping[str, StagedRoute]:
    name = rollout_set_name(route) if route.rollout else shared_set_name(route)
    place = Place(name, f"{name}-0", 5)
    return {
        route.name: StagedRoute(route, route.revision, **{"refused": False, "place": place, "known": True, **facts})
    }


def with_rollout(generation: int, **options: Any) -> StaticRoute:
    return static_route("r1", generation=generation, rollout={"maxUnavailable": 1}, **options)


def rollout_sets(*routes: StaticRoute, **facts: Any) -> RouteSets:
    """The staged sets of the last of ``routes``; the others are its earlier revisions."""
    rollouts = {rollout_set_name(each): each.name for each in routes if each.rollout}
    return RouteSets(staged=staged(routes[-1], **facts), rollouts=rollouts, settled=True)


def naming(*names: str, observed: dict[str, int] | None = None, since: str = BEFORE, **options: Any) -> NodeOverlay:
    status = {"observedGeneration": 1, "observedSlices": observed or {}}
    spec = {"routeSets": [{"name": each, "since": since} for each in names]}
    return overlay(spec=spec, status=status, **options)


def found(
    present: NodeOverlay | None, sets: RouteSets, *admitted: StaticRoute, zone: str = "dal10"
) -> list[str] | None:
    result = plan(present, sets, *admitted, zone=zone)
    return None if result.named is None else [each.name for each in result.named]


def plan(present: NodeOverlay | None, sets: RouteSets, *admitted: StaticRoute, zone: str = "dal10") -> NodeSets:
    chosen = node(zone=zone)
    turns = {route.revision: ["n1"] for route in admitted}
    return find_route_sets(chosen, present, find_fitting(chosen, sets), sets, turns, NOW)


def test_a_node_names_the_sets_that_fit_its_zone_and_labels() -> None:
    sets = RouteSets(shared(EVERYWHERE, IN_DAL10, IN_DAL12), settled=True)
    both = sorted([shared_set_name(EVERYWHERE), shared_set_name(IN_DAL10)])
    assert found(overlay(), sets) == both
    assert found(naming(*both), sets, zone="dal12") == sorted([shared_set_name(EVERYWHERE), shared_set_name(IN_DAL12)])


def test_a_set_that_a_node_has_keeps_its_time_and_a_new_one_is_later_than_what_is_refused_in_it() -> None:
    name = shared_set_name(EVERYWHERE)
    sets = RouteSets(shared(EVERYWHERE, closed={"r1": NOW}), settled=True)
    (kept,) = plan(naming(name), sets).named or ()
    assert kept.since == datetime(2025, 1, 1, tzinfo=UTC)
    (begun,) = plan(naming(), sets).named or ()
    assert begun.since is not None and begun.since > NOW


def test_a_node_without_sets_waits_until_the_cache_has_every_set_that_fits_it() -> None:
    ready, missing = shared(EVERYWHERE), shared(IN_DAL10, known=False)
    assert plan(overlay(), RouteSets({**ready, **missing}, settled=True)) == NodeSets(None, complete=False)
    assert plan(overlay(), RouteSets(ready, settled=False)) == NodeSets(None, complete=False)
    assert plan(overlay(), RouteSets()).named is None, "no slice has been planned yet"
    assert found(overlay(), RouteSets({**ready, **shared(IN_DAL12, known=False)}, settled=True)) == [*ready]


def test_a_set_that_does_not_fit_any_more_is_dropped_once_the_slices_have_all_routes() -> None:
    name = shared_set_name(IN_DAL12)
    result = plan(naming(name), RouteSets(shared(EVERYWHERE, IN_DAL12), settled=False))
    assert [each.name for each in result.named or ()] == [name]
    assert not result.complete
    assert found(naming(name), RouteSets(shared(IN_DAL12), settled=True)) == []


def test_a_set_without_staticroutes_is_kept_by_nodes_that_have_it_and_begun_by_no_other() -> None:
    name = shared_set_name(EVERYWHERE)
    sets = RouteSets(shared(EVERYWHERE, open=False), settled=True)
    assert found(naming(name), sets) == [name]
    assert found(naming(), sets) == []
    unknown = RouteSets({name: SharedSet(None, open=False, known=True)}, settled=True)
    assert found(naming(name), unknown) == [name], "whom a set is for is unknown after a restart"
    assert found(naming(name), RouteSets(settled=True)) == []


def test_a_revision_with_a_rollout_is_named_at_the_turn_of_the_node_and_the_earlier_one_kept_until_it_is_observed() -> (
    None
):
    old, new = with_rollout(1), with_rollout(2)
    before, after = rollout_set_name(old), rollout_set_name(new)
    sets = rollout_sets(old, new)
    assert found(naming(before), sets) == [before]
    assert found(naming(before), sets, new) == [before, after]
    assert found(naming(before, after, observed={f"{after}-0": 4}), sets) == [before, after]
    assert found(naming(before, after, observed={f"{after}-0": 5}), sets) == [after]
    assert found(naming(before, after, observed={f"{after}-0": 5}, generation=2), sets) == [before, after]


def test_a_new_revision_is_not_named_before_the_cache_has_its_slices() -> None:
    old, new = with_rollout(1), with_rollout(2)
    assert found(naming(rollout_set_name(old)), rollout_sets(old, new, known=False), new) == [rollout_set_name(old)]


def test_a_node_that_is_not_selected_any_more_drops_every_set_of_the_staticroute_at_once() -> None:
    old, new = with_rollout(1), with_rollout(2, nodeSelector={"matchLabels": {"pool": "edge"}})
    assert found(naming(rollout_set_name(old)), rollout_sets(old, new)) == []


def test_a_refused_staticroute_stays_where_it_is() -> None:
    old, new = with_rollout(1), with_rollout(2)
    sets = rollout_sets(old, new, refused=True)
    assert found(naming(rollout_set_name(old)), sets, new) == [rollout_set_name(old)]
    assert found(naming(), sets, new) == []


def test_a_deleted_staticroute_leaves_no_set() -> None:
    assert found(naming(rollout_set_name(with_rollout(1))), RouteSets(settled=True)) == []


def test_a_node_that_joins_during_a_rollout_gets_the_present_revision_at_once() -> None:
    new = with_rollout(2)
    assert found(naming(created=AFTER), rollout_sets(new)) == [rollout_set_name(new)]
    assert found(naming(created=BEFORE), rollout_sets(new)) == []


def test_a_node_is_held_back_while_a_shared_set_has_the_earlier_revision_for_it() -> None:
    old, new = EVERYWHERE, with_rollout(2)
    name = shared_set_name(old)
    staged_now = rollout_sets(new, previous=frozenset({name}))
    fits = RouteSets(shared(old, open=False), staged_now.staged, staged_now.rollouts, settled=True)
    assert found(naming(name, created=AFTER), fits) == [name]
    gone = RouteSets({}, staged_now.staged, staged_now.rollouts, settled=True)
    assert found(naming(name), gone) == [rollout_set_name(new)], "it cannot keep the earlier revision"


def test_when_the_rollout_of_a_staticroute_ends_its_own_set_stays_until_the_shared_one_is_observed() -> None:
    old, new = with_rollout(1), static_route("r1", generation=2)
    own, name = rollout_set_name(old), shared_set_name(new)
    sets = RouteSets(shared(new), rollout_sets(old, new).staged, {own: "r1"}, settled=True)
    assert found(naming(own), sets) == [own, name]
    assert found(naming(own, name, observed={f"{name}-0": 4}), sets) == [own, name]
    assert found(naming(own, name, observed={f"{name}-0": 5}), sets) == [name]


def written_before(generation: int) -> NodeOverlay:
    """As an earlier version wrote it."""
    spec = {
        "routes": [{"subnet": "192.168.0.0/24", "staticRoute": "r1"}],
        "generations": [{"staticRoute": "r1", "uid": "route-r1", "generation": generation}],
    }
    return overlay(spec=spec)


def test_a_node_in_the_middle_of_a_rollout_at_an_upgrade_keeps_its_routes_until_its_turn() -> None:
    new = with_rollout(2)
    assert plan(written_before(1), rollout_sets(new)) == NodeSets(None)
    assert found(written_before(1), rollout_sets(new), new) == [rollout_set_name(new)]
    assert found(written_before(2), rollout_sets(new)) == [rollout_set_name(new)]


def test_a_node_in_a_refused_rollout_at_an_upgrade_keeps_its_routes() -> None:
    assert plan(written_before(2), rollout_sets(with_rollout(2), refused=True, place=None)) == NodeSets(None)
