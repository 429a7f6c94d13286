"""Reservations as rows of phpIPAM: found and released; rows of others and edited rows are left alone."""

import asyncio
from datetime import timedelta
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from overlay_net.adapters.phpipam.rows import RECORD_PREFIX
from overlay_net.model.errors import Conflict
from overlay_net.model.ipam import Reservation
from tests.component.phpipam_support import bench, owner, owner_tag

REQUESTED = ip_address("192.168.100.50")


def reservation(record: int, address: str = "192.168.100.50/24", node: str = "worker-1") -> Reservation:
    return Reservation(ip_interface(address), "pool-1", owner(node), f"{RECORD_PREFIX}{record}", ipam="phpipam")


# --- Finding -----------------------------------------------------------------------------------------------------


async def test_only_our_row_is_found_among_rows_with_the_same_hostname() -> None:
    async with bench() as lab:
        for last, note in ((60, "by hand"), (61, owner_tag(cluster="cluster-b"))):
            lab.server.add_address(lab.subnet, f"192.168.100.{last}", hostname="worker-1", note=note)
        backend = lab.backend()
        made = await backend.reserve(owner(), lab.pool(), REQUESTED)
        for last in (62, 63):
            lab.server.add_address(lab.subnet, f"192.168.100.{last}", hostname="worker-1")
        assert await backend.find(owner(), None) == (made,)


async def test_row_with_a_changed_hostname_is_found_by_address_and_reported() -> None:
    async with bench() as lab:
        backend = lab.backend()
        made = await backend.reserve(owner(), lab.pool())
        lab.server.edit(lab.rows()[0], hostname="db-primary")
        (found,) = await backend.find(owner(), made.address.ip)
        assert (found.address, found.record) == (made.address, made.record)
        assert "db-primary" in found.edited
        ((listed,),) = ((await backend.inventory((lab.pool(),))).reservations,)
        assert "db-primary" in listed.edited


@pytest.mark.parametrize("name", ["Worker-1", "WORKER-1"])
async def test_hostname_in_different_case_is_not_a_change(name: str) -> None:
    async with bench() as lab:
        backend = lab.backend()
        await backend.reserve(owner(), lab.pool())
        lab.server.edit(lab.rows()[0], hostname=name)
        (found,) = await backend.find(owner(), None)
        assert found.edited == ""


async def test_newer_of_two_rows_with_one_address_is_found_as_double_assigned() -> None:
    """An old server allocated it twice to a controller that ended before it could notice."""
    async with bench() as lab:
        lab.server.faults.duplicates = True
        for node in ("worker-1", "worker-2"):
            lab.server.add_address(lab.subnet, "192.168.100.2", hostname=node, note=owner_tag(node))
        backend = lab.backend()
        for node, double_assigned in (("worker-1", False), ("worker-2", True)):
            (found,) = await backend.find(owner(node), None)
            assert found.double_assigned == double_assigned


# --- Release -----------------------------------------------------------------------------------------------------


async def test_release_deletes_exactly_one_row_by_its_id() -> None:
    async with bench() as lab:
        backend = lab.backend()
        made = await backend.reserve(owner(), lab.pool())
        kept = await backend.reserve(owner("worker-2"), lab.pool())
        await backend.release(made)
        await backend.release(made)
        assert [f"{RECORD_PREFIX}{row['id']}" for row in lab.rows()] == [kept.record]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"note": "now Bob's"}, id="the owner tag was removed"),
        pytest.param({"note": None}, id="the note was emptied"),
        pytest.param({"note": owner_tag("worker-2")}, id="it belongs to another node"),
        pytest.param({"note": owner_tag(cluster="cluster-b")}, id="it belongs to another cluster"),
    ],
)
async def test_row_without_our_owner_tag_is_not_deleted(change: dict[str, Any]) -> None:
    async with bench() as lab:
        backend = lab.backend()
        made = await backend.reserve(owner(), lab.pool())
        lab.server.edit(lab.rows()[0], **change)
        before = lab.rows()
        await backend.release(made)
        assert lab.rows() == before


async def test_row_taken_over_by_a_later_node_of_that_name_is_not_deleted() -> None:
    async with bench() as lab:
        backend = lab.backend()
        made = await backend.reserve(owner(), lab.pool())
        later = await backend.reserve(owner(uid="uid-later"), lab.pool(), made.address.ip)
        assert later.record == made.record
        before = lab.rows()
        with pytest.raises(Conflict, match="later Node worker-1"):
            await backend.release(made)
        assert lab.rows() == before
        await backend.release(later)
        assert lab.rows() == []


async def test_row_whose_id_has_a_different_address_is_not_deleted() -> None:
    """A restored database reuses ids."""
    async with bench() as lab:
        record = lab.server.add_address(lab.subnet, "192.168.100.77", hostname="worker-1", note=owner_tag())
        await lab.backend().release(reservation(record))
        assert [row["ip"] for row in lab.rows()] == ["192.168.100.77"]


async def test_concurrently_deleted_row_is_not_an_error() -> None:
    async with bench(lock="off") as lab:
        backend = lab.backend()
        made = await backend.reserve(owner(), lab.pool())
        await asyncio.gather(*(backend.release(made) for _ in range(4)))
        assert lab.rows() == []
        assert lab.breaker.error is None


# --- Custom owner tag field, and lastSeen ------------------------------------------------------------------------


@pytest.mark.parametrize("nest", [False, True], ids=["flat", "nested"])
async def test_owner_tag_in_a_custom_field_leaves_the_note_unchanged(nest: bool) -> None:
    async with bench(nest=nest) as lab:
        lab.server.add_custom_field("custom_owner")
        lab.server.add_custom_field("custom_rack")
        lab.server.add_address(lab.subnet, "192.168.100.60", hostname="worker-1", note=owner_tag())
        backend = lab.backend(owner_tag_field="custom_owner")
        made = await backend.reserve(owner(), lab.pool())
        (row,) = (row for row in lab.rows() if row["ip"] == "192.168.100.2")
        assert (row["custom_owner"], row["note"]) == (owner_tag(), None)
        assert await backend.find(owner(), None) == (made,)
        assert (await backend.inventory((lab.pool(),))).reservations == (made,)
        again = await backend.reserve(owner(uid="uid-2"), lab.pool(), made.address.ip)
        assert again.owner.uid == "uid-2"
        await backend.release(again)
        assert [row["ip"] for row in lab.rows()] == ["192.168.100.60"]


async def test_last_seen_of_addresses_in_use_is_refreshed_and_the_tag_kept() -> None:
    async with bench() as lab:
        backend = lab.backend(touch=timedelta(days=1))
        await lab.backend(touch=timedelta()).reserve(owner(), lab.pool())
        lab.server.edit(lab.rows()[0], tag=4)
        lab.server.add_address(lab.subnet, "192.168.100.60", hostname="printer")
        (never,) = {row["lastSeen"] for row in lab.rows()}
        await backend.inventory((lab.pool(),))
        ours, printer = lab.rows()
        assert ours["lastSeen"] > "2020"
        assert (ours["tag"], ours["note"]) == (4, owner_tag())
        assert printer["lastSeen"] == never
        calls = lab.server.calls["PATCH addresses"]
        await backend.inventory((lab.pool(),))
        assert lab.server.calls["PATCH addresses"] == calls == 1
