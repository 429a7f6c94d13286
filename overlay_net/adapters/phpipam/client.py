"""Client for the calls of phpIPAM's REST API that address management needs."""

from collections.abc import Mapping
from typing import Any

from overlay_net.adapters.phpipam.api_session import ApiSession
from overlay_net.adapters.phpipam.request import Fields, Request, parse_list, parse_object
from overlay_net.adapters.phpipam.responses import NothingFound, ResponseLost
from overlay_net.model.errors import Unavailable


class Client:
    """Responses are JSON objects as phpIPAM sends them. Every call raises as ``responses.parse_response``."""

    def __init__(self, api: ApiSession) -> None:
        self._api = api

    async def read_subnet(self, subnet: int) -> dict[str, Any]:
        return await self._object("subnet", "subnets", subnet, subnet=subnet)

    async def read_usage(self, subnet: int) -> dict[str, Any]:
        return await self._object("usage", "subnets", subnet, "usage", subnet=subnet)

    async def list_children(self, subnet: int) -> list[dict[str, Any]]:
        return await self._list("children", "subnets", subnet, "slaves", subnet=subnet)

    async def list_rows(self, subnet: int, query: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """List the rows of a subnet; ``query`` is a server-side filter."""
        return await self._list("list", "subnets", subnet, "addresses", query=query, subnet=subnet)

    async def search_hostname(self, hostname: str) -> list[dict[str, Any]]:
        return await self._list("find", "addresses", "search_hostname", hostname)

    async def search_address(self, address: str) -> list[dict[str, Any]]:
        """Find the rows of an address in all subnets of the server; the caller must compare ``subnetId``."""
        return await self._list("verify", "addresses", "search", address)

    async def read_row(self, record: int) -> dict[str, Any]:
        return await self._object("read", "addresses", record)

    async def create_at_first_free(self, subnet: int, fields: Fields) -> tuple[int, str]:
        """Create a row at the lowest free address. Returns its id and address. Raises Exhausted, Conflict."""
        path = ("addresses", "first_free", subnet)
        envelope = await self._api.call("reserve", Request("POST", path, fields, subnet=subnet))
        return _parse_id(envelope), str(envelope.get("data"))

    async def create(self, subnet: int, address: str, fields: Fields) -> int:
        """Create a row at ``address``. Returns its id. Raises Conflict if there is one already."""
        body = {**fields, "subnetId": subnet, "ip": address}
        return _parse_id(await self._api.call("reserve", Request("POST", ("addresses",), body, subnet=subnet)))

    async def update(self, subnet: int, record: int, fields: Fields) -> None:
        """Update a row of a subnet. ``fields`` must contain ``tag``, because phpIPAM resets it otherwise."""
        await self._api.call("update", Request("PATCH", ("addresses", record), fields, subnet=subnet))

    async def delete(self, subnet: int, record: int) -> None:
        await self._api.call("release", Request("DELETE", ("addresses", record), subnet=subnet))

    def find_write_error(self, subnet: int) -> Unavailable | None:
        """Return why no rows are written in a subnet for now, although it may be readable."""
        return self._api.breakers.find_write_error(subnet)

    def confirm_write(self, subnet: int) -> None:
        """Record that a write in a subnet took place although its response was a failure."""
        self._api.breakers.confirm_write(subnet)

    async def _object(self, operation: str, *path: str | int, subnet: int = 0) -> dict[str, Any]:
        return parse_object(await self._api.call(operation, Request("GET", path, subnet=subnet)))

    async def _list(
        self, operation: str, *path: str | int, query: Mapping[str, str] | None = None, subnet: int = 0
    ) -> list[dict[str, Any]]:
        try:
            return parse_list(await self._api.call(operation, Request("GET", path, query=query, subnet=subnet)))
        except NothingFound:
            return []


def _parse_id(envelope: Mapping[str, Any]) -> int:
    try:
        return int(envelope["id"])
    except (KeyError, TypeError, ValueError):
        raise ResponseLost("phpIPAM created a row but sent no id") from None
