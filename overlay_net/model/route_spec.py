"""One entry of NodeOverlayIp.spec.routes: the route of a StaticRoute on one node, with its JSON form.

Defaults are omitted, and the routes of one object share equal specifications: a node may have thousands of them.
"""

from collections.abc import Iterable
from typing import get_args

from overlay_net.model.api import JsonObject
from overlay_net.model.desired_route import CheckKind, DesiredRoute, Gateway, HealthCheck, OnAllDown, RouteSpec
from overlay_net.model.parse import find_object, find_objects, parse_address, parse_int, parse_network, parse_text
from overlay_net.model.route import MAIN_TABLE, RouteKind

KINDS: dict[str, RouteKind] = {kind: kind for kind in get_args(RouteKind)}
CHECKS: dict[str, CheckKind] = {kind: kind for kind in get_args(CheckKind)}
ON_ALL_DOWN: dict[str, OnAllDown] = {choice: choice for choice in get_args(OnAllDown)}
DEFAULT_CHECK = HealthCheck()

_OWN_FIELDS = ("subnet", "staticRoute")
"""Fields that differ between routes of one specification."""


class RouteParser:
    """Parses the routes of one object; equal specifications and StaticRoute names share one value each."""

    def __init__(self) -> None:
        self._specs: dict[str, RouteSpec] = {}
        self._names: dict[str, str] = {}

    def parse(self, raw: object) -> DesiredRoute | None:
        """Parse a route; None for anything but an object with a valid subnet."""
        if not isinstance(raw, dict):
            return None
        subnet = parse_network(raw.get("subnet"))
        if subnet is None:
            return None
        rest = {key: value for key, value in raw.items() if key not in _OWN_FIELDS}
        text = repr(rest)
        spec = self._specs.get(text)
        if spec is None:
            spec = self._specs[text] = parse_spec(rest)
        name = parse_text(raw.get("staticRoute"))
        return DesiredRoute.to(subnet, spec, self._names.setdefault(name, name))

    def parse_all(self, entries: Iterable[object]) -> tuple[DesiredRoute, ...]:
        return tuple(route for route in map(self.parse, entries) if route is not None)


def parse_routes(spec: JsonObject) -> tuple[DesiredRoute, ...]:
    """Parse ``spec.routes`` as sent by the API, or as decoded by model.overlay_json."""
    value = spec.get("routes")
    return value if isinstance(value, tuple) else RouteParser().parse_all(find_objects(spec, "routes"))


def parse_spec(raw: JsonObject) -> RouteSpec:
    return RouteSpec(
        gateways=_parse_gateways(raw),
        metric=parse_int(raw.get("metric")),
        table=parse_int(raw.get("table"), MAIN_TABLE),
        kind=KINDS.get(parse_text(raw.get("type")), "unicast"),
        mtu=parse_int(raw.get("mtu")),
        advmss=parse_int(raw.get("advmss")),
        on_link=raw.get("onLink") is True,
        check=_parse_check(find_object(raw, "healthCheck")),
        on_all_down=ON_ALL_DOWN.get(parse_text(raw.get("onAllDown")), "keep"),
    )


def _parse_gateways(raw: JsonObject) -> tuple[Gateway, ...]:
    found = ((parse_address(item.get("address")), item) for item in find_objects(raw, "gateways"))
    return tuple(
        Gateway(address, parse_int(item.get("weight"), 1), parse_int(item.get("priority")))
        for address, item in found
        if address is not None
    )


def _parse_check(raw: JsonObject) -> HealthCheck:
    """``intervalMilliseconds`` is an integer, as the API conventions discourage floating-point numbers."""
    return HealthCheck(
        CHECKS.get(parse_text(raw.get("type")), DEFAULT_CHECK.kind),
        parse_int(raw.get("port")),
        parse_int(raw.get("intervalMilliseconds"), 1000) / 1000,
        parse_int(raw.get("failureThreshold"), DEFAULT_CHECK.failures),
        parse_int(raw.get("successThreshold"), DEFAULT_CHECK.successes),
    )


def encode_route(route: DesiredRoute) -> JsonObject:
    return {"subnet": str(route.subnet), "staticRoute": route.static_route} | encode_spec(route.spec)


def encode_spec(spec: RouteSpec) -> JsonObject:
    raw: JsonObject = {}
    if spec.gateways:
        raw["gateways"] = [_encode_gateway(gateway) for gateway in spec.gateways]
    for key, value, default in (
        ("metric", spec.metric, 0),
        ("table", spec.table, MAIN_TABLE),
        ("type", spec.kind, "unicast"),
        ("mtu", spec.mtu, 0),
        ("advmss", spec.advmss, 0),
        ("onLink", spec.on_link, False),
        ("onAllDown", spec.on_all_down, "keep"),
    ):
        if value != default:
            raw[key] = value
    if spec.check != DEFAULT_CHECK:
        raw["healthCheck"] = _encode_check(spec.check)
    return raw


def _encode_gateway(gateway: Gateway) -> JsonObject:
    raw: JsonObject = {"address": str(gateway.address)}
    if gateway.weight != 1:
        raw["weight"] = gateway.weight
    if gateway.priority:
        raw["priority"] = gateway.priority
    return raw


def _encode_check(check: HealthCheck) -> JsonObject:
    raw: JsonObject = {
        "type": check.kind,
        "intervalMilliseconds": round(check.interval * 1000),
        "failureThreshold": check.failures,
        "successThreshold": check.successes,
    }
    return raw | ({"port": check.port} if check.port else {})
