"""The routes of other processes that wake the agent, and how often flapping ones do."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from overlay_net.adapters.netlink.bulk.codec import HEADER
from overlay_net.adapters.netlink.bulk.route_encoder import RouteEncoder
from overlay_net.adapters.netlink.monitor import Monitor
from overlay_net.agent.repairs import SETTLE, Repairs
from overlay_net.domain.kernel.awaited_routes import find_awaited_routes
from overlay_net.domain.kernel.desired import LinkConfig
from overlay_net.domain.kernel.parent_interface import ByName, ByRoute
from overlay_net.domain.kernel.wake_pacing import BURST, INTERVAL, WakePacing
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.policy_rule import PrivateTable, SourceTable
from overlay_net.model.route import NextHop, Route
from tests.unit.factories import desired_route

NEW, DELETE, REPLACE = (24, 0x400), (25, 0), (24, 0x500)
OVERLAY = ip_interface("192.168.100.4/24")
BY_NAME = LinkConfig(ByName(("eth0",)))
PRIVATE = replace(BY_NAME, private=PrivateTable(118, 11800))
DESIRED = (
    desired_route("10.1.0.0/16", "192.168.100.1"),
    desired_route("10.2.0.0/16", "192.168.100.1", metric=50, table=200),
    desired_route("172.0.0.0/8", "192.168.100.1"),
    desired_route("fd01::/64", "fd00::1"),
    desired_route("0.0.0.0/0", "192.168.100.1", metric=7),
)


def message(subnet: str, kind: tuple[int, int] = DELETE, *, protocol: int = 186, **key: Any) -> bytes:
    """A notification about a route as the kernel writes it: the table before the subnet, the rest after it."""
    network = ip_network(subnet)
    gateway = ip_address("10.9.9.9" if network.version == 4 else "fe80::9")
    route = Route(network, (NextHop(gateway, 2),), protocol, **key)
    body = RouteEncoder().new(route)
    size = 4 + (4 if network.version == 4 else 16)
    head, rest, destination = body[:20], body[20:-size], body[-size:]
    body = head + (destination if network.prefixlen else b"") + rest
    return HEADER.pack(16 + len(body), *kind, 0, 0) + body


def monitor_for(config: LinkConfig = BY_NAME) -> Monitor:
    monitor = Monitor(117, lambda: None)
    monitor.follow(find_awaited_routes(DESIRED, OVERLAY, config))
    return monitor


@pytest.mark.parametrize("kind", [NEW, DELETE, REPLACE], ids=["new", "delete", "replace"])
@pytest.mark.parametrize(
    ("subnet", "key"),
    [
        ("10.1.0.0/16", {}),
        ("10.2.0.0/16", {"metric": 50, "table": 200}),
        ("fd01::/64", {"metric": 1024}),
        ("0.0.0.0/0", {"metric": 7}),
    ],
)
def test_a_foreign_route_in_the_place_of_ours_concerns_us(subnet: str, key: Any, kind: tuple[int, int]) -> None:
    assert monitor_for().concerns(message(subnet, kind, **key))
    assert monitor_for().concerns(message("10.77.0.0/16", kind) + message(subnet, kind, **key))


@pytest.mark.parametrize("kind", [NEW, DELETE, REPLACE], ids=["new", "delete", "replace"])
@pytest.mark.parametrize(
    ("subnet", "key"),
    [
        ("10.1.0.0/17", {}),
        ("10.1.0.0/16", {"metric": 20}),
        ("10.1.0.0/16", {"table": 117}),
        ("10.2.0.0/16", {}),
        ("10.3.0.0/16", {}),
        ("fd01::/64", {"metric": 20}),
        ("0.0.0.0/0", {}),
        ("::/0", {"metric": 7}),
    ],
)
def test_any_other_foreign_route_does_not(subnet: str, key: Any, kind: tuple[int, int]) -> None:
    assert not monitor_for().concerns(message(subnet, kind, **key))


def test_our_own_routes_concern_us_whatever_is_awaited() -> None:
    assert monitor_for().concerns(message("10.77.0.0/16", protocol=117))


@pytest.mark.parametrize(
    ("config", "subnet", "key", "concerns"),
    [
        (replace(BY_NAME, parent=ByRoute(ip_address("10.99.0.1"))), "10.99.0.0/24", {"metric": 100}, True),
        (replace(BY_NAME, parent=ByRoute(ip_address("10.99.0.1"))), "0.0.0.0/0", {}, True),
        (replace(BY_NAME, parent=ByRoute(ip_address("10.99.0.1"))), "10.98.0.0/24", {}, False),
        (replace(BY_NAME, parent=ByRoute(ip_address("10.99.0.1"))), "10.99.0.0/24", {"table": 9}, False),
        (replace(BY_NAME, mode="none", fallback=ip_network("10.0.0.0/8")), "10.0.0.0/8", {}, True),
        (replace(BY_NAME, mode="none", fallback=ip_network("10.0.0.0/8")), "0.0.0.0/0", {"metric": 100}, True),
        (replace(BY_NAME, mode="none", fallback=ip_network("10.0.0.0/8")), "10.0.0.0/9", {}, False),
        (replace(BY_NAME, fallback=ip_network("10.0.0.0/8")), "10.0.0.0/8", {}, False),
        (replace(BY_NAME, source=SourceTable(117, 11700, 8)), "0.0.0.0/0", {"table": 117}, True),
        (replace(BY_NAME, source=SourceTable(117, 11700, 8)), "192.168.100.0/24", {"table": 117}, True),
        (replace(BY_NAME, source=SourceTable(117, 11700, 8)), "172.0.0.0/8", {"table": 117}, True),
        (replace(BY_NAME, source=SourceTable(117, 11700, 8)), "10.1.0.0/16", {"table": 117}, False),
        (replace(BY_NAME, mode="none", source=SourceTable(117, 11700, 8)), "0.0.0.0/0", {"table": 117}, False),
        (BY_NAME, "0.0.0.0/0", {"table": 117}, False),
        (PRIVATE, "0.0.0.0/0", {"metric": 100}, True),
        (PRIVATE, "10.0.0.0/8", {}, True),
        (PRIVATE, "10.1.0.0/16", {"metric": 100}, True),
        (PRIVATE, "fd00::/8", {}, True),
        (PRIVATE, "10.0.0.0/8", {"table": 9}, False),
        (PRIVATE, "10.1.1.0/24", {}, False),
        (PRIVATE, "10.3.0.0/16", {}, False),
        (PRIVATE, "11.0.0.0/8", {}, False),
        (PRIVATE, "255.0.0.0/8", {}, False),
        (PRIVATE, "ff00::/8", {}, False),
        (replace(PRIVATE, mode="none"), "10.0.0.0/8", {}, False),
        (replace(PRIVATE, mode="address"), "10.0.0.0/8", {}, False),
    ],
)
def test_routes_that_decide_on_the_interface_the_gateway_or_source_routing_concern_us(
    config: LinkConfig, subnet: str, key: Any, concerns: bool
) -> None:
    assert bool(monitor_for(config).concerns(message(subnet, **key))) is concerns


def test_nexthop_objects_of_a_daemon_concern_us_only_while_a_route_waits_for_its_place() -> None:
    monitor, new, delete = monitor_for(), HEADER.pack(16, 104, 0, 0, 0), HEADER.pack(16, 105, 0, 0, 0)
    assert not monitor.concerns(new + delete)
    monitor.follow(AwaitedRoutes(), waits=True)
    assert not monitor.concerns(new)
    assert monitor.concerns(new + delete)


def test_a_full_table_that_flaps_wakes_nothing_and_one_route_of_it_only_the_paced_way() -> None:
    wakes: list[str] = []
    monitor = Monitor(117, lambda: wakes.append("ours"), lambda: wakes.append("foreign"))
    monitor.follow(find_awaited_routes(DESIRED, OVERLAY, BY_NAME))
    for number in range(10_000):
        monitor._received([message(f"11.{number // 250}.{number % 250}.0/24", REPLACE)])
    assert not wakes
    monitor._received([message("11.0.0.0/24") + message("10.1.0.0/16")])
    assert wakes == ["foreign"]


def test_a_flapping_route_of_another_program_causes_a_bounded_number_of_reconciliations() -> None:
    delays: list[float] = []
    now = [0.0]
    due: set[float] = set()
    repairs = Repairs(delays.append, lambda: now[0])
    for tick in range(60_000):
        now[0] = tick / 1000
        repairs.schedule_for_foreign_route()
        due.add(round(now[0] + delays[-1] - SETTLE, 6))
    assert delays[0] == SETTLE
    assert len(due) <= BURST + 60 / INTERVAL + 1
    now[0] = 1000.0
    repairs.schedule_for_foreign_route()
    assert delays[-1] == SETTLE, "after a calm time the next change is handled at once again"


def test_a_change_is_never_left_to_a_reconciliation_that_was_due_before_it() -> None:
    pacing = WakePacing()
    for tick in range(500):
        now = tick / 100
        pacing = pacing.request(now)
        assert pacing.due >= now
