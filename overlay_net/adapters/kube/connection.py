"""A connection to an API server: the URL, an HTTP session, the certificates, and credentials."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import aiohttp

from overlay_net.runtime.tls_files import TlsFiles

Authorization: TypeAlias = Callable[[bool], Awaitable[str | None]]
"""Returns the Authorization header, or None for a client certificate. True reloads a token that was rejected."""

MAX_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Connection:
    server: str
    """``https://host:port``, without a trailing slash."""
    session: aiohttp.ClientSession
    authorization: Authorization
    server_hostname: str | None = None
    """The expected name in the server's certificate, if it differs from the host of the URL."""
    tls: TlsFiles = field(default_factory=TlsFiles)
    """The trusted CA, and the client certificate, if there is one."""
