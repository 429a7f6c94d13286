"""The inventory of one cluster in phpIPAM: only its rows, and the pools that could not be read."""

from collections.abc import Callable

import aiohttp
import pytest

from lab.phpipam import Server
from overlay_net.model.ipam import Inventory
from tests.component.phpipam_support import Bench, bench, owner, owner_tag, pool


async def test_inventory_contains_only_rows_of_this_cluster() -> None:
    async with bench() as lab:
        backend = lab.backend()
        made = [await backend.reserve(owner(f"worker-{number}"), lab.pool()) for number in range(3)]
        for last, note in (
            (60, None),
            (61, "overlay-net"),
            (62, owner_tag(cluster="cluster-b")),
            (63, owner_tag(cluster="cluster-a2")),
            (64, "overlay-net cluster=cluster-a and no more"),
        ):
            lab.server.add_address(lab.subnet, f"192.168.100.{last}", hostname="worker-1", note=note)
        inventory = await backend.inventory((lab.pool(),))
        assert set(inventory.reservations) == set(made)
        assert inventory.pools == {"pool-1"}
        assert inventory.problems == ()


async def test_inventory_contains_unused_rows_and_rows_outside_the_pool() -> None:
    async with bench() as lab:
        narrow = lab.pool(cidr="192.168.100.0/25", name="narrow")
        lab.server.add_address(lab.subnet, "192.168.100.200", hostname="worker-9", note=owner_tag("worker-9"))
        (found,) = (await lab.backend(narrow).inventory((narrow,))).reservations
        assert str(found.address) == "192.168.100.200/32"
        assert found.pool == "narrow"


async def test_pools_that_share_a_subnet_cost_one_call() -> None:
    async with bench() as lab:
        pools = (lab.pool(name="one"), lab.pool(name="two"))
        await lab.client.read_subnet(lab.subnet)
        calls = lab.call_count()
        assert (await lab.backend(*pools).inventory(pools)).pools == {"one", "two"}
        assert lab.call_count() == calls + 1


async def test_inventory_of_an_empty_subnet_is_complete() -> None:
    async with bench() as lab:
        bare = pool(lab.server.add_subnet(1, "10.9.0.0/24"), "10.9.0.0/24", "10.9.0.1", name="bare")
        inventory = await lab.backend(bare).inventory((bare,))
        assert inventory == Inventory((), frozenset({"bare"}))


async def test_inventory_without_phpipam_pools_makes_no_call() -> None:
    async with bench() as lab:
        assert (await lab.backend().inventory(())).pools == frozenset()
        assert lab.call_count() == 0


async def test_deleted_subnet_is_a_problem_of_its_own_pool_only() -> None:
    async with bench() as lab:
        gone = pool(999, "10.9.0.0/24", "10.9.0.1", name="gone")
        backend = lab.backend(lab.pool(), gone)
        made = await backend.reserve(owner(), lab.pool())
        inventory = await backend.inventory((lab.pool(), gone))
        assert inventory.reservations == (made,)
        assert inventory.pools == {"pool-1"}
        (problem,) = inventory.problems
        assert "999" in problem


def no_backend(server: Server) -> None:
    server.backend_up = False


def no_database(server: Server) -> None:
    server.database_up = False


def no_app(server: Server) -> None:
    server.apps.clear()


@pytest.mark.parametrize("break_it", [no_backend, no_database, no_app])
async def test_inventory_of_a_failing_server_is_incomplete_not_empty(break_it: Callable[[Server], None]) -> None:
    async with bench() as lab:
        backend = lab.backend()
        await backend.reserve(owner(), lab.pool())
        break_it(lab.server)
        inventory = await backend.inventory((lab.pool(),))
        assert (inventory.reservations, inventory.pools) == ((), frozenset())
        assert len(inventory.problems) == 1


async def test_missing_owner_tag_field_is_a_problem_not_an_empty_inventory() -> None:
    async with bench() as lab:
        lab.server.add_address(lab.subnet, "192.168.100.60")
        inventory = await lab.backend(owner_tag_field="custom_owner").inventory((lab.pool(),))
        assert inventory.pools == frozenset()
        assert "Invalid filter_by" in inventory.problems[0]


class Received:
    """Counts the bytes of responses."""

    def __init__(self, lab: Bench) -> None:
        self.bytes = 0
        trace = aiohttp.TraceConfig()

        async def count(_: aiohttp.ClientSession, __: object, chunk: aiohttp.TraceResponseChunkReceivedParams) -> None:
            self.bytes += len(chunk.chunk)

        trace.on_response_chunk_received.append(count)
        trace.freeze()
        lab.connection.session.trace_configs.append(trace)


async def test_only_our_rows_of_a_large_subnet_are_transferred() -> None:
    async with bench() as lab:
        large = pool(lab.server.add_subnet(1, "10.1.0.0/16", "10.1.0.1"), "10.1.0.0/16", "10.1.0.1", name="large")
        assert large.subnet_id is not None
        for number in range(2000):
            ip = f"10.1.{1 + number // 250}.{1 + number % 250}"
            lab.server.add_address(large.subnet_id, ip, hostname=f"pc-{number}", note="not ours")
        backend = lab.backend(large)
        made = await backend.reserve(owner(), large)
        received = Received(lab)
        inventory = await backend.inventory((large,))
        assert inventory.reservations == (made,)
        assert 0 < received.bytes < 2000
