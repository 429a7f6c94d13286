"""Certificates that are replaced while a process runs: of the API server's CA, of clients, and of phpIPAM's CA."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import pytest
import yaml
from aiohttp import web

from lab.cluster.pki import Authority
from overlay_net.adapters.kube import (
    Connection,
    KubeApi,
    KubeSource,
    agent_connection,
    connect_agent,
    connect_controller,
)
from overlay_net.adapters.phpipam.connection import connect_phpipam
from overlay_net.model.errors import ApiError
from overlay_net.model.names import NAMESPACES
from overlay_net.runtime import tls_files
from overlay_net.runtime.backoff import Backoff
from overlay_net.runtime.reflector import Reflector
from overlay_net.runtime.store import Store

Request: TypeAlias = Callable[[], Awaitable[object]]


class TlsServer:
    """Answers every request with an object, at each start with the certificate of another CA."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.port = 0
        self._runner: web.AppRunner | None = None
        self.generation = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def restart(self, *, clients: bool = False) -> Authority:
        """Serve with the certificate of a new CA, which also signs the clients that are accepted."""
        await self.stop()
        self.generation += 1
        authority = Authority.create(self._directory / f"ca{self.generation}", f"ca {self.generation}")
        issued = authority.issue_server("server", ["127.0.0.1"])
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        # As API servers do: certificates of the lab have no Authority Key Identifier.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.load_cert_chain(issued.certificate, issued.key)
        if clients:
            context.load_verify_locations(authority.certificate)
            context.verify_mode = ssl.CERT_REQUIRED
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=context, reuse_address=True)
        await site.start()
        self.port = self.port or site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        return authority

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        version = str(self.generation)
        item = {"metadata": {"name": "kube-system", "uid": "1", "resourceVersion": version, "labels": {"g": version}}}
        if request.query.get("watch"):
            stream = web.StreamResponse()
            await stream.prepare(request)
            await stream.write(json.dumps({"type": "MODIFIED", "object": item}).encode() + b"\n")
            # Until the server stops, which ends the stream.
            await asyncio.Event().wait()
        if request.path.endswith("namespaces"):
            return web.json_response({"metadata": {"resourceVersion": version}, "items": [item]})
        return web.json_response({"metadata": {"name": "kube-system"}})


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[TlsServer]:
    made = TlsServer(tmp_path)
    yield made
    await made.stop()


def replace(path: Path, content: bytes) -> None:
    """Replace a file as a kubelet does: another file takes its name."""
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").rename(path)


class Files:
    """What a client of the API server reads: CA, client certificate and kubeconfig."""

    def __init__(self, directory: Path, url: str, *, inline: bool, clients: bool) -> None:
        self.ca, self.certificate, self.key = (directory / name for name in ("ca.crt", "client.crt", "client.key"))
        self.kubeconfig = directory / "kubeconfig"
        self._url, self._inline, self._clients = url, inline, clients
        (directory / "token").write_text("secret")

    def write(self, authority: Authority) -> None:
        replace(self.ca, authority.certificate.read_bytes())
        issued = authority.issue_client("client", "admin")
        replace(self.certificate, issued.certificate.read_bytes())
        replace(self.key, issued.key.read_bytes())
        cluster = {"server": self._url} | self._entry("certificate-authority", self.ca)
        user: dict[str, Any] = {"token": "secret"}
        if self._clients:
            user = self._entry("client-certificate", self.certificate) | self._entry("client-key", self.key)
        content = {
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        replace(self.kubeconfig, yaml.safe_dump(content).encode())

    def _entry(self, key: str, path: Path) -> dict[str, str]:
        if self._inline:
            return {f"{key}-data": base64.b64encode(path.read_bytes()).decode()}
        return {key: str(path)}


@asynccontextmanager
async def kube_client(connect: Any, kubeconfig: Path | None) -> AsyncIterator[Request]:
    async with connect(str(kubeconfig) if kubeconfig else None) as connection:
        assert isinstance(connection, Connection)
        api = KubeApi(connection)
        yield lambda: api.get(NAMESPACES, "kube-system")


async def check_rotation(server: TlsServer, files: Files, request: Request, *, clients: bool) -> None:
    await request()
    authority = await server.restart(clients=clients)
    with pytest.raises(ApiError):
        await request()
    files.write(authority)
    await request()


@pytest.mark.parametrize("connect", [connect_agent, connect_controller])
@pytest.mark.parametrize("inline", [False, True], ids=["files", "inline"])
async def test_client_with_a_kubeconfig_trusts_a_rotated_ca(
    server: TlsServer, tmp_path: Path, connect: Any, *, inline: bool
) -> None:
    authority = await server.restart()
    files = Files(tmp_path, server.url, inline=inline, clients=False)
    files.write(authority)
    async with kube_client(connect, files.kubeconfig) as request:
        await check_rotation(server, files, request, clients=False)


@pytest.mark.parametrize("connect", [connect_agent, connect_controller])
@pytest.mark.parametrize("inline", [False, True], ids=["files", "inline"])
async def test_client_uses_its_renewed_certificate(
    server: TlsServer, tmp_path: Path, connect: Any, *, inline: bool
) -> None:
    authority = await server.restart(clients=True)
    files = Files(tmp_path, server.url, inline=inline, clients=True)
    files.write(authority)
    async with kube_client(connect, files.kubeconfig) as request:
        await check_rotation(server, files, request, clients=True)


async def test_agent_in_a_pod_trusts_a_rotated_ca(
    server: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = await server.restart()
    monkeypatch.setattr(agent_connection, "SERVICE_ACCOUNT", tmp_path)
    await check_pod(server, tmp_path, monkeypatch, authority, connect_agent)


async def test_controller_in_a_pod_trusts_a_rotated_ca(
    server: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kubernetes_asyncio.config import incluster_config

    authority = await server.restart()
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    defaults = incluster_config.load_incluster_config.__kwdefaults__ or {}
    assert not defaults, "the names above are read at each call"
    await check_pod(server, tmp_path, monkeypatch, authority, connect_controller)


@pytest.mark.parametrize("connect", [connect_agent, connect_controller])
async def test_a_watch_goes_on_after_the_ca_was_rotated(server: TlsServer, tmp_path: Path, connect: Any) -> None:
    authority = await server.restart()
    files = Files(tmp_path, server.url, inline=False, clients=False)
    files.write(authority)
    seen: Store[str] = Store(lambda raw: str(raw["metadata"]["labels"]["g"]))
    changed = asyncio.Event()
    seen.subscribe(lambda *_: changed.set())
    async with connect(str(files.kubeconfig)) as connection, asyncio.timeout(30):
        source = KubeSource(KubeApi(connection), NAMESPACES)
        task = asyncio.create_task(Reflector(source, seen, Backoff(base=0.01, cap=0.05)).run())
        try:
            for generation in ("1", "2", "3"):
                await changed.wait()
                changed.clear()
                assert seen.get("kube-system") == generation
                if generation != "3":
                    # The server is replaced first: the client meets an unknown CA, and keeps what it has.
                    authority = await server.restart()
                    assert seen.get("kube-system") == generation
                    files.write(authority)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def check_pod(
    server: TlsServer, directory: Path, monkeypatch: pytest.MonkeyPatch, authority: Authority, connect: Any
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    files = Files(directory, server.url, inline=False, clients=False)
    files.write(authority)
    async with kube_client(connect, None) as request:
        await check_rotation(server, files, request, clients=False)


async def test_changed_files_are_used_even_if_nothing_fails(
    server: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CA that is no longer trusted is not accepted any more."""
    monkeypatch.setattr(tls_files, "CHECK_INTERVAL", 0.0)
    authority = await server.restart()
    files = Files(tmp_path, server.url, inline=False, clients=False)
    files.write(authority)
    async with kube_client(connect_agent, files.kubeconfig) as request:
        await request()
        files.write(Authority.create(tmp_path / "other"))
        with pytest.raises(ApiError, match="certificate verify failed"):
            await request()


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nhalf"], ids=["empty", "half written"])
async def test_unusable_new_files_leave_the_previous_certificates_in_force(
    server: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setattr(tls_files, "CHECK_INTERVAL", 0.0)
    authority = await server.restart()
    files = Files(tmp_path, server.url, inline=False, clients=False)
    files.write(authority)
    async with kube_client(connect_agent, files.kubeconfig) as request:
        replace(files.ca, content)
        await request()
        files.ca.unlink()
        await request()
        authority = await server.restart()
        files.write(authority)
        await request()


async def test_phpipam_with_a_rotated_ca_is_trusted(server: TlsServer, tmp_path: Path) -> None:
    ca = tmp_path / "ca.crt"
    replace(ca, (await server.restart()).certificate.read_bytes())
    async with connect_phpipam(ca_file=ca, insecure=False, proxy=None, timeout=10, connections=2) as connection:

        async def request() -> bytes:
            response = await connection.request("GET", f"{server.url}/api", headers={})
            async with response:
                return await response.read()

        assert json.loads(await request())
        authority = await server.restart()
        with pytest.raises(aiohttp.ClientSSLError):
            await request()
        replace(ca, authority.certificate.read_bytes())
        assert json.loads(await request())
