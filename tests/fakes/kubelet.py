"""The part of a kubelet that an API server relays: logs of containers, and commands in them."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from lab.cluster.pki import Authority

PROTOCOL = "v4.channel.k8s.io"


@dataclass
class Kubelet:
    """The logs and outputs of all pods."""

    port: int = 0
    logs: dict[str, str] = field(default_factory=dict)
    """By name of the pod."""
    outputs: dict[str, str] = field(default_factory=dict)
    """Standard output of a command, by name of the pod; a pod without one has no such program."""
    commands: list[list[str]] = field(default_factory=list)

    async def log(self, request: web.Request) -> web.Response:
        return web.Response(text=self.logs.get(request.match_info["pod"], ""))

    async def execute(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=(PROTOCOL,))
        await socket.prepare(request)
        self.commands.append(request.query.getall("command"))
        output = self.outputs.get(request.match_info["pod"])
        if output is None:
            await socket.send_bytes(b"\x02no such program\n")
            causes = [{"reason": "ExitCode", "message": "127"}]
            status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
        else:
            # In parts, as a runtime relays them.
            for start in range(0, len(output), 1000):
                await socket.send_bytes(b"\x01" + output[start : start + 1000].encode())
            status = {"status": "Success"}
        await socket.send_bytes(b"\x03" + json.dumps(status).encode())
        await socket.close()
        async for message in socket:
            assert message.type is not WSMsgType.ERROR
        return socket


@asynccontextmanager
async def serve_kubelet(authority: Authority) -> AsyncIterator[Kubelet]:
    """Serve on 127.0.0.1, with a certificate of this authority."""
    kubelet = Kubelet()
    app = web.Application()
    app.router.add_get("/exec/{namespace}/{pod}/{container}", kubelet.execute)
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", kubelet.log)
    issued = authority.issue_server("fake-kubelet", ["127.0.0.1"])
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(issued.certificate, issued.key)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    kubelet.port = runner.addresses[0][1]
    try:
        yield kubelet
    finally:
        await runner.cleanup()
