"""A wanted address of phpIPAM: taken where it is free or one's own, and left to whoever else has it."""

import asyncio
from ipaddress import ip_address
from typing import Any

import pytest

from overlay_net.adapters.phpipam.rows import RECORD_PREFIX
from overlay_net.model.errors import AddressTaken
from overlay_net.model.ipam import Reservation
from tests.component.phpipam_support import bench, mark, owner

WANTED = ip_address("192.168.100.50")


async def test_a_wanted_address_that_is_free_is_taken() -> None:
    async with bench() as lab:
        made = await lab.backend().reserve(owner(), lab.pool(), WANTED)
        assert made.address.ip == WANTED
        assert [row["note"] for row in lab.rows()] == [mark()]


@pytest.mark.parametrize(
    ("fields", "holder"),
    [
        pytest.param({"hostname": "printer"}, "printer", id="a person's row with a host name"),
        pytest.param({"description": "for Bob"}, "for Bob", id="a person's row with a description"),
        pytest.param({"hostname": "worker-1", "note": "by hand"}, "worker-1", id="a person's row with the node's name"),
        pytest.param({"hostname": "worker-2", "note": mark("worker-2")}, "", id="another node's"),
        pytest.param({"hostname": "worker-1", "note": mark(cluster="cluster-b")}, "", id="another cluster's"),
    ],
)
async def test_a_wanted_address_of_somebody_else_stays_theirs(fields: dict[str, Any], holder: str) -> None:
    async with bench() as lab:
        lab.server.add_address(lab.subnet, str(WANTED), **fields)
        before = lab.rows()
        with pytest.raises(AddressTaken, match=r"192\.168\.100\.50 is recorded for") as taken:
            await lab.backend().reserve(owner(), lab.pool(), WANTED)
        assert taken.value.holder == holder
        assert lab.rows() == before


@pytest.mark.parametrize("adopt", [False, True])
async def test_a_row_of_the_nodes_earlier_life_is_taken_over_with_what_people_wrote(adopt: bool) -> None:
    async with bench() as lab:
        note = f"asked for by Bob\n{mark(uid='uid-old')}\nticket 7"
        record = lab.server.add_address(lab.subnet, str(WANTED), hostname="worker-1", note=note, tag=4)
        made = await lab.backend().reserve(owner(uid="uid-new"), lab.pool(), WANTED, adopt=adopt)
        (row,) = lab.rows()
        assert made.record == f"{RECORD_PREFIX}{record}"
        assert made.owner.uid == "uid-new"
        assert (row["note"], row["tag"]) == (f"asked for by Bob\n{mark(uid='uid-new')}\nticket 7", 4)


async def test_an_unmarked_row_is_taken_over_where_that_is_asked_for() -> None:
    """As an earlier operator left it."""
    async with bench() as lab:
        lab.server.add_address(lab.subnet, str(WANTED), description="overlay", note="old operator", tag=3)
        await lab.backend().reserve(owner(), lab.pool(), WANTED, adopt=True)
        (row,) = lab.rows()
        assert row["note"] == f"old operator\n{mark()}"
        assert (row["hostname"], row["description"], row["tag"]) == ("worker-1", "overlay", 3)


@pytest.mark.parametrize("note", [mark("worker-2"), mark(cluster="cluster-b")], ids=["a node's", "a cluster's"])
async def test_a_marked_row_of_somebody_else_is_never_taken_over(note: str) -> None:
    async with bench() as lab:
        lab.server.add_address(lab.subnet, str(WANTED), note=note)
        with pytest.raises(AddressTaken):
            await lab.backend().reserve(owner(), lab.pool(), WANTED, adopt=True)
        assert [row["note"] for row in lab.rows()] == [note]


async def test_two_nodes_that_want_one_address_at_once_do_not_both_get_it() -> None:
    async with bench(lock="off") as lab:
        backend = lab.backend()
        for duplicates in (False, True):
            lab.server.faults.duplicates = duplicates
            answers = await asyncio.gather(
                *(backend.reserve(owner(f"worker-{number}"), lab.pool(), WANTED) for number in range(4)),
                return_exceptions=True,
            )
            (made,) = (answer for answer in answers if isinstance(answer, Reservation))
            assert sum(isinstance(answer, AddressTaken) for answer in answers) == 3
            assert len(lab.rows()) == 1
            await backend.release(made)
