"""What a joining node costs: no request besides the writes that it takes, and no collision with others that join."""

import asyncio
from ipaddress import ip_address
from typing import Any

import pytest

from overlay_net.adapters.cluster_ipam import ClusterIpam
from overlay_net.controller.caches import Caches
from overlay_net.controller.reserved_events import INTERVAL, ReservedEvents
from overlay_net.model.api import JsonObject, Listing
from overlay_net.model.ipam import Owner
from overlay_net.model.names import EVENTS, NODE_OVERLAY_IPS, OVERLAY_ADDRESSES, Resource
from overlay_net.model.pool import Pool
from overlay_net.ops.events import EventRecorder
from overlay_net.runtime.store import Store
from tests.fakes.cluster import NAME, Client, Cluster
from tests.fakes.kube import InMemoryKube
from tests.fakes.virtual_time import VirtualTimeLoop
from tests.unit.factories import raw_node, raw_pool


class Slow(InMemoryKube):
    """Gives others a turn before it answers, as a network does."""

    def __init__(self) -> None:
        super().__init__()
        self.creates = 0

    async def create(self, resource: Resource, body: JsonObject, **options: Any) -> JsonObject:
        self.creates += 1
        created = await super().create(resource, body, **options)
        await asyncio.sleep(0)
        return created


async def test_nodes_that_join_at_once_choose_different_addresses_before_the_watch_reports_any() -> None:
    kube, caches = Slow(), Caches()
    for store in caches.stores:
        store.replace(Listing((), "0"))
    caches.pools.replace(Listing((raw_pool(),), "1"))
    pool = caches.find_pool("p1")
    assert pool is not None
    ipam = ClusterIpam(kube, "c", caches.known_addresses, caches.pools.get)
    made = await asyncio.gather(*(ipam.reserve(Owner("c", f"n{number}", "u"), pool) for number in range(100)))
    made.append(await ipam.reserve(Owner("c", "later", "u"), pool))
    assert sorted(each.address.ip for each in made) == [ip_address(f"192.168.100.{last}") for last in range(2, 103)]
    assert kube.creates == 101, "none was refused"


async def test_a_node_joins_with_three_writes_and_no_read(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = await Cluster.start(raw_pool())
    await cluster.join(raw_node())
    await cluster.running()
    monkeypatch.delattr(Client, "list")
    written: list[tuple[str, str]] = []
    cluster.kube.subscribers.append(lambda resource, event: written.append((event.type, resource.plural)))
    await cluster.reconcile()
    assert written == [
        ("ADDED", NODE_OVERLAY_IPS.plural),
        ("ADDED", OVERLAY_ADDRESSES.plural),
        ("MODIFIED", NODE_OVERLAY_IPS.plural),
    ]
    assert (await cluster.present_overlay())["status"]["ipAddr"] == "192.168.100.2/24"


async def test_another_process_reads_the_records_before_it_reserves() -> None:
    """The one before it may have reserved an address, and died before it wrote the status."""
    cluster = await Cluster.start(raw_pool())
    await cluster.join(raw_node())
    await cluster.reconcile(writes=2)
    (before,) = await cluster.own_records()
    assert "ipAddr" not in (await cluster.present_overlay()).get("status", {})
    await cluster.settle()
    (after,) = await cluster.own_records()
    assert after.uid == before.uid
    assert (await cluster.present_overlay())["status"]["ipAddr"] == f"{before.address}/24"


async def test_a_record_of_an_earlier_node_that_the_watch_reports_late_is_released() -> None:
    cluster = await Cluster.start(raw_pool())
    await cluster.join(raw_node())
    await cluster.running()
    cluster.watches_lag = True
    await cluster.take("192.168.100.2", NAME)
    await cluster.reconcile()
    assert len(await cluster.own_records()) == 2
    await cluster.catch_up()
    await cluster.settle()
    (record,) = await cluster.own_records()
    assert str(record.address) == "192.168.100.3"
    assert (await cluster.present_overlay())["status"]["ipAddr"] == f"{record.address}/24"


def test_nodes_that_join_cause_one_event_of_their_pool_and_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    kube = InMemoryKube()

    async def scenario() -> None:
        pools = Store(Pool.parse)
        pools.replace(Listing((raw_pool(), raw_pool("p2")), "1"))
        recorder = EventRecorder(kube, "c", "i")
        reserved = ReservedEvents(recorder, pools)
        for number in range(1, 6):
            reserved.add("p1", f"n{number}", ip_address(f"10.0.0.{number}"))
        reserved.add("p2", "n6", ip_address("10.0.0.6"))
        writing = asyncio.ensure_future(recorder.run())
        await asyncio.sleep(2 * INTERVAL)
        writing.cancel()

    with caplog.at_level("INFO"), asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario())
    events = asyncio.run(kube.list(EVENTS)).items
    assert [(each["regarding"]["name"], each["type"], each["note"]) for each in events] == [
        ("p1", "Normal", "addresses reserved for 5 nodes: n1 (10.0.0.1), n2 (10.0.0.2), n3 (10.0.0.3), and 2 more"),
        ("p2", "Normal", "addresses reserved for 1 node: n6 (10.0.0.6)"),
    ]
    assert [each.message for each in caplog.records] == ["addresses reserved"] * 2
