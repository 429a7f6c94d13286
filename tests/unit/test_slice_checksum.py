"""Agents use a slice only as the controller wrote it."""

import copy
import json
from typing import Any

import pytest

from overlay_net.model.api import JsonObject
from overlay_net.model.route_slice import RouteSlice, SliceContent, by_set, slice_manifest
from overlay_net.model.slice_entry import SliceEntry

ENTRY = {"name": "r1", "uid": "u", "generation": 1, "created": "2026-01-01T00:00:00Z", "subnets": ["10.0.0.0/24"]}


def written(**later: Any) -> JsonObject:
    """The slice as the API server returns it, where the order of fields may be another one."""
    raw = slice_manifest(0, SliceContent("rs-a", "*", (0,), (SliceEntry.parse(ENTRY | later, {}),)))
    reordered: JsonObject = json.loads(json.dumps(raw, sort_keys=True))
    return reordered


def test_a_slice_as_the_controller_wrote_it_is_intact() -> None:
    raw = written(gateways=[{"address": "10.9.0.1", "weight": 3}], metric=7)
    assert RouteSlice.parse(raw).intact
    raw["spec"]["selector"] = "a text for people"
    assert RouteSlice.parse(raw).intact


@pytest.mark.parametrize(
    "edit",
    [
        lambda spec: spec["staticRoutes"].clear(),
        lambda spec: spec["staticRoutes"][0]["subnets"].append("10.0.1.0/24"),
        lambda spec: spec["staticRoutes"][0].update(metric=8),
        lambda spec: spec["staticRoutes"][0].update(closedSince="2026-01-01T00:00:00Z"),
        lambda spec: spec["staticRoutes"].append(ENTRY),
        lambda spec: spec.update(retained=[ENTRY]),
        lambda spec: spec.update(slices=[0, 1]),
        lambda spec: spec.pop("slices"),
        lambda spec: spec.update(routeSet="rs-b"),
        lambda spec: spec.pop("checksum"),
        lambda spec: spec.update(checksum="0123456789abcdef"),
    ],
)
def test_an_edited_slice_counts_as_missing(edit: Any) -> None:
    raw = written(metric=7)
    edited = copy.deepcopy(raw)
    edit(edited["spec"])
    assert by_set([RouteSlice.parse(raw)]) == {"rs-a": {0: RouteSlice.parse(raw)}}
    assert by_set([RouteSlice.parse(edited)]) == {}
