"""`python -m lab.bench`: speed, each figure beside the limit of this machine, measured in the same run."""

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab.assets import BuildFailed, find_assets
from lab.control_plane import ControlPlane
from lab.private import EXIT_USAGE, Missing, enter, is_private
from lab.processes import run
from lab.product import Product
from lab.story import node_object
from overlay_net.adapters.kube import KubeApi, connect_agent
from overlay_net.adapters.netlink import Kernel
from overlay_net.domain.kernel_plan import plan_kernel
from overlay_net.model.api import JsonObject
from overlay_net.model.kernel import AddRoute, DeleteRoute, Desired, DesiredLink, DesiredRoute, Marks
from overlay_net.model.names import CONTROLLER_FIELD_MANAGER, NODE_OVERLAY_IPS, NODES, OVERLAY_ADDRESSES

NODES_JOINING = 300
ROUTES = 10_000
PARALLEL = 16

Row = tuple[str, str, str, str]


# --- Nodes: joining nodes against the bare writes that joining takes --------------------------------------------------


def bench_nodes(directory: Path) -> list[Row]:
    with ControlPlane.start(directory, find_assets()) as plane:
        product = Product(plane, directory)
        product.install({"bench": {"cidr": "10.64.0.0/16", "gateway": "10.64.0.1"}}, {"log": {"level": "warning"}})
        bare = asyncio.run(_bare_writes(str(plane.admin())))
        product.start_controller()
        try:
            joined = asyncio.run(_join(str(plane.admin())))
        finally:
            product.close()
    ratio = bare / joined
    return [
        ("nodes", f"bare writes, {PARALLEL} at a time", f"{NODES_JOINING / bare:.0f} nodes/s", "1.00"),
        ("nodes", "through the controller", f"{NODES_JOINING / joined:.0f} nodes/s", f"{ratio:.2f}"),
    ]


async def _bare_writes(kubeconfig: str) -> float:
    """Seconds for the writes that one node costs, without anybody who decides: object, record, status."""
    async with connect_agent(kubeconfig) as connection:
        api = KubeApi(connection)

        async def one(number: int) -> None:
            name, address = f"bare-{number}", str(ip_address("10.99.0.0") + number + 2)
            body = _object("NodeOverlayIp", name)
            await api.apply(NODE_OVERLAY_IPS, name, body | {"spec": {}}, field_manager=CONTROLLER_FIELD_MANAGER)
            spec = {"address": address, "pool": "bare", "node": name, "nodeUID": "x"}
            await api.create(OVERLAY_ADDRESSES, _object("OverlayAddress", address) | {"spec": spec})
            status = {"status": {"ipAddr": f"{address}/16", "gateway": "10.99.0.1"}}
            await api.apply(
                NODE_OVERLAY_IPS, name, body | status, field_manager=CONTROLLER_FIELD_MANAGER, subresource="status"
            )

        seconds = await _timed(one)
        for resource in (NODE_OVERLAY_IPS, OVERLAY_ADDRESSES):
            for item in (await api.list(resource)).items:
                await api.delete(resource, item["metadata"]["name"])
    return seconds


def _object(kind: str, name: str) -> JsonObject:
    return {"apiVersion": NODE_OVERLAY_IPS.api_version, "kind": kind, "metadata": {"name": name}}


async def _timed(one: Callable[[int], Awaitable[None]]) -> float:
    turn = asyncio.Semaphore(PARALLEL)

    async def guarded(number: int) -> None:
        async with turn:
            await one(number)

    began = time.perf_counter()
    await asyncio.gather(*(guarded(number) for number in range(NODES_JOINING)))
    return time.perf_counter() - began


async def _join(kubeconfig: str) -> float:
    """Seconds from the first Node created to the last one with an address."""
    async with connect_agent(kubeconfig) as connection:
        api = KubeApi(connection)

        async def one(number: int) -> None:
            await api.create(NODES, node_object(f"node-{number}"))

        began = time.perf_counter()
        await _timed(one)
        while True:
            items = (await api.list(NODE_OVERLAY_IPS)).items
            if sum("ipAddr" in item.get("status", {}) for item in items) == NODES_JOINING:
                return time.perf_counter() - began
            await asyncio.sleep(0.1)


# --- Routes: into a kernel, against `ip -batch` -----------------------------------------------------------------------


def bench_routes(directory: Path) -> list[Row]:
    for words in (
        ["link", "add", "eth0", "type", "veth", "peer", "name", "peer0"],
        ["address", "add", "10.176.162.151/26", "dev", "eth0"],
        ["link", "set", "eth0", "up"],
        ["link", "set", "peer0", "up"],
    ):
        run(["ip", *words])
    rows = asyncio.run(_routes(directory))
    run(["ip", "link", "delete", "eth0"])
    return rows


async def _routes(directory: Path) -> list[Row]:
    marks, link = Marks(117, "overlay-net"), DesiredLink("tmp0", "eth0")
    subnets = [ip_network((int(ip_address("11.0.0.0")) + number * 256, 24)) for number in range(ROUTES)]
    gateway = ip_address("192.168.100.1")
    routes = tuple(DesiredRoute(subnet, (gateway,)) for subnet in subnets)
    address = ip_interface("192.168.100.4/24")
    async with Kernel(marks, ("tmp0", "eth0")) as kernel:
        for _ in range(3):
            for action in plan_kernel(Desired(link, address), await kernel.observe(), marks).actions:
                await kernel.apply(action)
        batch = directory / "batch"
        batch.write_text("".join(f"route add {subnet} via {gateway} dev tmp0 proto 117\n" for subnet in subnets))
        limit = _seconds(["ip", "-batch", str(batch)])
        read = _seconds(["ip", "route", "show", "proto", "117"])
        run(["ip", "route", "flush", "proto", "117"])
        desired = Desired(link, address, routes)
        began = time.perf_counter()
        plan = plan_kernel(desired, await kernel.observe(), marks)
        await kernel.apply_routes([action for action in plan.actions if isinstance(action, AddRoute | DeleteRoute)])
        added = time.perf_counter() - began
        began = time.perf_counter()
        left = plan_kernel(desired, await kernel.observe(), marks)
        resync = time.perf_counter() - began
        if left.actions or len(left.placed) != ROUTES:
            raise SystemExit(f"bench: {len(left.actions)} actions are left after {ROUTES} routes were added")
    return [
        ("routes", f"ip -batch, {ROUTES} added", f"{limit:.2f} s", "1.00"),
        ("routes", "plan and add", f"{added:.2f} s", f"{added / limit:.1f}"),
        ("routes", f"ip route show, {ROUTES}", f"{read:.2f} s", "1.00"),
        ("routes", "observe, compare, nothing to do", f"{resync:.2f} s", f"{resync / read:.1f}"),
    ]


def _seconds(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


BENCHMARKS: dict[str, Callable[[Path], list[Row]]] = {"nodes": bench_nodes, "routes": bench_routes}


def main() -> int:
    parser = argparse.ArgumentParser(prog="nox -s bench --", description=__doc__)
    parser.add_argument("which", nargs="*", metavar="|".join(BENCHMARKS), help="default: all")
    chosen = parser.parse_args().which or list(BENCHMARKS)
    unknown = [name for name in chosen if name not in BENCHMARKS]
    if unknown:
        parser.error(f"{unknown[0]!r} is no benchmark; there are {', '.join(BENCHMARKS)}")
    try:
        if not is_private():
            find_assets(lambda text: print(text, file=sys.stderr, flush=True))
            return enter([sys.executable, "-m", "lab.bench", *chosen])
    except (Missing, BuildFailed) as error:
        print(f"bench: {error}", file=sys.stderr)
        return EXIT_USAGE
    table = Table("benchmark", "what", "measured", "ratio to the limit", box=None)
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix="overlay-net-") as folder:
            for row in BENCHMARKS[name](Path(folder)):
                table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
