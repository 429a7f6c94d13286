"""What is announced to the neighbours, and which changes of the kernel make it be announced again."""

from dataclasses import replace
from ipaddress import ip_interface

import pytest

from overlay_net.domain.kernel.announcements import find_announcements
from overlay_net.model.kernel import Address, Link, Observed, OwnershipMark

MARK = OwnershipMark(117, "overlay-net")
ETH0 = Link(2, "eth0", "veth", None, None, up=True, mac="52:54:00:00:00:01")
TMP0 = Link(7, "tmp0", "macvlan", 2, "overlay-net", up=True, mac="02:00:00:00:00:07")
OURS = Address(7, ip_interface("192.168.100.4/24"), 117)
NODE = Observed(links=(ETH0, TMP0), addresses=(Address(2, ip_interface("10.176.162.151/26"), None), OURS))
SHARED = Observed(links=(ETH0,), addresses=(replace(OURS, link=2),))
"""As with link_mode ``address``."""


def with_link(index: int, observed: Observed = NODE, **changes: object) -> Observed:
    links = (replace(link, **changes) if link.index == index else link for link in observed.links)  # type: ignore[arg-type]
    return replace(observed, links=tuple(links))


def with_address(**changes: object) -> Observed:
    ours = replace(OURS, **changes)  # type: ignore[arg-type]
    return replace(NODE, addresses=(NODE.addresses[0], ours))


def announced(observed: Observed) -> set[tuple[str, str]]:
    return {(each.link, str(each.address)) for each in find_announcements(observed, MARK)}


def test_only_our_addresses_are_announced() -> None:
    assert announced(NODE) == {("tmp0", "192.168.100.4")}
    assert announced(SHARED) == {("eth0", "192.168.100.4")}


@pytest.mark.parametrize(
    "observed",
    [
        with_link(7, up=False),
        with_link(7, ethernet=False),
        with_address(interface=ip_interface("fd00:7::4/64"), tentative=True),
        with_address(interface=ip_interface("fd00:7::4/64"), dad_failed=True),
        replace(NODE, addresses=NODE.addresses[:1]),
    ],
    ids=["link down", "no Ethernet", "tentative", "failed detection", "deleted"],
)
def test_an_address_that_is_not_in_use_is_not_announced(observed: Observed) -> None:
    assert announced(observed) == set()


@pytest.mark.parametrize(
    "after",
    [
        with_link(7, mac="02:00:00:00:00:99"),
        with_link(7, master=4),
        with_link(2, master=4),
        with_link(7, carrier_changes=2),
        with_link(2, carrier_changes=2),
        with_link(7, changed_at=9),
        replace(NODE, links=(ETH0, replace(TMP0, index=8)), addresses=(replace(OURS, link=8),)),
        with_address(set_at=5),
        with_address(interface=ip_interface("192.168.100.5/24")),
    ],
    ids=[
        "MAC",
        "master",
        "master of the parent",
        "carrier",
        "carrier of the parent",
        "down and up",
        "re-created",
        "set again",
        "other address",
    ],
)
def test_a_change_that_neighbours_cannot_see_by_themselves_is_announced(after: Observed) -> None:
    assert announced(after)
    assert find_announcements(after, MARK).isdisjoint(find_announcements(NODE, MARK))


@pytest.mark.parametrize("change", [{"mac": "52:54:00:00:00:99"}, {"master": 4}, {"carrier_changes": 2}])
def test_changes_of_the_interface_with_the_address_count_in_mode_address(change: dict[str, object]) -> None:
    after = with_link(2, SHARED, **change)
    assert find_announcements(after, MARK).isdisjoint(find_announcements(SHARED, MARK))


@pytest.mark.parametrize("changed", [2, 3, 4, 7])
@pytest.mark.parametrize("change", [{"carrier_changes": 2}, {"master": 9}])
def test_every_link_below_counts(changed: int, change: dict[str, int]) -> None:
    bond = Link(2, "bond0", "bond", None, None, up=True)
    vlan = Link(3, "bond0.7", "vlan", 2, None, up=True)
    macsec = Link(4, "macsec0", "macsec", 3, None, up=True)
    stack = replace(NODE, links=(bond, vlan, macsec, replace(TMP0, parent=4)))
    after = with_link(changed, stack, **change)
    assert find_announcements(after, MARK).isdisjoint(find_announcements(stack, MARK))


def test_the_peer_of_a_veth_does_not_count() -> None:
    peer = Link(3, "peer", "veth", 2, None, up=True)
    pair = replace(SHARED, links=(replace(ETH0, parent=3), peer))
    assert find_announcements(with_link(3, pair, carrier_changes=2), MARK) == find_announcements(pair, MARK)


@pytest.mark.parametrize(
    "after",
    [
        with_link(7, mtu=1400),
        with_link(7, mode="private"),
        with_link(2, mac="52:54:00:00:00:99"),
        with_link(2, changed_at=9),
        replace(NODE, addresses=(*NODE.addresses, Address(7, ip_interface("192.168.100.77/24"), 5))),
    ],
)
def test_other_changes_are_not_announced(after: Observed) -> None:
    assert find_announcements(after, MARK) == find_announcements(NODE, MARK)
