"""ARP frames as bytes: which are evidence of another host with an address."""

import socket

import pytest

from overlay_net.adapters.neighbours.arp_link import is_conflict
from overlay_net.adapters.neighbours.arp_packet import REPLY, REQUEST, ArpPacket
from overlay_net.adapters.neighbours.arp_socket import is_handled
from tests.fakes.arp_frames import ADDRESS, BROADCAST, FRAMES, LINK_MAC, OTHER_MAC, Frame, arp

INLINE_TAGS = [frame for frame in FRAMES if frame.data[12:14] in (b"\x81\x00", b"\x88\xa8")]


@pytest.mark.parametrize("frame", [frame for frame in FRAMES if frame not in INLINE_TAGS], ids=str)
def test_only_frames_that_linux_accepts_and_probes_of_their_sender_are_evidence(frame: Frame) -> None:
    packet = ArpPacket.decode(frame.data)
    assert (packet is not None and is_conflict(packet, ADDRESS)) == frame.evidence


@pytest.mark.parametrize("frame", INLINE_TAGS, ids=str)
def test_a_frame_with_a_vlan_tag_is_no_arp(frame: Frame) -> None:
    """The kernel removes the tag from the frames that it receives."""
    assert ArpPacket.decode(frame.data) is None


@pytest.mark.parametrize("operation", [REQUEST, REPLY])
@pytest.mark.parametrize("destination", [BROADCAST, LINK_MAC])
def test_a_sent_packet_is_received_unchanged(operation: int, destination: str) -> None:
    sent = ArpPacket(operation, OTHER_MAC, ADDRESS, LINK_MAC, ADDRESS + 7, OTHER_MAC, destination)
    assert ArpPacket.decode(sent.encode(destination)) == sent
    assert ArpPacket.decode(arp(destination, "02:00:00:00:00:99"))


@pytest.mark.parametrize(
    ("received_on", "kind", "handled"),
    [
        ("eth0", socket.PACKET_HOST, True),
        ("eth0", socket.PACKET_BROADCAST, True),
        ("eth0", socket.PACKET_MULTICAST, True),
        ("eth0", socket.PACKET_OTHERHOST, False),
        ("eth0", socket.PACKET_OUTGOING, False),
        ("eth0", socket.PACKET_LOOPBACK, False),
        ("eth0.200", socket.PACKET_BROADCAST, False),
        ("tmp0", socket.PACKET_HOST, False),
    ],
)
def test_frames_for_other_hosts_vlans_and_upper_links_are_not_handled(
    received_on: str, kind: int, handled: bool
) -> None:
    assert is_handled("eth0", received_on, kind) == handled
