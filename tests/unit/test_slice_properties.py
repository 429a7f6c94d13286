"""In any order of changes, writes and deliveries, no node loses a route that stays, and all end with the right ones."""

from datetime import timedelta
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from overlay_net.domain.routes.set_life import GRACE, IDLE_TIME
from overlay_net.domain.routes.slice_plan import AGAIN
from tests.examples import examples
from tests.unit.slice_observer import ZONE, Observer, run, started

NAMES = st.sampled_from(["r1", "r2", "r3", "r4"])
SUBNETS = st.lists(st.sampled_from([f"10.{number}.0.0/16" for number in range(6)]), min_size=1, max_size=3, unique=True)
SELECTORS = st.sampled_from(
    [
        {},
        {"nodeSelector": {"matchLabels": {"pool": "a"}}},
        {"nodeSelector": {"matchLabels": {"pool": "b"}}},
        {"labels": {ZONE: "z1"}},
        {"rollout": {"maxUnavailable": 1}},
        {"rollout": {"maxUnavailable": 1}, "nodeSelector": {"matchLabels": {"pool": "a"}}},
    ]
)
GATEWAYS = st.sampled_from(["192.168.100.1", "192.168.100.2", "not an address"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("change"), NAMES, SUBNETS, SELECTORS, GATEWAYS),
        st.tuples(st.just("delete"), NAMES),
        st.tuples(st.just("recreate"), NAMES, SUBNETS, SELECTORS, GATEWAYS),
        st.tuples(st.just("refuse"), NAMES, st.booleans()),
        st.tuples(st.just("label"), st.integers(0, 2), st.sampled_from("ab"), st.sampled_from(["z1", "z2"])),
        st.tuples(st.just("join"), st.booleans(), st.sampled_from("ab")),
        st.tuples(st.just("lose slice"), st.integers(0, 5)),
        st.tuples(st.just("plan"), st.integers(0, 3), st.booleans()),
        st.tuples(st.just("plan"), st.just(1000), st.just(False)),
        st.tuples(st.just("synchronize")),
        st.tuples(st.just("reconcile"), st.integers(0, 2)),
        st.tuples(st.just("deliver"), st.integers(0, 2)),
        st.tuples(st.just("list"), st.integers(0, 2)),
        st.tuples(st.just("receive"), st.integers(0, 2)),
        st.tuples(st.just("report"), st.integers(0, 2)),
        st.tuples(st.just("admit"), st.integers(0, 2)),
        st.tuples(st.just("restart agent"), st.integers(0, 2)),
        st.tuples(st.just("everything"), st.integers(0, 2)),
        st.tuples(st.just("wait")),
    ),
    max_size=60,
)


def check_settled(observer: Observer) -> None:
    """Deliver everything: nothing is waited for then, and every node has what the StaticRoutes say."""
    made = observer.made
    made.settle()
    observer.check_end()
    planned = made.plan()
    assert not planned.steps, "nothing is left to write"
    assert planned.again_after is None or planned.again_after > timedelta(seconds=AGAIN), "no agent is waited for"
    assert not any(each.content.retained for each in made.api.slices.values())


@settings(deadline=None, max_examples=examples(300))
@given(STEPS)
@example(
    [
        ("change", "r1", ["10.0.0.0/16", "10.2.0.0/16"], {"rollout": {"maxUnavailable": 1}}, "192.168.100.1"),
        ("label", 0, "b", "z1"),
        ("everything", 0),
    ]
)
def test_no_route_that_stays_is_ever_absent_and_every_node_ends_with_the_right_ones(steps: list[Any]) -> None:
    made, observer = started()
    for step in steps:
        run(observer, step)
    check_settled(observer)
    for name in sorted(made.refused):
        made.refuse(name, False)
    observer.changed()
    check_settled(observer)
    for seconds in (IDLE_TIME, GRACE, GRACE):
        made.clock += seconds
        made.settle(2)
    observer.check_end()
    assert not made.plan().steps
    named = {each.name for found in made.overlays.values() for each in found.route_sets or ()}
    exist = {each.route_set for each in made.api.slices.values()}
    needed = {each.content.route_set for each in made.api.slices.values() if each.content.entries}
    assert named <= exist == needed, "no set is left that is not needed"
