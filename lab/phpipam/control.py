"""The control surface under /_lab/ of a simulator that is a process of its own."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict

from aiohttp import web

from lab.phpipam.seed import set_faults
from lab.phpipam.state import PhpIpam
from lab.phpipam.wire import Refusal

HELP = """\
control surface, beside the API, JSON in and out:
  GET    /_lab/rows        the addresses; ?subnet=ID for those of one subnet
  PATCH  /_lab/rows/{id}   edits an address: fields by the names of the API
  DELETE /_lab/rows/{id}   removes an address
  GET    /_lab/calls       {"calls": {"GET subnets/usage": 3, ..}, "logins": 1, "failed_logins": [seconds, ..]}
  GET    /_lab/faults      the faults as they are
  PATCH  /_lab/faults      sets some of latency (seconds), lose_answer, lose_request, server_error, html, lock_timeout,
                           hang (probabilities), blocked, duplicates (true or false)
  POST   /_lab/password    {"user", "password"}: a new password
"""
Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Control:
    def __init__(self, ipam: PhpIpam) -> None:
        self.ipam = ipam

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
        return web.json_response(self.ipam.rows(int(subnet) if subnet else None))

    async def _edit(self, request: web.Request) -> web.Response:
        try:
            self.ipam.edit(self._existing(request), **await request.json())
        except (ValueError, TypeError, Refusal) as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        return web.Response(status=204)

    async def _remove(self, request: web.Request) -> web.Response:
        self.ipam.remove(self._existing(request))
        return web.Response(status=204)

    async def _calls(self, _: web.Request) -> web.Response:
        ipam = self.ipam
        return web.json_response(
            {"calls": dict(ipam.calls), "logins": ipam.logins, "failed_logins": ipam.failed_logins}
        )

    async def _faults(self, _: web.Request) -> web.Response:
        return web.json_response(asdict(self.ipam.faults))

    async def _set_faults(self, request: web.Request) -> web.Response:
        try:
            set_faults(self.ipam, await request.json())
        except (ValueError, AttributeError) as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        return await self._faults(request)

    async def _password(self, request: web.Request) -> web.Response:
        body = await request.json()
        try:
            self.ipam.set_password(body["user"], body["password"])
        except (KeyError, TypeError) as error:
            raise web.HTTPBadRequest(text=repr(error)) from None
        return web.Response(status=204)

    def _existing(self, request: web.Request) -> int:
        identifier = int(request.match_info["id"])
        if self.ipam.find(identifier) is None:
            raise web.HTTPNotFound
        return identifier
