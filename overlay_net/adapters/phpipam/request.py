"""One request to phpIPAM's REST API: its encoding, and the translation of connection errors."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from overlay_net.adapters.phpipam.connection import Connection
from overlay_net.adapters.phpipam.responses import RECHECK_SECONDS, ResponseLost, parse_response, request_failed
from overlay_net.model.errors import CredentialsRefused, Unavailable
from overlay_net.runtime.connection_errors import describe_connection_error

Fields = Mapping[str, str | int]

_PARAMETERS = ("controller", "id", "id2", "id3")
"""phpIPAM's names of the path segments behind the app id; the query can contain them too."""


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
        """Path and query below the app id, encoded."""
        segments = [str(part) for part in self.path]
        # phpIPAM drops a path segment 0, such as the name of a node, but not a parameter.
        kept = segments.index("0") if "0" in segments else len(segments)
        moved = dict(zip(_PARAMETERS[kept:], segments[kept:], strict=False))
        query = urlencode({**moved, **(self.query or {})}, quote_via=quote)
        return _encode_path(segments[:kept]) + (f"?{query}" if query else "")

    def __str__(self) -> str:
        return f"{self.method} {_encode_path(self.path)}"


def _encode_path(segments: Iterable[str | int]) -> str:
    # Without the trailing slash phpIPAM takes the query as part of the last segment.
    return "".join(f"{quote(str(segment), safe=':')}/" for segment in segments)


def base_url(server: str, app: str) -> str:
    """Return the URL of an API app; ``server`` may end with ``/api``."""
    return f"{server.rstrip('/').removesuffix('/api')}/api/{quote(app, safe='')}"


async def send(http: Connection, base: str, request: Request, headers: Mapping[str, str]) -> dict[str, Any]:
    """Send a request and return the envelope of the response.

    Raises as ``parse_response``, and Unavailable if no connection could be made.
    """
    try:
        async with await http.request(
            request.method,
            # The URL is already encoded; an encoded slash must stay encoded.
            URL(f"{base}/{request.target}", encoded=True),
            data=None if request.body is None else json.dumps(request.body).encode(),
            # Sent even without a body: phpIPAM 1.7 behind nginx rejects requests without a content type.
            headers={**headers, "Content-Type": "application/json"},
            allow_redirects=False,
        ) as response:
            if 300 <= response.status < 400:
                raise _error_of_redirect(response)
            return parse_response(response.status, await response.read(), str(request), request.subnet)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientSSLError) as error:
        # No connection was made, so the request was not sent.
        server = URL(base)
        reason = describe_connection_error(error)
        raise Unavailable(f"phpIPAM is unreachable: {reason} ({server.host}:{server.port})") from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        text, what = f"no response ({type(error).__name__})", str(request)
        if isinstance(error, TimeoutError):
            raise request_failed("no answer in time", request.subnet).during(what) from None
        raise ResponseLost("phpIPAM: the connection was closed without an answer").during(f"{what}: {text}") from None


def _error_of_redirect(response: aiohttp.ClientResponse) -> CredentialsRefused:
    """Name the target without what this request has added to the configured URL, and without a query."""
    try:
        target = response.url.join(URL(response.headers.get("Location", ""))).with_query(None).with_user(None)
    except ValueError:
        return CredentialsRefused(f"{response.status} redirect without a valid target: correct phpipam.url")
    server, api, _ = str(target.with_fragment(None)).partition("/api/")
    found = (
        f"to {server}; set phpipam.url to it"
        if api
        else f"to {server}, which is not a phpIPAM API: correct phpipam.url"
    )
    return CredentialsRefused(f"phpIPAM sends a redirect ({response.status}) {found}", retry_after=RECHECK_SECONDS)


def parse_object(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``data`` of a response that must be an object. Raises Unavailable."""
    data = envelope.get("data")
    if not isinstance(data, dict):
        raise Unavailable("phpIPAM sent a response without the requested object")
    return data


def parse_list(envelope: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the ``data`` of a response that must be a list of objects. Raises Unavailable.

    phpIPAM reports an empty list as an error: a success without a list does not say that there are no objects.
    """
    data = envelope.get("data")
    if not isinstance(data, list):
        raise Unavailable("phpIPAM sent a response without the requested list")
    return [item for item in data if isinstance(item, dict)]
