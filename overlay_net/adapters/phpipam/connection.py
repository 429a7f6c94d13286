"""The HTTP session to phpIPAM: trusted certificates, proxy, timeouts and number of connections."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from overlay_net.model.errors import ConfigurationError

CONNECT_SECONDS = 5.0


@asynccontextmanager
async def connect_phpipam(
    *, ca_file: Path | None, insecure: bool, proxy: str | None, timeout: float, connections: int
) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session that ignores cookies, .netrc and the proxy variables of the environment.

    ``timeout`` limits a whole request, in seconds. Raises ConfigurationError for an unusable ``ca_file``."""
    try:
        tls = ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"phpipam.ca_file: {str(ca_file)!r} has no usable certificates: {error}") from None
    if insecure:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ssl=tls),
        timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_SECONDS),
        # A cookie selects a PHP session, and phpIPAM serialises the requests of one session.
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        proxy=proxy,
    ) as session:
        yield session
