"""The counts in the status of a pool agree with each other and with what is handed out."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.adapters.cluster_ipam import ClusterIpam, object_name
from overlay_net.controller.caches import Caches
from overlay_net.domain.allocation.pool_status import MAX_COUNT, pool_status
from overlay_net.model.errors import Exhausted
from overlay_net.model.ipam import Owner, PoolFacts, PoolUsage
from overlay_net.model.names import OVERLAY_ADDRESSES
from overlay_net.model.net import IpAddress
from overlay_net.model.pool import Pool
from tests.fakes.kube import InMemoryKube
from tests.unit.factories import pool

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CIDRS = [f"10.0.0.0/{length}" for length in range(27, 33)] + [f"2001:db8::/{length}" for length in range(123, 129)]


@given(st.sampled_from(CIDRS), st.integers(0, 31), st.frozensets(st.integers(0, 31), max_size=4), st.data())
def test_exactly_the_free_addresses_of_an_in_cluster_pool_can_be_reserved(
    cidr: str, gateway: int, exclude: frozenset[int], data: st.DataObject
) -> None:
    network = ip_network(cidr)
    addresses = [network[number % network.num_addresses] for number in range(32)]
    other_gateways = data.draw(st.frozensets(st.sampled_from(addresses), max_size=2))
    in_use = set(data.draw(st.frozensets(st.sampled_from(addresses), max_size=4)))
    # An address of another family or pool is in use as well.
    in_use |= {ip_address("10.9.9.9"), ip_address("fd00::9")}
    spec = pool("p1", cidr, str(addresses[gateway]), exclude=[str(addresses[number]) for number in exclude])
    subject = replace(spec, other_gateways=tuple(other_gateways))
    asyncio.run(check(subject, in_use))


async def check(subject: Pool, in_use: set[IpAddress]) -> None:
    kube, caches = InMemoryKube(lambda: NOW), Caches()
    ipam = ClusterIpam(kube, "c", caches.known_addresses, {subject.name: subject}.get)
    for address in in_use:
        spec = {"address": str(address), "pool": subject.name, "node": "other"}
        await kube.create(OVERLAY_ADDRESSES, {"metadata": {"name": object_name(address)}, "spec": spec})
    caches.records.replace(await kube.list(OVERLAY_ADDRESSES))
    before = (await ipam.inspect_pool(subject)).usage
    assert before.used + before.free == before.total
    for number in range(before.free):
        await ipam.reserve(Owner("c", f"n{number}", "u"), subject)
    with pytest.raises(Exhausted):
        await ipam.reserve(Owner("c", "one-too-many", "u"), subject)
    assert (await ipam.inspect_pool(subject)).usage == PoolUsage(before.total, 0, before.total)


def shown(usage: PoolUsage, **facts: Any) -> dict[str, Any]:
    subject = pool("p1", "2001:db8::/64", "2001:db8::1")
    assert subject.cidr is not None
    assert subject.gateway is not None
    return pool_status(subject, PoolFacts(subject.cidr, subject.gateway, usage, **facts), NOW)


@pytest.mark.parametrize("total", [254, MAX_COUNT, MAX_COUNT + 1, 2**64 - 2, 2**128])
@pytest.mark.parametrize("used", [0, 1, 254])
def test_counts_are_exact_as_json_numbers_and_add_up(total: int, used: int) -> None:
    status = shown(PoolUsage(used, total - used, total))
    assert status["used"] == used
    assert status["used"] + status["free"] == status["total"] == min(total, MAX_COUNT)
    assert all(int(float(status[key])) == status[key] for key in ("used", "free", "total"))
