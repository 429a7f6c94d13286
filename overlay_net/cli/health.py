"""What `overlay-net status` reads: the summary of the cluster, and whether TCP servers can be reached from here."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from overlay_net.adapters.kube import KubeApi
from overlay_net.cli.cluster import read_all
from overlay_net.cli.values import Target
from overlay_net.domain.allocation.agent_nodes import has_agent
from overlay_net.domain.status.overview import Overview, overview
from overlay_net.model.errors import OverlayNetError
from overlay_net.model.names import NODE_OVERLAY_IPS, NODES, OVERLAY_POOLS, STATIC_ROUTES
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool
from overlay_net.model.selectors import Selector
from overlay_net.model.static_route import StaticRoute

INTERVAL = 1.0
CONNECT_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Connectivity:
    connected: bool
    line: str
    """The source address, or the error."""


@dataclass(frozen=True, slots=True)
class Health:
    cluster: Overview
    targets: tuple[Connectivity, ...]

    @property
    def healthy(self) -> bool:
        return not self.cluster.findings and all(target.connected for target in self.targets)


async def wait_healthy(read: Callable[[], Awaitable[Overview]], targets: Sequence[Target], wait: float) -> Health:
    """Return the first healthy result, or the last one within ``wait`` seconds. Raises what ``read`` raises."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    while True:
        expired = loop.time() >= deadline
        try:
            health = Health(await read(), tuple([await connect(*target) for target in targets]))
        except OverlayNetError:
            if expired:
                raise
        else:
            if expired or health.healthy:
                return health
        await asyncio.sleep(min(INTERVAL, max(0.0, deadline - loop.time())))


async def read_cluster(api: KubeApi, agents: Selector) -> Overview:
    """``agents`` selects the Nodes on which an agent runs."""
    nodes, overlays, routes, pools = await asyncio.gather(
        read_all(api, NODES, Node.parse, metadata_only=True),
        read_all(api, NODE_OVERLAY_IPS, NodeOverlay.parse),
        read_all(api, STATIC_ROUTES, StaticRoute.parse),
        read_all(api, OVERLAY_POOLS, Pool.parse),
    )
    objects = {overlay.name: overlay for overlay in overlays}
    names = (node.name for node in nodes if has_agent(node, objects.get(node.name), agents))
    return overview(names, overlays, routes, pools)


async def connect(host: str, port: int) -> Connectivity:
    """Open and close a TCP connection."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return Connectivity(False, f"no connection to {host}:{port}: no answer within {CONNECT_TIMEOUT:g} s")
    except (OSError, UnicodeError) as error:
        # UnicodeError: a label of the host name is empty or too long.
        reason = error.strerror if isinstance(error, OSError) else None
        return Connectivity(False, f"no connection to {host}:{port}: {reason or error}")
    source = writer.get_extra_info("sockname")[0]
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return Connectivity(True, f"connected to {host}:{port} from {source}")
