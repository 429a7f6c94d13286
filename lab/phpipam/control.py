"""The control API under /_lab/ of a simulator that runs as a process."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict

from aiohttp import web

from lab.phpipam.call import Refusal
from lab.phpipam.seed import set_faults
from lab.phpipam.server import Server

HELP = """\
control API, with JSON requests and responses:
  GET    /_lab/rows        all addresses; ?subnet=ID selects those of one subnet
  PATCH  /_lab/rows/{id}   edit an address; fields have the names of the API
  DELETE /_lab/rows/{id}   delete an address
  GET    /_lab/calls       {"calls": {"GET subnets/usage": 3, ..}, "logins": 1, "failed_logins": [seconds, ..]}
  GET    /_lab/faults      the current faults
  PATCH  /_lab/faults      set any of latency (seconds), lose_response, lose_request, server_error, html, lock_timeout,
                           hang (probabilities), database_error (message), failing_subnet,
                           unreadable_subnet (ids), blocked, duplicates (true or false)
  POST   /_lab/password    {"user", "password"}: change a password
"""
Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Control:
    def __init__(self, server: Server) -> None:
        self.server = server

    @property
    def endpoints(self) -> dict[tuple[str, str], Endpoint]:
        return {
            ("GET", "/_lab/rows"): self._rows,
            ("PATCH", "/_lab/rows/{id:[0-9]+}"): self._edit,
            ("DELETE", "/_lab/rows/{id:[0-9]+}"): self._remove,
            ("GET", "/_lab/calls"): self._calls,
            ("GET", "/_lab/faults"): self._faults,
            ("PATCH", "/_lab/faults"): self._set_faults,
            ("POST", "/_lab/password"): self._password,
        }

    async def _rows(self, request: web.Request) -> web.Response:
        subnet = request.query.get("subnet")
        return web.json_response(self.server.rows(int(subnet) if subnet else None))

    async def _edit(self, request: web.Request) -> web.Response:
        try:
            self.server.edit(self._existing(request), **await request.json())
        except (ValueError, TypeError, Refusal) as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        return web.Response(status=204)

    async def _remove(self, request: web.Request) -> web.Response:
        self.server.remove(self._existing(request))
        return web.Response(status=204)

    async def _calls(self, _: web.Request) -> web.Response:
        server = self.server
        return web.json_response(
            {"calls": dict(server.calls), "logins": server.logins, "failed_logins": server.failed_logins}
        )

    async def _faults(self, _: web.Request) -> web.Response:
        return web.json_response(asdict(self.server.faults))

    async def _set_faults(self, request: web.Request) -> web.Response:
        try:
            set_faults(self.server, await request.json())
        except (ValueError, AttributeError) as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        return await self._faults(request)

    async def _password(self, request: web.Request) -> web.Response:
        body = await request.json()
        try:
            self.server.set_password(body["user"], body["password"])
        except (KeyError, TypeError) as error:
            raise web.HTTPBadRequest(text=repr(error)) from None
        return web.Response(status=204)

    def _existing(self, request: web.Request) -> int:
        identifier = int(request.match_info["id"])
        if self.server.find(identifier) is None:
            raise web.HTTPNotFound
        return identifier
