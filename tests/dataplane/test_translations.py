"""Flows of masqueraded pods when a route moves them to the overlay and back, on one interface and on two."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lab.build import debian
from lab.net.namespaces import Namespace
from overlay_net.adapters.netlink import Conntrack, Kernel, Monitor
from overlay_net.agent.translation_watch import TranslationWatch
from overlay_net.model.api import JsonObject, Listing
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.translation import Translation
from overlay_net.runtime.store import Store
from overlay_net.runtime.worker import run_workers
from overlay_net.runtime.workqueue import WorkQueue
from tests.dataplane.conftest import MARK
from tests.dataplane.edge import (
    NODE_IP,
    ON_PREMISE,
    OVERLAY,
    ROUTE,
    Edge,
    edge,
    make_config,
    netns,
    node_overlay_ip,
    require,
)
from tests.fakes.agent import make_agent
from tests.fakes.background import background
from tests.fakes.netns import ip

__all__ = ["edge", "netns"]

POD, POD_GATEWAY, PODS = "10.244.1.5", "10.244.1.1", "10.244.1.0/24"
NFT_RULES = f"""
table ip cni {{
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {PODS} ip daddr != {PODS} masquerade
    }}
}}
"""
PORT = 7001
ANSWER = f"""
import socket
answering = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
answering.bind(({ON_PREMISE!r}, {PORT}))
print("ready", flush=True)
while True:
    data, sender = answering.recvfrom(100)
    try:
        answering.sendto(data, sender)
    except OSError:
        pass
"""
ASK_FOR_EVER = f"""
import socket
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.connect(({ON_PREMISE!r}, {PORT}))
asking.settimeout(0.05)
while True:
    try:
        asking.send(b"x")
        asking.recv(100)
        print("answered", flush=True)
    except OSError:
        pass
"""


@pytest.fixture
def pod(edge: Edge) -> Iterator[Namespace]:
    """A pod that asks the on-premise host again and again, from one port. Only the overlay address is answered."""
    try:
        nft = debian.command("nft", "nftables")
    except debian.PackageUnavailable as reason:
        pytest.skip(f"needs `nft`: {reason}")
    with Namespace("pod") as pod:
        ip("link", "add", "pod0", "type", "veth", "peer", "name", "eth0", "netns", str(pod.pid))
        ip("address", "add", f"{POD_GATEWAY}/24", "dev", "pod0")
        ip("link", "set", "pod0", "up")
        pod.ip("address", "add", f"{POD}/24", "dev", "eth0")
        pod.ip("link", "set", "eth0", "up")
        pod.ip("route", "add", "default", "via", POD_GATEWAY)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        ip("route", "add", "default", "via", "10.176.162.129")
        edge.gateway.ip("rule", "add", "from", ON_PREMISE, "to", NODE_IP, "prohibit")
        refused = subprocess.run([*nft, "-f", "-"], input=NFT_RULES, capture_output=True, text=True, check=False).stderr
        if refused:
            pytest.skip(f"the kernel cannot masquerade: {refused.splitlines()[0]}")
        host = edge.gateway.popen(sys.executable, "-c", ANSWER)
        try:
            assert host.stdout is not None
            assert host.stdout.readline() == "ready\n"
            yield pod
        finally:
            host.kill()
            host.communicate()


@asynccontextmanager
async def asking(pod: Namespace) -> AsyncIterator[asyncio.Queue[str]]:
    """The answers to one flow of the pod."""
    process = pod.popen(sys.executable, "-c", ASK_FOR_EVER)
    answers: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    assert process.stdout is not None
    stream = process.stdout
    loop.add_reader(stream, lambda: answers.put_nowait(stream.readline()))
    try:
        yield answers
    finally:
        loop.remove_reader(stream)
        process.kill()
        process.communicate()


@asynccontextmanager
async def running(mode: str, conntrack: Conntrack) -> AsyncIterator[Store[NodeOverlay]]:
    store: Store[NodeOverlay] = Store(NodeOverlay.parse)
    queue = WorkQueue()
    store.subscribe(lambda key, _, __: queue.add(key))
    monitor = Monitor(MARK.protocol, lambda: queue.add_after("n1", 0.001))
    async with Kernel(MARK, opened=monitor.ignore) as kernel:
        watch = TranslationWatch(conntrack, kernel)
        agent = make_agent(kernel, store, [], make_config(mode), MARK, translations=watch)
        store.replace(Listing((), "1"))
        async with background(monitor.run(), watch.run(), run_workers("agent", queue, agent.reconcile, workers=1)):
            yield store


def assign(store: Store[NodeOverlay], version: int, *routes: JsonObject) -> None:
    found = node_overlay_ip(str(OVERLAY), *routes)
    found["metadata"]["resourceVersion"] = str(version)
    store.replace(Listing((found,), str(version)))


async def sources(conntrack: Conntrack) -> set[str]:
    """The addresses that the on-premise host sees of pods over UDP."""
    return {str(each.source) for each in await on_premise(conntrack) if each.protocol == 17}


async def on_premise(conntrack: Conntrack) -> list[Translation]:
    return [each for each in await conntrack.list_translations() if str(each.destination) == ON_PREMISE]


async def until_source(conntrack: Conntrack, address: str) -> None:
    async with asyncio.timeout(20):
        while await sources(conntrack) != {address}:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("mode", ["address", "macvlan"])
async def test_flow_gets_the_overlay_address_with_its_route_and_loses_it_with_it(pod: Namespace, mode: str) -> None:
    if mode == "macvlan":
        require("macvlan")
    async with Conntrack() as conntrack, asking(pod) as answers, running(mode, conntrack) as store:
        await until_source(conntrack, NODE_IP)
        assert answers.empty(), "the on-premise host cannot answer the private address"
        assign(store, 2, ROUTE)
        async with asyncio.timeout(20):
            assert await answers.get()
        assert await sources(conntrack) == {str(OVERLAY.ip)}
        assign(store, 3)
        await until_source(conntrack, NODE_IP)


async def test_agent_that_starts_completes_what_an_earlier_one_began(pod: Namespace) -> None:
    ip("address", "add", str(OVERLAY), "dev", "eth0")
    async with Conntrack() as conntrack, asking(pod) as answers:
        await until_source(conntrack, NODE_IP)
        # The earlier agent was killed after this.
        ip("route", "add", "192.168.0.0/24", "via", "192.168.100.1", "src", str(OVERLAY.ip), "proto", "117")
        assert await sources(conntrack) == {NODE_IP}, "the kernel's behaviour behind this"
        async with running("address", conntrack) as store:
            assign(store, 2, ROUTE)
            async with asyncio.timeout(20):
                assert await answers.get()


async def test_tcp_connections_and_flows_to_other_networks_stay(pod: Namespace, edge: Edge) -> None:
    """A connection would end with its translation, and may work in spite of it."""
    edge.gateway.ip("address", "add", "203.0.113.7/32", "dev", "lo")
    connect = f"import socket; socket.create_connection(({ON_PREMISE!r}, {PORT}), 60)"
    processes = [
        pod.popen(sys.executable, "-c", command)
        for command in (connect, ASK_FOR_EVER.replace(ON_PREMISE, "203.0.113.7"))
    ]
    try:
        async with Conntrack() as conntrack, asking(pod) as answers, running("address", conntrack) as store:
            await until_source(conntrack, NODE_IP)
            async with asyncio.timeout(20):
                while len(before := await others(conntrack)) < 2:
                    await asyncio.sleep(0.02)
            assign(store, 2, ROUTE)
            async with asyncio.timeout(20):
                assert await answers.get()
            assert await others(conntrack) == before
    finally:
        for process in processes:
            process.kill()
            process.communicate()


async def others(conntrack: Conntrack) -> set[tuple[int, str, str, bytes]]:
    found = await conntrack.list_translations()
    udp = {each for each in await on_premise(conntrack) if each.protocol == 17}
    return {(each.protocol, str(each.destination), str(each.source), each.key) for each in found if each not in udp}


async def test_deleted_flow_that_has_ended_meanwhile_is_no_error(pod: Namespace) -> None:
    async with Conntrack() as conntrack, asking(pod):
        await until_source(conntrack, NODE_IP)
        flows = await on_premise(conntrack)
    async with Conntrack() as conntrack:
        for _ in range(2):
            await conntrack.delete(flows)
        assert await on_premise(conntrack) == []


async def test_node_that_tracks_no_connections_is_not_asked(netns: None, tmp_path: Path) -> None:
    async with Conntrack(tmp_path) as conntrack:
        assert await conntrack.list_translations() == ()
