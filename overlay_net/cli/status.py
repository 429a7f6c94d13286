"""`overlay-net status`: prints a one-screen summary of what is ready and what is not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from overlay_net.adapters.kube import KubeApi, connect_controller
from overlay_net.domain.allocation.agent_nodes import has_agent
from overlay_net.domain.status.overview import Overview, overview
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import OverlayNetError, Unavailable
from overlay_net.model.names import NODE_OVERLAY_IPS, NODES, OVERLAY_POOLS, STATIC_ROUTES, Resource
from overlay_net.model.node import Node
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.pool import Pool
from overlay_net.model.selectors import Selector
from overlay_net.model.static_route import StaticRoute

T = TypeVar("T")

INTERVAL = 1.0
NAMED = 3
"""Maximum number of objects with the same problem that a line names, if it does not name all."""
CONNECT_TIMEOUT = 5.0

Target = tuple[str, int]
"""Host and port of a TCP server."""


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

    def lines(self) -> Iterator[str]:
        yield from self.cluster.counts
        yield ""
        if self.healthy:
            yield "healthy"
        findings = [(each.kind, _shorten(each.names), each.message) for each in self.cluster.findings]
        width = max((len(names) for _, names, _ in findings), default=0)
        yield from (f"{kind:<5} {names:<{width}}  {message}" for kind, names, message in findings)
        yield from (target.line for target in self.targets)


def _shorten(names: Sequence[str]) -> str:
    if len(names) <= NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"


async def status(
    kubeconfig: Path | None,
    wait: float,
    timeout: float,
    targets: Sequence[Target],
    agents: Selector,
    write: Callable[[str], None],
) -> bool:
    """Write the summary. Returns whether everything is ready and each target accepts a connection from this host.

    Waits up to ``wait`` seconds for that; the API server must answer within ``timeout`` seconds. ``agents`` selects the
    Nodes on which an agent runs. Raises ConfigurationError, and OverlayNetError if the cluster cannot be read.
    """
    async with contextlib.AsyncExitStack() as stack:
        async with _limit(timeout):
            # A credential plugin may hang as well.
            connection = await stack.enter_async_context(connect_controller(kubeconfig))
        # The limit of all requests together ends first, and is the one to report.
        api = KubeApi(connection, timeout=2 * timeout)

        async def read() -> Overview:
            async with _limit(timeout):
                return await read_cluster(api, agents)

        health = await _wait_healthy(read, targets, wait)
    for line in health.lines():
        write(line)
    return health.healthy


async def _wait_healthy(read: Callable[[], Awaitable[Overview]], targets: Sequence[Target], wait: float) -> Health:
    """Return the first healthy result, or the last one within ``wait`` seconds."""
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


@contextlib.asynccontextmanager
async def _limit(seconds: float) -> AsyncIterator[None]:
    """Raises Unavailable after ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise Unavailable(f"no complete answer within {seconds:g} s") from None


async def read_cluster(api: KubeApi, agents: Selector) -> Overview:
    nodes, overlays, routes, pools = await asyncio.gather(
        _read(api, NODES, Node.parse, metadata_only=True),
        _read(api, NODE_OVERLAY_IPS, NodeOverlay.parse),
        _read(api, STATIC_ROUTES, StaticRoute.parse),
        _read(api, OVERLAY_POOLS, Pool.parse),
    )
    objects = {overlay.name: overlay for overlay in overlays}
    names = (node.name for node in nodes if has_agent(node, objects.get(node.name), agents))
    return overview(names, overlays, routes, pools)


async def _read(
    api: KubeApi, resource: Resource, parse: Callable[[JsonObject], T], *, metadata_only: bool = False
) -> list[T]:
    """Return all objects of a kind, parsed page by page."""
    pages = api.pages(resource, metadata_only=metadata_only)
    return [parse(item) async for page in pages for item in page.items]


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
