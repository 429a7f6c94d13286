"""When an address may be configured, and when it is announced."""

import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface

import pytest

from overlay_net.agent.address_guard import (
    ANNOUNCE_AGAIN,
    NOTICED_WITHIN,
    PROBE_AGAIN,
    RECENTLY,
    AddressGuard,
    AddressInUse,
)
from overlay_net.domain.kernel.own_frames import OwnFrames
from overlay_net.model.errors import KernelError
from overlay_net.model.kernel import Address, Desired, DesiredLink, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import AddAddress
from overlay_net.model.net import IpAddress

MARK = OwnershipMark(117, "overlay-net")
OURS, OTHER = ip_interface("192.168.100.4/24"), ip_interface("192.168.100.5/24")
ADD = AddAddress("tmp0", OURS)
MAC = "52:54:00:00:00:09"
EMPTY = Observed()


@dataclass(frozen=True)
class Conflict:
    address: IpAddress
    mac: str


@dataclass
class Hosts:
    """The other hosts on the link."""

    macs: dict[IpAddress, str] = field(default_factory=dict)
    error: KernelError | None = None
    probes: int = 0
    announced: list[IpAddress] = field(default_factory=list)
    gateway_changed: bool = False
    conflicts: tuple[Conflict, ...] = ()
    router: IpAddress | None = None
    mac_conflict = None

    def recognise(self, own: OwnFrames) -> None:
        return

    async def find_conflict(self, link: str, address: IpAddress) -> str | None:
        self.probes += 1
        if self.error is not None:
            raise self.error
        return self.macs.get(address)

    def announce(self, link: str, address: IpAddress) -> None:
        if self.error is not None:
            raise self.error
        self.announced.append(address)

    def watch(self, configured: Mapping[str, Iterable[IpAddress]], router: IpAddress | None) -> None:
        self.router = router

    def take_gateway_change(self) -> bool:
        changed, self.gateway_changed = self.gateway_changed, False
        return changed


class Node:
    """A guard, its neighbours, and a clock that a test sets."""

    def __init__(self, *, detect: bool = True, announce_every: float = 0.0) -> None:
        self.hosts = Hosts()
        self.now = 1000.0
        self.guard = AddressGuard(self.hosts, MARK, lambda: self.now, detect=detect, announce_every=announce_every)

    async def is_admitted(self, observed: Observed = EMPTY) -> bool:
        try:
            await self.guard.admit(ADD, observed)
        except AddressInUse:
            return False
        return True


def kernel(*, up: bool = True, dad_failed: bool = False) -> Observed:
    """tmp0 with our address."""
    link = Link(2, "tmp0", "macvlan", 1, "overlay-net", up)
    return Observed(links=(link,), addresses=(Address(2, OURS, 117, dad_failed=dad_failed),))


def desired(address: str = str(OURS)) -> Desired:
    return Desired(link=DesiredLink("tmp0", "eth0"), address=ip_interface(address))


async def test_free_address_is_admitted() -> None:
    node = Node()
    assert await node.is_admitted()
    assert node.hosts.probes == 1
    assert (node.guard.rejected, node.guard.wait) == (None, None)


async def test_address_of_another_host_is_rejected_and_probed_again_after_a_while() -> None:
    node = Node()
    node.hosts.macs[OURS.ip] = MAC
    assert not await node.is_admitted()
    rejected = node.guard.rejected
    assert rejected is not None
    assert str(rejected) == f"192.168.100.4 is in use by {MAC}"
    assert PROBE_AGAIN <= (node.guard.wait or 0) <= 1.5 * PROBE_AGAIN
    node.hosts.macs.clear()
    assert not await node.is_admitted()
    assert node.hosts.probes == 1, "not yet"
    node.now += 1.5 * PROBE_AGAIN
    assert await node.is_admitted()
    assert node.guard.rejected is None


async def test_address_on_a_tunnel_is_admitted_without_a_probe() -> None:
    node = Node()
    node.hosts.error = KernelError("tun0 is not an Ethernet link")
    tunnel = Link(2, "tmp0", "tun", None, None, True, ethernet=False, arp=False)
    assert await node.is_admitted(Observed(links=(tunnel,)))
    assert node.hosts.probes == 0


async def test_address_on_a_link_with_other_hosts_but_no_ethernet_is_refused_with_the_setting() -> None:
    node = Node()
    infiniband = Observed(links=(Link(2, "tmp0", None, None, None, True, ethernet=False),))
    with pytest.raises(KernelError, match="set duplicate_detection to false"):
        await node.is_admitted(infiniband)
    assert await Node(detect=False).is_admitted(infiniband)


async def test_address_that_cannot_be_probed_is_not_admitted() -> None:
    node = Node()
    node.hosts.error = KernelError("tmp0 has no carrier")
    with pytest.raises(KernelError):
        await node.guard.admit(ADD, EMPTY)
    assert node.guard.rejected is None


async def test_without_detection_no_probe_is_sent() -> None:
    node = Node(detect=False)
    node.hosts.macs[OURS.ip] = MAC
    assert await node.is_admitted()
    assert node.hosts.probes == 0


async def test_address_that_was_used_a_moment_ago_is_admitted_without_a_probe() -> None:
    node = Node()
    node.guard.follow(desired(), kernel())
    node.now += RECENTLY - 1
    assert await node.is_admitted()
    assert node.hosts.probes == 0
    node.now += 1
    assert await node.is_admitted()
    assert node.hosts.probes == 1


@pytest.mark.parametrize("quiet", [RECENTLY + 1, 66, NOTICED_WITHIN - 1])
async def test_address_that_is_deleted_after_a_quiet_time_is_admitted_without_a_probe(quiet: float) -> None:
    node = Node()
    node.guard.follow(desired(), kernel())
    node.now += quiet
    node.guard.follow(desired(), EMPTY)
    assert await node.is_admitted()
    assert node.hosts.probes == 0
    node.guard.follow(desired(), EMPTY)
    node.now += RECENTLY
    assert await node.is_admitted()
    assert node.hosts.probes == 1, "it was not in use in the meantime"


async def test_address_is_probed_if_the_agent_was_stopped_when_it_was_deleted() -> None:
    node = Node()
    node.guard.follow(desired(), kernel())
    node.now += NOTICED_WITHIN
    node.guard.follow(desired(), EMPTY)
    assert await node.is_admitted()
    assert node.hosts.probes == 1


@pytest.mark.parametrize("can_probe", [True, False])
async def test_address_that_failed_the_kernels_own_detection_is_rejected(can_probe: bool) -> None:
    node = Node()
    node.hosts.macs[OURS.ip] = MAC
    node.hosts.error = None if can_probe else KernelError("tmp0 has no carrier")
    assert not await node.is_admitted(kernel(dad_failed=True))
    assert node.guard.rejected is not None
    assert node.guard.rejected.mac == (MAC if can_probe else "")


async def test_rejection_ends_when_another_address_is_assigned() -> None:
    node = Node()
    node.hosts.macs[OURS.ip] = MAC
    assert not await node.is_admitted()
    node.guard.follow(desired(), EMPTY)
    assert node.guard.rejected is not None
    node.guard.follow(desired(str(OTHER)), EMPTY)
    assert node.guard.rejected is None


def test_address_is_announced_once_when_it_is_new_or_its_link_came_up() -> None:
    node = Node()
    for observed in (kernel(up=False), kernel(), kernel()):
        node.guard.follow(desired(), observed)
    assert node.hosts.announced == [OURS.ip]
    for observed in (kernel(up=False), kernel()):
        node.guard.follow(desired(), observed)
    assert node.hosts.announced == [OURS.ip] * 2


def test_address_is_announced_again_when_a_gateway_has_another_mac() -> None:
    node = Node()
    node.guard.follow(desired(), kernel())
    node.hosts.gateway_changed = True
    node.guard.follow(desired(), kernel())
    assert node.hosts.announced == [OURS.ip] * 2


def test_address_is_announced_again_at_each_interval() -> None:
    node = Node(announce_every=60)
    for _ in range(3):
        node.guard.follow(desired(), kernel())
    assert (node.hosts.announced, node.guard.wait) == ([OURS.ip], 60)
    node.now += 60
    node.guard.follow(desired(), kernel())
    assert node.hosts.announced == [OURS.ip] * 2


def test_what_was_missing_in_one_observation_is_announced_again() -> None:
    node = Node()
    for observed in (kernel(), EMPTY, kernel()):
        node.guard.follow(desired(), observed)
    assert node.hosts.announced == [OURS.ip] * 2


@pytest.mark.parametrize(("code", "wait"), [(errno.ENOBUFS, ANNOUNCE_AGAIN), (errno.ENETDOWN, None)])
def test_failed_announcement_is_sent_at_the_next_observation(code: int, wait: float | None) -> None:
    """Without carrier, the kernel wakes the agent when it is back."""
    node = Node()
    node.hosts.error = KernelError("refused by the test", code=code)
    node.guard.follow(desired(), kernel())
    assert (node.hosts.announced, node.guard.wait) == ([], wait)
    node.hosts.error = None
    for _ in range(2):
        node.guard.follow(desired(), kernel())
    assert (node.hosts.announced, node.guard.wait) == ([OURS.ip], None)


def test_mac_of_a_host_that_uses_our_configured_address_is_known() -> None:
    node = Node()
    assert node.guard.conflicting_mac(OURS.ip) == ""
    node.hosts.conflicts = (Conflict(ip_address("192.168.100.9"), "other"), Conflict(OURS.ip, MAC))
    assert node.guard.conflicting_mac(OURS.ip) == MAC


@pytest.mark.parametrize(("detect", "router"), [(True, None), (False, OTHER.ip)])
def test_only_without_detection_the_gateway_may_answer_for_every_address(
    detect: bool, router: IpAddress | None
) -> None:
    node = Node(detect=detect)
    node.guard.follow(replace(desired(), gateway=OTHER.ip), kernel())
    assert node.hosts.router == router
