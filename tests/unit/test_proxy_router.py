"""A gateway with proxy ARP: which claims of our address may be its answers."""

from ipaddress import IPv4Address

from overlay_net.adapters.neighbours.arp_packet import NO_MAC, REPLY, ArpPacket
from overlay_net.adapters.neighbours.proxy_router import ANSWER_TIME, ASK_AGAIN, ProxyRouter

OURS, GATEWAY = IPv4Address("192.168.100.4"), IPv4Address("192.168.100.1")
ROUTER_MAC, OTHER_MAC = "52:54:00:00:00:01", "52:54:00:00:00:02"


def packet(sender: IPv4Address, mac: str) -> ArpPacket:
    return ArpPacket(REPLY, mac, sender, NO_MAC, OURS)


class Router:
    def __init__(self) -> None:
        self.asked: list[tuple[IPv4Address, IPv4Address]] = []
        self.router = ProxyRouter(lambda router, source: self.asked.append((router, source)))
        self.router.set(GATEWAY)

    def claims(self, mac: str, now: float) -> bool:
        """Whether a packet from our address is a claim of another host."""
        return not self.router.may_have_sent(packet(OURS, mac), now)


def test_only_the_mac_of_the_gateway_claims_nothing() -> None:
    node = Router()
    node.router.heard(packet(OURS + 9, OTHER_MAC))
    node.router.heard(packet(GATEWAY, ROUTER_MAC))
    assert (node.claims(ROUTER_MAC, 0.0), node.claims(OTHER_MAC, 0.0), node.asked) == (False, True, [])
    node.router.heard(packet(GATEWAY, OTHER_MAC))
    assert (node.claims(ROUTER_MAC, 0.0), node.claims(OTHER_MAC, 0.0)) == (True, False), "the gateway has moved"


def test_a_gateway_whose_mac_is_unknown_is_asked_before_a_claim_counts() -> None:
    node = Router()
    assert not node.claims(ROUTER_MAC, 10.0)
    assert not node.claims(OTHER_MAC, 10.0 + ANSWER_TIME / 2)
    assert node.asked == [(GATEWAY, OURS)]
    assert node.claims(OTHER_MAC, 10.0 + ANSWER_TIME), "it has not answered"
    assert not node.claims(OTHER_MAC, 10.0 + ASK_AGAIN)
    assert len(node.asked) == 2
    node.router.heard(packet(GATEWAY, ROUTER_MAC))
    assert (node.claims(ROUTER_MAC, 100.0), node.claims(OTHER_MAC, 100.0)) == (False, True)


def test_without_a_gateway_every_packet_from_our_address_is_a_claim() -> None:
    node = Router()
    node.router.heard(packet(GATEWAY, ROUTER_MAC))
    node.router.set(None)
    assert node.claims(ROUTER_MAC, 0.0)
    node.router.set(GATEWAY)
    assert not node.claims(OTHER_MAC, 0.0), "asked again"
    assert node.asked == [(GATEWAY, OURS)]
