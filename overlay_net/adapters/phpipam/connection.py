"""The HTTP connection to phpIPAM: trusted certificates, proxy, timeouts and number of connections."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from overlay_net.model.errors import ConfigurationError
from overlay_net.runtime.tls_files import TlsFiles, client_context

CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Connection:
    session: aiohttp.ClientSession
    tls: TlsFiles

    async def request(self, method: str, url: URL | str, **options: Any) -> aiohttp.ClientResponse:
        """Send a request; the arguments and errors are those of aiohttp."""
        return await self.tls.open(lambda tls: self.session.request(method, url, ssl=tls, **options))


@asynccontextmanager
async def connect_phpipam(
    *, ca_file: Path | None, insecure: bool, proxy: str | None, timeout: float, connections: int
) -> AsyncIterator[Connection]:
    """Open a session that ignores cookies, .netrc and the proxy variables of the environment.

    ``timeout`` limits a whole request, in seconds. Raises ConfigurationError for an unusable ``ca_file``."""

    def build() -> ssl.SSLContext:
        tls = client_context(ca_file)
        if insecure:
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        return tls

    try:
        tls = TlsFiles(build, lambda: (ca_file,) if ca_file else ())
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"phpipam.ca_file: {str(ca_file)!r} has no usable certificates: {error}") from None
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS),
        # A cookie selects a PHP session, and phpIPAM serialises the requests of one session.
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        proxy=proxy,
    ) as session:
        yield Connection(session, tls)
