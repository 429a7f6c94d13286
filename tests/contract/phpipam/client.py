"""A small client for tests of the simulator's own settings and faults."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from lab.phpipam import Server, serve
from tests.contract.phpipam.replay import basic

PASSWORD = "secret"
JSON = {"Content-Type": "application/json"}


@dataclass
class Reply:
    status: int
    text: str

    @property
    def envelope(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.text)
        return answer


@dataclass
class Client:
    base: str
    session: aiohttp.ClientSession
    token: str = ""

    async def login(self, password: str = PASSWORD) -> Reply:
        reply = await self.call("POST", "user/", headers=JSON | {"Authorization": basic("operator", password)})
        if reply.status == 200:
            self.token = reply.envelope["data"]["token"]
        return reply

    async def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 30
    ) -> Reply:
        sent = JSON | {"token": self.token} if headers is None else headers
        request = self.session.request(
            method,
            self.base + path,
            data=None if body is None else json.dumps(body),
            headers=sent,
            skip_auto_headers=("Content-Type",),
            timeout=aiohttp.ClientTimeout(total=timeout),
        )
        async with request as response:
            return Reply(response.status, await response.text())

    async def claim(self, hostname: str, timeout: float = 30) -> Reply:
        return await self.call("POST", "addresses/first_free/1/", {"hostname": hostname}, timeout=timeout)


def small_server(lock: str = "file", **more: Any) -> Server:
    """A server with one app, one user, one section, and subnet 1 with a gateway."""
    server = Server(**more)
    server.add_app("overlay", lock=lock)
    server.add_user("operator", PASSWORD)
    server.add_subnet(server.add_section("Lab"), "192.168.100.0/24", gateway="192.168.100.1")
    return server


@asynccontextmanager
async def connect(server: Server, *, login: bool = True) -> AsyncIterator[Client]:
    async with serve(server) as url, aiohttp.ClientSession() as session:
        client = Client(f"{url}/api/overlay/", session)
        if login:
            await client.login()
        yield client
