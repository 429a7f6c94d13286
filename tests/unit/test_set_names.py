"""Which StaticRoutes share a route set, and how a person reads which nodes the set is for."""

from dataclasses import replace
from typing import Any

import pytest

from overlay_net.domain.routes.desired_entries import DesiredEntry
from overlay_net.domain.routes.route_sets import MAX_SELECTOR, route_set_name
from tests.unit.factories import static_route

ZONE = {"topology.kubernetes.io/zone": "dal10"}


def selecting(*expressions: tuple[str, str, list[str]], **labels: str) -> dict[str, Any]:
    matches = [{"key": key, "operator": operator, "values": values} for key, operator, values in expressions]
    return {"nodeSelector": {"matchLabels": labels, "matchExpressions": matches}}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "*"),
        ({"labels": ZONE}, "zone:dal10"),
        ({"labels": ZONE, **selecting(pool="a")}, "zone:dal10,pool=a"),
        (selecting(("pool", "In", ["b", "a"]), ("gpu", "Exists", [])), "gpu,pool in (a,b)"),
        (selecting(("pool", "NotIn", ["a"]), ("gpu", "DoesNotExist", [])), "!gpu,pool notin (a)"),
        ({"rollout": {"maxUnavailable": 1}, **selecting(pool="a")}, "staticroute/r1"),
    ],
)
def test_the_selector_of_a_set_is_written_as_for_kubectl(options: dict[str, Any], text: str) -> None:
    assert DesiredEntry.parse(static_route(**options)).selector == text


def test_a_selector_that_is_too_long_for_the_schema_is_cut() -> None:
    long = selecting(("pool", "In", [f"value-{number}" for number in range(500)]))
    assert len(DesiredEntry.parse(static_route(**long)).selector) == MAX_SELECTOR


@pytest.mark.parametrize(
    "options",
    [
        selecting(("pool", "In", ["a"]), ("gpu", "In", ["x", "y"])),
        selecting(("gpu", "In", ["y", "x", "y"]), pool="a"),
        selecting(("pool", "In", ["a"]), ("gpu", "In", ["y", "x"]), pool="a"),
    ],
)
def test_selectors_that_select_the_same_labels_share_a_set_however_they_are_written(options: dict[str, Any]) -> None:
    expected = static_route("other", **selecting(("gpu", "In", ["x", "y"]), pool="a"))
    assert route_set_name(static_route(**options)) == route_set_name(expected)


@pytest.mark.parametrize("other", [{}, {"labels": ZONE}, selecting(pool="b"), selecting(("pool", "NotIn", ["a"]))])
def test_other_selectors_have_other_sets(other: dict[str, Any]) -> None:
    assert route_set_name(static_route(**other)) != route_set_name(static_route(**selecting(pool="a")))


def test_a_staticroute_with_a_rollout_has_a_set_for_each_revision() -> None:
    revisions = [(name, uid, generation) for name in ("r1", "r2") for uid in ("u1", "u2") for generation in (1, 2)]
    names = {
        route_set_name(replace(static_route(name, generation=generation, rollout={"maxUnavailable": 1}), uid=uid))
        for name, uid, generation in revisions
    }
    assert len(names) == len(revisions)
