"""What an audit reads: of the NodeOverlayIps only the names, as thousands of them have megabytes of routes."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_interface
from typing import Any

from overlay_net.controller.audit import Auditor
from overlay_net.controller.caches import Caches
from overlay_net.model.api import JsonObject, Listing
from overlay_net.model.ipam import Inventory, Owner, Reservation
from overlay_net.model.names import NODE_OVERLAY_IPS, Resource
from overlay_net.model.pool import Pool
from overlay_net.ops.controller_metrics import ControllerMetrics

NOW = 1000.0
GRACE = timedelta(minutes=10)


class NamesOnly:
    """An API server that answers no request for whole objects."""

    def __init__(self, *names: str) -> None:
        self.present = set(names)

    async def names(self, resource: Resource) -> set[str]:
        assert resource == NODE_OVERLAY_IPS
        return set(self.present)


class Records:
    """An IPAM with one record for each address."""

    def __init__(self, **addresses: str) -> None:
        self.addresses = addresses
        self.released: list[str] = []

    async def inventory(self, pools: tuple[Pool, ...]) -> Inventory:
        records = (
            Reservation(ip_interface(f"{address}/24"), "p1", Owner("c", node, "u"), f"record-{node}")
            for node, address in self.addresses.items()
        )
        return Inventory(tuple(records), frozenset({"p1"}))

    async def release(self, reservation: Reservation) -> None:
        self.released.append(reservation.owner.node)


def raw_overlay(name: str, address: str) -> JsonObject:
    metadata = {"name": name, "uid": name, "resourceVersion": "1"}
    return {"metadata": metadata, "status": {"ipAddr": f"{address}/24", "pool": "p1"}}


async def audit_twice(present: set[str], watched: dict[str, str], records: dict[str, str]) -> tuple[set[str], set[str]]:
    """Two audits that are the grace time apart; the nodes whose records were released, and those to be checked."""
    caches = Caches()
    checked: set[str] = set()
    caches.overlays.replace(Listing(tuple(raw_overlay(*each) for each in watched.items()), "1"))
    times, ipam, api = iter((NOW, NOW + GRACE.total_seconds())), Records(**records), NamesOnly(*present)
    events: Any = None
    unchecked: Any = (api, ipam, caches, GRACE, checked.add, events, ControllerMetrics(), lambda: next(times))
    auditor = Auditor(*unchecked)
    await auditor.audit()
    await auditor.audit()
    return set(ipam.released), checked


async def test_an_audit_reads_no_routes() -> None:
    records = {"a": "10.0.0.2", "gone": "10.0.0.3", "b": "10.0.0.4"}
    released, checked = await audit_twice({"a", "b"}, {"a": "10.0.0.2", "b": "10.0.0.9"}, records)
    assert (released, checked) == ({"gone"}, {"b"})


async def test_an_object_that_the_watch_has_not_reported_yet_is_left_alone() -> None:
    assert await audit_twice({"new"}, {}, {"new": "10.0.0.2"}) == (set(), set())


async def test_a_record_is_orphaned_although_the_watch_has_not_reported_the_deletion_yet() -> None:
    released, checked = await audit_twice(set(), {"gone": "10.0.0.2"}, {"gone": "10.0.0.2"})
    assert (released, checked) == ({"gone"}, set())


class SlowRecords(Records):
    """An IPAM from which another task releases the record of "gone" while the records are read."""

    def __init__(self, caches: Caches, **addresses: str) -> None:
        super().__init__(**addresses)
        self._caches = caches

    async def inventory(self, pools: tuple[Pool, ...]) -> Inventory:
        found = await super().inventory(pools)
        for each in found.reservations:
            self._caches.released_records.released(replace(each, ipam="phpipam"))
        self.addresses = {}
        return replace(found, reservations=tuple(replace(each, ipam="phpipam") for each in found.reservations))


async def test_a_record_that_is_released_while_records_are_read_has_not_come_back() -> None:
    caches = Caches()
    unchecked: Any = (
        NamesOnly(),
        SlowRecords(caches, gone="10.0.0.3"),
        caches,
        GRACE,
        set().add,
        None,
        ControllerMetrics(),
    )
    await Auditor(*unchecked).audit()
    assert caches.released_records.shared == frozenset()


async def test_the_event_loop_goes_on_while_thousands_of_records_are_compared() -> None:
    nodes = {f"n{number}": f"10.0.{number // 250}.{number % 250 + 1}" for number in range(2000)}
    caches, turns = Caches(), 0
    caches.overlays.replace(Listing(tuple(raw_overlay(*each) for each in nodes.items()), "1"))
    unchecked: Any = (NamesOnly(*nodes), Records(**nodes), caches, GRACE, set().add, None, ControllerMetrics())
    audit = asyncio.create_task(Auditor(*unchecked).audit())
    while not audit.done():
        turns += 1
        await asyncio.sleep(0)
    await audit
    # Without a thread, the whole audit is one turn.
    assert turns > 2
