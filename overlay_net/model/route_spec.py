"""One entry of NodeOverlayIp.spec.routes, a StaticRoute as it applies to one node, as JSON and back.

What has its usual value is left out, and entries share the values that they have in common: a node may have thousands
of entries in one object.
"""

from functools import lru_cache
from sys import intern
from typing import get_args

from overlay_net.model.api import JsonObject
from overlay_net.model.kernel import MAIN_TABLE, CheckKind, DesiredRoute, Gateway, HealthCheck, OnAllDown, RouteKind
from overlay_net.model.parse import find_object, find_objects, parse_address, parse_int, parse_network, parse_text

KINDS: dict[str, RouteKind] = {kind: kind for kind in get_args(RouteKind)}
CHECKS: dict[str, CheckKind] = {kind: kind for kind in get_args(CheckKind)}
ON_ALL_DOWN: dict[str, OnAllDown] = {choice: choice for choice in get_args(OnAllDown)}
USUAL_CHECK = HealthCheck()


def parse_route(raw: JsonObject) -> DesiredRoute | None:
    """None for an entry without a usable subnet."""
    subnet = parse_network(raw.get("subnet"))
    if subnet is None:
        return None
    return DesiredRoute(
        subnet=subnet,
        gateways=parse_gateways(raw),
        metric=parse_int(raw.get("metric")),
        static_route=intern(parse_text(raw.get("staticRoute"))),
        table=parse_int(raw.get("table"), MAIN_TABLE),
        kind=KINDS.get(parse_text(raw.get("type")), "unicast"),
        mtu=parse_int(raw.get("mtu")),
        advmss=parse_int(raw.get("advmss")),
        on_link=raw.get("onLink") is True,
        check=parse_check(find_object(raw, "healthCheck")),
        on_all_down=ON_ALL_DOWN.get(parse_text(raw.get("onAllDown")), "keep"),
    )


def shape(raw: JsonObject) -> DesiredRoute | JsonObject:
    """What is made of a JSON object while a NodeOverlayIp is read: of an entry of its routes the route, at once.

    An object of ten thousand routes takes 2 MB like that, and as JSON objects first another 6 MB.
    """
    # Entries of status.routes have a state.
    entry = "subnet" in raw and "staticRoute" in raw and "state" not in raw
    return (parse_route(raw) if entry else None) or raw


def parse_routes(spec: JsonObject) -> tuple[DesiredRoute, ...]:
    """``spec.routes``, be they JSON objects still or routes already."""
    value = spec.get("routes")
    entries = value if isinstance(value, list) else []
    usable = (item for item in entries if isinstance(item, DesiredRoute | dict))
    found = (item if isinstance(item, DesiredRoute) else parse_route(item) for item in usable)
    return tuple(route for route in found if route is not None)


def parse_gateways(raw: JsonObject) -> tuple[Gateway, ...]:
    return _gateways(
        tuple(
            (parse_text(item.get("address")), parse_int(item.get("weight"), 1), parse_int(item.get("priority")))
            for item in find_objects(raw, "gateways")
        )
    )


@lru_cache(maxsize=1024)
def _gateways(entries: tuple[tuple[str, int, int], ...]) -> tuple[Gateway, ...]:
    found = ((parse_address(text), weight, priority) for text, weight, priority in entries)
    return tuple(Gateway(address, weight, priority) for address, weight, priority in found if address is not None)


def parse_check(raw: JsonObject) -> HealthCheck:
    """``intervalMilliseconds`` stands for ``interval``: JSON numbers of custom resources are best whole."""
    if not raw:
        return USUAL_CHECK
    return _check(
        parse_text(raw.get("type")),
        parse_int(raw.get("port")),
        parse_int(raw.get("intervalMilliseconds"), 1000),
        parse_int(raw.get("failureThreshold"), USUAL_CHECK.failures),
        parse_int(raw.get("successThreshold"), USUAL_CHECK.successes),
    )


@lru_cache(maxsize=1024)
def _check(kind: str, port: int, milliseconds: int, failures: int, successes: int) -> HealthCheck:
    return HealthCheck(CHECKS.get(kind, USUAL_CHECK.kind), port, milliseconds / 1000, failures, successes)


def encode_route(route: DesiredRoute) -> JsonObject:
    raw: JsonObject = {"subnet": str(route.subnet), "staticRoute": route.static_route}
    if route.gateways:
        raw["gateways"] = [_encode_gateway(gateway) for gateway in route.gateways]
    for key, value, usual in (
        ("metric", route.metric, 0),
        ("table", route.table, MAIN_TABLE),
        ("type", route.kind, "unicast"),
        ("mtu", route.mtu, 0),
        ("advmss", route.advmss, 0),
        ("onLink", route.on_link, False),
        ("onAllDown", route.on_all_down, "keep"),
    ):
        if value != usual:
            raw[key] = value
    if route.check != USUAL_CHECK:
        raw["healthCheck"] = _encode_check(route.check)
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
