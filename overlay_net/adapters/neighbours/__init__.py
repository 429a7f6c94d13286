"""Neighbours on an Ethernet link: ARP (RFC 826, RFC 5227) and IPv6 neighbour discovery (RFC 4861)."""

from overlay_net.adapters.neighbours.announcements import Announcements
from overlay_net.adapters.neighbours.arp_link import ArpLink
from overlay_net.adapters.neighbours.arp_packet import Mac
from overlay_net.adapters.neighbours.interface import is_running, link_local
from overlay_net.adapters.neighbours.mac_watch import MacWatch
from overlay_net.adapters.neighbours.neighbour_discovery import NeighbourDiscovery

__all__ = ["Announcements", "ArpLink", "Mac", "MacWatch", "NeighbourDiscovery", "is_running", "link_local"]
