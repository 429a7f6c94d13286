"""The simulator on a socket: bodies and headers as nginx and PHP send them, and the faults."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from lab.phpipam.dispatch import answered, lock_timeout
from lab.phpipam.state import PhpIpam
from lab.phpipam.wire import JSON, WRITES, Call, Raw, Unrecorded, bad_gateway

log = logging.getLogger(__name__)
Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]
UNRECORDED = 599
EXPIRED = "Thu, 19 Nov 1981 08:52:00 GMT"


@dataclass
class Front:
    """What listens; ``writing`` are the calls that go on when their client has gone."""

    ipam: PhpIpam
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    writing: set[asyncio.Task[web.Response]] = field(default_factory=set)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        faults, chance = self.ipam.faults, self.ipam.chance
        call = await received(request)
        self.ipam.calls[call.key] += 1
        if faults.latency:
            await asyncio.sleep(faults.latency)
        if chance.random() < faults.lose_request:
            return cut(request)
        if chance.random() < faults.html:
            return raw(bad_gateway())
        if chance.random() < faults.server_error:
            return raw(Raw(500, cookie=False))
        hang, is_write = chance.random() < faults.hang, call.method in WRITES
        lose = is_write and call.controller != "user" and chance.random() < faults.lose_answer
        if is_write and chance.random() < faults.lock_timeout:
            refusal = lock_timeout("file", 30.0059)
            envelope = {"code": refusal.code, "success": False, "message": refusal.message, "time": 30.008}
            return web.Response(text=json.dumps(envelope), headers={"Content-Type": JSON})
        task = asyncio.create_task(self.respond(call))
        self.writing.add(task)
        task.add_done_callback(self.writing.discard)
        response = await asyncio.shield(task)
        if hang:
            await self._silence(request)
        return cut(request) if hang or lose else response

    async def respond(self, call: Call) -> web.Response:
        try:
            status, envelope, location = await answered(self.ipam, call)
        except Unrecorded as unknown:
            what = f"not recorded: {unknown}: {call.method} {call.target} {call.body.decode('utf-8', 'replace')}"
            log.error("%s", what)
            return web.Response(status=UNRECORDED, text=what)
        except Raw as answer:
            return raw(answer, self._cookie(call) if answer.cookie else None)
        except Exception as error:
            # As loud as an unknown request: a 500 would pass for one of the real server's.
            log.exception("the simulator broke at %s %s", call.method, call.target)
            return web.Response(status=UNRECORDED, text=f"the simulator broke: {error!r}")
        headers = {"Content-Type": JSON, "Expires": EXPIRED, "Cache-Control": "no-cache", "Pragma": "no-cache"}
        headers |= {"Set-Cookie": self._cookie(call)}
        if location is not None:
            headers["Location"] = location
        text = "" if call.method == "HEAD" else json.dumps(envelope, ensure_ascii=False, separators=(",", ":"))
        return web.Response(status=status, text=text, headers=headers)

    def _cookie(self, call: Call) -> str:
        cookies = dict(part.strip().partition("=")[::2] for part in call.headers.get("Cookie", "").split(";"))
        self.ipam.sessions += "phpipam" not in cookies
        session = cookies.get("phpipam", f"{self.ipam.sessions:026x}")
        secure = " Secure;" if call.https else ""
        return f"phpipam={session}; Max-Age=86400; path=/; SameSite=Lax;{secure} HttpOnly;"

    async def _silence(self, request: web.Request) -> None:
        while not self.closing.is_set() and request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(0.02)


async def received(request: web.Request) -> Call:
    body = await request.read()
    return Call(
        request.method.upper(), request.raw_path, request.headers, body, request.secure, request.remote or "unknown"
    )


def cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def raw(answer: Raw, cookie: str | None = None) -> web.Response:
    headers = {"Content-Type": answer.content_type}
    if cookie is not None:
        headers |= {"Set-Cookie": cookie, "Expires": EXPIRED}
    return web.Response(status=answer.status, body=answer.body.encode(), headers=headers)


@asynccontextmanager
async def serve(
    ipam: PhpIpam,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    extra: dict[tuple[str, str], Endpoint] | None = None,
) -> AsyncIterator[str]:
    """The address of a server, without ``/api``. What it knows stays when it ends: serving again is a restart.

    ``extra``: endpoints by (method, path) in front of the API. Writes that were begun are finished first.
    """
    if not ipam.serving:
        ipam.renew_locks()
    ipam.serving += 1
    front = Front(ipam)
    app = web.Application(client_max_size=2**24)
    for (method, path), endpoint in (extra or {}).items():
        app.router.add_route(method, path, endpoint)
    app.router.add_route("*", "/{path:.*}", front.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.2, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, ssl_context=tls)
        await site.start()
        bound = runner.addresses[0]
        yield f"{'https' if tls else 'http'}://{bound[0]}:{bound[1]}"
    finally:
        front.closing.set()
        await asyncio.gather(*front.writing, return_exceptions=True)
        await runner.cleanup()
        ipam.serving -= 1
