"""Trouble of one subnet, or of the whole server: which requests pause because of it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from overlay_net.model.errors import OverlayNetError, Unavailable
from overlay_net.model.ipam import Owner, Reservation
from overlay_net.model.pool import Pool
from tests.component.phpipam_faults import backend_down, database_down
from tests.component.phpipam_support import Bench, bench, owner

NODES = 40
HOSTS = count(100)
Work = Callable[[Bench, int], Awaitable[Any]]


def add_subnet(lab: Bench, network: str = "10.0.0") -> Pool:
    return lab.pool(lab.server.add_subnet(1, f"{network}.0/24", f"{network}.1"), f"{network}.0/24", f"{network}.1")


async def fail_often(work: Work, lab: Bench, subnet: int, number: int = 10) -> list[OverlayNetError]:
    """The errors of concurrent requests for a subnet."""
    results = await asyncio.gather(*(work(lab, subnet) for _ in range(number)), return_exceptions=True)
    assert all(isinstance(each, Unavailable) for each in results)
    return [each for each in results if isinstance(each, Unavailable)]


def create(lab: Bench, subnet: int) -> Awaitable[Any]:
    return lab.client.create_at_first_free(subnet, {"hostname": "worker-1"})


def create_at_address(lab: Bench, subnet: int) -> Awaitable[Any]:
    return lab.client.create(subnet, f"10.0.0.{next(HOSTS)}", {"hostname": "worker-1"})


def update(lab: Bench, subnet: int) -> Awaitable[Any]:
    row = next(row["id"] for row in lab.server.rows(subnet))
    return lab.client.update(subnet, row, {"hostname": "worker-1", "tag": 2})


def list_rows(lab: Bench, subnet: int) -> Awaitable[Any]:
    return lab.client.list_rows(subnet)


@pytest.mark.parametrize(
    ("work", "fault"),
    [
        pytest.param(create, "failing_subnet", id="creating rows"),
        pytest.param(create_at_address, "failing_subnet", id="creating rows at chosen addresses"),
        pytest.param(update, "failing_subnet", id="updating rows"),
        pytest.param(list_rows, "unreadable_subnet", id="listing rows"),
    ],
)
async def test_failures_of_one_subnet_pause_only_that_subnet(work: Work, fault: str) -> None:
    async with bench() as lab:
        bad = add_subnet(lab).subnet_id or 0
        await lab.client.read_subnet(lab.subnet)
        setattr(lab.server.faults, fault, bad)
        for _ in range(3):
            await fail_often(work, lab, bad)
        calls = lab.call_count()
        errors = await fail_often(work, lab, bad)
        assert lab.call_count() == calls, "the subnet is paused"
        assert all(error.retry_after is not None for error in errors if isinstance(error, Unavailable))
        # Neither other subnets nor requests for no subnet wait.
        await lab.backend().reserve(owner("worker-9"), lab.pool())
        assert len(await lab.backend().find(owner("worker-9"), None)) == 1
        assert lab.breakers.error is None


async def test_read_trouble_of_a_subnet_does_not_stop_its_writes() -> None:
    async with bench() as lab:
        bad = add_subnet(lab)
        lab.server.faults.unreadable_subnet = bad.subnet_id or 0
        for _ in range(3):
            await fail_often(list_rows, lab, bad.subnet_id or 0)
        made = await lab.backend(bad).reserve(owner(), bad)
        assert str(made.address) == "10.0.0.2/24"


@pytest.mark.parametrize("break_it", [backend_down, database_down], ids=["502 from the web server", "database down"])
async def test_trouble_of_the_server_pauses_all_subnets(break_it: Callable[[Any], None]) -> None:
    async with bench() as lab:
        other = add_subnet(lab)
        await lab.client.read_subnet(lab.subnet)
        break_it(lab.server)
        backend = lab.backend()
        for number in range(3):
            with pytest.raises(Unavailable):
                await backend.find(owner(f"worker-{number}"), None)
        calls = lab.call_count()
        for subnet in (lab.subnet, other.subnet_id or 0):
            await fail_often(create, lab, subnet)
            await fail_often(list_rows, lab, subnet)
        assert lab.call_count() == calls
        assert lab.breakers.error is not None


async def test_server_that_fails_for_every_subnet_counts_as_down() -> None:
    """Without joining nodes, only the refreshes of pools show that the database is down."""
    async with bench() as lab:
        subnets = lab.subnet, add_subnet(lab).subnet_id or 0
        for subnet in subnets:
            await lab.client.read_subnet(subnet)
        database_down(lab.server)
        for subnet in subnets:
            assert lab.breakers.error is None
            await fail_often(list_rows, lab, subnet)
        assert lab.breakers.error is not None


async def test_recovered_server_is_noticed_while_one_subnet_still_fails() -> None:
    async with bench() as lab:
        bad = add_subnet(lab).subnet_id or 0
        await lab.client.read_subnet(lab.subnet)
        backend_down(lab.server)
        for _ in range(3):
            with pytest.raises(Unavailable):
                await lab.client.search_hostname("worker-1")
        lab.server.backend_up = True
        lab.server.faults.failing_subnet = bad
        lab.clock.forward(1)
        with pytest.raises(Unavailable):
            await create(lab, bad)
        # That probe showed nothing about the server, so the next request is one.
        await lab.client.search_hostname("worker-1")
        assert lab.breaker.error is None


async def test_nodes_of_a_healthy_subnet_join_undelayed_beside_one_that_fails() -> None:
    async with bench() as lab:
        bad, good = add_subnet(lab), add_subnet(lab, "10.0.1")
        backend = lab.backend(bad, good)
        lab.server.faults.failing_subnet = bad.subnet_id or 0
        attempts = dict.fromkeys((bad.name, good.name), 0)
        await fail_often(create, lab, bad.subnet_id or 0)

        async def join(node: Owner, pool: Pool) -> Reservation:
            while True:
                attempts[pool.name] += 1
                try:
                    found = await backend.find(node, None)
                    return found[0] if found else await backend.reserve(node, pool)
                except Unavailable:
                    # The delay of a worker.
                    lab.clock.forward(0.1)

        async with asyncio.timeout(60):
            made = await asyncio.gather(
                *(join(owner(f"{pool.name}-{number}"), pool) for pool in (good, bad) for number in range(NODES))
            )
        assert len({each.address.ip for each in made}) == 2 * NODES
        assert attempts[good.name] == NODES, "no attempt of a healthy subnet fails"
        rows = [row["hostname"] for pool in (bad, good) for row in lab.rows(pool.subnet_id)]
        assert len([name for name in rows if name.startswith("pool-")]) == 2 * NODES, "one row per node"


async def test_pool_whose_writes_fail_reports_it_although_it_can_be_read() -> None:
    async with bench() as lab:
        bad = add_subnet(lab)
        backend = lab.backend(bad)
        lab.server.faults.failing_subnet = bad.subnet_id or 0
        await fail_often(create, lab, bad.subnet_id or 0)
        facts = await backend.inspect_pool(bad)
        assert isinstance(facts.failure, Unavailable)
        assert "500" in str(facts.failure)
        assert facts.usage.used > 1
        lab.server.faults.failing_subnet = 0
        lab.clock.forward(30)
        await backend.reserve(owner(), bad)
        assert (await backend.inspect_pool(bad)).failure is None


async def test_inventory_of_a_healthy_subnet_is_complete_while_rows_of_another_cannot_be_touched() -> None:
    async with bench() as lab:
        bad = add_subnet(lab)
        backend = lab.backend(bad, lab.pool(), touch=timedelta(days=1))
        made = [await backend.reserve(owner(f"worker-{pool.subnet_id}"), pool) for pool in (bad, lab.pool())]
        lab.server.faults.failing_subnet = bad.subnet_id or 0
        inventory = await backend.inventory((bad, lab.pool()))
        assert set(inventory.reservations) == set(made)
        assert inventory.pools == {bad.name, lab.pool().name}
