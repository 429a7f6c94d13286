"""The HTTP frontend of the simulator: bodies and headers as nginx and PHP send them, and the injected faults."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from lab.phpipam.call import JSON, WRITES, Call, Raw, Unrecorded, bad_gateway
from lab.phpipam.dispatch import answer_call, lock_timeout
from lab.phpipam.server import Server

log = logging.getLogger(__name__)
Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]
UNRECORDED = 599
EXPIRED = "Thu, 19 Nov 1981 08:52:00 GMT"


@dataclass
class Frontend:
    """``writing`` are the calls that continue after their client has disconnected."""

    server: Server
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    writing: set[asyncio.Task[web.Response]] = field(default_factory=set)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        faults, chance = self.server.faults, self.server.chance
        call = await parse_call(request)
        self.server.calls[call.key] += 1
        if faults.latency:
            await asyncio.sleep(faults.latency)
        if chance.random() < faults.lose_request:
            return abort(request)
        if chance.random() < faults.html:
            return raw_response(bad_gateway())
        if chance.random() < faults.server_error:
            return raw_response(Raw(500, cookie=False))
        if faults.database_error:
            return error_response(500, faults.database_error)
        hang, is_write = chance.random() < faults.hang, call.method in WRITES
        lose = is_write and call.controller != "user" and chance.random() < faults.lose_response
        if is_write and chance.random() < faults.lock_timeout:
            return error_response(200, lock_timeout("file", 30.0059).message)
        task = asyncio.create_task(self._process(call))
        self.writing.add(task)
        task.add_done_callback(self.writing.discard)
        response = await asyncio.shield(task)
        if hang:
            await self._wait_for_disconnect(request)
        return abort(request) if hang or lose else response

    async def _process(self, call: Call) -> web.Response:
        try:
            status, envelope, location = await answer_call(self.server, call)
        except Unrecorded as unknown:
            text = f"not recorded: {unknown}: {call.method} {call.target} {call.body.decode('utf-8', 'replace')}"
            log.error(text)
            return web.Response(status=UNRECORDED, text=text)
        except Raw as answer:
            return raw_response(answer, self._cookie(call) if answer.cookie else None)
        except Exception as error:
            # Not a 500, which could be mistaken for a recorded failure of the real server.
            log.exception("simulator error: %s %s", call.method, call.target)
            return web.Response(status=UNRECORDED, text=f"simulator error: {error!r}")
        headers = {"Content-Type": JSON, "Expires": EXPIRED, "Cache-Control": "no-cache", "Pragma": "no-cache"}
        headers |= {"Set-Cookie": self._cookie(call)}
        if location is not None:
            headers["Location"] = location
        text = "" if call.method == "HEAD" else json.dumps(envelope, ensure_ascii=False, separators=(",", ":"))
        self.server.bytes_sent += len(text.encode())
        return web.Response(status=status, text=text, headers=headers)

    def _cookie(self, call: Call) -> str:
        cookies = dict(part.strip().partition("=")[::2] for part in call.headers.get("Cookie", "").split(";"))
        self.server.sessions += "phpipam" not in cookies
        session = cookies.get("phpipam", f"{self.server.sessions:026x}")
        secure = " Secure;" if call.https else ""
        return f"phpipam={session}; Max-Age=86400; path=/; SameSite=Lax;{secure} HttpOnly;"

    async def _wait_for_disconnect(self, request: web.Request) -> None:
        while not self.closing.is_set() and request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(0.02)


async def parse_call(request: web.Request) -> Call:
    body = await request.read()
    return Call(
        request.method.upper(), request.raw_path, request.headers, body, request.secure, request.remote or "unknown"
    )


def abort(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def error_response(status: int, message: str) -> web.Response:
    """An error with code 500 in the envelope."""
    envelope = {"code": 500, "success": False, "message": message, "time": 30.008}
    return web.Response(status=status, text=json.dumps(envelope), headers={"Content-Type": JSON})


def raw_response(answer: Raw, cookie: str | None = None) -> web.Response:
    headers = {"Content-Type": answer.content_type}
    if cookie is not None:
        headers |= {"Set-Cookie": cookie, "Expires": EXPIRED}
    return web.Response(status=answer.status, body=answer.body.encode(), headers=headers)


@asynccontextmanager
async def serve(
    server: Server,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    extra: dict[tuple[str, str], Endpoint] | None = None,
) -> AsyncIterator[str]:
    """Serve until the context ends; the value is the URL without ``/api``. Serving again with the same ``server`` is a
    restart that keeps its content.

    ``extra`` are endpoints by (method, path) that take precedence over the API. Writes in progress are completed first.
    """
    if not server.serving:
        server.renew_locks()
    server.serving += 1
    frontend = Frontend(server)
    app = web.Application(client_max_size=2**24)
    for (method, path), endpoint in (extra or {}).items():
        app.router.add_route(method, path, endpoint)
    app.router.add_route("*", "/{path:.*}", frontend.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.2, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=tls)
        await site.start()
        bound = runner.addresses[0]
        yield f"{'https' if tls else 'http'}://{bound[0]}:{bound[1]}"
    finally:
        frontend.closing.set()
        await asyncio.gather(*frontend.writing, return_exceptions=True)
        await runner.cleanup()
        server.serving -= 1
