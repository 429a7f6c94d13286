"""A requested address in phpIPAM: reserved if it is free or already ours, and not taken from another owner."""

import asyncio
from ipaddress import ip_address
from typing import Any

import pytest

from overlay_net.adapters.phpipam.rows import RECORD_PREFIX
from overlay_net.model.errors import AddressTaken
from overlay_net.model.ipam import QUARANTINE, Reservation
from tests.component.phpipam_support import bench, owner, owner_tag

REQUESTED = ip_address("192.168.100.50")


async def test_free_requested_address_is_reserved() -> None:
    async with bench() as lab:
        made = await lab.backend().reserve(owner(), lab.pool(), REQUESTED)
        assert made.address.ip == REQUESTED
        assert [row["note"] for row in lab.rows()] == [owner_tag()]


@pytest.mark.parametrize(
    ("fields", "holder"),
    [
        pytest.param({"hostname": "printer"}, "printer", id="foreign row with a hostname"),
        pytest.param({"description": "for Bob"}, "for Bob", id="foreign row with a description"),
        pytest.param({"hostname": "worker-1", "note": "by hand"}, "worker-1", id="foreign row with the node's name"),
        pytest.param(
            {"hostname": "worker-2", "note": owner_tag("worker-2")},
            "node worker-2 of cluster cluster-a",
            id="row of another node",
        ),
        pytest.param(
            {"hostname": "worker-1", "note": owner_tag(cluster="cluster-b")},
            "node worker-1 of cluster cluster-b",
            id="row of another cluster",
        ),
        pytest.param({"note": owner_tag(QUARANTINE)}, "", id="quarantined address"),
    ],
)
async def test_requested_address_of_another_owner_is_not_taken(fields: dict[str, Any], holder: str) -> None:
    async with bench() as lab:
        lab.server.add_address(lab.subnet, str(REQUESTED), **fields)
        before = lab.rows()
        with pytest.raises(AddressTaken, match=r"192\.168\.100\.50 is recorded for") as taken:
            await lab.backend().reserve(owner(), lab.pool(), REQUESTED)
        assert taken.value.holder == holder
        assert lab.rows() == before


@pytest.mark.parametrize("adopt", [False, True])
async def test_row_of_an_earlier_node_object_is_taken_over_with_its_other_text(adopt: bool) -> None:
    async with bench() as lab:
        note = f"requested by Bob\n{owner_tag(uid='uid-old')}\nticket 7"
        record = lab.server.add_address(lab.subnet, str(REQUESTED), hostname="worker-1", note=note, tag=4)
        made = await lab.backend().reserve(owner(uid="uid-new"), lab.pool(), REQUESTED, adopt=adopt)
        (row,) = lab.rows()
        assert made.record == f"{RECORD_PREFIX}{record}"
        assert made.owner.uid == "uid-new"
        assert (row["note"], row["tag"]) == (f"requested by Bob\n{owner_tag(uid='uid-new')}\nticket 7", 4)


async def test_row_without_owner_tag_is_adopted_on_request() -> None:
    """As the earlier operator created it."""
    async with bench() as lab:
        lab.server.add_address(lab.subnet, str(REQUESTED), description="overlay", note="old operator", tag=3)
        await lab.backend().reserve(owner(), lab.pool(), REQUESTED, adopt=True)
        (row,) = lab.rows()
        assert row["note"] == f"old operator\n{owner_tag()}"
        assert (row["hostname"], row["description"], row["tag"]) == ("worker-1", "overlay", 3)


@pytest.mark.parametrize(
    "note", [owner_tag("worker-2"), owner_tag(cluster="cluster-b")], ids=["another node", "another cluster"]
)
async def test_row_with_the_owner_tag_of_another_owner_is_never_adopted(note: str) -> None:
    async with bench() as lab:
        lab.server.add_address(lab.subnet, str(REQUESTED), note=note)
        with pytest.raises(AddressTaken):
            await lab.backend().reserve(owner(), lab.pool(), REQUESTED, adopt=True)
        assert [row["note"] for row in lab.rows()] == [note]


async def test_concurrent_requests_for_one_address_have_one_winner() -> None:
    async with bench(lock="off") as lab:
        backend = lab.backend()
        for duplicates in (False, True):
            lab.server.faults.duplicates = duplicates
            answers = await asyncio.gather(
                *(backend.reserve(owner(f"worker-{number}"), lab.pool(), REQUESTED) for number in range(4)),
                return_exceptions=True,
            )
            (made,) = (answer for answer in answers if isinstance(answer, Reservation))
            assert sum(isinstance(answer, AddressTaken) for answer in answers) == 3
            assert len(lab.rows()) == 1
            await backend.release(made)
