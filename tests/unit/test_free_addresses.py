"""The free addresses of a pool follow each change, and are those that a pass over the whole pool finds."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.controller.caches import Caches
from overlay_net.domain.allocation.free_addresses import FreeAddresses
from overlay_net.domain.allocation.pool_addresses import capacity, count_usable, free_addresses
from overlay_net.model.api import JsonObject, Listing, WatchEvent
from overlay_net.model.net import IpAddress
from overlay_net.model.pool import Pool
from tests.unit.factories import pool, raw_pool

CIDRS = [f"10.0.0.0/{length}" for length in range(27, 33)] + [f"2001:db8::/{length}" for length in range(123, 129)]
FOREIGN = [ip_address("10.9.9.9"), ip_address("9.255.255.255"), ip_address("fd00::9"), ip_address("::1")]


@st.composite
def pools(draw: st.DrawFn) -> tuple[Pool, list[IpAddress]]:
    """A pool, and addresses in and outside of it."""
    network = ip_network(draw(st.sampled_from(CIDRS)))
    addresses: list[IpAddress] = [network[number] for number in range(network.num_addresses)]
    chosen = st.sampled_from(addresses)
    exclude = [str(each) for each in draw(st.frozensets(chosen, max_size=4))]
    spec = pool("p1", str(network), str(draw(chosen)), exclude=exclude)
    return replace(spec, other_gateways=tuple(draw(st.frozensets(chosen, max_size=2)))), addresses + FOREIGN


@given(pools(), st.data())
def test_any_changes_give_the_addresses_that_a_pass_over_the_pool_finds(
    subject: tuple[Pool, list[IpAddress]], data: st.DataObject
) -> None:
    spec, addresses = subject
    taken = set(data.draw(st.frozensets(st.sampled_from(addresses), max_size=8)))
    free = FreeAddresses(spec, taken)
    for address in data.draw(st.lists(st.sampled_from(addresses), max_size=40)):
        if address in taken:
            taken.discard(address)
            free.release(address)
        else:
            taken.add(address)
            free.take(address)
        assert (free.total, free.used) == (capacity(spec), count_usable(spec, taken))
        skipped: set[IpAddress] = set()
        for expected in free_addresses(spec, taken):
            assert free.lowest(skipped) == expected
            skipped.add(expected)
        assert free.lowest(skipped) is None


def test_a_change_that_is_reported_twice_counts_once() -> None:
    free, address = FreeAddresses(pool(cidr="10.0.0.0/29", gateway="10.0.0.1")), ip_address("10.0.0.2")
    for _ in range(2):
        free.take(address)
    assert (free.used, free.lowest()) == (1, ip_address("10.0.0.3"))
    for _ in range(2):
        free.release(address)
    assert (free.used, free.lowest()) == (0, address)


def test_a_subnet_of_2_to_the_64_is_not_listed() -> None:
    free = FreeAddresses(pool(cidr="fd00::/64", gateway="fd00::1"), [ip_address("fd00::2")])
    assert (free.lowest(), free.used, free.total) == (ip_address("fd00::3"), 1, 2**64 - 2)


# --- From the watches -------------------------------------------------------------------------------------------------


def record(address: str, node: str, version: int) -> JsonObject:
    metadata = {"name": address, "uid": f"uid-{address}", "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {"address": address, "node": node, "pool": "p1"}}


def shown(address: str | None, node: str, version: int) -> JsonObject:
    status = {"ipAddr": f"{address}/29"} if address else {}
    return {"metadata": {"name": node, "uid": "u", "resourceVersion": str(version)}, "status": status}


class Watched:
    def __init__(self) -> None:
        self.caches = Caches()
        for store in self.caches.stores:
            store.replace(Listing((), "1"))
        self.set_pool()

    def set_pool(self, version: int = 2, **spec: Any) -> None:
        raw = raw_pool("p1", "10.0.0.0/29", "10.0.0.1", **spec)
        raw["metadata"] |= {"resourceVersion": str(version), "generation": version}
        self.caches.pools.apply(WatchEvent("MODIFIED", raw))

    @property
    def lowest(self) -> str:
        found = self.caches.find_pool("p1")
        assert found is not None
        return str(self.caches.known_addresses.free_in(found).lowest())


def test_an_address_is_free_again_only_when_neither_a_record_nor_a_node_has_it() -> None:
    watched = Watched()
    caches = watched.caches
    assert watched.lowest == "10.0.0.2"
    caches.records.apply(WatchEvent("ADDED", record("10.0.0.2", "n1", 3)))
    caches.overlays.apply(WatchEvent("ADDED", shown("10.0.0.2", "n1", 4)))
    assert watched.lowest == "10.0.0.3"
    caches.records.apply(WatchEvent("DELETED", record("10.0.0.2", "n1", 5)))
    assert watched.lowest == "10.0.0.3"
    caches.overlays.apply(WatchEvent("MODIFIED", shown(None, "n1", 6)))
    assert watched.lowest == "10.0.0.2"


@pytest.mark.parametrize(
    ("spec", "lowest"), [({}, "10.0.0.3"), ({"exclude": ["10.0.0.3-10.0.0.4"]}, "10.0.0.5")], ids=["same", "excluded"]
)
def test_an_edited_pool_hands_out_what_its_new_spec_allows(spec: dict[str, Any], lowest: str) -> None:
    watched = Watched()
    watched.caches.records.apply(WatchEvent("ADDED", record("10.0.0.2", "n1", 3)))
    assert watched.lowest == "10.0.0.3"
    watched.set_pool(4, **spec)
    assert watched.lowest == lowest
    watched.caches.records.apply(WatchEvent("ADDED", record(lowest, "n2", 5)))
    assert int(ip_address(watched.lowest)) == int(ip_address(lowest)) + 1
