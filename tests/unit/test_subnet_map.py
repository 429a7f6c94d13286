"""The OverlayPools of phpIPAM.subnetMap."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.domain.allocation.subnet_map import MappedPool, mapped_pools, plan_pools
from overlay_net.model.names import SUBNET_MAP_LABEL
from overlay_net.model.pool import DEFAULT_PRIORITY, Pool


def pool_for(desired: MappedPool, *, from_subnet_map: bool = True, deleting: bool = False, **spec: Any) -> Pool:
    metadata: dict[str, Any] = {
        "name": desired.name,
        "uid": "u",
        "labels": {SUBNET_MAP_LABEL: "true"} if from_subnet_map else {},
    }
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    ours = {"zones": [desired.zone], "priority": desired.priority, "phpIPAM": {"subnetID": desired.subnet_id}}
    return Pool.parse({"metadata": metadata, "spec": {**ours, **spec}})


MAP = {"dal10": [7, 9], "dal12": [11]}
ALL = mapped_pools(MAP)


def test_each_subnet_of_a_zone_becomes_a_pool_with_priorities_in_the_order_of_the_map() -> None:
    assert [(each.name, each.zone, each.subnet_id, each.priority - DEFAULT_PRIORITY) for each in ALL] == [
        ("phpipam-dal10-7", "dal10", 7, 0),
        ("phpipam-dal10-9", "dal10", 9, 1),
        ("phpipam-dal12-11", "dal12", 11, 0),
    ]


def test_pools_that_match_the_map_are_unchanged() -> None:
    plan = plan_pools(MAP, [pool_for(each) for each in ALL])
    assert (plan.apply, plan.delete) == ((), ())


@pytest.mark.parametrize(
    "change",
    [
        {"zones": ["dal13"]},
        {"zones": []},
        {"priority": 7},
        {"phpIPAM": {"subnetID": 8}},
        {"from_subnet_map": False},
    ],
    ids=["zone", "all zones", "priority", "subnet", "label"],
)
def test_an_edited_pool_of_the_map_is_corrected(change: dict[str, Any]) -> None:
    first, *rest = ALL
    plan = plan_pools(MAP, [pool_for(first, **change), *(pool_for(each) for each in rest)])
    assert (plan.apply, plan.delete) == ((first,), ())


def test_fields_that_users_add_to_a_pool_of_the_map_are_kept() -> None:
    plan = plan_pools(MAP, [pool_for(each, exclude=["10.0.0.1"], gateway="10.0.0.9") for each in ALL])
    assert plan.apply == ()


@pytest.mark.parametrize(
    ("settings", "deleted"),
    [
        pytest.param({}, True, id="created from the map"),
        pytest.param({"from_subnet_map": False}, False, id="created by a user"),
        pytest.param({"deleting": True}, False, id="being deleted already"),
    ],
)
def test_a_pool_that_is_no_longer_in_the_map_is_deleted_if_the_controller_created_it(
    settings: dict[str, Any], deleted: bool
) -> None:
    (old,) = mapped_pools({"dal10": [99]})
    pool = pool_for(old, **settings)
    plan = plan_pools(MAP, [pool, *(pool_for(each) for each in ALL)])
    assert (plan.apply, plan.delete) == ((), (pool,) if deleted else ())


def test_reordering_the_subnets_of_a_zone_changes_priorities_only() -> None:
    plan = plan_pools({"dal10": [9, 7], "dal12": [11]}, [pool_for(each) for each in ALL])
    assert {each.name: each.priority - DEFAULT_PRIORITY for each in plan.apply} == {
        "phpipam-dal10-9": 0,
        "phpipam-dal10-7": 1,
    }
    assert plan.delete == ()


def test_an_empty_map_deletes_its_pools() -> None:
    assert {pool.name for pool in plan_pools({}, [pool_for(each) for each in ALL]).delete} == {
        each.name for each in ALL
    }


zones = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?", fullmatch=True)
maps = st.dictionaries(zones, st.lists(st.integers(1, 2**31), max_size=4, unique=True), max_size=4)


@given(maps)
def test_every_zone_and_subnet_has_its_own_pool_with_a_valid_object_name(
    subnet_map: dict[str, list[int]],
) -> None:
    pools = mapped_pools(subnet_map)
    assert len({each.name for each in pools}) == sum(map(len, subnet_map.values()))
    for each in pools:
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", each.name)
        assert len(each.name) < 253


@given(maps, maps)
def test_nothing_is_left_to_do_once_a_plan_is_carried_out(old: dict[str, list[int]], new: dict[str, list[int]]) -> None:
    present = {each.name: pool_for(each) for each in mapped_pools(old)}
    plan = plan_pools(new, present.values())
    for pool in plan.delete:
        del present[pool.name]
    present |= {each.name: pool_for(each) for each in plan.apply}
    assert set(present) == {each.name for each in mapped_pools(new)}
    again = plan_pools(new, present.values())
    assert (again.apply, again.delete) == ((), ())
