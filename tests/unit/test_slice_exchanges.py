"""StaticRoutes that pass subnets to each other, or exchange them, on nodes that have the sets of several of them.

The search is narrower than that of ``test_slice_properties``: few subnets and selectors, and several changes at once.
"""

from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.unit.slice_observer import ZONE, run, started
from tests.unit.test_slice_properties import check_settled

A, B = {"nodeSelector": {"matchLabels": {"pool": "a"}}}, {"nodeSelector": {"matchLabels": {"pool": "b"}}}
Z1 = {"labels": {ZONE: "z1"}}
ROLLOUT = {"rollout": {"maxUnavailable": 1}}
GATEWAY, OTHER = "192.168.100.1", "192.168.100.2"
SETTLED = [("admit", 0), ("admit", 1), *[("everything", 0), ("everything", 1)] * 2]

NAMES = st.sampled_from(["r3", "r4"])
SUBNETS = st.lists(st.sampled_from(["10.3.0.0/16", "10.4.0.0/16", "10.5.0.0/16"]), min_size=1, max_size=2, unique=True)
SELECTORS = st.sampled_from([{}, A, Z1, B, ROLLOUT, A | ROLLOUT, Z1 | ROLLOUT])
NODES = st.sampled_from([0, 0, 0, 1])
CHANGES = st.tuples(st.just("change"), NAMES, SUBNETS, SELECTORS, st.sampled_from([GATEWAY, OTHER]))
RARE_CHANGES = st.one_of(
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("recreate"), NAMES, SUBNETS, SELECTORS, st.just(GATEWAY)),
    st.tuples(st.just("refuse"), NAMES, st.booleans()),
    st.tuples(st.just("label"), NODES, st.sampled_from("ab"), st.sampled_from(["z1", "z2"])),
    st.tuples(st.just("lose slice"), st.integers(0, 5)),
)
PROGRESS = st.one_of(
    st.tuples(st.just("plan"), st.sampled_from([1, 1, 2, 1000, 1000]), st.sampled_from([False, False, True])),
    st.tuples(st.just("synchronize")),
    *(
        st.tuples(st.just(kind), NODES)
        for kind in ("reconcile", "deliver", "list", "receive", "receive", "report", "admit", "everything")
    ),
)
BURSTS = st.tuples(
    st.lists(st.one_of(CHANGES, CHANGES, CHANGES, RARE_CHANGES), min_size=1, max_size=3),
    st.lists(PROGRESS, max_size=12),
)


@settings(deadline=None, max_examples=examples(600))
@given(st.lists(CHANGES, max_size=2), st.lists(BURSTS, min_size=1, max_size=4))
def test_no_route_that_passes_to_another_staticroute_is_ever_absent(first: list[Any], bursts: list[Any]) -> None:
    check_story([*first, *SETTLED, *chain.from_iterable(chain(*burst) for burst in bursts)])


def check_story(steps: list[Any]) -> None:
    _, observer = started()
    for step in steps:
        run(observer, step)
    check_settled(observer)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(
            [
                ("change", "r4", ["10.4.0.0/16", "10.5.0.0/16"], Z1, GATEWAY),
                *SETTLED,
                ("change", "r3", ["10.4.0.0/16"], Z1, GATEWAY),
                ("change", "r4", ["10.3.0.0/16"], A, GATEWAY),
                ("plan", 1, False),
                ("receive", 0),
                ("synchronize",),
                ("plan", 1, False),
                ("receive", 0),
            ],
            id="to a StaticRoute of the same set, by one that leaves it",
        ),
        pytest.param(
            [
                ("change", "r3", ["10.3.0.0/16"], A, GATEWAY),
                ("change", "r4", ["10.4.0.0/16"], Z1, GATEWAY),
                *SETTLED,
                ("change", "r3", ["10.4.0.0/16"], Z1, GATEWAY),
                ("change", "r4", ["10.3.0.0/16"], A, GATEWAY),
                *[("plan", 1, False), ("receive", 0), ("synchronize",)] * 4,
            ],
            id="between StaticRoutes that exchange subnets and selectors",
        ),
        pytest.param(
            [
                ("change", "r3", ["10.4.0.0/16"], A | ROLLOUT, GATEWAY),
                *SETTLED,
                ("change", "r4", ["10.4.0.0/16"], Z1 | ROLLOUT, GATEWAY),
                ("change", "r3", ["10.4.0.0/16"], B | ROLLOUT, GATEWAY),
                ("everything", 0),
            ],
            id="to a StaticRoute whose rollout holds the node back, by one that does not select it any more",
        ),
        pytest.param(
            [
                ("change", "r3", ["10.3.0.0/16"], ROLLOUT, GATEWAY),
                *SETTLED,
                ("change", "r4", ["10.3.0.0/16"], ROLLOUT, GATEWAY),
                ("delete", "r3"),
                ("everything", 0),
                ("everything", 0),
            ],
            id="to a StaticRoute whose rollout holds the node back, by one that is deleted",
        ),
        pytest.param(
            [
                ("change", "r3", ["10.3.0.0/16"], {}, GATEWAY),
                *SETTLED,
                ("change", "r4", ["10.3.0.0/16", "10.5.0.0/16"], ROLLOUT, GATEWAY),
                ("everything", 0),
                ("change", "r3", ["10.4.0.0/16"], {}, OTHER),
                ("plan", 1, True),
                ("everything", 0),
            ],
            id="to a StaticRoute with a rollout, while the controller is restarted",
        ),
        pytest.param(
            [
                ("change", "r4", ["10.4.0.0/16"], A, GATEWAY),
                ("plan", 1000, False),
                ("receive", 0),
                ("change", "r3", ["10.4.0.0/16"], Z1, GATEWAY),
                ("delete", "r4"),
                ("plan", 1000, False),
                ("change", "r4", ["10.5.0.0/16"], {}, GATEWAY),
                ("plan", 1000, False),
                ("receive", 0),
            ],
            id="by one that is deleted and created again before the API server has accepted any of it",
        ),
    ],
)
def test_known_ways_for_a_route_to_pass_to_another_staticroute(steps: list[Any]) -> None:
    check_story(steps)
