"""One request to phpIPAM's REST API: its encoding, and the translation of connection errors."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from overlay_net.adapters.phpipam.responses import RequestFailed, ResponseLost, parse_response
from overlay_net.model.errors import CredentialsRefused, Unavailable

Fields = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: tuple[str | int, ...]
    body: Fields | None = None
    query: Mapping[str, str] | None = None
    subnet: int = 0
    """Id of the only subnet that the request concerns; 0 if there is none or it is unknown."""

    @property
    def is_read(self) -> bool:
        return self.method == "GET"

    @property
    def target(self) -> str:
        # Without the trailing slash phpIPAM takes the query as part of the last segment.
        return "/".join(quote(str(part), safe=":") for part in self.path) + "/"

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


def base_url(server: str, app: str) -> str:
    """Return the URL of an API app; ``server`` may end with ``/api``."""
    return f"{server.rstrip('/').removesuffix('/api')}/api/{quote(app, safe='')}"


async def send(http: aiohttp.ClientSession, base: str, request: Request, headers: Mapping[str, str]) -> dict[str, Any]:
    """Send a request and return the envelope of the response.

    Raises as ``parse_response``, and Unavailable if no connection could be made.
    """
    query = f"?{urlencode(request.query, quote_via=quote)}" if request.query else ""
    try:
        async with http.request(
            request.method,
            # The URL is already encoded; an encoded slash must stay encoded.
            URL(f"{base}/{request.target}{query}", encoded=True),
            data=None if request.body is None else json.dumps(request.body).encode(),
            # Sent even without a body: phpIPAM 1.7 behind nginx rejects requests without a content type.
            headers={**headers, "Content-Type": "application/json"},
            allow_redirects=False,
        ) as response:
            if 300 <= response.status < 400:
                raise CredentialsRefused(f"{request}: {response.status} is a redirect; set phpipam.url to its target")
            return parse_response(response.status, await response.read(), str(request))
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientSSLError) as error:
        # No connection was made, so the request was not sent.
        raise Unavailable(f"phpIPAM is unreachable: {error}") from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        text = f"{request}: no response ({type(error).__name__})"
        raise RequestFailed(text) if isinstance(error, TimeoutError) else ResponseLost(text) from None


def parse_object(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``data`` of a response that must be an object. Raises Unavailable."""
    data = envelope.get("data")
    if not isinstance(data, dict):
        raise Unavailable("phpIPAM sent a response without the requested object")
    return data
