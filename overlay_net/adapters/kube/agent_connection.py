"""Connection of the agent with a service account or a simple kubeconfig; saves the memory of a client library."""

import base64
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from overlay_net.adapters.kube.connection import MAX_CONNECTIONS, Connection
from overlay_net.adapters.kube.kubeconfig import read_kubeconfig
from overlay_net.model.errors import ConfigurationError
from overlay_net.model.parse import parse_text
from overlay_net.runtime.tls_files import TlsFiles, client_context

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

# The kubelet rotates a projected token after 80 % of its lifetime (KEP-1205), so reading it every minute is enough.
TOKEN_MAX_AGE = 60.0

UNSUPPORTED = ("exec", "auth-provider", "username")
"""The credentials of a kubeconfig that need the client library."""


class TokenFile:
    """A bearer token from a file that the kubelet rotates."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = ""
        self._read_at = float("-inf")

    async def authorization(self, refused: bool) -> str | None:
        now = time.monotonic()
        if refused or now - self._read_at > TOKEN_MAX_AGE:
            try:
                self._token = self._path.read_text(encoding="ascii").strip()
                self._read_at = now
            except OSError as error:
                if not self._token:
                    raise ConfigurationError(f"token file {self._path}: {error.strerror}") from None
        return f"Bearer {self._token}"


@dataclass(frozen=True, slots=True)
class Identity:
    """Server, CA and credentials, from a kubeconfig or a service account."""

    server: str
    tls: ssl.SSLContext
    files: tuple[Path, ...]
    """The files that ``tls`` is from."""
    token_file: Path | None = None
    token: str = ""
    server_hostname: str | None = None


@asynccontextmanager
async def connect_agent(kubeconfig: Path | str | None, context: str = "") -> AsyncIterator[Connection]:
    """Connect with ``kubeconfig``, else as the pod's service account. Raises ConfigurationError.

    ``context`` is one of the kubeconfig; empty: its current one.
    """
    identity = Credentials(
        partial(_from_kubeconfig, Path(kubeconfig), context)
        if kubeconfig is not None
        else partial(_from_service_account, os.environ)
    )
    tls = TlsFiles(identity.load_tls, identity.files)
    connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
        first = identity.current
        yield Connection(first.server, session, identity.authorization, first.server_hostname, tls)


class Credentials:
    """Reads the identity again when its files change; the server remains the first one.

    ``load`` raises ConfigurationError.
    """

    def __init__(self, load: Callable[[], Identity]) -> None:
        self._load = load
        self.current = load()
        self._token_file = TokenFile(self.current.token_file) if self.current.token_file else None

    def files(self) -> Iterable[Path]:
        return self.current.files

    def load_tls(self) -> ssl.SSLContext:
        self.current = self._load()
        return self.current.tls

    async def authorization(self, refused: bool) -> str | None:
        if self._token_file is not None:
            return await self._token_file.authorization(refused)
        return f"Bearer {self.current.token}" if self.current.token else None


def _from_service_account(environ: Mapping[str, str]) -> Identity:
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise ConfigurationError(
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: not running in a pod; set kubeconfig"
        )
    ca = SERVICE_ACCOUNT / "ca.crt"
    tls = _tls(lambda: client_context(ca), str(ca))
    bracketed = f"[{host}]" if ":" in host else host
    return Identity(f"https://{bracketed}:{port}", tls, (ca,), token_file=SERVICE_ACCOUNT / "token")


def _from_kubeconfig(path: Path, context: str) -> Identity:
    content = read_kubeconfig([path], context)
    cluster, user = content.cluster, content.user
    for unsupported in UNSUPPORTED:
        if unsupported in user:
            raise ConfigurationError(
                f"kubeconfig {path}: user.{unsupported} is not supported; use a token or a client certificate"
            )
    token_file = parse_text(user.get("tokenFile"))
    return Identity(
        server=content.server,
        tls=_tls(lambda: _kubeconfig_tls(cluster, user, path.parent), f"kubeconfig {path}"),
        files=(path, *_find_files(cluster, user, path.parent)),
        token_file=path.parent / token_file if token_file else None,
        token=parse_text(user.get("token")),
        server_hostname=parse_text(cluster.get("tls-server-name")) or None,
    )


def _kubeconfig_tls(cluster: dict[str, Any], user: dict[str, Any], base: Path) -> ssl.SSLContext:
    with TemporaryDirectory() as folder:
        # OpenSSL reads client certificates from files only.
        ca = _certificate_file(cluster, "certificate-authority", base, Path(folder) / "ca")
        certificate = _certificate_file(user, "client-certificate", base, Path(folder) / "certificate")
        key = _certificate_file(user, "client-key", base, Path(folder) / "key")
        tls = client_context(ca)
        if certificate is not None:
            tls.load_cert_chain(certificate, key)
    if cluster.get("insecure-skip-tls-verify") is True:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    return tls


def _find_files(cluster: dict[str, Any], user: dict[str, Any], base: Path) -> Iterable[Path]:
    """Return the files that the kubeconfig refers to."""
    for entry, key in ((cluster, "certificate-authority"), (user, "client-certificate"), (user, "client-key")):
        if parse_text(entry.get(key)):
            yield base / parse_text(entry[key])


def _certificate_file(entry: dict[str, Any], key: str, base: Path, temporary: Path) -> Path | None:
    """Return the file in ``key``, or one with the content of ``key-data``, which takes precedence as in kubectl."""
    if parse_text(entry.get(f"{key}-data")):
        temporary.touch(mode=0o600)
        temporary.write_bytes(base64.b64decode(parse_text(entry[f"{key}-data"])))
        return temporary
    return base / parse_text(entry[key]) if parse_text(entry.get(key)) else None


def _tls(make: Any, source: str) -> ssl.SSLContext:
    try:
        context: ssl.SSLContext = make()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{source}: no usable certificates: {error}") from None
    return context
