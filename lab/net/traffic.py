"""Traffic of the lab: reachability, observed source addresses, and lost packets.

python -m lab.net.traffic serve             answers each TCP connection with the peer's address, echoes UDP
python -m lab.net.traffic stream HOST       sends numbered UDP packets until SIGTERM, then counts the echoes
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from lab.net.namespaces import Namespace
from lab.processes import CommandFailed, Process, child_pids

PORT = 7000
# Seconds to wait for the last echoes.
LINGER = 1.0


class Unreachable(Exception):
    """The host did not answer over TCP."""


@dataclass(frozen=True, slots=True)
class Count:
    sent: int
    received: int
    lost: int
    longest_gap_ms: int


def serve(host: Namespace, log: Path) -> Process:
    """Start the answering side in ``host``, and wait until it listens."""
    server = Process("traffic", [sys.executable, "-m", "lab.net.traffic", "serve"], log=log, enter=host.enter)
    server.wait_for(lambda: bool(host.run("ss", "-Hltn", f"sport = :{PORT}").strip()), "the on-premise host listens")
    return server


def observed_source(node: Namespace, host: str, timeout: float = 3.0) -> str:
    """The source address that ``host`` observes of a TCP connection from ``node``. Raises Unreachable."""

    def ask() -> str:
        with socket.create_connection((host, PORT), timeout=timeout) as connection:
            return connection.makefile().readline().strip()

    try:
        return node.call(ask)
    except OSError as error:
        raise Unreachable(f"{host} from {node.name}: {error}") from None


class Host(Protocol):
    """Where a stream comes from: a Namespace, or the namespace of this process."""

    @property
    def name(self) -> str: ...
    def popen(self, *command: str) -> subprocess.Popen[str]: ...


class Stream:
    """A stream of numbered packets from ``node`` to ``host`` that counts its losses.

    ``source`` is an address of the node; by default the kernel selects it for the first packet.
    """

    def __init__(self, node: Host, host: str, rate: int = 100, source: str = "") -> None:
        command = [sys.executable, "-m", "lab.net.traffic", "stream", host, f"--rate={rate}", f"--source={source}"]
        self._sender = node.popen(*command)
        assert self._sender.stdout is not None
        first = self._sender.stdout.readline()
        if first != "flowing\n":
            raise Unreachable(f"{host} from {node.name}: {self._sender.communicate()[1].strip()}")

    def stop(self) -> Count:
        # `nsenter` forks to enter a PID namespace: its child must get the signal.
        os.kill(next(iter(child_pids(self._sender.pid)), self._sender.pid), signal.SIGTERM)
        output, errors = self._sender.communicate(timeout=30)
        if self._sender.returncode:
            raise CommandFailed(f"stream: {errors.strip()}")
        return Count(**json.loads(output))


# --- The programs ----------------------------------------------------------------------------------------------------


class _Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(data, addr)


async def _serve() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{writer.get_extra_info('peername')[0]}\n".encode())
        await writer.drain()
        writer.close()

    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(_Echo, local_addr=("0.0.0.0", PORT))
    server = await asyncio.start_server(answer, "0.0.0.0", PORT)
    await server.serve_forever()


def _stream(host: str, rate: int, source: str) -> int:
    """Send numbered packets at a fixed rate; prints "flowing" at the first echo and counts from there."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.bind((source, 0))
        channel.connect((host, PORT))
        channel.setblocking(False)
        echoes: list[float] = []
        if not _first_echo(channel):
            print("no echo", file=sys.stderr)
            return 1
        print("flowing", flush=True)
        sent, began = 0, time.monotonic()
        while not stopping:
            _send(channel, sent)
            sent += 1
            _collect(channel, echoes, until=began + sent / rate)
        _collect(channel, echoes, until=time.monotonic() + LINGER, enough=sent)
    gaps = [after - before for before, after in pairwise(echoes)]
    counted = Count(sent, len(echoes), sent - len(echoes), round(1000 * max(gaps, default=0)))
    print(json.dumps({name: getattr(counted, name) for name in Count.__slots__}))
    return 0


def _first_echo(channel: socket.socket) -> bool:
    deadline = time.monotonic() + 10
    got: list[float] = []
    while time.monotonic() < deadline and not got:
        _send(channel, -1)
        _collect(channel, got, until=time.monotonic() + 0.2, enough=1)
    _collect(channel, [], until=time.monotonic() + 0.3)
    return bool(got)


def _send(channel: socket.socket, number: int) -> None:
    try:
        channel.send(str(number).encode())
    except OSError:
        # No route, or an ICMP error about an earlier packet: this one is lost and counted as such.
        return


def _collect(channel: socket.socket, echoes: list[float], *, until: float, enough: int | None = None) -> None:
    while (left := until - time.monotonic()) > 0 and (enough is None or len(echoes) < enough):
        try:
            channel.recv(64)
            echoes.append(time.monotonic())
        except BlockingIOError:
            time.sleep(min(left, 0.001))
        except OSError:
            continue


def main() -> int:
    parser = argparse.ArgumentParser(prog="lab.net.traffic")
    modes = parser.add_subparsers(dest="mode", required=True)
    modes.add_parser("serve")
    stream = modes.add_parser("stream")
    stream.add_argument("host")
    stream.add_argument("--rate", type=int, default=100)
    stream.add_argument("--source", default="")
    arguments = parser.parse_args()
    if arguments.mode == "serve":
        asyncio.run(_serve())
        return 0
    return _stream(arguments.host, arguments.rate, arguments.source)


if __name__ == "__main__":
    sys.exit(main())
