"""Whether a process claims contact with the API server: its readiness, and the times in its metrics."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from overlay_net.adapters.kube import Connection, KubeApi, KubeSource
from overlay_net.model.errors import ApiError
from overlay_net.model.names import STATIC_ROUTES
from overlay_net.ops.agent_metrics import AgentMetrics
from overlay_net.ops.controller_metrics import ControllerMetrics
from overlay_net.ops.metrics import CONTACT_LIMIT, Metrics

LAST_CONTACT = "overlay_net_last_api_contact_timestamp_seconds"
LAST_SYNC = "overlay_net_last_sync_timestamp_seconds"
BOOKMARK = b'{"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "7"}}}\n'


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Server:
    """Answers with ``status``; a watch sends one bookmark for each item of ``bookmarks``, and is silent then."""

    def __init__(self) -> None:
        self.status = 200
        self.bookmarks: asyncio.Queue[None] = asyncio.Queue()
        self.closed = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.status != 200 or "watch" not in request.query:
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": []}, status=self.status)
        response = web.StreamResponse()
        await response.prepare(request)
        while not self.closed.is_set():
            if not self.bookmarks.empty():
                self.bookmarks.get_nowait()
                await response.write(BOOKMARK)
            await asyncio.sleep(0.01)
        return response


@asynccontextmanager
async def client(server: Server, metrics: Metrics) -> AsyncIterator[KubeApi]:
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()

    async def anonymous(_: bool) -> None:
        return None

    host, port = runner.addresses[0][:2]
    try:
        async with aiohttp.ClientSession() as session:
            yield KubeApi(Connection(f"http://{host}:{port}", session, anonymous), timeout=5, observer=metrics)
    finally:
        server.closed.set()
        await runner.cleanup()


def value(metrics: Metrics, name: str) -> float:
    return metrics.registry.get_sample_value(name) or 0.0


@pytest.fixture(params=[AgentMetrics, ControllerMetrics])
def clock_and_metrics(request: pytest.FixtureRequest) -> tuple[Clock, Metrics]:
    clock = Clock()
    return clock, request.param(clock)


async def test_no_contact_is_claimed_before_the_first_answer(clock_and_metrics: tuple[Clock, Metrics]) -> None:
    clock, metrics = clock_and_metrics
    assert (metrics.contact_problem(), value(metrics, LAST_CONTACT)) == ("", 0.0), "it has just started"
    clock.now += CONTACT_LIMIT
    assert "API server" in metrics.contact_problem()
    metrics.record_sync()
    assert value(metrics, LAST_SYNC) == 0.0


async def test_an_answer_counts_as_contact_for_a_limited_time(clock_and_metrics: tuple[Clock, Metrics]) -> None:
    clock, metrics = clock_and_metrics
    async with client(Server(), metrics) as api:
        await api.list(STATIC_ROUTES)
    assert value(metrics, LAST_CONTACT) > 0
    metrics.record_sync()
    synced = value(metrics, LAST_SYNC)
    assert synced > 0
    clock.now += CONTACT_LIMIT
    assert "API server" in metrics.contact_problem()
    metrics.record_sync()
    assert value(metrics, LAST_SYNC) == synced, "a comparison with a cached object is no sync"


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_an_error_of_a_server_or_of_a_proxy_does_not_count_as_contact(
    clock_and_metrics: tuple[Clock, Metrics], status: int
) -> None:
    clock, metrics = clock_and_metrics
    clock.now += CONTACT_LIMIT
    server = Server()
    server.status = status
    async with client(server, metrics) as api:
        with pytest.raises(ApiError):
            await api.list(STATIC_ROUTES)
        assert metrics.contact_problem()
        server.status = 403
        with pytest.raises(ApiError):
            await api.list(STATIC_ROUTES)
        assert not metrics.contact_problem(), "a refusal is an answer"


async def test_a_failed_connection_does_not_count_as_contact(clock_and_metrics: tuple[Clock, Metrics]) -> None:
    clock, metrics = clock_and_metrics

    async def anonymous(_: bool) -> None:
        return None

    clock.now += CONTACT_LIMIT
    async with aiohttp.ClientSession() as session:
        # No one listens on the discard port.
        api = KubeApi(Connection("http://127.0.0.1:9", session, anonymous), observer=metrics)
        with pytest.raises(ApiError):
            await api.list(STATIC_ROUTES)
    assert metrics.contact_problem()


async def test_a_watch_counts_as_contact_while_it_delivers_events(clock_and_metrics: tuple[Clock, Metrics]) -> None:
    clock, metrics = clock_and_metrics
    server = Server()
    async with client(server, metrics) as api:
        events = KubeSource(api, STATIC_ROUTES, silence=0.3).watch("1")
        server.bookmarks.put_nowait(None)
        await anext(events)
        clock.now += CONTACT_LIMIT
        assert metrics.contact_problem()
        server.bookmarks.put_nowait(None)
        await anext(events)
        assert not metrics.contact_problem()
        clock.now += CONTACT_LIMIT
        with pytest.raises(ApiError):
            await anext(events)
        assert metrics.contact_problem(), "the end of a silent watch is no contact"
