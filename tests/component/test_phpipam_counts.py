"""What the status of a pool calls free can be handed out; what a join costs where addresses are chosen here."""

import asyncio
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay_net.adapters.phpipam import PhpIpam
from overlay_net.model.errors import Exhausted
from overlay_net.model.net import IpAddress
from overlay_net.model.pool import Pool
from tests.component.phpipam_support import Bench, bench, fresh_pool, owner, pool
from tests.examples import examples


@dataclass(frozen=True)
class Subnet:
    cidr: str
    is_pool: bool
    gateway: int
    marked: bool
    """phpIPAM has a row of the gateway; otherwise spec.gateway names it."""
    rows: frozenset[int]
    exclude: frozenset[int]

    def address(self, number: int) -> str:
        """An address that may have a row: phpIPAM has none for network and broadcast, except in its pools."""
        network = ip_network(self.cidr)
        edge = int(network.version == 4 and network.prefixlen < 31 and not self.is_pool)
        return str(network[edge + number % (network.num_addresses - 2 * edge)])

    def add(self, lab: Bench) -> int:
        gateway = self.address(self.gateway) if self.marked else None
        subnet = lab.server.add_subnet(1, self.cidr, gateway, is_pool=self.is_pool)
        for address in {self.address(number) for number in self.rows} - {gateway}:
            lab.server.add_address(subnet, address, hostname="other")
        return subnet

    def pool(self, subnet: int) -> Pool:
        exclude = [self.address(number) for number in self.exclude]
        return with_spec_gateway(pool(subnet, self.cidr, self.address(self.gateway), exclude=exclude))


def with_spec_gateway(subject: Pool) -> Pool:
    return replace(subject, spec_gateway=subject.gateway)


CIDRS = [f"10.0.0.0/{length}" for length in range(27, 33)] + [f"2001:db8::/{length}" for length in range(123, 129)]
SUBNETS = st.builds(
    Subnet,
    cidr=st.sampled_from(CIDRS),
    is_pool=st.booleans(),
    gateway=st.integers(0, 31),
    marked=st.booleans(),
    rows=st.frozensets(st.integers(0, 31), max_size=4),
    exclude=st.frozensets(st.integers(0, 31), max_size=2),
)


async def reserve_all(backend: PhpIpam, subject: Pool) -> set[IpAddress]:
    made: set[IpAddress] = set()
    for number in range(64):
        try:
            made.add((await backend.reserve(owner(f"worker-{number}"), subject)).address.ip)
        except Exhausted:
            return made
    raise AssertionError("never exhausted")


async def check_free_count(subject: Subnet) -> None:
    async with bench() as lab:
        subnet = subject.add(lab)
        backend, own = lab.backend(subject.pool(subnet)), subject.pool(subnet)
        before = (await backend.inspect_pool(own)).usage
        made = await reserve_all(backend, own)
        assert len(made) == before.free
        after = (await backend.inspect_pool(own)).usage
        assert after == replace(before, used=before.total, free=0)
        assert before.used + before.free == before.total
        # A controller that has just started counts the same.
        assert (await lab.backend(own).inspect_pool(own)).usage == after


@given(SUBNETS)
@settings(max_examples=examples(60), deadline=None)
def test_exactly_the_free_addresses_of_a_subnet_can_be_reserved(subject: Subnet) -> None:
    asyncio.run(check_free_count(subject))


async def test_rows_that_others_create_and_delete_are_counted() -> None:
    async with bench() as lab:
        subnet = lab.server.add_subnet(1, "10.0.0.0/29", "10.0.0.1", is_pool=True)
        own = pool(subnet, "10.0.0.0/29", "10.0.0.1")
        backend = lab.backend(own)
        assert (await backend.inspect_pool(own)).usage.free == 5
        row = lab.server.add_address(subnet, "10.0.0.2", hostname="printer")
        network = lab.server.add_address(subnet, "10.0.0.0", hostname="placeholder")
        assert (await backend.inspect_pool(own)).usage.free == 4, "the network address was never free"
        assert len(await reserve_all(backend, own)) == 4
        lab.server.remove(row)
        lab.server.remove(network)
        assert (await backend.inspect_pool(own)).usage.free == 1
        made = await backend.reserve(owner("late"), own)
        assert str(made.address.ip) == "10.0.0.2"


CHOSEN: dict[str, dict[str, Any]] = {
    "IPv6": {"cidr": "2001:db8::/64", "gateway": "2001:db8::1"},
    "marked as pool": {"cidr": "10.0.0.0/16", "gateway": "10.0.0.1", "is_pool": True},
    "gateway without a row": {"cidr": "10.0.0.0/16", "gateway": "10.0.0.1", "marked": False},
    "exclusions": {"cidr": "10.0.0.0/16", "gateway": "10.0.0.1", "exclude": ["10.0.0.2-10.0.0.9"]},
    "phpIPAM chooses": {"cidr": "10.0.0.0/16", "gateway": "10.0.0.1"},
}


async def add_chosen(
    lab: Bench, cidr: str, gateway: str, *, marked: bool = True, is_pool: bool = False, **spec: Any
) -> Pool:
    subnet = lab.server.add_subnet(1, cidr, gateway if marked else None, is_pool=is_pool)
    return with_spec_gateway(pool(subnet, cidr, gateway, **spec))


async def cost(lab: Bench, backend: PhpIpam, subject: Pool, *names: str) -> tuple[int, int]:
    """Calls and bytes received by joins at the same time."""
    calls, received = lab.call_count(), lab.server.bytes_sent

    async def join(name: str) -> None:
        assert await backend.find(owner(name), None) == ()
        await backend.reserve(owner(name), subject)

    await asyncio.gather(*(join(name) for name in names))
    return lab.call_count() - calls, lab.server.bytes_sent - received


@pytest.mark.parametrize("kind", CHOSEN)
async def test_a_join_costs_at_most_four_calls_and_no_more_bytes_in_a_large_subnet(kind: str) -> None:
    async with bench() as lab:
        subject = await add_chosen(lab, **CHOSEN[kind])
        backend = lab.backend(subject)
        # The controller reads every pool before it serves nodes, and at each refresh.
        await backend.inspect_pool(subject)
        calls, received = await cost(lab, backend, subject, "first")
        assert calls <= 4
        assert received < 2000
        await cost(lab, backend, subject, *(f"worker-{number}" for number in range(40)))
        assert (await backend.inspect_pool(subject)).usage.used == 41
        lab.clock.forward(1800)
        calls, received = await cost(lab, backend, subject, "single")
        assert calls <= 4
        assert received < 2000, "a join does not read the rows of others"
        calls, received = await cost(lab, backend, subject, *(f"node-{number}" for number in range(40)))
        assert calls <= 40 * 4
        assert received < 40 * 2000
        assert lab.server.calls["DELETE addresses"] == 0, "no row is created only to be withdrawn"
        rows = [row["ip"] for row in lab.rows(subject.subnet_id)]
        assert len(set(rows)) == len(rows) == 82


async def test_a_subnet_that_is_marked_as_full_assigns_nothing_until_the_mark_is_removed() -> None:
    async with bench() as lab:
        subject = await add_chosen(lab, **CHOSEN["IPv6"])
        backend = lab.backend(subject)
        await backend.inspect_pool(subject)
        await backend.reserve(owner("first"), subject)
        subnet = lab.server.subnets[subject.subnet_id or 0]
        subnet["isFull"] = 1
        lab.clock.forward(60)
        with pytest.raises(Exhausted, match="marked as full"):
            await backend.reserve(owner("second"), subject)
        assert (await backend.inspect_pool(subject)).usage.free == 0
        with pytest.raises(Exhausted, match="marked as full"):
            await backend.reserve(owner("second"), subject)
        subnet["isFull"] = 0
        assert (await backend.inspect_pool(subject)).usage.used == 1
        await backend.reserve(owner("second"), subject)


async def test_one_read_serves_many_joins_of_a_controller_that_has_just_started() -> None:
    async with bench() as lab:
        subject = await add_chosen(lab, **CHOSEN["IPv6"])
        await cost(lab, lab.backend(subject), subject, *(f"worker-{number}" for number in range(20)))
        assert lab.server.calls["GET subnets/addresses"] == 1


async def test_two_clusters_that_choose_in_one_subnet_get_different_addresses() -> None:
    async with bench(lock="off") as lab:
        subject = await add_chosen(lab, **CHOSEN["IPv6"])
        first, second = lab.backend(subject), lab.backend(subject, cluster="cluster-b")
        for backend in (first, second):
            await backend.inspect_pool(subject)
        names = [f"worker-{number}" for number in range(8)]
        made = await asyncio.gather(
            *(first.reserve(owner(name), subject) for name in names),
            *(second.reserve(owner(name, cluster="cluster-b"), subject) for name in names),
        )
        assert len({each.address for each in made}) == 16
        assert len(lab.rows(subject.subnet_id)) == 16


async def test_an_idle_pool_costs_three_calls_a_refresh() -> None:
    async with bench() as lab:
        subject = await add_chosen(lab, **CHOSEN["IPv6"])
        backend = lab.backend(subject)
        await cost(lab, backend, subject, *(f"worker-{number}" for number in range(20)))
        await backend.inspect_pool(subject)
        calls, received = lab.call_count(), lab.server.bytes_sent
        await backend.inspect_pool(subject)
        assert lab.call_count() - calls == 3
        assert lab.server.bytes_sent - received < 2500


async def test_counts_of_a_subnet_that_has_not_been_read_before_are_those_of_its_rows() -> None:
    async with bench() as lab:
        subnet = lab.server.add_subnet(1, "10.0.0.0/32")
        usage = (await lab.backend().inspect_pool(fresh_pool(subnet, "10.0.0.0"))).usage
        assert (usage.used, usage.free, usage.total) == (0, 0, 0)
