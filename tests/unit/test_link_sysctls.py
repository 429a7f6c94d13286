"""Sysctls of the overlay link: fixed ones, and those of its parent instead of the defaults."""

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from overlay_net.adapters.netlink.sysctl import KEYS
from overlay_net.domain.kernel.link_sysctls import (
    IPV6_SYSCTLS,
    LINK_SYSCTLS,
    PARENT_SYSCTLS,
    PROTECTING_SYSCTLS,
    plan_link_sysctls,
    plan_parent_sysctls,
)
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.model.kernel import Desired, DesiredLink, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import SetSysctl
from overlay_net.model.net import IpInterface
from overlay_net.model.route import NextHop, Route
from tests.fakes.kernel import FakeKernel

MARK = OwnershipMark(117, "overlay-net")
ETH0 = Link(2, "eth0", "veth", None, None, up=True)
ADDRESS = ip_interface("192.168.100.4/24")
ROUTER_ADVERTISEMENT = Route(ip_network("::/0"), (NextHop(ip_address("fe80::1"), 3),), 9, metric=1024)


def desired(address: IpInterface = ADDRESS) -> Desired:
    return Desired(DesiredLink("tmp0", "eth0"), address)


def observed(sysctls: dict[str, str], *routes: Route) -> Observed:
    """With sysctls such as ``eth0 forwarding`` or ``tmp0 ipv6.forwarding``."""
    values = {(name.split()[0], name.split()[1]): value for name, value in sysctls.items()}
    return Observed(links=(ETH0,), routes=routes, sysctls=values)


def planned(found: Observed, target: Desired, *, new: bool = False) -> dict[str, str]:
    return {each.key: each.value for each in plan_link_sysctls("tmp0", ETH0, target, found, new=new)}


@pytest.mark.parametrize("key", ["forwarding", "ipv6.forwarding", "ipv6.force_forwarding"])
@pytest.mark.parametrize("value", ["0", "1"])
def test_new_link_takes_over_from_its_parent_whether_it_forwards(key: str, value: str) -> None:
    found = observed({f"eth0 {key}": value})
    assert planned(found, desired(), new=True) == {**LINK_SYSCTLS, key: value}


@pytest.mark.parametrize("key", ["forwarding", "ipv6.forwarding", "ipv6.force_forwarding"])
@pytest.mark.parametrize(("parent", "link"), [("1", "0"), ("0", "1")])
def test_existing_link_follows_its_parent_in_both_directions(key: str, parent: str, link: str) -> None:
    found = observed({f"eth0 {key}": parent, f"tmp0 {key}": link})
    assert planned(found, desired()) == {key: parent}
    assert planned(observed({f"eth0 {key}": parent, f"tmp0 {key}": parent}), desired()) == {}


def test_a_sysctl_of_the_parent_that_was_not_read_changes_nothing() -> None:
    assert planned(observed({"tmp0 forwarding": "1", "tmp0 ipv6.forwarding": "1"}), desired()) == {}
    assert planned(observed({}), desired(), new=True) == dict(LINK_SYSCTLS)


def test_a_sysctl_that_the_kernel_does_not_have_is_not_set_on_an_existing_link() -> None:
    assert planned(observed({"eth0 ipv6.force_forwarding": "1"}), desired()) == {}


@pytest.mark.parametrize("key", sorted(LINK_SYSCTLS))
def test_each_fixed_sysctl_of_the_link_is_repaired(key: str) -> None:
    value = LINK_SYSCTLS[key]
    assert planned(observed({f"tmp0 {key}": "7"}), desired()) == {key: value}
    assert planned(observed({f"tmp0 {key}": value}), desired()) == {}


def test_ipv6_is_enabled_only_on_a_link_with_an_ipv6_address() -> None:
    found = observed({"tmp0 ipv6.disable_ipv6": "1"})
    assert planned(found, desired()) == {}
    assert planned(found, desired(ip_interface("fd00:7::4/64"))) == {"ipv6.disable_ipv6": "0"}


def test_default_route_of_a_router_advertisement_is_not_lost_for_a_sysctl() -> None:
    differs = {"eth0 ipv6.forwarding": "1", "tmp0 ipv6.forwarding": "0"}
    assert planned(observed(differs, ROUTER_ADVERTISEMENT), desired()) == {}
    other = ROUTER_ADVERTISEMENT.replace(protocol=3)
    assert planned(observed(differs, other), desired()) == {"ipv6.forwarding": "1"}
    lowered = observed({"eth0 ipv6.forwarding": "0", "tmp0 ipv6.forwarding": "1"}, ROUTER_ADVERTISEMENT)
    assert planned(lowered, desired()) == {"ipv6.forwarding": "0"}


@pytest.mark.parametrize("key", ["arp_ignore", "arp_announce"])
@pytest.mark.parametrize(("value", "raised"), [("0", True), ("1", False), ("2", False), ("8", False)])
def test_parent_is_kept_from_using_the_overlay_address_in_arp(key: str, value: str, raised: bool) -> None:
    found = observed({f"eth0 {key}": value})
    assert plan_parent_sysctls(ETH0, found) == ((SetSysctl("eth0", key, "1"),) if raised else ())


def test_in_mode_address_no_sysctl_is_changed() -> None:
    target = Desired(DesiredLink("eth0", "eth0", "address"), ADDRESS)
    every = {("eth0", key): "0" for key in KEYS}
    plan = plan_kernel(target, Observed(links=(ETH0,), sysctls=every), MARK)
    assert not [each for each in plan.actions if isinstance(each, SetSysctl)]


def test_change_of_the_parent_reaches_the_link_and_nothing_is_left_to_do() -> None:
    kernel = FakeKernel(MARK, Observed(links=(ETH0,), sysctls={("eth0", "forwarding"): "0"}))
    for value in ("0", "1", "0"):
        kernel.sysctls["eth0", "forwarding"] = value
        for _ in range(5):
            for action in plan_kernel(desired(), kernel.observe(), MARK).actions:
                kernel.apply(action)
        assert kernel.sysctls["tmp0", "forwarding"] == value
        assert plan_kernel(desired(), kernel.observe(), MARK).actions == ()


def test_every_planned_sysctl_is_observed() -> None:
    """One that is not observed would never be repaired."""
    assert {*LINK_SYSCTLS, *IPV6_SYSCTLS, *PARENT_SYSCTLS, *PROTECTING_SYSCTLS} <= set(KEYS)
