"""Writing and reading routes by our own messages and by pyroute2, relative to `ip` on the same kernel in the same run.

Each time is the best of a few rounds: other load only adds to it. A block of the event loop is the longest time in
which a task that is due every millisecond did not run, the worst of all rounds: by the clock, which includes other
load, and by the CPU time of the loop's thread. The garbage collector is tuned as in the agent. Memory is measured in a
separate process. pyroute2 writes one route at a time, and reads all of them, as its users do; it is measured once.
"""

import asyncio
import contextlib
import gc
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

from pyroute2 import AsyncIPRoute

from lab.bench.measure import Row
from lab.processes import run
from overlay_net.adapters.netlink import Kernel
from overlay_net.domain.kernel.awaited_routes import find_awaited_routes
from overlay_net.domain.kernel.desired import LinkConfig
from overlay_net.domain.kernel.parent_interface import ByName
from overlay_net.domain.kernel.plan import KernelPlanner, plan_kernel
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.kernel import Desired, DesiredLink, Observed, OwnershipMark
from overlay_net.model.kernel_actions import ROUTE_ACTIONS, KernelPlan
from overlay_net.model.kernel_changes import EVERYTHING, UNKNOWN
from overlay_net.model.route_spec import parse_routes
from overlay_net.runtime.gc_tuning import tune_gc

SIZES = {10_000: 7, 100_000: 2}
"""Routes -> rounds."""
MEMORY_ROUTES = PYROUTE2_ROUTES = 10_000
MARKS, LINK, ADDRESS = OwnershipMark(117, "overlay-net"), DesiredLink("tmp0", "eth0"), ip_interface("192.168.100.4/24")
LINKS = ("tmp0", "eth0")
GATEWAYS = ("192.168.100.1", "192.168.100.2")
LOOP = "longest block of the loop"


def bench_routes(directory: Path) -> list[Row]:
    """Rows of (benchmark, operation, measurement, ratio to the limit)."""
    for words in (
        ["link", "add", "eth0", "type", "veth", "peer", "name", "peer0"],
        ["address", "add", "10.176.162.151/26", "dev", "eth0"],
        ["link", "set", "eth0", "up"],
        ["link", "set", "peer0", "up"],
    ):
        run(["ip", *words])
    rows: list[Row] = []
    tune_gc()
    try:
        asyncio.run(_converge_link())
        rows.append(_memory(directory))
        for size, rounds in SIZES.items():
            measured = [_round(directory, size) for _ in range(rounds)]
            rows += _rows(size, measured)
            if size == PYROUTE2_ROUTES:
                rows += _pyroute2_rows(size, measured, asyncio.run(_measure_pyroute2(size)))
    finally:
        run(["ip", "link", "delete", "eth0"])
    return rows


async def _converge_link() -> None:
    async with Kernel(MARKS) as kernel:
        for _ in range(3):
            for action in plan_kernel(Desired(LINK, ADDRESS), await kernel.observe(LINKS), MARKS).actions:
                await kernel.apply(action)


def _desired(size: int, gateway: str) -> Desired:
    subnets = (ip_network((int(ip_address("11.0.0.0")) + number * 256, 24)) for number in range(size))
    entries = (
        {"subnet": str(subnet), "staticRoute": "bench", "gateways": [{"address": gateway}]} for subnet in subnets
    )
    # Parsed as from an API object.
    return Desired(LINK, ADDRESS, parse_routes({"routes": list(entries)}))


# --- One round --------------------------------------------------------------------------------------------------------


def _round(directory: Path, size: int) -> dict[str, float]:
    return _measure_ip(directory, size) | asyncio.run(_measure_kernel(size))


def _measure_ip(directory: Path, size: int) -> dict[str, float]:
    subnets = [route.subnet for route in _desired(size, GATEWAYS[0]).routes]
    seconds = {}
    for verb, gateway in (("add", GATEWAYS[0]), ("replace", GATEWAYS[1]), ("delete", GATEWAYS[1])):
        batch = directory / verb
        batch.write_text("".join(f"route {verb} {subnet} via {gateway} dev tmp0 proto 117\n" for subnet in subnets))
        seconds[f"ip {verb}"] = _seconds(["ip", "-batch", str(batch)])
        if verb == "add":
            seconds["ip show"] = min(_seconds(["ip", "route", "show", "proto", "117"]) for _ in range(3))
    return seconds


def _seconds(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


async def _measure_pyroute2(size: int) -> dict[str, float]:
    seconds: dict[str, float] = {}
    subnets = [str(route.subnet) for route in _desired(size, GATEWAYS[0]).routes]
    async with AsyncIPRoute() as netlink:
        (link,) = await netlink.link_lookup(ifname="tmp0")
        for verb, gateway in (("add", GATEWAYS[0]), ("replace", GATEWAYS[1]), ("delete", GATEWAYS[1])):
            async with _timed(seconds, verb):
                for subnet in subnets:
                    await netlink.route(verb, dst=subnet, gateway=gateway, oif=link, proto=MARKS.protocol)
            if verb == "add":
                async with _timed(seconds, "show"):
                    found = [each async for each in await netlink.get_routes(proto=MARKS.protocol)]
                _expect(len(found) == size, f"pyroute2 read {len(found)} routes")
    return seconds


async def _measure_kernel(size: int) -> dict[str, float]:
    seconds: dict[str, float] = {}
    desired, other = _desired(size, GATEWAYS[0]), _desired(size, GATEWAYS[1])
    planner = KernelPlanner(MARKS)
    awaited = find_awaited_routes(desired.routes, ADDRESS, LinkConfig(ByName((LINK.parent,))))
    gc.collect()
    async with Kernel(MARKS) as kernel:

        async def observe(name: str, *, appeared: bool = False) -> Observed:
            async with _timed(seconds, f"observe {name}"):
                return await kernel.observe(LINKS, awaited=awaited, changes=UNKNOWN if appeared else EVERYTHING)

        async def write(name: str, desired: Desired) -> None:
            observed = await observe(f"before {name}")
            plan = planner.plan(desired, observed)
            actions = [each for each in plan.actions if isinstance(each, ROUTE_ACTIONS)]
            async with _timed(seconds, name):
                refused = await kernel.apply_routes(actions)
            _expect(len(actions) == size and not refused, f"{name}: {len(actions)} actions, {len(refused)} refused")

        async def observe_again(name: str, desired: Desired) -> None:
            observed = await observe(name)
            plan = _plan(planner, desired, observed, seconds, name)
            _expect(not plan.actions and len(plan.placed) == size, f"{name}: {len(plan.actions)} actions are left")

        async with _timed(seconds, "idle"):
            await asyncio.sleep(0.2)
        await write("add", desired)
        await observe_again("first", desired)
        await observe_again("second", desired)
        await write("replace", other)
        await observe("replaced")
        run(["ip", "route", "replace", "11.0.0.0/24", "via", GATEWAYS[0], "dev", "tmp0", "proto", "static"])
        plan = _plan(planner, other, await observe("changed", appeared=True), seconds, "changed")
        _expect(not plan.actions and len(plan.problems) == 1, f"changed: {plan.problems}")
        run(["ip", "route", "replace", "11.0.0.0/24", "via", GATEWAYS[1], "dev", "tmp0", "proto", "117"])
        await write("delete", Desired(LINK, ADDRESS))
    return seconds


def _plan(
    planner: KernelPlanner, desired: Desired, observed: Observed, seconds: dict[str, float], name: str
) -> KernelPlan:
    began = time.perf_counter()
    plan = planner.plan(desired, observed)
    seconds[f"plan {name}"] = time.perf_counter() - began
    return plan


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise SystemExit(f"bench: {message}")


@contextlib.asynccontextmanager
async def _timed(seconds: dict[str, float], name: str) -> AsyncIterator[None]:
    """Store the wall time in ``seconds[name]``, and the longest blocks of the loop in keys derived from it."""
    longest = {time.perf_counter: 0.0, time.thread_time: 0.0}

    async def tick() -> None:
        before = {clock: clock() for clock in longest}
        while True:
            await asyncio.sleep(0.001)
            for clock in longest:
                now = clock()
                longest[clock] = max(longest[clock], now - before[clock])
                before[clock] = now

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0.005)
    longest |= dict.fromkeys(longest, 0.0)
    began = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - began
    await asyncio.sleep(0.002)
    ticker.cancel()
    seconds[f"loop {name}"] = longest[time.perf_counter]
    seconds[f"loop thread {name}"] = longest[time.thread_time]


# --- Rows -------------------------------------------------------------------------------------------------------------


def _rows(size: int, rounds: list[dict[str, float]]) -> list[Row]:
    best = {name: min(each[name] for each in rounds) for name in rounds[0]}
    rows: list[Row] = []
    for verb in ("add", "replace", "delete"):
        limit, ours = best[f"ip {verb}"], best[verb]
        rows.append(("routes", f"ip -batch, {verb} {size:,}", _ms(limit), "1.00"))
        rows.append(("routes", f"Kernel.apply_routes, {verb} {size:,}", _ms(ours), f"{ours / limit:.2f}"))
    limit = best["ip show"]
    rows.append(("routes", f"ip route show, {size:,}", _ms(limit), "1.00"))
    for name, text in (("first", "first observation"), ("changed", "one route changed"), ("second", "nothing changed")):
        observe, plan = best[f"observe {name}"], best[f"plan {name}"]
        for what, took in (("observe", observe), ("plan", plan), ("observe and plan", observe + plan)):
            rows.append(("routes", f"{text}, {size:,}: {what}", _ms(took), f"{took / limit:.2f}"))
    for name in ("idle", "add", "replace", "delete", "observe first", "observe changed", "observe second"):
        worst = max(each[f"loop {name}"] for each in rounds)
        own = max(each[f"loop thread {name}"] for each in rounds)
        rows.append(("routes", f"{LOOP}, {name} {size:,}", f"{_ms(worst)}, own {_ms(own)}", ""))
    return rows


def _pyroute2_rows(size: int, rounds: list[dict[str, float]], seconds: dict[str, float]) -> list[Row]:
    rows: list[Row] = []
    for verb in ("add", "replace", "delete", "show"):
        limit, took = min(each[f"ip {verb}"] for each in rounds), seconds[verb]
        rows.append(("routes", f"pyroute2, {verb} {size:,}", _ms(took), f"{took / limit:.2f}"))
        worst, own = seconds[f"loop {verb}"], seconds[f"loop thread {verb}"]
        rows.append(("routes", f"{LOOP}, pyroute2, {verb} {size:,}", f"{_ms(worst)}, own {_ms(own)}", ""))
    return rows


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


# --- Memory -----------------------------------------------------------------------------------------------------------


def _memory(directory: Path) -> Row:
    batch = directory / "memory"
    subnets = (route.subnet for route in _desired(MEMORY_ROUTES, GATEWAYS[0]).routes)
    batch.write_text("".join(f"route add {subnet} via {GATEWAYS[0]} dev tmp0 proto 117\n" for subnet in subnets))
    grown = run([sys.executable, "-m", "lab.bench.routes", str(batch)]).strip()
    run(["ip", "route", "flush", "proto", "117"])
    return ("routes", f"memory for {MEMORY_ROUTES:,} observed routes", f"{int(grown) / 1024:.1f} MiB", "")


async def _grown(batch: Path) -> int:
    """KiB of resident memory that two observations take."""
    async with Kernel(MARKS) as kernel:
        await kernel.observe(LINKS, awaited=AwaitedRoutes())
        before = _resident()
        run(["ip", "-batch", str(batch)])
        first = await kernel.observe(LINKS, awaited=AwaitedRoutes())
        second = await kernel.observe(LINKS, awaited=AwaitedRoutes())
        _expect(len(first.routes) >= MEMORY_ROUTES <= len(second.routes), "the routes are missing")
        return _resident() - before


def _resident() -> int:
    """VmRSS of this process in KiB (proc_pid_status(5))."""
    (line,) = [each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmRSS:")]
    return int(line.split()[1])


if __name__ == "__main__":
    # The separate process in which memory is measured.
    print(asyncio.run(_grown(Path(sys.argv[1]))))
