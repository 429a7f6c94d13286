"""Routes into a kernel, against `ip -batch`."""

import asyncio
import subprocess
import time
from collections.abc import Sequence
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

from lab.bench.measure import Row
from lab.processes import run
from overlay_net.adapters.netlink import Kernel
from overlay_net.domain.kernel_plan import plan_kernel
from overlay_net.model.kernel import AddRoute, DeleteRoute, Desired, DesiredLink, DesiredRoute, Gateway, Marks

ROUTES = 10_000


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
    routes = tuple(DesiredRoute(subnet, (Gateway(gateway),)) for subnet in subnets)
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
