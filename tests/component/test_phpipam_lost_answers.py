"""A reservation whose answer, or request, was lost: however it went, the node ends with one row."""

from ipaddress import ip_address

import pytest

from lab.phpipam import Faults
from overlay_net.adapters.phpipam import PhpIpam
from overlay_net.adapters.phpipam.responses import ResponseLost
from overlay_net.model.errors import Unavailable
from overlay_net.model.ipam import Reservation
from tests.component.eventually import eventually
from tests.component.phpipam_support import LOCK_WAIT, Bench, bench, owner, pool

MINUTE = 60.0


async def begun(lab: Bench) -> PhpIpam:
    """A backend that has logged in."""
    await lab.client.read_subnet(lab.subnet)
    return lab.backend()


async def as_a_node_does(lab: Bench, backend: PhpIpam) -> Reservation | None:
    """Look first, reserve only what is not there; None for another time."""
    try:
        found = await backend.find(owner(), None)
        return found[0] if found else await backend.reserve(owner(), lab.pool())
    except Unavailable:
        return None


@pytest.mark.parametrize("requested", [False, True], ids=["any address", "a requested address"])
async def test_a_row_whose_answer_was_lost_is_found_and_no_second_one_is_made(requested: bool) -> None:
    async with bench() as lab:
        backend, subject = await begun(lab), lab.pool()
        address = ip_address("192.168.100.50") if requested else None
        lab.server.faults.lose_response = 1
        with pytest.raises(ResponseLost):
            await backend.reserve(owner(), subject, address)
        lab.server.faults.lose_response = 0
        (found,) = await backend.find(owner(), None)
        assert [row["ip"] for row in lab.rows()] == [str(found.address.ip)]
        # It was found: there is nothing to wait for when the node comes again after it was given back.
        await backend.release(found)
        await backend.reserve(owner(), subject, address)
        assert len(lab.rows()) == 1


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(Faults(lose_request=1), id="the connection was reset"),
        pytest.param(Faults(lock_timeout=1), id="the write lock was not got"),
        pytest.param(Faults(server_error=1), id="an empty 500"),
        pytest.param(Faults(html=1), id="a page in HTML"),
    ],
)
async def test_after_a_failure_nobody_reserves_again_while_a_row_may_still_appear(faults: Faults) -> None:
    async with bench() as lab:
        backend = await begun(lab)
        lab.server.faults = faults
        with pytest.raises(ResponseLost):
            await backend.reserve(owner(), lab.pool())
        lab.server.faults = Faults()
        assert await backend.find(owner(), None) == ()
        asked = lab.asked()
        lab.clock.forward(LOCK_WAIT.total_seconds() - 1)
        with pytest.raises(Unavailable, match="may still appear") as refused:
            await backend.reserve(owner(), lab.pool())
        assert 0 < (refused.value.retry_after or 0) <= 1
        assert lab.asked() == asked
        # Other nodes need not wait for it.
        await backend.reserve(owner("worker-2"), lab.pool())
        lab.clock.forward(1)
        await backend.reserve(owner(), lab.pool())
        assert sorted(row["hostname"] for row in lab.rows()) == ["worker-1", "worker-2"]


async def test_a_request_that_waits_for_the_servers_lock_is_found_when_it_is_done_at_last() -> None:
    async with bench(timeout=0.5) as lab:
        backend = await begun(lab)
        async with lab.server.hold_lock():
            with pytest.raises(ResponseLost):
                await backend.reserve(owner(), lab.pool())
            for _ in range(5):
                assert await as_a_node_does(lab, backend) is None
            assert lab.rows() == []

        async def there() -> bool:
            return await as_a_node_does(lab, backend) is not None

        await eventually(there, "the row is not found", seconds=5)
        assert len(lab.rows()) == 1
        lab.clock.forward(MINUTE)
        assert await as_a_node_does(lab, backend) is not None
        assert len(lab.rows()) == 1


async def test_a_server_that_answers_no_write_but_does_each_one_gives_one_row() -> None:
    async with bench(timeout=0.5) as lab:
        backend = await begun(lab)
        lab.server.faults.hang = 1
        with pytest.raises(Unavailable):
            await backend.reserve(owner(), lab.pool())
        lab.server.faults.hang = 0
        assert await as_a_node_does(lab, backend) is not None
        assert len(lab.rows()) == 1


@pytest.mark.parametrize("seed", range(3))
async def test_on_a_line_that_loses_half_of_everything_each_node_ends_with_one_row(seed: int) -> None:
    async with bench() as lab:
        lab.server.chance.seed(seed)
        backend = await begun(lab)
        lab.server.faults = Faults(lose_response=0.3, lose_request=0.1, lock_timeout=0.5, html=0.1)
        made: Reservation | None = None
        for _ in range(200):
            made = await as_a_node_does(lab, backend)
            if made is not None:
                break
            lab.clock.forward(10)
        assert made is not None
        assert [row["ip"] for row in lab.rows()] == [str(made.address.ip)]


async def test_a_release_whose_answer_was_lost_is_done_by_the_next_one() -> None:
    async with bench() as lab:
        backend = await begun(lab)
        made = await backend.reserve(owner(), lab.pool())
        lab.server.faults.lose_response = 1
        with pytest.raises(Unavailable):
            await backend.release(made)
        lab.server.faults.lose_response = 0
        await backend.release(made)
        assert lab.rows() == []


@pytest.mark.parametrize("lost", [Faults(lose_response=1), Faults(hang=1)], ids=["reset", "no answer"])
async def test_a_lost_answer_never_leaves_a_node_with_the_gateways_address(lost: Faults) -> None:
    """The gateway of this pool has no row in phpIPAM, and is the lowest free address there."""
    async with bench(timeout=0.5) as lab:
        await lab.client.read_subnet(lab.subnet)
        bare = lab.server.add_subnet(1, "10.0.0.0/24")
        subject = pool(bare, "10.0.0.0/24", "10.0.0.1")
        backend = lab.backend(subject)
        lab.server.faults = lost
        with pytest.raises(ResponseLost):
            await backend.reserve(owner(), subject)
        assert [row["ip"] for row in lab.rows(bare)] == ["10.0.0.1"]
        # It cannot be removed at once either.
        lab.server.faults = Faults(lock_timeout=1)
        with pytest.raises(ResponseLost):
            await backend.find(owner(), None)
        lab.server.faults = Faults()
        assert await backend.find(owner(), None) == ()
        made = await backend.reserve(owner(), subject)
        assert [row["ip"] for row in lab.rows(bare)] == [str(made.address.ip)] == ["10.0.0.2"]


async def test_an_address_that_a_node_has_stays_though_it_would_not_be_handed_out_any_more() -> None:
    async with bench() as lab:
        backend = await begun(lab)
        made = await backend.reserve(owner(), lab.pool())
        narrowed = lab.backend(lab.pool(exclude=["192.168.100.2"]))
        lab.server.faults.lose_response = 1
        with pytest.raises(ResponseLost):
            await narrowed.reserve(owner(uid="uid-2"), lab.pool(), made.address.ip)
        lab.server.faults.lose_response = 0
        (found,) = await narrowed.find(owner(uid="uid-2"), made.address.ip)
        assert (found.address, found.record) == (made.address, made.record)
