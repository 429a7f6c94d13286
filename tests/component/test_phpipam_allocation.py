"""Allocating any free address of a phpIPAM subnet: the created row, races, and addresses that must not be used."""

import asyncio
from collections import Counter
from ipaddress import ip_address, ip_interface

import pytest

from overlay_net.adapters.phpipam.rows import RECORD_PREFIX
from overlay_net.model.errors import Exhausted
from overlay_net.model.ipam import Reservation
from overlay_net.model.net import IpAddress
from tests.component.phpipam_support import bench, owner, owner_tag, pool


async def test_new_row_has_hostname_description_and_owner_tag() -> None:
    async with bench() as lab:
        made = await lab.backend().reserve(owner(), lab.pool())
        (row,) = lab.rows()
        assert (row["hostname"], row["tag"], row["ip"]) == ("worker-1", 2, "192.168.100.2")
        assert row["note"] == owner_tag()
        assert "Kubernetes" in row["description"]
        record = f"{RECORD_PREFIX}{row['id']}"
        assert made == Reservation(ip_interface("192.168.100.2/24"), "pool-1", owner(), record, ipam="phpipam")


async def test_reservation_costs_two_calls() -> None:
    async with bench() as lab:
        backend = lab.backend()
        assert await backend.find(owner(), None) == ()
        calls = lab.call_count()
        await backend.reserve(owner(), lab.pool())
        assert lab.call_count() == calls + 2


@pytest.mark.parametrize(
    ("lock", "duplicates"),
    [("file", False), ("off", False), ("off", True)],
    ids=["with the write lock", "without the write lock", "old version that allocates an address twice"],
)
async def test_concurrent_nodes_get_one_address_and_one_row_each(lock: str, duplicates: bool) -> None:
    async with bench(lock=lock) as lab:
        lab.server.faults.duplicates = duplicates
        backend, owners = lab.backend(), [owner(f"worker-{number}") for number in range(8)]
        made = await asyncio.gather(*(backend.reserve(each, lab.pool()) for each in owners))
        addresses = {each.address for each in made}
        assert len(addresses) == len(owners)
        assert sorted(row["ip"] for row in lab.rows()) == sorted(str(each.ip) for each in addresses)
        for each, one in zip(made, owners, strict=True):
            assert await backend.find(one, None) == (each,)


async def test_two_clusters_on_an_old_server_get_different_addresses() -> None:
    async with bench(lock="off") as lab:
        lab.server.faults.duplicates = True
        first, second = lab.backend(), lab.backend(cluster="cluster-b")
        for number in range(10):
            node = f"worker-{number}"
            one, other = await asyncio.gather(
                first.reserve(owner(node), lab.pool()), second.reserve(owner(node, cluster="cluster-b"), lab.pool())
            )
            assert one.address != other.address
        assert len(lab.rows()) == 20


async def test_address_in_use_without_a_row_is_not_allocated() -> None:
    """The row of a running node was deleted by hand."""
    async with bench() as lab:
        in_use = {ip_address("192.168.100.2"), ip_address("192.168.100.3")}
        backend = lab.backend(used_by_others=lambda node, address: address in in_use)
        made = [await backend.reserve(owner(f"worker-{number}"), lab.pool()) for number in (1, 2)]
        assert [str(each.address.ip) for each in made] == ["192.168.100.4", "192.168.100.5"]
        assert len(lab.rows()) == 2


async def test_excluded_addresses_are_not_allocated() -> None:
    async with bench() as lab:
        subject = lab.pool(exclude=["192.168.100.2-192.168.100.9"])
        made = await lab.backend(subject).reserve(owner(), subject)
        assert str(made.address.ip) == "192.168.100.10"
        assert len(lab.rows()) == 1


async def test_concurrently_chosen_addresses_differ() -> None:
    async with bench() as lab:
        subject = lab.pool(exclude=["192.168.100.2"])
        backend, owners = lab.backend(subject), [owner(f"worker-{number}") for number in range(12)]
        made = await asyncio.gather(*(backend.reserve(each, subject) for each in owners))
        assert {str(each.address.ip) for each in made} == {f"192.168.100.{last}" for last in range(3, 15)}
        assert len(lab.rows()) == 12


async def test_chosen_address_that_comes_into_use_before_its_row_is_confirmed_is_not_kept() -> None:
    async with bench() as lab:
        subject = lab.pool(exclude=["192.168.100.2"])
        checks = Counter[IpAddress]()

        def used_by_others(_: str, address: IpAddress) -> bool:
            checks[address] += 1
            return address == ip_address("192.168.100.3") and checks[address] > 1

        made = await lab.backend(subject, used_by_others=used_by_others).reserve(owner(), subject)
        assert str(made.address.ip) == "192.168.100.4"
        assert [row["ip"] for row in lab.rows()] == ["192.168.100.4"]


async def test_full_pool_is_exhausted_until_an_address_is_released() -> None:
    async with bench() as lab:
        small = lab.server.add_subnet(1, "10.0.0.0/30", "10.0.0.1")
        subject = pool(small, "10.0.0.0/30", "10.0.0.1")
        backend = lab.backend(subject)
        made = await backend.reserve(owner(), subject)
        with pytest.raises(Exhausted):
            await backend.reserve(owner("worker-2"), subject)
        await backend.release(made)
        assert str((await backend.reserve(owner("worker-2"), subject)).address) == "10.0.0.2/30"
