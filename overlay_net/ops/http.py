"""HTTP endpoints: /metrics, /healthz (the process is running), /readyz (its caches have synced)."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from overlay_net.model.errors import ConfigurationError

log = logging.getLogger(__name__)

RETRY_INTERVAL = 10.0
"""Seconds between attempts to listen on an address that is in use."""


def split_bind(bind: str) -> tuple[str | None, int]:
    """Split ``[::1]:8080`` into (``::1``, 8080); no host means all addresses."""
    host, _, port = bind.rpartition(":")
    return host.strip("[]") or None, int(port)


@asynccontextmanager
async def serve(bind: str, registry: CollectorRegistry, unready: Callable[[], str]) -> AsyncIterator[None]:
    """Serve while the context is open. ``unready`` returns why the process is not ready, or an empty string.

    Raises ConfigurationError if the address cannot be bound.
    """
    async with _runner(registry, unready) as runner:
        problem = await _listen(runner, bind)
        if problem:
            raise ConfigurationError(f"http.bind: {problem}")
        yield


class PatientServer:
    """Serves as soon as its address can be bound; the process does its work meanwhile.

    ``changed`` is called when ``problem`` changes: why nothing is served, or an empty string.
    """

    def __init__(
        self, bind: str, registry: CollectorRegistry, unready: Callable[[], str], changed: Callable[[], None]
    ) -> None:
        self._bind = bind
        self._registry = registry
        self._unready = unready
        self._changed = changed
        self._retry = asyncio.Event()
        self.problem = ""

    def retry(self) -> None:
        """Try to listen now: the process that used the address may have ended."""
        self._retry.set()

    async def run(self) -> None:
        """Run until cancelled."""
        async with _runner(self._registry, self._unready) as runner:
            while problem := await _listen(runner, self._bind):
                self._set(problem)
                self._retry.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._retry.wait(), RETRY_INTERVAL)
            self._set("")
            await asyncio.Event().wait()

    def _set(self, problem: str) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if problem:
            log.warning("metrics are not served", extra={"bind": self._bind, "error": problem})
        else:
            log.info("metrics are served", extra={"bind": self._bind})
        self._changed()


@asynccontextmanager
async def _runner(registry: CollectorRegistry, unready: Callable[[], str]) -> AsyncIterator[web.AppRunner]:
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
    try:
        yield runner
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, bind: str) -> str:
    """Listen on the address. Returns why that is not possible, or an empty string."""
    try:
        await web.TCPSite(runner, *split_bind(bind)).start()
    except OSError as error:
        return f"cannot listen on {bind!r}: {error.strerror or error}"
    return ""
