"""The agent's metrics server while its address is in use by another process."""

import asyncio
import re
import socket

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from overlay_net.ops import http
from overlay_net.ops.http import PatientServer


async def read(port: int, path: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as response:
        return await response.text()


class Observed:
    """The server's problems, in the order in which it reported them."""

    def __init__(self, bind: str) -> None:
        self.server = PatientServer(bind, CollectorRegistry(), lambda: "", self._changed)
        self.problems: list[str] = []
        self._event = asyncio.Event()

    def _changed(self) -> None:
        self.problems.append(self.server.problem)
        self._event.set()

    async def change(self) -> str:
        async with asyncio.timeout(10):
            await self._event.wait()
        self._event.clear()
        return self.problems[-1]


@pytest.mark.parametrize(
    ("bind", "reason"),
    [
        ("127.0.0.1:{port}", "address already in use"),
        # The second one is that of asyncio in later versions of Python.
        ("192.0.2.1:{port}", "cannot assign requested address|could not bind on any address"),
    ],
    ids=["port in use", "address that this host does not have"],
)
async def test_problem_is_reported_once_and_the_process_goes_on(
    bind: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "RETRY_INTERVAL", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = bind.format(port=taken.getsockname()[1])
        observed = Observed(bind)
        task = asyncio.ensure_future(observed.server.run())
        problem = await observed.change()
        assert problem.startswith(f"cannot listen on {bind!r}: ")
        assert re.search(reason, problem)
        await asyncio.sleep(0.1)
        assert (len(observed.problems), task.done()) == (1, False)
        task.cancel()


async def test_metrics_are_served_as_soon_as_the_port_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "RETRY_INTERVAL", 0.01)
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    observed = Observed(f"127.0.0.1:{port}")
    task = asyncio.ensure_future(observed.server.run())
    assert await observed.change()
    taken.close()
    assert await observed.change() == ""
    assert await read(port, "/healthz") == "ok\n"
    task.cancel()
