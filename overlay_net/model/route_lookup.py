"""Lookups of the route that the kernel uses for a packet."""

from dataclasses import dataclass

from overlay_net.model.net import IpAddress


@dataclass(frozen=True, slots=True)
class RouteLookup:
    """A packet that this node sends, without a firewall mark."""

    destination: IpAddress
    source: IpAddress | None = None
    """None: the packet has no source address yet; the kernel selects one by the route."""
