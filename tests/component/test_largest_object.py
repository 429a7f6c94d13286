"""The largest NodeOverlayIp that the controller writes fits into a real etcd, with the largest report of an agent."""

from ipaddress import ip_address
from typing import Any

from overlay_net.adapters.kube import KubeApi
from overlay_net.domain.kernel.report import MAX_FAILURES
from overlay_net.domain.routes.compile import compile_routes
from overlay_net.model.api import JsonObject
from overlay_net.model.names import AGENT_FIELD_MANAGER, CONTROLLER_FIELD_MANAGER, NODE_OVERLAY_IPS
from overlay_net.model.route_spec import encode_route
from overlay_net.model.static_route import StaticRoute
from tests.unit.factories import node, static_route

SUBNETS = 500


def large(number: int) -> StaticRoute:
    texts = [f"10.{number}.{index // 4}.{index % 4 * 64}/26" for index in range(SUBNETS)]
    return static_route(f"static-route-{number:02}", texts[0], subnets=texts[1:], metric=number)


def spec(static_routes: list[StaticRoute]) -> JsonObject:
    compiled = compile_routes(static_routes, node(), ip_address("192.168.100.1"))
    return {"routes": [encode_route(route) for route in compiled.routes], "omitted": list(compiled.omitted)}


async def apply(api: KubeApi, manager: str, subresource: str | None = None, **fields: Any) -> None:
    body = NODE_OVERLAY_IPS.manifest("n1", **fields)
    await api.apply(NODE_OVERLAY_IPS, "n1", body, field_manager=manager, subresource=subresource)


async def test_etcd_accepts_the_largest_object_and_every_removal(admin: KubeApi) -> None:
    static_routes = [large(number) for number in range(1, 37)]
    full = spec(static_routes)
    assert full["omitted"], "36 StaticRoutes of 500 subnets are too many"
    await apply(admin, CONTROLLER_FIELD_MANAGER, spec=full)
    message = "the gateway 192.168.100.1 is in no subnet of link tmp0; " * 4
    failures = [
        {"subnet": route["subnet"], "staticRoute": route["staticRoute"], "state": "Unreachable", "message": message}
        for route in full["routes"][:MAX_FAILURES]
    ]
    await apply(admin, AGENT_FIELD_MANAGER, "status", status={"routes": failures, "routesFailed": len(failures)})
    await apply(admin, CONTROLLER_FIELD_MANAGER, spec=spec(static_routes[30:]))
    found = await admin.get(NODE_OVERLAY_IPS, "n1")
    assert len(found["spec"]["routes"]) == 6 * SUBNETS
    assert found["spec"].get("omitted", []) == []
