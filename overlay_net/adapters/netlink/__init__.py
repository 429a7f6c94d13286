"""The kernel of this network namespace: what it has, how to change it, and when it changed."""

from overlay_net.adapters.netlink.describe import action_fields, describe
from overlay_net.adapters.netlink.kernel import Kernel
from overlay_net.adapters.netlink.monitor import Monitor
from overlay_net.adapters.netlink.neighbour_monitor import NeighbourMonitor

__all__ = ["Kernel", "Monitor", "NeighbourMonitor", "action_fields", "describe"]
