"""Which flows keep a source address that their route no longer has."""

import socket
import struct
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from overlay_net.adapters.netlink.bulk.codec import attribute
from overlay_net.adapters.netlink.bulk.socket import NetlinkSocket
from overlay_net.adapters.netlink.conntrack import CT_NEW, IPS_SRC_NAT, parse_translation, read_translations
from overlay_net.domain.kernel.stale_translations import find_candidates, find_stale
from overlay_net.model.kernel import Address, Desired, DesiredLink, Observed
from overlay_net.model.net import IpAddress
from overlay_net.model.route import NextHop, Route
from overlay_net.model.translation import Translation
from tests.fakes import netlink_script as netlink

OVERLAY, PRIVATE, VIP = ip_address("192.168.100.4"), ip_address("10.176.162.151"), ip_address("10.176.162.200")
ON_PREMISE = ip_address("192.168.0.10")
UDP, TCP, ICMP, SCTP, DCCP, ICMPV6 = 17, 6, 1, 132, 33, 58
DESIRED = Desired(DesiredLink("eth0", "eth0", "address"), ip_interface("192.168.100.4/24"))
OBSERVED = Observed(
    addresses=(Address(2, ip_interface("10.176.162.151/26"), None), Address(2, ip_interface("192.168.100.4/24"), 117))
)


def flow(source: IpAddress, protocol: int = UDP, destination: IpAddress = ON_PREMISE) -> Translation:
    return Translation(destination, source, protocol, b"key")


def route(source: IpAddress | None) -> Route:
    return Route(ip_network("192.168.0.0/24"), (NextHop(None, 2),), 117, source=source)


@pytest.mark.parametrize("protocol", [UDP, ICMP])
@pytest.mark.parametrize(
    ("source", "through", "stale"),
    [
        (PRIVATE, route(OVERLAY), True),
        (OVERLAY, route(OVERLAY), False),
        (PRIVATE, route(None), False),
        (PRIVATE, route(PRIVATE), False),
        (OVERLAY, route(None), True),
        (OVERLAY, route(PRIVATE), True),
        (PRIVATE, None, False),
        (OVERLAY, None, False),
    ],
    ids=[
        "route to the overlay added",
        "overlay",
        "private network",
        "private network with a source",
        "route to the overlay removed",
        "replaced by one with another source",
        "route unknown",
        "overlay, route unknown",
    ],
)
def test_a_flow_is_stale_if_exactly_one_of_it_and_its_route_uses_the_overlay_address(
    source: IpAddress, through: Route | None, stale: bool, protocol: int
) -> None:
    flows = find_candidates([flow(source, protocol)], DESIRED, OBSERVED)
    assert find_stale(flows, DESIRED, {ON_PREMISE: through}) == (flows if stale else ())


@pytest.mark.parametrize(
    "other",
    [
        flow(PRIVATE, TCP),
        flow(PRIVATE, SCTP),
        flow(PRIVATE, DCCP),
        flow(VIP),
        flow(ip_address("2001:db8::1"), destination=ip_address("2001:db8::2")),
    ],
    ids=["TCP", "SCTP", "DCCP", "to an address of another host", "other IP family"],
)
def test_other_flows_are_left_alone(other: Translation) -> None:
    assert find_candidates([other], DESIRED, OBSERVED) == ()


@pytest.mark.parametrize(
    ("desired", "observed"),
    [
        (replace(DESIRED, address=None), OBSERVED),
        (Desired(), OBSERVED),
        (DESIRED, replace(OBSERVED, addresses=OBSERVED.addresses[:1])),
        (DESIRED, Observed()),
    ],
)
def test_without_an_overlay_address_in_use_nothing_is_decided(desired: Desired, observed: Observed) -> None:
    assert find_candidates([flow(PRIVATE), flow(OVERLAY)], desired, observed) == ()


def message(
    family: int, destination: IpAddress, source: IpAddress, status: int = IPS_SRC_NAT, protocol: int = UDP
) -> bytes:
    """A flow as the kernel lists it: the reply goes to the translated source."""
    base = 3 if family == socket.AF_INET6 else 1
    pod = ip_address("fd00::5") if family == socket.AF_INET6 else ip_address("10.244.1.5")

    def encode_tuple(sender: IpAddress, receiver: IpAddress) -> bytes:
        addresses = attribute(base, sender.packed) + attribute(base + 1, receiver.packed)
        return attribute(0x8001, addresses) + attribute(0x8002, attribute(1, bytes([protocol])))

    return (
        struct.pack("=BBH", family, 0, 0)
        + attribute(0x8001, encode_tuple(pod, destination))
        + attribute(0x8002, encode_tuple(destination, source))
        + attribute(3, struct.pack("!I", status))
        + attribute(12, b"\1\2\3\4")
    )


@pytest.mark.parametrize(
    ("family", "destination", "source"),
    [
        (socket.AF_INET, ON_PREMISE, PRIVATE),
        (socket.AF_INET6, ip_address("2001:db8:1::10"), ip_address("2001:db8::151")),
    ],
)
def test_translations_of_both_families_are_parsed(family: int, destination: IpAddress, source: IpAddress) -> None:
    found = parse_translation(message(family, destination, source))
    assert found is not None
    assert (found.destination, found.source, found.protocol) == (destination, source, UDP)
    assert found.key[0] == family
    assert found.key.endswith(attribute(12, b"\1\2\3\4")), "a later flow with the same addresses is not deleted"


@pytest.mark.parametrize(
    "body",
    [
        message(socket.AF_INET, ON_PREMISE, PRIVATE, status=0x8),
        message(socket.AF_UNIX, ON_PREMISE, PRIVATE),
        struct.pack("=BBH", socket.AF_INET, 0, 0),
        message(socket.AF_INET, ON_PREMISE, PRIVATE)[:40],
    ],
    ids=["not translated", "other family", "empty", "truncated"],
)
def test_other_flows_are_no_translations(body: bytes) -> None:
    assert parse_translation(body) is None


FLOWS = 5000


def list_flows() -> Iterator[bytes]:
    """The datagrams of a node with many connections, and one flow that is to be examined."""
    for number in range(FLOWS // 50):
        flows = [message(socket.AF_INET, ON_PREMISE, PRIVATE, protocol=TCP)] * 50 if number else []
        flows = flows or [message(socket.AF_INET, ON_PREMISE, PRIVATE)]
        yield b"".join(netlink.message(CT_NEW, each) for each in flows)
    yield netlink.done()


def test_memory_does_not_grow_with_the_flows_that_need_not_be_examined() -> None:
    ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def answer() -> None:
        kernels.recv(1000)
        for datagram in list_flows():
            kernels.send(datagram)

    answering = threading.Thread(target=answer)
    answering.start()
    ours.setblocking(False)
    with closing(NetlinkSocket(ours)) as kernel:
        tracemalloc.start()
        try:
            found = read_translations(kernel, partial(find_candidates, desired=DESIRED, observed=OBSERVED))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    answering.join()
    kernels.close()
    assert [(each.destination, each.source) for each in found] == [(ON_PREMISE, PRIVATE)]
    assert peak < 50 * FLOWS
