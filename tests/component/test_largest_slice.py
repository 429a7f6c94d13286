"""The schema of OverlayRouteSlice has every field that the controller writes, and etcd accepts the largest slice."""

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network

from overlay_net.adapters.kube import KubeApi
from overlay_net.model.desired_route import Gateway, HealthCheck, RouteSpec
from overlay_net.model.names import OVERLAY_ROUTE_SLICES
from overlay_net.model.route_probe import Probe
from overlay_net.model.route_slice import RouteSlice, SliceContent, slice_manifest
from overlay_net.model.slice_entry import SliceEntry, SliceWithdrawal

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GATEWAYS = tuple(
    Gateway(ip_address(f"fd00:ffff:ffff:ffff:ffff:ffff:ffff:{number:x}"), 256, 255) for number in range(16)
)


def entry(number: int, subnets: int, spec: RouteSpec) -> SliceEntry:
    return SliceEntry(
        name=f"static-route-{number:03}".ljust(253, "x"),
        uid="8a4f6d5e-0c2b-4d3e-9f1a-2b3c4d5e6f70",
        generation=2**40,
        created="2026-01-01T00:00:00Z",
        subnets=tuple(ip_network(f"fd00:{number:x}:ffff:ffff:ffff:ffff:ffff:{each:x}/128") for each in range(subnets)),
        spec=spec,
        probe=Probe(ip_address("fd00:ffff:ffff:ffff:ffff:ffff:ffff:1"), 65535, 60.0),
        slice_generation=2**40,
        closed_since=NOW,
    )


async def test_largest_slice_is_stored_with_all_fields(admin: KubeApi) -> None:
    check = HealthCheck("tcp", 65535, interval=60.0, failures=20, successes=20)
    spec = RouteSpec(GATEWAYS, 2**32 - 1, 2**32 - 1, "unicast", 65520, 65495, True, check, "unreachable")
    blackhole = RouteSpec(kind="blackhole")
    content = SliceContent(
        route_set="r" * 63,
        selector="s" * 1024,
        slices=tuple(range(1000)),
        entries=(*(entry(number, 1, spec) for number in range(63)), entry(63, 500, blackhole)),
        retained=(replace(entry(64, 500, spec), retained=True),),
        withdrawn=tuple(SliceWithdrawal(f"{number:04}".ljust(253, "x"), NOW, 2**40) for number in range(1000)),
        generation=2**40,
    )
    await admin.create(OVERLAY_ROUTE_SLICES, slice_manifest(0, content))
    (stored,) = (await admin.list(OVERLAY_ROUTE_SLICES)).items
    found = RouteSlice.parse(stored)
    assert found.content == content, "the schema prunes no field"
