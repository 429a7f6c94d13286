"""The kernel of this network namespace: observe it, change it, and be notified of changes."""

from overlay_net.adapters.netlink.conntrack import Conntrack
from overlay_net.adapters.netlink.describe import action_fields, describe
from overlay_net.adapters.netlink.kernel import Kernel
from overlay_net.adapters.netlink.monitor import Monitor
from overlay_net.adapters.netlink.neighbour_monitor import NeighbourMonitor

__all__ = ["Conntrack", "Kernel", "Monitor", "NeighbourMonitor", "action_fields", "describe"]
