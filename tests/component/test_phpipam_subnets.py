"""Every kind of subnet that a pool may name: which addresses are allocated, and what is reported."""

from ipaddress import ip_address
from typing import Any

import pytest

from overlay_net.model.errors import Exhausted, PoolUnusable, Refused
from overlay_net.model.ipam import PoolUsage
from overlay_net.model.pool import Pool
from tests.component.phpipam_support import CIDR, GATEWAY, Bench, bench, fresh_pool, owner, owner_tag, pool


async def every_address(lab: Bench, subject: Pool) -> list[str]:
    """The addresses that nodes get until the subnet is exhausted; asserts that no other rows remain."""
    backend, addresses = lab.backend(subject), list[str]()
    for number in range(20):
        try:
            made = await backend.reserve(owner(f"worker-{number}"), subject)
        except Exhausted:
            break
        addresses.append(str(made.address.ip))
        assert await backend.find(owner(f"worker-{number}"), None) == (made,)
    assert sorted(row["ip"] for row in lab.rows(subject.subnet_id)) == sorted(addresses)
    return addresses


@pytest.mark.parametrize(
    ("cidr", "gateway", "settings", "addresses"),
    [
        pytest.param("10.0.0.0/29", "10.0.0.1", {}, range(2, 7), id="slash 29"),
        pytest.param("10.0.0.0/29", "10.0.0.6", {}, range(1, 6), id="gateway at the end"),
        pytest.param("10.0.0.0/30", "10.0.0.1", {}, [2], id="slash 30"),
        pytest.param("10.0.0.0/31", "10.0.0.0", {}, [1], id="slash 31, gateway first"),
        pytest.param("10.0.0.0/31", "10.0.0.1", {}, [0], id="slash 31, gateway last"),
        pytest.param("10.0.0.0/32", "10.0.0.0", {}, [], id="slash 32"),
        pytest.param("10.0.0.0/29", "10.0.0.1", {"is_pool": True}, range(2, 7), id="marked as pool: all 8 are free"),
        pytest.param("10.0.0.0/30", "10.0.0.2", {"is_pool": True}, [1], id="marked as pool: slash 30"),
        pytest.param("10.0.0.0/29", "10.0.0.1", {"is_full": True}, [], id="marked as full"),
        pytest.param("10.0.0.0/29", "10.0.0.1", {"is_full": True, "is_pool": True}, [], id="marked as full and pool"),
    ],
)
async def test_network_broadcast_and_gateway_are_never_allocated(
    cidr: str, gateway: str, settings: dict[str, Any], addresses: list[int]
) -> None:
    async with bench() as lab:
        subnet = lab.server.add_subnet(1, cidr, gateway, **settings)
        assert await every_address(lab, pool(subnet, cidr, gateway)) == [f"10.0.0.{last}" for last in addresses]


@pytest.mark.parametrize("version", ["1.4", "1.8.2"])
@pytest.mark.parametrize("marked", [False, True], ids=["no gateway marked", "a router without gateway mark"])
async def test_spec_gateway_is_used_and_not_allocated_when_phpipam_marks_none(version: str, marked: bool) -> None:
    async with bench(version=version) as lab:
        subnet = lab.server.add_subnet(1, "10.0.0.0/29")
        if marked:
            lab.server.add_address(subnet, "10.0.0.2", hostname="router", is_gateway=0)
        facts = await lab.backend().inspect_pool(fresh_pool(subnet, "10.0.0.1"))
        assert (str(facts.cidr), str(facts.gateway)) == ("10.0.0.0/29", "10.0.0.1")
        own = pool(subnet, "10.0.0.0/29", "10.0.0.1")
        made = await lab.backend(own).reserve(owner(), own)
        assert str(made.address.ip) == ("10.0.0.3" if marked else "10.0.0.2")
        assert "10.0.0.1" not in {row["ip"] for row in lab.rows(subnet)}


async def test_marked_gateway_takes_precedence_over_spec_gateway() -> None:
    async with bench() as lab:
        facts = await lab.backend().inspect_pool(fresh_pool(lab.subnet, "192.168.100.254"))
        assert str(facts.gateway) == GATEWAY


# --- Reported facts and problems ---------------------------------------------------------------------------------


async def test_subnet_facts_include_gateway_and_usage() -> None:
    async with bench() as lab:
        backend = lab.backend()
        await backend.reserve(owner(), lab.pool())
        facts = await backend.inspect_pool(lab.pool())
        assert (str(facts.cidr), str(facts.gateway), facts.marked_full) == (CIDR, GATEWAY, "")
        assert facts.usage == PoolUsage(used=1, free=252, total=253)


async def test_subnet_marked_as_full_allocates_only_requested_addresses() -> None:
    async with bench() as lab:
        subnet = lab.server.add_subnet(1, "10.0.0.0/24", "10.0.0.1", "closed one", is_full=True)
        subject = pool(subnet, "10.0.0.0/24", "10.0.0.1")
        backend = lab.backend(subject)
        facts = await backend.inspect_pool(subject)
        assert "marked as full" in facts.marked_full
        assert "closed one" in facts.marked_full
        assert facts.usage.free == 0
        with pytest.raises(Exhausted):
            await backend.reserve(owner(), subject)
        made = await backend.reserve(owner(), subject, ip_address("10.0.0.9"))
        assert [row["ip"] for row in lab.rows(subnet)] == [str(made.address.ip)] == ["10.0.0.9"]


async def test_full_subnet_has_no_free_address() -> None:
    async with bench() as lab:
        subnet = lab.server.add_subnet(1, "10.0.0.0/30", "10.0.0.1")
        subject = pool(subnet, "10.0.0.0/30", "10.0.0.1")
        lab.server.add_address(subnet, "10.0.0.2", tag=1)
        facts = await lab.backend(subject).inspect_pool(subject)
        assert facts.usage == PoolUsage(used=1, free=0, total=1)
        assert facts.marked_full == ""
        with pytest.raises(Exhausted):
            await lab.backend(subject).reserve(owner(), subject)


def folder(lab: Bench) -> int:
    return lab.server.add_subnet(1, None, description="things", is_folder=True)


def unknown(_: Bench) -> int:
    return 999


def parent(lab: Bench) -> int:
    master = lab.server.add_subnet(1, "10.0.0.0/16", "10.0.0.1", "all of it")
    lab.server.add_subnet(1, "10.0.1.0/24", "10.0.1.1", master=master)
    return master


def no_gateway(lab: Bench) -> int:
    return lab.server.add_subnet(1, "10.0.0.0/24", description="bare")


@pytest.mark.parametrize(
    ("make", "reason", "words"),
    [
        pytest.param(folder, "Folder", "folder", id="a folder"),
        pytest.param(unknown, "UnknownSubnet", "no subnet 999", id="an unknown id"),
        pytest.param(parent, "HasSubnets", "all of it.*divided into 1", id="a parent of other subnets"),
        pytest.param(no_gateway, "NoGateway", r"bare.*spec\.gateway", id="no gateway anywhere"),
    ],
)
async def test_unusable_subnet_is_reported_with_the_fix(make: Any, reason: str, words: str) -> None:
    async with bench() as lab:
        with pytest.raises(PoolUnusable, match=words) as unusable:
            await lab.backend().inspect_pool(fresh_pool(make(lab)))
        assert unusable.value.reason == reason
        assert lab.breaker.error is None


@pytest.mark.parametrize(
    ("make", "error"),
    [
        pytest.param(folder, Exhausted, id="a folder"),
        pytest.param(unknown, Refused, id="an unknown id"),
        pytest.param(parent, Exhausted, id="a parent of other subnets"),
    ],
)
async def test_subnet_that_has_become_unusable_allocates_nothing(make: Any, error: type[Exception]) -> None:
    async with bench() as lab:
        subnet = make(lab)
        before = lab.rows(subnet) if subnet != 999 else []
        with pytest.raises(error):
            await lab.backend().reserve(owner(), pool(subnet, "10.0.0.0/16", "10.0.0.1"))
        assert lab.rows(subnet) == before


async def test_spec_gateway_outside_the_subnet_is_rejected() -> None:
    async with bench() as lab:
        subnet = no_gateway(lab)
        with pytest.raises(PoolUnusable, match=r"10\.9\.9\.9 is not an address of"):
            await lab.backend().inspect_pool(fresh_pool(subnet, "10.9.9.9"))


async def test_read_only_app_reads_facts_but_reserves_nothing() -> None:
    async with bench(permission=1) as lab:
        assert str((await lab.backend().inspect_pool(lab.pool())).cidr) == CIDR
        with pytest.raises(Refused, match="read-only"):
            await lab.backend().reserve(owner(), lab.pool())


# --- IPv6 --------------------------------------------------------------------------------------------------------


async def test_ipv6_anycast_address_is_never_allocated_and_usage_is_exact() -> None:
    async with bench() as lab:
        cidr, gateway = "2001:db8:100::/64", "2001:db8:100::1"
        subnet = lab.server.add_subnet(1, cidr, gateway)
        subject = pool(subnet, cidr, gateway)
        backend = lab.backend(subject)
        made = [await backend.reserve(owner(f"worker-{number}"), subject) for number in range(3)]
        assert [str(each.address) for each in made] == [f"2001:db8:100::{last}/64" for last in (2, 3, 4)]
        assert len(lab.rows(subnet)) == 3
        facts = await backend.inspect_pool(subject)
        assert facts.usage == PoolUsage(used=3, free=2**64 - 5, total=2**64 - 2)
        assert await backend.find(owner("worker-1"), None) == (made[1],)
        await backend.release(made[1])
        assert len(lab.rows(subnet)) == 2


async def test_all_usable_addresses_of_a_small_ipv6_subnet_are_allocated() -> None:
    async with bench() as lab:
        cidr, gateway = "2001:db8:100::/126", "2001:db8:100::1"
        subnet = lab.server.add_subnet(1, cidr, gateway)
        assert await every_address(lab, pool(subnet, cidr, gateway)) == ["2001:db8:100::2", "2001:db8:100::3"]


# --- The same addresses elsewhere --------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["section", "vrf", "parent"])
async def test_row_of_the_same_address_in_another_subnet_is_not_ours(place: str) -> None:
    async with bench() as lab:
        match place:
            case "section":
                other = lab.server.add_subnet(lab.server.add_section("elsewhere"), CIDR, GATEWAY)
            case "vrf":
                other = lab.server.add_subnet(1, CIDR, GATEWAY, vrf=2)
            case _:
                other = lab.server.add_subnet(1, "192.168.0.0/16")
                lab.server.subnets[lab.subnet]["masterSubnetId"] = other
        # Rows with a lower and a higher id than ours; one has this node's name, but belongs to another cluster.
        lab.server.add_address(other, "192.168.100.2", hostname="worker-1", note=owner_tag(cluster="cluster-b"))
        backend = lab.backend()
        made = await backend.reserve(owner(), lab.pool())
        assert str(made.address.ip) == "192.168.100.2"
        requested = ip_address("192.168.100.9")
        lab.server.add_address(other, str(requested), hostname="printer")
        pinned = await backend.reserve(owner("worker-2"), lab.pool(), requested)
        assert await backend.find(owner(), made.address.ip) == (made,)
        assert await backend.find(owner("worker-2"), requested) == (pinned,)
        before = lab.rows(other)
        for each in (made, pinned):
            await backend.release(each)
        assert lab.rows() == []
        assert lab.rows(other) == before
