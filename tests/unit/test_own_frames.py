"""Which packets with the MAC of our link are ours, sent back by the network, and for which link that is asked."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from overlay_net.domain.kernel.own_frames import ECHO_TIME, MacConflict, MacvlanLink, OwnPackets, find_own_frames
from overlay_net.model.conditions import find_condition
from overlay_net.model.kernel import Address, Link, Observed, OwnershipMark
from tests.unit.test_node_agent import Node, assigned, ready

MARK = OwnershipMark(117, "overlay-net")
ETH0 = Link(2, "eth0", None, None, None, up=True, mac="52:54:00:00:00:01")
TMP0 = Link(3, "tmp0", "macvlan", 2, "overlay-net", up=True, mac="52:54:00:00:00:02")
NONE, OURS, SECOND, THEIRS = map(ip_address, ("0.0.0.0", "192.168.100.4", "10.1.1.1", "192.168.100.7"))


@pytest.mark.parametrize(
    ("links", "macvlan"),
    [
        ((ETH0, TMP0), MacvlanLink("tmp0", "eth0", TMP0.mac)),
        ((TMP0,), MacvlanLink("tmp0", "", TMP0.mac)),
        ((ETH0,), None),
        ((ETH0, Link(3, "tmp0", "macvlan", 2, None, up=True, mac=TMP0.mac)), None),
        ((ETH0, Link(3, "tmp0", "macvlan", 2, "overlay-net", up=True)), None),
        ((ETH0, Link(3, "tmp0", "ipvlan", 2, "overlay-net", up=True, mac=ETH0.mac)), None),
    ],
    ids=["managed macvlan", "parent in another namespace", "no link", "foreign link", "MAC unknown", "MAC of parent"],
)
def test_only_the_mac_of_a_managed_macvlan_must_be_unique(links: tuple[Link, ...], macvlan: MacvlanLink | None) -> None:
    assert find_own_frames(Observed(links=links), "tmp0", MARK, None).macvlan == macvlan


def test_every_address_and_mac_of_this_host_and_the_assigned_address_are_its_own() -> None:
    addresses = (Address(2, ip_interface("10.1.1.1/24"), None),)
    own = find_own_frames(Observed(links=(ETH0, TMP0), addresses=addresses), "tmp0", MARK, OURS)
    assert (own.macs, own.addresses) == (frozenset({ETH0.mac, TMP0.mac}), frozenset({int(OURS), int(SECOND)}))
    assert find_own_frames(Observed(addresses=addresses), "tmp0", MARK, None).addresses == {int(SECOND)}


def test_packets_from_an_address_are_ours_until_shortly_after_its_removal() -> None:
    own = OwnPackets()
    own.set_addresses(frozenset({int(OURS), int(SECOND)}), 0.0)
    own.set_addresses(frozenset({int(OURS)}), 100.0)
    own.set_addresses(frozenset({int(OURS)}), 101.0)
    for sender, now, ours in [
        (OURS, 1000.0, True),
        (SECOND, 100.0 + ECHO_TIME - 0.1, True),
        (SECOND, 100.0 + ECHO_TIME, False),
        (THEIRS, 0.0, False),
    ]:
        assert own.may_include(sender, THEIRS, now) == ours, (sender, now)
    own.set_addresses(frozenset({int(OURS), int(SECOND)}), 200.0)
    assert own.may_include(SECOND, OURS, 1000.0)


def test_probes_are_ours_only_shortly_after_we_have_probed() -> None:
    own = OwnPackets()
    own.set_addresses(frozenset({int(OURS)}), 0.0)
    assert not own.may_include(NONE, OURS, 0.0), "this host probes only before it configures an address"
    own.record_probe(OURS, 50.0)
    own.record_probe(SECOND, 55.0)
    assert own.may_include(NONE, OURS, 50.0 + ECHO_TIME - 0.1)
    assert not own.may_include(NONE, OURS, 50.0 + ECHO_TIME)
    assert own.may_include(NONE, SECOND, 50.0 + ECHO_TIME)
    assert not own.may_include(NONE, THEIRS, 50.0)


async def test_a_node_whose_mac_another_host_has_is_not_ready_until_that_host_is_silent() -> None:
    agent = Node()
    agent.answer(assigned())
    agent.neighbours.mac_conflict = MacConflict(MacvlanLink("tmp0", "eth0", TMP0.mac), THEIRS)
    await agent.reconcile()
    (report,) = agent.reports
    found = find_condition(report.conditions, "Ready")
    assert found is not None
    assert (found.status, found.reason) == (False, "MACConflict")
    assert all(part in found.message for part in (str(THEIRS), TMP0.mac, "ip link delete tmp0"))
    agent.answer(replace(assigned(), report=report))
    agent.neighbours.mac_conflict = None
    await agent.reconcile()
    assert ready(agent.reports[-1]) == (True, "Ready")
