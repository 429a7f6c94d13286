"""The writes of route slices: one for a change of one StaticRoute, and what moves is never in no slice."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from overlay_net.domain.routes.removal_check import LONGEST_WAIT
from overlay_net.domain.routes.set_life import GRACE, IDLE_TIME
from overlay_net.domain.routes.slice_layout import MAX_ROUTES
from overlay_net.domain.routes.slice_plan import AGAIN_IN_ROLLOUT
from overlay_net.model.slice_entry import SliceEntry
from tests.unit.factories import desired_route
from tests.unit.slice_cluster import Cluster


def subnets(first: int, count: int) -> list[str]:
    return [f"10.{number // 256}.{number % 256}.0/24" for number in range(first, first + count)]


def started(count: int = 0, *nodes: str) -> Cluster:
    """A cluster with as many StaticRoutes of one subnet, in place on every node."""
    made = Cluster()
    for number, subnet in enumerate(subnets(0, count)):
        made.create(f"r{number}", subnet)
    for name in nodes or ("n1", "n2"):
        made.join(name)
    made.settle(4)
    made.writes.clear()
    return made


def test_many_staticroutes_fill_few_slices_and_every_node_has_them() -> None:
    made = started(2 * MAX_ROUTES + 44)
    assert sorted(len(each.content.entries) for each in made.api.slices.values()) == [44, MAX_ROUTES, MAX_ROUTES]
    assert all(len(made.entries(name)) == 2 * MAX_ROUTES + 44 for name in made.nodes)
    assert not made.plan().steps


def test_each_change_of_one_staticroute_is_one_write() -> None:
    made = started(300)
    changes: tuple[Callable[[], None], ...] = (
        lambda: made.create("new", "10.200.0.0/24"),
        lambda: made.edit("new", "10.200.0.0/24", gateway="192.168.100.1"),
        lambda: made.edit("new", "10.200.1.0/24", "10.200.2.0/24"),
        lambda: made.refuse("new"),
        lambda: made.refuse("new", False),
        lambda: made.delete("new"),
    )
    for change in changes:
        made.writes.clear()
        change()
        made.settle(2)
        assert len(made.writes) == 1
        assert not made.plan().steps
    assert len(made.entries("n1")) == 300


def test_a_changed_staticroute_stays_in_its_slice_while_it_fits_and_moves_otherwise() -> None:
    made = started(0)
    made.create("big", *subnets(0, 40))
    made.create("small", *subnets(100, 20))
    made.settle(2)
    made.edit("big", *subnets(0, 44))
    made.settle(2)
    assert find_slices(made) == [{"big": 44, "small": 20}]
    made.edit("big", *subnets(0, 45))
    made.settle(3)
    assert find_slices(made) == [{"small": 20}, {"big": 45}]
    assert len(made.entries("n1")["big"].subnets) == 45


def test_a_staticroute_with_more_routes_than_a_slice_has_one_of_its_own() -> None:
    made = started(1)
    made.create("huge", *subnets(1000, 500))
    made.create("next", "10.200.0.0/24")
    made.settle(2)
    assert find_slices(made) == [{"r0": 1, "next": 1}, {"huge": 500}]


def test_a_slice_is_given_up_once_the_routes_fit_into_less_than_half_of_the_slices() -> None:
    made = started(MAX_ROUTES * 4)
    for number in range(MAX_ROUTES * 4):
        if number % 4:
            made.delete(f"r{number}")
    made.settle(1)
    assert [len(each) for each in find_slices(made)] == [32, 16, 16, 16], "first the entries are copied"
    made.settle(6)
    assert [len(each) for each in find_slices(made)] == [48, 16]
    assert len(made.entries("n1")) == MAX_ROUTES
    assert not made.plan().steps


def test_what_moves_is_removed_only_after_every_node_has_observed_its_new_place() -> None:
    made = started(1)
    made.edit("r0", "10.0.0.0/24", nodeSelector={"matchExpressions": [{"key": "pool", "operator": "DoesNotExist"}]})
    for _ in range(3):
        made.plan()
        made.synchronize()
    made.complete("n1")
    assert find_slices(made) == [{"r0": 1}, {"r0": 1}]
    made.complete("n2")
    made.plan()
    assert sorted(map(len, find_slices(made))) == [0, 1]


def test_a_silent_agent_is_not_waited_for_once_its_object_names_the_new_place() -> None:
    made = started(1)
    made.edit("r0", "10.0.0.0/24", nodeSelector={"matchExpressions": [{"key": "pool", "operator": "DoesNotExist"}]})
    made.complete("n1")
    made.silent.add("n2")
    made.plan()
    assert find_slices(made) == [{"r0": 1}, {"r0": 1}]
    made.reconcile("n2")
    made.plan()
    assert sorted(map(len, find_slices(made))) == [0, 1]


def test_an_agent_that_does_not_report_is_waited_for_a_minute() -> None:
    made = started(1)
    made.edit("r0", "10.0.0.0/24", nodeSelector={"matchExpressions": [{"key": "pool", "operator": "DoesNotExist"}]})
    made.complete("n1")
    made.reconcile("n2")
    made.clock += LONGEST_WAIT - 1
    assert made.plan().again_after is not None
    assert find_slices(made) == [{"r0": 1}, {"r0": 1}]
    made.clock += 1
    made.plan()
    assert sorted(map(len, find_slices(made))) == [0, 1]


def test_a_slice_that_is_edited_or_deleted_by_hand_is_restored() -> None:
    made = started(300)
    before = [entries.keys() for entries in find_entries(made)]
    for name, present in sorted(made.api.slices.items()):
        for damaged in (
            None,
            replace(present.content, entries=()),
            replace(present.content, entries=present.content.entries * 2),
            replace(present.content, slices=(0, 7)),
            replace(present.content, route_set="rs-other"),
            replace(present.content, selector="x"),
        ):
            made.damage(name, damaged)
            made.agents["n1"].list_slices()
            assert len(made.entries("n1")) == 300, "no agent follows what a person has done"
            made.settle(1)
            assert [entries.keys() for entries in find_entries(made)] == before
            assert len(made.entries("n1")) == 300
    made.damage(name, present.content, label="rs-other")
    made.settle(1)
    assert made.api.slices[name].label == present.route_set
    assert not made.plan().steps


def test_a_slice_that_is_not_named_after_its_set_is_ignored_and_deleted() -> None:
    made = started(1)
    (present,) = made.api.slices.values()
    for name in (f"{present.route_set}-00", f"{present.route_set}-x", "other"):
        made.damage(name, replace(present.content, entries=()))
        assert made.api.slices[name].index == -1
        for each in made.agents.values():
            each.list_slices()
        assert len(made.entries("n1")) == 1
        made.settle(1)
        assert made.api.slices.keys() == {present.name}


def test_an_entry_stays_until_its_new_place_is_written_and_every_node_names_it_however_long_it_takes() -> None:
    made = started(2)
    (old,) = made.api.slices
    made.edit("r0", "10.0.0.0/24", nodeSelector={"matchExpressions": [{"key": "pool", "operator": "DoesNotExist"}]})
    for _ in range(2):
        # The API server refuses the new slice, or the controller is slow.
        made.plan(writes=0)
        made.clock += LONGEST_WAIT
    made.plan()
    made.synchronize()
    assert {each.name for each in made.api.slices[old].content.entries} == {"r0", "r1"}
    made.plan(writes=0)
    made.reconcile("n1")
    for _ in range(2):
        made.clock += LONGEST_WAIT
        made.plan()
    assert {each.name for each in made.api.slices[old].content.entries} == {"r0", "r1"}, "n2 has not the new set yet"
    made.reconcile("n2")
    made.plan()
    assert {each.name for each in made.api.slices[old].content.entries} == {"r1"}


def test_entries_that_were_restored_are_not_taken_for_those_that_agents_have_observed() -> None:
    made = started(2)
    (name,) = made.api.slices
    before, _ = made.api.slices[name].content.entries
    made.damage(name, replace(made.api.slices[name].content, entries=()))
    made.settle(1)
    restored, _ = made.api.slices[name].content.entries
    assert restored.slice_generation > before.slice_generation


def test_a_slice_that_was_deleted_or_restored_from_a_backup_gets_no_generation_that_agents_have_observed() -> None:
    made = started(2)
    (name,) = made.api.slices
    backup = made.api.slices[name]
    for number in range(5):
        made.edit("r0", f"10.9.{number}.0/24")
        made.settle(1)
    made.delete("r1")
    made.synchronize()
    made.plan()
    observed = made.agents["n1"].merged.slices[name]
    for content in (None, backup.content):
        made.damage(name, content)
        for _ in range(2):
            made.synchronize()
            made.plan()
        restored = made.api.slices[name].content
        assert all(each.slice_generation > observed for each in restored.entries)
        assert all(each.slice_generation > observed for each in restored.withdrawn)


def test_a_slice_that_is_created_again_by_a_new_leader_gets_a_later_generation() -> None:
    made = started(2)
    (name,) = made.api.slices
    before = made.api.slices[name].generation
    made.damage(name, None)
    made.clock += 60
    made.restart()
    made.settle(1)
    assert made.api.slices[name].generation > before


def test_slices_that_change_often_while_the_clock_goes_back_have_rising_generations() -> None:
    made = started(1)
    (name,) = made.api.slices
    for number in range(3):
        made.clock -= 100
        before = made.api.slices[name].generation
        made.edit("r0", f"10.9.{number}.0/24")
        made.settle(1)
        assert made.api.slices[name].generation == before + 1


def test_an_empty_set_is_kept_for_some_minutes_and_deleted_once_no_node_names_it() -> None:
    made = started(1)
    (name,) = made.api.slices
    made.delete("r0")
    made.settle(2)
    made.clock += IDLE_TIME - 1
    made.settle(1)
    assert made.users.count(made.api.slices[name].route_set) == 2
    made.create("again", "10.0.0.0/24")
    made.writes.clear()
    made.settle(1)
    assert [write.name for write in made.writes] == [name], "no node needs a write"
    made.delete("again")
    made.settle(1)
    made.clock += IDLE_TIME
    made.plan()
    made.clock += 2 * GRACE
    made.plan()
    assert name in made.api.slices, "nodes still name it"
    assert made.plan().again_after is not None
    made.settle(1)
    made.plan()
    made.clock += GRACE - 1
    made.plan()
    assert name in made.api.slices, "the time begins when it is first observed that no node names it"
    made.clock += 1
    made.plan()
    assert name not in made.api.slices


def test_a_removed_staticroute_is_listed_as_withdrawn_until_it_is_back() -> None:
    made = started(2)
    made.delete("r0")
    made.settle(1)
    (present,) = made.api.slices.values()
    gone = [(each.static_route, each.slice_generation) for each in present.content.withdrawn]
    assert gone == [("r0", present.generation)]
    made.create("r0", "10.0.0.0/24")
    made.settle(1)
    (present,) = made.api.slices.values()
    assert not present.content.withdrawn


def test_a_removed_staticroute_is_listed_as_withdrawn_until_every_node_has_observed_it() -> None:
    made = started(3)
    for number in range(2):
        made.delete(f"r{number}")
        made.plan()
        made.synchronize()
        made.plan(0)
        made.complete("n1")
    (present,) = made.api.slices.values()
    assert len(present.content.withdrawn) == 2, "n2 has not observed any of it"
    made.complete("n2")
    made.create("new", "10.200.0.0/24")
    made.settle(1)
    (present,) = made.api.slices.values()
    assert not present.content.withdrawn


def test_a_refused_staticroute_stays_on_nodes_that_have_it_and_is_not_added_to_others() -> None:
    made = started(2)
    made.refuse("r0")
    made.settle(1)
    made.join("n3")
    made.edit("r0", "10.0.0.0/24", "10.9.0.0/24", gateway="192.168.100.9")
    made.settle(1)
    assert [str(each) for each in made.entries("n1")["r0"].subnets] == ["10.0.0.0/24"]
    assert made.entries("n1")["r0"].spec.gateways, "the rest of its specification is the present one"
    assert made.entries("n3").keys() == {"r1"}
    made.restart()
    made.settle(1)
    assert made.entries("n1").keys() == {"r0", "r1"}
    made.refuse("r0", False)
    made.settle(1)
    assert len(made.entries("n3")["r0"].subnets) == 2


def test_a_refused_staticroute_stays_on_the_nodes_that_it_still_selects_and_leaves_if_it_selects_none_of_them() -> None:
    made = started(1)
    made.refuse("r0")
    made.label("n1", pool="a")
    pool = {"nodeSelector": {"matchLabels": {"pool": "a"}}}
    made.edit("r0", "10.0.0.0/24", **pool)
    made.settle(2)
    assert "r0" in made.entries("n1")
    made.label("n1", pool="b")
    made.settle(2)
    assert not made.entries("n1")


def test_a_refused_staticroute_that_was_nowhere_gets_no_entry() -> None:
    made = started(1)
    made.refused.add("new")
    made.create("new", "10.200.0.0/24")
    made.settle(1)
    assert not made.writes


def test_at_an_upgrade_refused_staticroutes_stay_on_the_nodes_that_have_them_and_are_not_added_to_others() -> None:
    made = Cluster()
    for number in range(3):
        made.create(f"r{number}", f"10.0.{number}.0/24", "10.9.0.0/24")
        made.refuse(f"r{number}", number > 0)
    has = {"n0": "", "n1": "r1", "n2": "r1 r2", "n3": "r1 r2", "n4": ""}
    for name, static_routes in has.items():
        made.join(name)
        made.write_routes(
            name, *(desired_route(f"10.0.{each[1]}.0/24", static_route=each) for each in static_routes.split())
        )
    made.settle(3)
    for name, static_routes in has.items():
        found = {each: [str(subnet) for subnet in entry.subnets] for each, entry in made.entries(name).items()}
        assert found.pop("r0") == ["10.0.0.0/24", "10.9.0.0/24"]
        assert found == {each: [f"10.0.{each[1]}.0/24"] for each in static_routes.split()}, "no subnet is added"
    made.join("n5")
    made.settle(2)
    assert made.entries("n5").keys() == {"r0"}
    assert not made.plan().steps


def test_a_node_that_is_held_back_by_a_rollout_keeps_the_earlier_revision_and_a_new_node_gets_the_present_one() -> None:
    made = started(1)
    made.edit("r0", "10.0.0.0/24", "10.0.1.0/24", rollout={"maxUnavailable": 1})
    made.admit("n1")
    for name in ("n1", "n2"):
        made.complete(name)
    assert [len(made.entries(name)["r0"].subnets) for name in ("n1", "n2")] == [2, 1]
    made.join("n3", "2027-01-01T00:00:00Z")
    made.clock += 2 * LONGEST_WAIT
    for name in ("n1", "n2", "n3"):
        made.complete(name)
    assert made.plan().again_after == timedelta(seconds=AGAIN_IN_ROLLOUT)
    assert [len(made.entries(name)["r0"].subnets) for name in ("n1", "n2", "n3")] == [2, 1, 2]
    made.restart()
    made.settle(3)
    assert [len(made.entries(name)["r0"].subnets) for name in ("n1", "n2", "n3")] == [2, 2, 2]
    made.plan()
    assert sorted(map(len, find_slices(made))) == [0, 1]


def test_each_revision_of_a_rollout_is_a_set_that_is_deleted_once_no_node_names_it() -> None:
    made = started(0)
    made.create("r", "10.0.0.0/24", rollout={"maxUnavailable": 1})
    made.settle(2)
    for number in range(3):
        made.edit("r", f"10.0.{number}.0/24", rollout={"maxUnavailable": 1})
        made.plan()
        assert made.plan().again_after is not None, "nodes still name the set of the earlier revision"
        made.settle(2)
    made.plan()
    assert len(made.api.slices) == 4
    made.clock += GRACE
    made.plan()
    assert len(made.api.slices) == 1


def test_a_controller_that_stops_after_any_write_is_continued_by_the_next_one() -> None:
    made = started(0)
    for number in range(3):
        made.create(f"r{number}", *subnets(number * 100, 100))
    for _ in range(10):
        made.synchronize()
        made.plan(1)
        made.restart()
    made.settle(2)
    assert find_slices(made) == [{"r0": 100}, {"r1": 100}, {"r2": 100}]
    assert len(made.writes) == 3, "nothing is written twice"


def find_entries(made: Cluster) -> list[dict[str, SliceEntry]]:
    return [{entry.name: entry for entry in each.content.entries} for _, each in sorted(made.api.slices.items())]


def find_slices(made: Cluster) -> list[dict[str, int]]:
    """The number of routes of each StaticRoute in each slice."""
    return [{name: len(entry.subnets) for name, entry in each.items()} for each in find_entries(made)]
