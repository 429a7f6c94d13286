"""Which addresses may be handed out, how many there are, and which records are orphaned."""

from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address, ip_interface
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.domain.allocation.ipam_audit import audit
from overlay_net.domain.allocation.pool_addresses import capacity, free_addresses, may_hand_out
from overlay_net.model.ipam import Inventory, Owner, Reservation
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import parse_range
from tests.unit.factories import overlay, pool


def free(**spec: Any) -> list[str]:
    return [str(address) for address in free_addresses(pool(**spec), set())]


def test_network_gateway_broadcast_and_exclusions_are_never_handed_out() -> None:
    assert free(cidr="10.0.0.0/29", gateway="10.0.0.2") == ["10.0.0.1", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
    excluded = ["10.0.0.1", "10.0.0.4-10.0.0.5", "10.0.0.6/31"]
    assert free(cidr="10.0.0.0/29", gateway="10.0.0.2", exclude=excluded) == ["10.0.0.3"]
    assert free(cidr="10.0.0.0/30", gateway="10.0.0.1") == ["10.0.0.2"]


def test_ipv6_keeps_the_subnet_router_anycast_address() -> None:
    wide = pool(cidr="fd00::/64", gateway="fd00::1")
    assert str(next(free_addresses(wide, set()))) == "fd00::2"
    assert not may_hand_out(wide, ip_address("fd00::"))
    assert capacity(wide) == 2**64 - 2


@given(
    st.integers(24, 30),
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), max_size=5),
    st.integers(1, 2),
)
def test_capacity_is_the_number_of_listed_addresses(length: int, ranges: list[tuple[int, int]], gateway: int) -> None:
    exclude = [f"10.0.0.{min(pair)}-10.0.0.{max(pair)}" for pair in ranges]
    subject = pool(cidr=f"10.0.0.0/{length}", gateway=f"10.0.0.{gateway}", exclude=exclude)
    listed = list(free_addresses(subject, set()))
    assert len(listed) == len(set(listed)) == capacity(subject)
    assert listed == sorted(listed)
    assert subject.cidr is not None
    assert listed == [address for address in subject.cidr if may_hand_out(subject, address)]


def test_the_first_addresses_of_a_large_pool_are_found_without_listing_it() -> None:
    taken = {ip_address("10.0.0.2")}
    found = islice(free_addresses(pool(cidr="10.0.0.0/8", gateway="10.0.0.1"), taken), 2)
    assert [str(address) for address in found] == ["10.0.0.3", "10.0.0.4"]


@pytest.mark.parametrize("text", ["", "10.0.0.9-10.0.0.1", "10.0.0.1-fe80::1", "10.0.0.1-", "10.0.0.1/24", "x-y"])
def test_an_invalid_exclusion_makes_the_pool_unusable_and_is_named(text: str) -> None:
    assert parse_range(text) is None
    assert repr(text) in pool(exclude=[text]).problem


NOW = 1000.0
GRACE = timedelta(minutes=10)


def record(node: str, last: int = 2, number: int = 1) -> Reservation:
    return Reservation(ip_interface(f"10.0.0.{last}/24"), "p1", Owner("c", node, "u"), f"record-{node}-{number}")


def inventory(*records: Reservation, problems: tuple[str, ...] = ()) -> Inventory:
    return Inventory(records, frozenset({"p1"} if not problems else ()), problems)


def objects(**addresses: str) -> dict[str, NodeOverlay]:
    return {
        name: overlay(name, status={"ipAddr": f"{address}/24", "pool": "p1"}) for name, address in addresses.items()
    }


HERE = objects(here="10.0.0.3")


def test_an_orphan_is_released_by_a_second_audit_after_the_grace_time() -> None:
    records = inventory(record("gone"), record("here", 3))
    first = audit(records, HERE, {}, NOW, GRACE)
    assert first.release == ()
    early = audit(records, HERE, first.first_found, NOW + GRACE.total_seconds() / 2, GRACE)
    assert early.release == ()
    late = audit(records, HERE, early.first_found, NOW + GRACE.total_seconds(), GRACE)
    assert late.release == (records.reservations[0],)
    assert late.mismatched == frozenset()


def test_a_second_audit_is_required_even_without_a_grace_time() -> None:
    assert audit(inventory(record("gone")), {}, {}, NOW, timedelta()).release == ()


def test_the_grace_time_starts_again_after_the_object_came_back() -> None:
    records = inventory(record("n"))
    orphans = audit(records, {}, {}, NOW, GRACE).first_found
    orphans = audit(records, objects(n="10.0.0.2"), orphans, NOW + GRACE.total_seconds(), GRACE).first_found
    assert audit(records, {}, orphans, NOW + 2 * GRACE.total_seconds(), GRACE).release == ()


def test_an_unreadable_pool_releases_nothing_and_keeps_the_grace_time() -> None:
    orphans = audit(inventory(record("gone")), {}, {}, NOW, GRACE).first_found
    blind = audit(inventory(problems=("no answer",)), HERE, orphans, NOW + GRACE.total_seconds(), GRACE)
    assert (blind.release, blind.mismatched) == ((), frozenset())
    seen = audit(inventory(record("gone")), {}, blind.first_found, NOW + GRACE.total_seconds(), GRACE)
    assert seen.release == (record("gone"),)


def test_a_second_record_and_a_missing_one_are_mismatches_of_their_node() -> None:
    assert audit(inventory(record("here", 3), record("here", 4, 2)), HERE, {}, NOW, GRACE).mismatched == {"here"}
    assert audit(inventory(), HERE, {}, NOW, GRACE).mismatched == {"here"}
    waiting = {"here": overlay("here", status={"ipAddr": "10.0.0.3/24", "pool": "p1", "releasing": ["10.0.0.4"]})}
    assert not audit(inventory(record("here", 3), record("here", 4, 2)), waiting, {}, NOW, GRACE).mismatched


def test_an_edited_record_in_use_is_reported() -> None:
    edited = replace(record("here", 3), edited="its host name is 'printer' now")
    assert audit(inventory(edited), HERE, {}, NOW, GRACE).edited == (edited,)
