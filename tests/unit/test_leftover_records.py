"""Records of addresses that a node was assigned and never used: the node takes one of them, and releases the others.

A node's address may change several times before its agent reads one: pins, a pool under another name. If another host
uses the address that the agent reads at last, no earlier record may remain.
"""

from collections.abc import Sequence
from datetime import timedelta
from ipaddress import ip_address

import pytest

from overlay_net.model.api import JsonObject
from overlay_net.model.overlay import NodeOverlay
from tests.fakes.cluster import NAME, Cluster
from tests.unit.factories import raw_node, raw_phpipam_pool, raw_pool


def pool(name: str = "p1", *exclude: str) -> JsonObject:
    return raw_pool(name, "10.9.0.0/29", "10.9.0.1", exclude=["10.9.0.6", *exclude])


POOL_6 = raw_pool("p1", "fd00::/125", "fd00::1")


async def assigned_in_turn(
    pins: Sequence[str], present: JsonObject, *, first: str = "10.9.0.2", feed: bool = True
) -> Cluster:
    """A node with one record for each of ``pins`` and for ``first``, as no agent has read any of them."""
    cluster = await Cluster.start(present, feed=feed)
    await cluster.join(raw_node(NAME))
    await cluster.reconcile()
    for address in pins:
        await cluster.pin(address)
        await cluster.reconcile()
    recorded = {str(record.address) for record in await cluster.own_records()}
    assert recorded == {first, *pins}
    return cluster


async def rounds(cluster: Cluster, count: int = 12) -> None:
    for _ in range(count):
        cluster.now += timedelta(minutes=11)
        await cluster.audit()
        await cluster.reconcile()
        await cluster.run_agent()


async def assert_one_address(cluster: Cluster) -> None:
    (record,) = await cluster.own_records()
    overlay = NodeOverlay.parse(await cluster.present_overlay())
    assert record.address not in cluster.foreign_hosts
    assert overlay.assignment.address is not None
    assert overlay.assignment.address == cluster.kernel, "the node does not use its address"
    assert overlay.assignment.address.ip == record.address
    assert not overlay.assignment.releasing


@pytest.mark.parametrize("feed", [True, False])
@pytest.mark.parametrize(
    ("pins", "foreign"),
    [
        (["10.9.0.5", "10.9.0.3"], ["10.9.0.3"]),
        (["10.9.0.5", "10.9.0.3"], ["10.9.0.3", "10.9.0.4"]),
        (["10.9.0.5", "10.9.0.3", "10.9.0.4"], ["10.9.0.3", "10.9.0.4"]),
        (["10.9.0.3", "10.9.0.5", "10.9.0.3"], ["10.9.0.3", "10.9.0.4", "10.9.0.5"]),
        (["10.9.0.3", "10.9.0.2", "10.9.0.4", "10.9.0.3"], ["10.9.0.2", "10.9.0.3", "10.9.0.4"]),
    ],
)
@pytest.mark.parametrize("before", ["p1", "p2"])
async def test_conflicts_after_several_pins_leave_one_record_of_an_address_that_the_node_uses(
    pins: list[str], foreign: list[str], before: str, feed: bool
) -> None:
    """With ``before``, the pool was renamed in between."""
    make = (lambda raw: raw) if feed else raw_phpipam_pool
    cluster = await assigned_in_turn(pins, make(pool(before)), feed=feed)
    cluster.foreign_hosts |= {ip_address(address) for address in foreign}
    await cluster.pin(None)
    await cluster.set_pools(make(pool()))
    await rounds(cluster)
    await assert_one_address(cluster)


async def test_node_takes_its_own_record_of_a_renamed_pool_if_no_address_is_free() -> None:
    cluster = await assigned_in_turn(["10.9.0.5", "10.9.0.3"], pool("p2"))
    cluster.foreign_hosts.add(ip_address("10.9.0.3"))
    await cluster.take("10.9.0.4")
    await cluster.pin(None)
    await cluster.set_pools(pool())
    await rounds(cluster, 3)
    await assert_one_address(cluster)


async def test_records_that_the_pool_excludes_by_now_are_released_though_every_other_address_is_in_conflict() -> None:
    cluster = await assigned_in_turn(["10.9.0.5", "10.9.0.3"], pool())
    cluster.foreign_hosts |= {ip_address("10.9.0.3"), ip_address("10.9.0.4")}
    await cluster.pin(None)
    await cluster.set_pools(pool("p1", "10.9.0.2", "10.9.0.5"))
    await rounds(cluster, 4)
    recorded = {str(record.address) for record in await cluster.own_records()}
    assert recorded <= {"10.9.0.3", "10.9.0.4"}
    assert cluster.kernel is None


@pytest.mark.parametrize(
    ("present", "first", "second", "third"),
    [(pool(), "10.9.0.2", "10.9.0.5", "10.9.0.3"), (POOL_6, "fd00::2", "fd00::5", "fd00::3")],
    ids=["IPv4", "IPv6"],
)
async def test_earlier_records_are_released_though_another_host_uses_the_pinned_address(
    present: JsonObject, first: str, second: str, third: str
) -> None:
    cluster = await assigned_in_turn([second, third], present, first=first)
    cluster.foreign_hosts.add(ip_address(third))
    await rounds(cluster, 2)
    assert [str(record.address) for record in await cluster.own_records()] == [third]


async def test_ipv6_node_takes_its_own_record_of_a_renamed_pool_after_a_conflict() -> None:
    cluster = await assigned_in_turn(["fd00::5", "fd00::3"], POOL_6 | {"metadata": {"name": "p2"}}, first="fd00::2")
    cluster.foreign_hosts.add(ip_address("fd00::3"))
    await cluster.pin(None)
    await cluster.set_pools(POOL_6)
    await rounds(cluster, 2)
    assert [str(record.address) for record in await cluster.own_records()] == ["fd00::2"]


async def test_address_in_use_is_kept_reserved_while_another_host_uses_the_pinned_one() -> None:
    cluster = await Cluster.start(pool())
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    cluster.foreign_hosts.add(ip_address("10.9.0.3"))
    await cluster.pin("10.9.0.3")
    await rounds(cluster, 3)
    assert cluster.kernel is not None
    assert str(cluster.kernel.ip) == "10.9.0.2"
    assert {str(record.address) for record in await cluster.own_records()} == {"10.9.0.2", "10.9.0.3"}


async def test_address_that_the_agent_still_probes_stays_reserved_until_the_node_has_moved() -> None:
    """The other host may stop at any moment: the agent then configures the address before its report arrives."""
    cluster = await Cluster.start(raw_pool())
    await cluster.join(raw_node(NAME))
    cluster.proxy_arp = True
    cluster.foreign_hosts = {ip_address(f"192.168.100.{last}") for last in range(2, 20)}
    for _ in range(4):
        cluster.now += timedelta(minutes=2)
        await cluster.settle()
    (record,) = await cluster.own_records()
    assert (await cluster.announced()).count("ProxyARP") == 1
    await cluster.renumber(str(record.address))
    await cluster.reconcile()
    assert record.address in {each.address for each in await cluster.own_records()}
    overlay = NodeOverlay.parse(await cluster.present_overlay())
    assert overlay.assignment.address is not None
    assert overlay.assignment.address.ip != record.address
    cluster.foreign_hosts.clear()
    await rounds(cluster, 2)
    await assert_one_address(cluster)
