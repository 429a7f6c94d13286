"""HTTP endpoints: /metrics, /healthz (the process is running), /readyz (its caches have synced)."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from overlay_net.model.errors import ConfigurationError


def split_bind(bind: str) -> tuple[str | None, int]:
    """Split ``[::1]:8080`` into (``::1``, 8080); no host means all addresses."""
    host, _, port = bind.rpartition(":")
    return host.strip("[]") or None, int(port)


@asynccontextmanager
async def serve(bind: str, registry: CollectorRegistry, unready: Callable[[], str]) -> AsyncIterator[None]:
    """Serve while the context is open. ``unready`` returns why the process is not ready, or an empty string.

    Raises ConfigurationError if the address cannot be bound.
    """

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        missing = unready()
        return web.Response(text=f"{missing or 'ok'}\n", status=503 if missing else 200)

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    host, port = split_bind(bind)
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigurationError(f"http.bind: cannot listen on {bind!r}: {error.strerror or error}") from None
        yield
    finally:
        await runner.cleanup()
