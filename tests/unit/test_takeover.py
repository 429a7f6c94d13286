"""Routes of the earlier operator are taken over in place: the objects prove whose they are, across any crash."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from itertools import permutations, product
from typing import Any

import pytest

from overlay_net.domain.routes import takeover
from overlay_net.domain.routes.protected_subnets import ProtectedSubnet
from overlay_net.model.api import JsonObject
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Address, Link, Observed
from overlay_net.model.kernel_actions import KernelAction, RouteAction, SetSysctl
from overlay_net.model.kernel_changes import KernelChanges
from overlay_net.model.names import FINALIZER, STATIC_ROUTES
from overlay_net.model.route import NextHop, Route
from tests.fakes.earlier_operator import CONFIG, GATEWAY, MARK, OVERLAY, Installation, entry
from tests.fakes.kernel import FakeKernel
from tests.unit.factories import raw_static_route

ETH0, TMP0 = 2, 3
OTHER, PRIVATE = "192.168.100.254", "10.176.162.129"
SUBNETS = ("10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16")
BOOT, STATIC = 3, 4


def earlier_route(subnet: str, gateway: str = GATEWAY, link: int = TMP0, protocol: int = BOOT, **more: Any) -> Route:
    return Route(ip_network(subnet), (NextHop(ip_address(gateway), link),), protocol, **more)


class Kernel:
    """The kernel that the earlier operator left, as the agent uses it."""

    def __init__(self, *routes: Route) -> None:
        links = (
            Link(ETH0, "eth0", "veth", None, None, up=True),
            Link(TMP0, "tmp0", "macvlan", ETH0, None, up=True, mode="bridge"),
        )
        addresses = (
            Address(ETH0, ip_interface("10.176.162.151/26"), None),
            Address(TMP0, ip_interface(OVERLAY), None),
            Address(TMP0, ip_interface("fd00::4/64"), None),
        )
        connected = Route(ip_network("192.168.100.0/24"), (NextHop(None, TMP0),), 2, source=ip_address("192.168.100.4"))
        self.fake = FakeKernel(MARK, Observed(links=links, addresses=addresses, routes=(connected, *routes)))
        self.changes: list[KernelAction] = []

    async def observe(
        self, sysctl_links: Collection[str], *, awaited: AwaitedRoutes, changes: KernelChanges
    ) -> Observed:
        return self.fake.observe(awaited)

    async def apply(self, action: KernelAction) -> None:
        self.fake.apply(action)
        self.changes.append(action)

    async def apply_sysctls(self, actions: Sequence[SetSysctl]) -> list[tuple[SetSysctl, KernelError]]:
        for action in actions:
            await self.apply(action)
        return []

    async def apply_routes(self, actions: Sequence[RouteAction]) -> list[tuple[RouteAction, KernelError]]:
        for action in actions:
            await self.apply(action)
        return []

    def protocols(self) -> dict[str, int]:
        return {str(route.subnet): route.protocol for route in self.fake.routes if route.protocol != 2}

    def gateways(self) -> dict[str, str]:
        return {
            str(route.subnet): str(route.next_hops[0].gateway)
            for route in self.fake.routes
            if route.protocol != 2 and route.next_hops
        }

    @property
    def route_changes(self) -> list[str]:
        changed = (change for change in self.changes if "Route" in type(change).__name__)
        return [f"{type(each).__name__} {each.route.subnet}" for each in changed]  # type: ignore[union-attr]


async def start(*routes: JsonObject, kernel: Kernel | None = None, with_object: bool = True) -> Installation[Kernel]:
    """The earlier operator has set the routes of these StaticRoutes in the kernel, unless it is given."""
    present = (raw["spec"]["subnet"] for raw in routes)
    return await Installation.start(kernel or Kernel(*map(earlier_route, present)), *routes, with_object=with_object)


def earlier_static_routes() -> list[JsonObject]:
    return [
        raw_static_route(f"r{number}", subnet, status={"nodeStatus": [entry()]})
        for number, subnet in enumerate(SUBNETS)
    ]


ORDERS = list(permutations(("nodes", "status", "agent")))


@pytest.mark.parametrize("order", ORDERS, ids=["-".join(each) for each in ORDERS])
@pytest.mark.parametrize("writes", [None, 0, 1, 2, 3])
async def test_every_route_is_replaced_in_place_wherever_the_controller_stops(
    order: tuple[str, ...], writes: int | None
) -> None:
    installation = await start(*earlier_static_routes())
    for part in (*order, *order):
        await installation.run(part, writes)
    await installation.settle()
    kernel = installation.kernel
    assert kernel.protocols() == dict.fromkeys(SUBNETS, 117)
    assert kernel.route_changes == [f"ReplaceRoute {subnet}" for subnet in SUBNETS], "without a gap"
    assert await installation.is_taken_over()


@pytest.mark.parametrize("writes", list(product((0, 1), repeat=4)), ids=str)
async def test_a_proof_is_in_one_of_its_places_after_each_write(writes: tuple[int, ...]) -> None:
    installation = await start(*earlier_static_routes())
    for part, limit in zip(("status", "nodes", "agent") * 4, writes * 3, strict=True):
        await installation.run(part, limit)
        recorded = {subnet for group in await installation.adoptable() for subnet in group["subnets"]}
        for number, subnet in enumerate(SUBNETS):
            (found,) = await installation.entries(f"r{number}")
            assert "state" not in found or subnet in recorded or installation.kernel.protocols()[subnet] == 117


async def test_a_node_without_an_object_yet_keeps_its_entries() -> None:
    installation = await start(*earlier_static_routes(), with_object=False)
    await installation.run("status")
    assert await installation.entries() == [entry()]
    await installation.cluster.leave()
    await installation.run("status")
    assert await installation.entries() == [], "nothing is to be taken over from a node that is gone"


async def test_a_route_is_taken_over_once() -> None:
    """What a person sets later in its place, exactly as the earlier operator did, is foreign."""
    installation = await start(*earlier_static_routes())
    await installation.settle()
    kernel = installation.kernel.fake
    by_hand = earlier_route(SUBNETS[0])
    kernel.routes = [by_hand if str(route.subnet) == SUBNETS[0] else route for route in kernel.routes]
    await installation.settle()
    assert by_hand in kernel.routes
    (failure,) = installation.reports[-1].failures
    assert failure.reason == "ForeignRoute"
    assert failure.message == (
        "there is already a route of protocol 3 (boot) that is not managed by us; to hand it over without a gap, "
        "run: ip route change 10.1.0.0/16 via 192.168.100.1 dev tmp0 proto 117"
    )


PROVEN = {
    "as recorded": (entry(), earlier_route(SUBNETS[0])),
    "of protocol static": (entry(), earlier_route(SUBNETS[0], protocol=STATIC)),
    "on our link through an earlier gateway": (entry(), earlier_route(SUBNETS[0], OTHER)),
    "through the recorded gateway on another link": (
        entry(gateway=PRIVATE, device="eth1"),
        earlier_route(SUBNETS[0], PRIVATE, ETH0),
    ),
    "on our link without a recorded gateway": (entry(gateway=""), earlier_route(SUBNETS[0])),
}


@pytest.mark.parametrize(("recorded", "route"), PROVEN.values(), ids=PROVEN)
async def test_a_proven_route_is_replaced(recorded: JsonObject, route: Route) -> None:
    raw = raw_static_route("r0", SUBNETS[0], status={"nodeStatus": [recorded, entry("n2")]})
    installation = await start(raw, kernel=Kernel(route))
    await installation.settle()
    assert installation.kernel.route_changes == [f"ReplaceRoute {SUBNETS[0]}"]
    assert installation.kernel.gateways() == {SUBNETS[0]: GATEWAY}
    assert await installation.is_taken_over()


UNPROVEN = {
    "no entry": ([], earlier_route(SUBNETS[0])),
    "the entry of another node": ([entry("n2")], earlier_route(SUBNETS[0])),
    "an entry of this product": ([entry() | {"state": "Failed"}], earlier_route(SUBNETS[0])),
    "another gateway on the private interface": ([entry()], earlier_route(SUBNETS[0], PRIVATE, ETH0)),
    "the recorded device is the private interface": (
        [entry(gateway="10.176.162.130", device="eth0")],
        earlier_route(SUBNETS[0], PRIVATE, ETH0),
    ),
    "of a routing daemon": ([entry()], earlier_route(SUBNETS[0], protocol=186)),
    "of the kernel": ([entry()], Route(ip_network(SUBNETS[0]), (NextHop(None, ETH0),), 2)),
    "of DHCP": ([entry()], earlier_route(SUBNETS[0], protocol=16)),
    "it rejects traffic": ([entry()], Route(ip_network(SUBNETS[0]), (), BOOT, kind="unreachable")),
    "it has a property that we never set": ([entry()], earlier_route(SUBNETS[0], kind=None)),
    "one of two next hops is another": (
        [entry(gateway=PRIVATE, device="eth0")],
        Route(
            ip_network(SUBNETS[0]),
            (NextHop(ip_address(PRIVATE), ETH0), NextHop(ip_address("10.176.162.130"), ETH0)),
            BOOT,
        ),
    ),
}


@pytest.mark.parametrize(("recorded", "route"), UNPROVEN.values(), ids=UNPROVEN)
async def test_a_route_without_proof_stays_foreign(recorded: list[JsonObject], route: Route) -> None:
    raw = raw_static_route("r0", SUBNETS[0], status={"nodeStatus": recorded})
    installation = await start(raw, kernel=Kernel(route))
    await installation.settle()
    assert route in installation.kernel.fake.routes
    assert not installation.kernel.route_changes
    assert [failure.reason for failure in installation.reports[-1].failures] == ["ForeignRoute"]
    assert not await installation.adoptable(), "the decision is final"


async def test_a_route_with_another_metric_or_subnet_is_not_touched() -> None:
    raw = raw_static_route("r0", SUBNETS[0], status={"nodeStatus": [entry()]})
    others = (earlier_route(SUBNETS[0], metric=50), earlier_route(SUBNETS[0], table=9), earlier_route(SUBNETS[1]))
    installation = await start(raw, kernel=Kernel(*others))
    await installation.settle()
    assert set(others) <= set(installation.kernel.fake.routes)
    assert installation.kernel.route_changes == [f"AddRoute {SUBNETS[0]}"]


async def test_two_routes_with_one_key_stay_foreign() -> None:
    """The kernel would replace the first of them, which may not be the recorded one."""
    raw = raw_static_route("r0", SUBNETS[0], status={"nodeStatus": [entry()]})
    both = (earlier_route(SUBNETS[0], PRIVATE, ETH0), earlier_route(SUBNETS[0]))
    installation = await start(raw, kernel=Kernel(*both))
    await installation.settle()
    assert set(both) <= set(installation.kernel.fake.routes)
    assert not installation.kernel.route_changes


async def test_an_ipv6_route_is_taken_over() -> None:
    recorded = entry(gateway="fd00::1")
    raw = raw_static_route("r0", "fd01::/64", gateway="fd00::1", status={"nodeStatus": [recorded]})
    installation = await start(raw, kernel=Kernel(earlier_route("fd01::/64", "fd00::1", metric=1024)))
    await installation.settle()
    assert installation.kernel.route_changes == ["ReplaceRoute fd01::/64"]


async def test_a_changed_gateway_and_a_deletion_reach_routes_that_were_taken_over() -> None:
    installation = await start(*earlier_static_routes())
    await installation.settle()
    await installation.change("r0", gateway=OTHER)
    await installation.cluster.remove_route("r1")
    await installation.settle()
    assert installation.kernel.gateways() == {SUBNETS[0]: OTHER, SUBNETS[2]: GATEWAY}


@pytest.mark.parametrize("done", [(), ("nodes",), ("nodes", "status"), ("nodes", "status", "agent"), ("status",)])
async def test_a_static_route_that_is_deleted_meanwhile_takes_its_route_along(done: tuple[str, ...]) -> None:
    first, *others = earlier_static_routes()
    first["metadata"]["finalizers"] = [FINALIZER]
    installation = await start(first, *others)
    for part in done:
        await installation.run(part)
    await installation.cluster.remove_route("r0")
    await installation.settle()
    assert installation.kernel.protocols() == dict.fromkeys(SUBNETS[1:], 117)
    assert await installation.cluster.find(STATIC_ROUTES, "r0") is None
    assert await installation.is_taken_over()


async def test_a_changed_gateway_and_metric_are_taken_into_account_before_the_takeover() -> None:
    installation = await start(*earlier_static_routes())
    await installation.change("r0", gateway=OTHER)
    await installation.change("r1", metric=7)
    await installation.settle()
    assert installation.kernel.gateways() == {SUBNETS[0]: OTHER, SUBNETS[1]: GATEWAY, SUBNETS[2]: GATEWAY}
    assert {route.metric for route in installation.kernel.fake.routes if str(route.subnet) == SUBNETS[1]} == {7}
    changes = installation.kernel.route_changes
    assert changes.index(f"AddRoute {SUBNETS[1]}") < changes.index(f"DeleteRoute {SUBNETS[1]}")


REFUSED: dict[str, dict[str, Any]] = {
    "protected": {},
    "invalid": {"gateway": "fd00::1"},
}


@pytest.mark.parametrize("why", REFUSED)
async def test_the_route_of_a_static_route_that_does_not_apply_yet_stays_and_is_taken_over_later(why: str) -> None:
    raw = raw_static_route("r0", SUBNETS[0], status={"nodeStatus": [entry()]}, **REFUSED[why])
    installation = await start(raw)
    if why == "protected":
        installation.protected = (ProtectedSubnet(ip_network("10.1.7.0/24"), "pod subnet"),)
    await installation.settle()
    assert installation.kernel.protocols() == {SUBNETS[0]: BOOT}
    assert not installation.kernel.route_changes
    assert await installation.entries() == [entry()]
    assert not await installation.adoptable()
    installation.protected = ()
    await installation.change("r0", gateway=GATEWAY)
    await installation.settle()
    assert installation.kernel.route_changes == [f"ReplaceRoute {SUBNETS[0]}"]
    assert await installation.is_taken_over()


async def test_a_rollout_that_has_not_reached_the_node_leaves_its_route_as_it_is() -> None:
    rollout = {"maxUnavailable": 1}
    raw = raw_static_route("r0", SUBNETS[0], rollout=rollout, status={"nodeStatus": [entry()]})
    installation = await start(raw)
    for part in ("nodes", "agent") * 3:
        await installation.run(part)
    assert installation.kernel.protocols() == {SUBNETS[0]: BOOT}
    assert await installation.entries() == [entry()]
    await installation.settle()
    assert installation.kernel.route_changes == [f"ReplaceRoute {SUBNETS[0]}"]
    assert await installation.is_taken_over()


async def test_the_route_of_a_node_that_is_not_selected_any_more_is_removed() -> None:
    first, *others = earlier_static_routes()
    first["metadata"]["labels"] = {"topology.kubernetes.io/zone": "fra02"}
    installation = await start(first, *others)
    await installation.settle()
    assert installation.kernel.protocols() == dict.fromkeys(SUBNETS[1:], 117)
    assert await installation.entries() == []


async def test_more_routes_than_an_object_holds_are_taken_over_one_part_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(takeover, "MAX_ADOPTABLE", 2)
    installation = await start(*earlier_static_routes())
    await installation.run("nodes")
    await installation.run("agent")
    assert await installation.adoptable() == [], "the agent has not reported that it knows the routes"
    await installation.run("nodes")
    await installation.run("status")
    assert [len(group["subnets"]) for group in await installation.adoptable()] == [2]
    assert await installation.entries("r2") == [entry()]
    await installation.settle()
    assert installation.kernel.route_changes == [f"ReplaceRoute {subnet}" for subnet in SUBNETS]
    assert await installation.is_taken_over()


async def test_a_route_that_cannot_be_set_yet_keeps_its_proof() -> None:
    raw = raw_static_route("r0", SUBNETS[0], gateway="10.99.0.1", status={"nodeStatus": [entry()]})
    installation = await start(raw)
    await installation.settle()
    assert installation.kernel.protocols() == {SUBNETS[0]: BOOT}
    assert await installation.adoptable() == [{"gateway": GATEWAY, "device": "tmp0", "subnets": [SUBNETS[0]]}]
    await installation.change("r0", gateway=OTHER)
    await installation.settle()
    assert installation.kernel.gateways() == {SUBNETS[0]: OTHER}
    assert await installation.is_taken_over()


async def test_a_node_with_routes_only_is_taken_over() -> None:
    recorded = entry(gateway=PRIVATE, device="eth0")
    raw = raw_static_route("r0", SUBNETS[0], gateway=PRIVATE, status={"nodeStatus": [recorded]})
    installation = await start(raw, kernel=Kernel(earlier_route(SUBNETS[0], PRIVATE, ETH0)))
    installation.config = replace(CONFIG, mode="none")
    await installation.cluster.set_policy(overlay_addresses=False)
    await installation.settle()
    assert installation.kernel.route_changes == [f"ReplaceRoute {SUBNETS[0]}"]
    assert await installation.is_taken_over()


async def test_the_earlier_operator_that_still_runs_changes_nothing_but_the_status() -> None:
    installation = await start(*earlier_static_routes())
    await installation.settle()
    change = {"status": {"nodeStatus": [entry()]}}
    await installation.cluster.kube.merge_patch(STATIC_ROUTES, "r0", change, subresource="status")
    await installation.settle()
    assert installation.kernel.route_changes == [f"ReplaceRoute {subnet}" for subnet in SUBNETS]
    assert await installation.is_taken_over()
