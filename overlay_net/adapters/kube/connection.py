"""What a client needs of an API server: an HTTP session with its trust, the URL, and who it is."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import aiohttp

Authorization: TypeAlias = Callable[[bool], Awaitable[str | None]]
"""The value of the Authorization header, or None for a client certificate. True: the present one was refused, look for
a newer one."""

MAX_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Connection:
    server: str
    """``https://host:port``, without a slash at the end."""
    session: aiohttp.ClientSession
    authorization: Authorization
    server_hostname: str | None = None
    """The name that the server's certificate must carry where it is not the URL's."""
