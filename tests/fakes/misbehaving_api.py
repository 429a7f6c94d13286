"""An API server on loopback with scripted responses to lists and watches."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from overlay_net.model.api import JsonObject

Answer = Callable[[web.Request, "MisbehavingApi"], Awaitable[web.StreamResponse]]


class MisbehavingApi:
    """Each list and watch gets the next response of its script; without one it is served from ``objects``."""

    def __init__(self) -> None:
        self.objects: dict[str, JsonObject] = {}
        self.version = 100
        self.lists: list[Answer] = []
        self.watches: list[Answer] = []
        self.requests: list[str] = []
        self.token: str | None = None
        self.url = ""

    def put(self, name: str, **more: Any) -> JsonObject:
        self.version += 1
        metadata = {"name": name, "resourceVersion": str(self.version)}
        self.objects[name] = {"metadata": metadata, **more}
        return self.objects[name]

    @property
    def counts(self) -> dict[str, int]:
        return {kind: self.requests.count(kind) for kind in ("list", "watch")}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        kind = _kind(request)
        self.requests.append(kind)
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            return status(401, "Unauthorized", "token expired")
        script = {"watch": self.watches, "list": self.lists}.get(kind)
        if script:
            return await script.pop(0)(request, self)
        return await (serve_watch if kind == "watch" else serve_list)(request, self)


def _kind(request: web.Request) -> str:
    """``version``: a list of one object, which is requested only for its resourceVersion."""
    if request.query.get("watch"):
        return "watch"
    return "version" if request.query.get("limit") == "1" else "list"


async def serve_list(_: web.Request, api: MisbehavingApi) -> web.StreamResponse:
    return web.json_response(
        {"metadata": {"resourceVersion": str(api.version)}, "items": list(api.objects.values())},
        dumps=json.dumps,
    )


async def serve_watch(request: web.Request, api: MisbehavingApi) -> web.StreamResponse:
    """The objects that changed after the requested version, then the end of the stream."""
    since = int(request.query["resourceVersion"])
    newer = [each for each in api.objects.values() if int(each["metadata"]["resourceVersion"]) > since]
    return await lines(request, *(event("MODIFIED", each) for each in newer))


def event(kind: str, body: JsonObject) -> bytes:
    return json.dumps({"type": kind, "object": body}).encode() + b"\n"


def status(code: int, reason: str, message: str, **headers: str) -> web.Response:
    body = {"kind": "Status", "code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code, headers={key.replace("_", "-"): text for key, text in headers.items()})


async def lines(request: web.Request, *chunks: bytes) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for chunk in chunks:
        await response.write(chunk)
    await response.write_eof()
    return response


@asynccontextmanager
async def serving(api: MisbehavingApi) -> AsyncIterator[MisbehavingApi]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    api.url = f"http://127.0.0.1:{port}"
    try:
        yield api
    finally:
        await runner.cleanup()
