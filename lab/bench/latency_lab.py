"""python -m lab.bench.latency_lab: one version of the product on nodes of its own, for the benchmark `latency`.

It prints one line when all nodes are ready, and one with a JSON object for each line that it reads: seconds until one
more StaticRoute was in the last kernel and until its status counted all nodes, and the bytes on the wire of each node.
"""

import argparse
import asyncio
import ctypes
import json
import re
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import aclosing, suppress
from ipaddress import ip_network
from pathlib import Path

from lab.build.assets import find_assets
from lab.manifests import static_route
from lab.net.vlan import Node
from lab.processes import run
from lab.product import PRODUCTION
from lab.scenario.process_lab import ProcessLab
from lab.scenario.reporter import SilentReporter
from overlay_net.adapters.kube import KubeApi, KubeSource, connect_agent
from overlay_net.adapters.netlink.bulk.codec import HEADER
from overlay_net.model.names import STATIC_ROUTES
from overlay_net.model.parse import find_object

NAMES = [f"10.176.162.{131 + number}" for number in range(31)]
CLONE_NEWNET = 0x40000000
RTMGRP_IPV4_ROUTE = 0x40
RTM_NEWROUTE = 24
PATIENCE = 60.0
REST = 2.5
"""Seconds between two changes: whatever the product collects before it writes is written then."""
SOCKET = re.compile(r"(\d+\.\d+\.\d+\.\d+)\]?:(\d+)\s*\n.*?bytes_sent:(\d+).*?bytes_received:(\d+)")


class Kernels:
    """The notifications about routes of all nodes."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._sockets = [_open_in(node) for node in nodes]

    async def wait_route(self, subnet: str) -> float:
        """The time at which the last kernel has got a route to the subnet."""
        loop, destination = asyncio.get_running_loop(), ip_network(subnet).network_address.packed
        missing, complete, at = set(self._sockets), asyncio.Event(), 0.0

        def read(one: socket.socket) -> None:
            nonlocal at
            now = time.monotonic()
            with suppress(BlockingIOError):
                while True:
                    if _adds_route(one.recv(65536), destination):
                        missing.discard(one)
                        at = now
            if not missing:
                complete.set()

        for each in self._sockets:
            loop.add_reader(each, read, each)
        try:
            await complete.wait()
            return at
        finally:
            for each in self._sockets:
                loop.remove_reader(each)


def _open_in(node: Node) -> socket.socket:
    """A netlink socket in the node's network namespace, which it keeps."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/self/ns/net").open() as own, Path(f"/proc/{node.pid}/ns/net").open() as its:
        if libc.setns(its.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the network of {node.name}")
        try:
            opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            opened.bind((0, RTMGRP_IPV4_ROUTE))
        finally:
            libc.setns(own.fileno(), CLONE_NEWNET)
    return opened


def _adds_route(data: bytes, destination: bytes) -> bool:
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, *_ = HEADER.unpack_from(data, offset)
        if kind == RTM_NEWROUTE and destination in data[offset : offset + length]:
            return True
        offset += max(length, HEADER.size)
    return False


async def _wait_counted(api: KubeApi, name: str, nodes: int, version: str) -> float:
    """The time at which the status of a StaticRoute counts this many nodes as ready."""
    source = KubeSource(api, STATIC_ROUTES, field_selector=f"metadata.name={name}")
    async with aclosing(source.watch(version)) as events:
        async for event in events:
            if find_object(event.object, "status").get("ready") == nodes:
                return time.monotonic()
    raise SystemExit("bench: the watch has ended")


async def _sample(lab: ProcessLab, api: KubeApi, kernels: Kernels, number: int) -> dict[str, float]:
    name, subnet, nodes = f"latency-{number}", f"172.20.{number}.0/24", len(lab.nodes)
    version = (await api.list(STATIC_ROUTES)).resource_version
    before = _traffic(lab)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        placed = group.create_task(kernels.wait_route(subnet))
        counted = group.create_task(_wait_counted(api, name, nodes, version))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await api.create(STATIC_ROUTES, static_route(name, subnet=subnet))
    after = _traffic(lab)
    moved = sum(value - before.get(key, 0) for key, value in after.items())
    await api.delete(STATIC_ROUTES, name)
    await asyncio.sleep(REST)
    return {"placed": placed.result() - began, "counted": counted.result() - began, "bytes": moved / nodes}


def _traffic(lab: ProcessLab) -> dict[tuple[str, str], int]:
    """Bytes in both directions so far of the nodes' connections to the API server, by address and port of the node."""
    output = run(["ss", "-Htin", f"sport = :{lab.api_server.port}"])
    return {
        (address, port): int(sent) + int(received)
        for address, port, sent, received in SOCKET.findall(output)
        if address in lab.nodes
    }


async def _serve(lab: ProcessLab) -> None:
    kernels = Kernels(list(lab.nodes.values()))
    async with connect_agent(str(lab.api_server.admin())) as connection:
        api = KubeApi(connection)
        await asyncio.sleep(REST)
        print("ready", flush=True)
        for number, _ in enumerate(sys.stdin):
            print(json.dumps(await _sample(lab, api, kernels, number)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--checkout", type=Path, help="directory with another version of the product")
    arguments = parser.parse_args()
    names = NAMES[: arguments.nodes]
    with tempfile.TemporaryDirectory(prefix="overlay-net-") as folder:
        options = {"settings": PRODUCTION, "checkout": arguments.checkout}
        with ProcessLab(Path(folder), find_assets(), SilentReporter(), **options) as lab:
            lab.patience = PATIENCE
            lab.build(names)
            lab.start()
            lab.register_nodes(names)
            lab.create_route()
            asyncio.run(_serve(lab))


if __name__ == "__main__":
    main()
