"""`overlay-net status`: one screen that says how much is as it should be, and what is wrong."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from overlay_net.adapters.kube import KubeApi, connect_controller
from overlay_net.domain.status.overview import Overview, overview
from overlay_net.model.errors import OverlayNetError
from overlay_net.model.names import NODE_OVERLAY_IPS, NODES, OVERLAY_POOLS, STATIC_ROUTES
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.parse import find_object, parse_text
from overlay_net.model.pool import Pool
from overlay_net.model.static_route import StaticRoute

EVERY = 1.0
CONNECT_TIMEOUT = 5.0

Target = tuple[str, int]
"""Host and port of a TCP server."""


async def status(kubeconfig: Path | None, wait: float, targets: Sequence[Target], tell: Callable[[str], None]) -> bool:
    """Tell how things are; whether all is well, and each target lets itself be connected from here.

    Looks again for up to ``wait`` seconds until it is. Raises ConfigurationError and OverlayNetError: it is not known.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + wait
    async with connect_controller(str(kubeconfig) if kubeconfig else None) as connection:
        api = KubeApi(connection)
        while True:
            late = loop.time() >= until
            try:
                seen, lines = await look(api), [await reach(*target) for target in targets]
            except OverlayNetError:
                if late:
                    raise
            else:
                well = not seen.findings and all(ok for ok, _ in lines)
                if well or late:
                    for line in (*screen(seen), *(text for _, text in lines)):
                        tell(line)
                    return well
            await asyncio.sleep(min(EVERY, max(0.0, until - loop.time())))


async def look(api: KubeApi) -> Overview:
    nodes, overlays, routes, pools = await asyncio.gather(
        api.list(NODES, metadata_only=True),
        api.list(NODE_OVERLAY_IPS),
        api.list(STATIC_ROUTES),
        api.list(OVERLAY_POOLS),
    )
    return overview(
        (parse_text(find_object(item, "metadata").get("name")) for item in nodes.items),
        map(NodeOverlay.parse, overlays.items),
        map(StaticRoute.parse, routes.items),
        map(Pool.parse, pools.items),
    )


def screen(seen: Overview) -> list[str]:
    if not seen.findings:
        return [*seen.counts, "", "all is well"]
    width = max(len(each.name) for each in seen.findings)
    found = [f"{each.kind:<5} {each.name:<{width}}  {each.message}" for each in seen.findings]
    return [*seen.counts, "", *found]


async def reach(host: str, port: int) -> tuple[bool, str]:
    """Whether a TCP server answers, and what to say of it: from which address it was asked, or why not."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return False, f"no connection to {host}:{port}: no answer within {CONNECT_TIMEOUT:g} s"
    except OSError as error:
        return False, f"no connection to {host}:{port}: {error.strerror or error}"
    source = writer.get_extra_info("sockname")[0]
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True, f"connected to {host}:{port} from {source}"
