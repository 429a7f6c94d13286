"""Who has which IP address on an Ethernet link: ARP (RFC 826, RFC 5227) and IPv6 neighbour discovery (RFC 4861)."""

from overlay_net.adapters.arp.interface import is_running, link_local, local_macs
from overlay_net.adapters.arp.link import ArpLink
from overlay_net.adapters.arp.neighbour_discovery import NeighbourDiscovery
from overlay_net.adapters.arp.packet import Mac

__all__ = ["ArpLink", "Mac", "NeighbourDiscovery", "is_running", "link_local", "local_macs"]
