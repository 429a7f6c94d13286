"""Client for the calls of phpIPAM's REST API that address management needs."""

from collections.abc import Mapping
from typing import Any

from overlay_net.adapters.phpipam.api_session import ApiSession
from overlay_net.adapters.phpipam.request import Fields, Request, parse_object
from overlay_net.adapters.phpipam.responses import NothingFound, ResponseLost


class Client:
    """Responses are JSON objects as phpIPAM sends them. Every call raises as ``responses.parse_response``."""

    def __init__(self, api: ApiSession) -> None:
        self._api = api

    async def read_subnet(self, subnet: int) -> dict[str, Any]:
        return await self._object("subnet", "subnets", subnet)

    async def read_usage(self, subnet: int) -> dict[str, Any]:
        return await self._object("usage", "subnets", subnet, "usage")

    async def list_children(self, subnet: int) -> list[dict[str, Any]]:
        return await self._list("children", "subnets", subnet, "slaves")

    async def list_rows(self, subnet: int, query: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """List the rows of a subnet; ``query`` is a server-side filter."""
        return await self._list("list", "subnets", subnet, "addresses", query=query)

    async def search_hostname(self, hostname: str) -> list[dict[str, Any]]:
        return await self._list("find", "addresses", "search_hostname", hostname)

    async def search_address(self, address: str) -> list[dict[str, Any]]:
        """Find the rows of an address in all subnets of the server; the caller must compare ``subnetId``."""
        return await self._list("verify", "addresses", "search", address)

    async def read_row(self, record: int) -> dict[str, Any]:
        return await self._object("read", "addresses", record)

    async def create_at_first_free(self, subnet: int, fields: Fields) -> tuple[int, str]:
        """Create a row at the lowest free address. Returns its id and address. Raises Exhausted, Conflict."""
        envelope = await self._api.call("reserve", Request("POST", ("addresses", "first_free", subnet), fields))
        return _parse_id(envelope), str(envelope.get("data"))

    async def create(self, subnet: int, address: str, fields: Fields) -> int:
        """Create a row at ``address``. Returns its id. Raises Conflict if there is one already."""
        body = {**fields, "subnetId": subnet, "ip": address}
        return _parse_id(await self._api.call("reserve", Request("POST", ("addresses",), body)))

    async def update(self, record: int, fields: Fields) -> None:
        """Update a row. ``fields`` must contain ``tag``, because phpIPAM resets it otherwise."""
        await self._api.call("update", Request("PATCH", ("addresses", record), fields))

    async def delete(self, record: int) -> None:
        await self._api.call("release", Request("DELETE", ("addresses", record)))

    async def _object(self, operation: str, *path: str | int) -> dict[str, Any]:
        return parse_object(await self._api.call(operation, Request("GET", path)))

    async def _list(
        self, operation: str, *path: str | int, query: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        try:
            data = (await self._api.call(operation, Request("GET", path, query=query))).get("data")
        except NothingFound:
            return []
        return [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []


def _parse_id(envelope: Mapping[str, Any]) -> int:
    try:
        return int(envelope["id"])
    except (KeyError, TypeError, ValueError):
        raise ResponseLost("phpIPAM created a row but sent no id") from None
