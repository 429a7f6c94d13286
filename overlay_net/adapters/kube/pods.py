"""What the API server relays from pods: their logs, an HTTP port, and the output of a command in a container."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import aiohttp

from overlay_net.adapters.kube.connection import Connection
from overlay_net.adapters.kube.errors import parse_error
from overlay_net.adapters.kube.transport import Transport
from overlay_net.model.errors import ApiError, Unavailable
from overlay_net.model.names import PODS
from overlay_net.model.parse import find_object, find_objects, parse_text
from overlay_net.runtime.connection_errors import describe_connection_error

PROTOCOL: Final = "v4.channel.k8s.io"
"""Each frame begins with a byte: its channel (k8s.io/apimachinery, remotecommand)."""
STDOUT, STDERR, STATUS = 1, 2, 3
MAX_OUTPUT: Final = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Output:
    stdout: bytes
    stderr: str
    code: int


class Pods:
    """All methods raise ApiError."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        self._connection = connection
        self._seconds = timeout
        self._transport = Transport(connection, timeout=timeout)

    async def log(self, namespace: str, pod: str, container: str, *, previous: bool = False, lines: int) -> str:
        """Return the last ``lines`` of a container's log; ``previous``: of its run before."""
        query = {"container": container, "tailLines": str(lines), "previous": str(previous).lower()}
        return await self._read(PODS.path(pod, namespace=namespace, subresource="log"), query)

    async def get(self, namespace: str, pod: str, port: int, path: str) -> str:
        """Return the answer of an HTTP server in a pod."""
        return await self._read(f"{PODS.path(f'{pod}:{port}', namespace=namespace, subresource='proxy')}{path}", {})

    async def _read(self, path: str, query: Mapping[str, str]) -> str:
        timeout = aiohttp.ClientTimeout(total=self._seconds)
        async with self._transport.request(
            "GET", "get", PODS, path, params=query, headers={"Accept": "*/*"}, timeout=timeout
        ) as response:
            return (await response.read()).decode(errors="replace")

    async def execute(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> Output:
        """Run a command in a container, without standard input."""
        path = PODS.path(pod, namespace=namespace, subresource="exec")
        words = [("command", word) for word in command]
        query = urlencode([*words, ("container", container), ("stdout", "true"), ("stderr", "true")])
        try:
            async with asyncio.timeout(self._seconds):
                return await self._exchange(f"{path}?{query}", f"exec {path}")
        except TimeoutError:
            raise Unavailable(f"no complete answer within {self._seconds:g} s").during(f"exec {path}") from None

    async def _exchange(self, path: str, what: str) -> Output:
        connection = self._connection
        authorization = await connection.authorization(False)
        headers = {"Authorization": authorization} if authorization else {}
        try:
            socket = await connection.tls.open(
                lambda tls: connection.session.ws_connect(
                    connection.server + path,
                    protocols=(PROTOCOL,),
                    headers=headers,
                    ssl=tls,
                    server_hostname=connection.server_hostname,
                    max_msg_size=MAX_OUTPUT,
                )
            )
        except aiohttp.WSServerHandshakeError as error:
            raise parse_error(error.status, what, {"message": error.message}) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"no answer: {describe_connection_error(error)}").during(what) from None
        async with socket:
            return await _receive(socket, what)


async def _receive(socket: aiohttp.ClientWebSocketResponse, what: str) -> Output:
    parts: dict[int, bytearray] = {STDOUT: bytearray(), STDERR: bytearray(), STATUS: bytearray()}
    async for message in socket:
        if message.type is aiohttp.WSMsgType.BINARY and message.data and message.data[0] in parts:
            parts[message.data[0]] += message.data[1:]
    try:
        return Output(bytes(parts[STDOUT]), parts[STDERR].decode(errors="replace"), _find_code(bytes(parts[STATUS])))
    except ApiError as error:
        raise error.during(what) from None


def _find_code(status: bytes) -> int:
    """Return the exit code in the Status that ends the stream. Raises Unavailable if there is none."""
    try:
        content = json.loads(status)
    except ValueError:
        raise Unavailable("the stream ended without a status") from None
    if content.get("status") == "Success":
        return 0
    for cause in find_objects(find_object(content, "details"), "causes"):
        if cause.get("reason") == "ExitCode" and parse_text(cause.get("message")).isdigit():
            return int(cause["message"])
    raise Unavailable(parse_text(content.get("message")) or "the command could not be started")
