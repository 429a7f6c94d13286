"""NodeOverlayIps decoded route by route: the same objects as from the standard library, the same refusals."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.overlay_json import decode_overlays

ROUTE = {"subnet": "10.1.0.0/16", "staticRoute": "r", "gateways": [{"address": "192.168.100.1"}], "metric": 5}
INVALID: list[object] = [{"subnet": "10.0.0.1/8", "staticRoute": "r"}, "text", None, [], {"staticRoute": "r"}]
FAILURE = {"subnet": "10.2.0.0/16", "staticRoute": "r", "state": "ForeignRoute", "message": "taken"}
OVERLAY = {
    "metadata": {"name": "n1", "uid": "u", "generation": 3},
    "spec": {"routes": [ROUTE, *INVALID], "ipAddr": "192.168.100.4"},
    "status": {"routes": [FAILURE], "probes": [{"staticRoute": "r", "routes": [ROUTE]}]},
}


def test_an_object_is_the_same_as_from_the_standard_library() -> None:
    decoded = decode_overlays(json.dumps(OVERLAY))
    assert [type(route) for route in decoded["spec"]["routes"]] == [DesiredRoute]
    assert NodeOverlay.parse(decoded) == NodeOverlay.parse(OVERLAY)
    assert [str(route.subnet) for route in NodeOverlay.parse(decoded).routes] == ["10.1.0.0/16"]
    assert decoded["status"] == OVERLAY["status"], "only spec.routes is parsed"


@pytest.mark.parametrize("indent", [None, 2])
def test_the_routes_of_lists_and_watch_events_are_parsed(indent: int | None) -> None:
    listing = decode_overlays(json.dumps({"kind": "List", "items": [OVERLAY, OVERLAY]}, indent=indent))
    event = decode_overlays(json.dumps({"type": "ADDED", "object": OVERLAY}, indent=indent))
    for decoded in (*listing["items"], event["object"]):
        assert NodeOverlay.parse(decoded) == NodeOverlay.parse(OVERLAY)
        assert isinstance(decoded["spec"]["routes"], tuple)


def test_routes_of_one_object_share_their_specification_and_name() -> None:
    other = ROUTE | {"subnet": "10.3.0.0/16"}
    first, second = decode_overlays(json.dumps({"spec": {"routes": [ROUTE, other]}}))["spec"]["routes"]
    assert first.spec is second.spec
    assert first.static_route is second.static_route


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["spec", "object", "items", "routes", "x"]), inner, max_size=3)
    ),
)


@given(JSON, st.sampled_from([None, 1]))
def test_every_other_value_is_that_of_the_standard_library(value: object, indent: int | None) -> None:
    decoded = decode_overlays(json.dumps(value, indent=indent))
    assert json.loads(json.dumps(decoded, default=str)) == json.loads(json.dumps(without_routes(value)))


def without_routes(value: object, path: tuple[str, ...] = ()) -> object:
    """``value`` with empty lists in place of those that are parsed: none of their elements is a valid route."""
    if isinstance(value, list):
        parsed = path in {("spec", "routes"), ("object", "spec", "routes"), ("items", "*", "spec", "routes")}
        return [] if parsed else [without_routes(each, (*path, "*")) for each in value]
    if isinstance(value, dict):
        return {key: without_routes(each, (*path, key)) for key, each in value.items()}
    return value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"spec"}',
        '{"spec": {"routes": [1,]}}',
        '{"spec": {"routes": [1 2]}}',
        '{"spec": {"routes": [',
        '{"spec": {},}',
        '{"items": [{}',
        "{1: 2}",
        '{["spec"]: 2}',
        "{} {}",
        "nonsense",
    ],
)
def test_malformed_text_raises_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="line 1"):
        json.loads(text)
    with pytest.raises(ValueError, match="line 1"):
        decode_overlays(text)
