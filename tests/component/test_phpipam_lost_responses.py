"""Reservations with a lost request or response: in every case the node ends up with one row."""

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


async def logged_in_backend(lab: Bench) -> PhpIpam:
    """A backend whose login is done."""
    await lab.client.read_subnet(lab.subnet)
    return lab.backend()


async def find_or_reserve(lab: Bench, backend: PhpIpam) -> Reservation | None:
    """Reserve unless a reservation is found; None if phpIPAM is unavailable."""
    try:
        found = await backend.find(owner(), None)
        return found[0] if found else await backend.reserve(owner(), lab.pool())
    except Unavailable:
        return None


@pytest.mark.parametrize("requested", [False, True], ids=["any address", "a requested address"])
async def test_row_with_a_lost_response_is_found_and_not_created_again(requested: bool) -> None:
    async with bench() as lab:
        backend, subject = await logged_in_backend(lab), lab.pool()
        address = ip_address("192.168.100.50") if requested else None
        lab.server.faults.lose_response = 1
        with pytest.raises(ResponseLost):
            await backend.reserve(owner(), subject, address)
        lab.server.faults.lose_response = 0
        (found,) = await backend.find(owner(), None)
        assert [row["ip"] for row in lab.rows()] == [str(found.address.ip)]
        # Once the row was found, a new reservation after its release need not wait.
        await backend.release(found)
        await backend.reserve(owner(), subject, address)
        assert len(lab.rows()) == 1


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(Faults(lose_request=1), id="the connection was reset"),
        pytest.param(Faults(lock_timeout=1), id="the write lock timed out"),
        pytest.param(Faults(server_error=1), id="an empty 500"),
        pytest.param(Faults(html=1), id="an HTML page"),
    ],
)
async def test_node_does_not_reserve_again_while_its_row_may_still_appear(faults: Faults) -> None:
    async with bench() as lab:
        backend = await logged_in_backend(lab)
        lab.server.faults = faults
        with pytest.raises(ResponseLost):
            await backend.reserve(owner(), lab.pool())
        lab.server.faults = Faults()
        assert await backend.find(owner(), None) == ()
        calls = lab.call_count()
        lab.clock.forward(LOCK_WAIT.total_seconds() - 1)
        with pytest.raises(Unavailable, match="may still appear") as refused:
            await backend.reserve(owner(), lab.pool())
        assert 0 < (refused.value.retry_after or 0) <= 1
        assert lab.call_count() == calls
        # Other nodes need not wait.
        await backend.reserve(owner("worker-2"), lab.pool())
        lab.clock.forward(1)
        await backend.reserve(owner(), lab.pool())
        assert sorted(row["hostname"] for row in lab.rows()) == ["worker-1", "worker-2"]


async def test_row_of_a_request_that_waited_for_the_write_lock_is_found() -> None:
    async with bench(timeout=0.5) as lab:
        backend = await logged_in_backend(lab)
        async with lab.server.hold_lock():
            with pytest.raises(ResponseLost):
                await backend.reserve(owner(), lab.pool())
            for _ in range(5):
                assert await find_or_reserve(lab, backend) is None
            assert lab.rows() == []

        async def there() -> bool:
            return await find_or_reserve(lab, backend) is not None

        await eventually(there, "the row is found", seconds=5)
        assert len(lab.rows()) == 1
        lab.clock.forward(MINUTE)
        assert await find_or_reserve(lab, backend) is not None
        assert len(lab.rows()) == 1


async def test_server_that_writes_without_responding_creates_one_row() -> None:
    async with bench(timeout=0.5) as lab:
        backend = await logged_in_backend(lab)
        lab.server.faults.hang = 1
        with pytest.raises(Unavailable):
            await backend.reserve(owner(), lab.pool())
        lab.server.faults.hang = 0
        assert await find_or_reserve(lab, backend) is not None
        assert len(lab.rows()) == 1


@pytest.mark.parametrize("seed", range(3))
async def test_node_gets_one_row_over_a_lossy_connection(seed: int) -> None:
    async with bench() as lab:
        lab.server.chance.seed(seed)
        backend = await logged_in_backend(lab)
        lab.server.faults = Faults(lose_response=0.3, lose_request=0.1, lock_timeout=0.5, html=0.1)
        made: Reservation | None = None
        for _ in range(200):
            made = await find_or_reserve(lab, backend)
            if made is not None:
                break
            lab.clock.forward(10)
        assert made is not None
        assert [row["ip"] for row in lab.rows()] == [str(made.address.ip)]


async def test_release_with_a_lost_response_can_be_repeated() -> None:
    async with bench() as lab:
        backend = await logged_in_backend(lab)
        made = await backend.reserve(owner(), lab.pool())
        lab.server.faults.lose_response = 1
        with pytest.raises(Unavailable):
            await backend.release(made)
        lab.server.faults.lose_response = 0
        await backend.release(made)
        assert lab.rows() == []


@pytest.mark.parametrize("lost", [Faults(lose_response=1), Faults(hang=1)], ids=["connection reset", "no response"])
async def test_lost_response_never_leaves_a_node_with_the_gateway_address(lost: Faults) -> None:
    """The gateway of this pool has no row in phpIPAM, so it is the lowest free address."""
    async with bench(timeout=0.5) as lab:
        await lab.client.read_subnet(lab.subnet)
        bare = lab.server.add_subnet(1, "10.0.0.0/24")
        subject = pool(bare, "10.0.0.0/24", "10.0.0.1")
        backend = lab.backend(subject)
        lab.server.faults = lost
        with pytest.raises(ResponseLost):
            await backend.reserve(owner(), subject)
        assert [row["ip"] for row in lab.rows(bare)] == ["10.0.0.1"]
        # The first attempt to delete the row fails as well.
        lab.server.faults = Faults(lock_timeout=1)
        with pytest.raises(ResponseLost):
            await backend.find(owner(), None)
        lab.server.faults = Faults()
        assert await backend.find(owner(), None) == ()
        made = await backend.reserve(owner(), subject)
        assert [row["ip"] for row in lab.rows(bare)] == [str(made.address.ip)] == ["10.0.0.2"]


async def test_node_keeps_an_address_that_has_become_excluded() -> None:
    async with bench() as lab:
        backend = await logged_in_backend(lab)
        made = await backend.reserve(owner(), lab.pool())
        narrowed = lab.backend(lab.pool(exclude=["192.168.100.2"]))
        lab.server.faults.lose_response = 1
        with pytest.raises(ResponseLost):
            await narrowed.reserve(owner(uid="uid-2"), lab.pool(), made.address.ip)
        lab.server.faults.lose_response = 0
        (found,) = await narrowed.find(owner(uid="uid-2"), made.address.ip)
        assert (found.address, found.record) == (made.address, made.record)
