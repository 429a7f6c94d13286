"""Joining nodes with phpIPAM, relative to a loop of its reserve request, with the same server and latency.

The goal is 0.8 of the three requests. What the client alone reaches shows how much of the difference is Kubernetes.

The server is the simulator: the results depend on the number and the order of the client's requests.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from lab.bench.measure import NODES_JOINING, Row, join, seconds_for_all
from lab.build.assets import find_assets
from lab.cluster.api_server import ApiServer
from lab.manifests import ZONE
from lab.phpipam import process as phpipam
from lab.phpipam.process import PhpIpamProcess
from lab.processes import wait_until
from lab.product import NAMESPACE, Product, condition_statuses
from overlay_net.adapters.phpipam import (
    ApiSession,
    CircuitBreakers,
    Client,
    Credentials,
    PhpIpam,
    Secret,
    connect_phpipam,
)
from overlay_net.model.ipam import Owner
from overlay_net.model.pool import Pool
from overlay_net.ops.controller_metrics import ControllerMetrics

LATENCY = 0.02
"""Seconds before the server processes a request."""
PARALLEL = 8
TIMEOUT = 45.0

OURS, RESERVED, THREE_CALLS, CLIENT = 1, 2, 3, 4
CONTENT: dict[str, Any] = {
    "sections": [{"name": "Bench"}],
    "subnets": [
        {"section": "Bench", "cidr": f"10.{64 + subnet}.0.0/16", "gateway": f"10.{64 + subnet}.0.1"}
        for subnet in (OURS, RESERVED, THREE_CALLS, CLIENT)
    ],
    "faults": {"latency": LATENCY},
}


def bench_phpipam(directory: Path) -> list[Row]:
    with ApiServer.start(directory, find_assets()) as api_server, PhpIpamProcess(directory, CONTENT) as server:
        product = Product(api_server, directory)
        values = phpipam.chart_values({ZONE: [OURS]}, concurrency=PARALLEL)
        product.install({}, {"log": {"level": "warning"}, "audit_interval": "5m", "status_batch": "1s"}, values)
        api_server.apply(phpipam.secret(NAMESPACE))
        loop, reserved, three_calls = asyncio.run(_bare())
        client = asyncio.run(_through_the_client())
        before = server.calls()
        product.start_controller()
        try:
            wait_until(lambda: _is_ready(api_server), "the pool is ready")
            joined = asyncio.run(join(str(api_server.admin())))
        finally:
            product.close()
        after = server.calls()
    made = {kind: count - before.by_kind.get(kind, 0) for kind, count in after.by_kind.items()}
    of_nodes = sum(count for kind, count in made.items() if " addresses" in kind)
    logins = after.logins - before.logins
    return [
        _speed("sequential reserve requests", loop, loop),
        _speed(f"reserve requests, {PARALLEL} at a time", reserved, loop),
        _speed(f"search, reserve and read requests, {PARALLEL} at a time", three_calls, loop),
        _speed(f"through the client alone, {PARALLEL} at a time", client, loop),
        _speed("  relative to the three requests", client, three_calls),
        _speed("through the controller", joined, loop),
        _speed(f"  relative to reserve requests, {PARALLEL} at a time", joined, reserved),
        _speed(f"  relative to the three requests, {PARALLEL} at a time", joined, three_calls),
        ("phpipam", "requests per node", f"{of_nodes / NODES_JOINING:.2f}", f"{of_nodes / NODES_JOINING:.2f}"),
        ("phpipam", "all requests, including pools and log-in", _listed(made), ""),
        ("phpipam", "log-ins", str(logins), f"{logins:.2f}"),
    ]


def _is_ready(api_server: ApiServer) -> bool:
    return any(condition_statuses(pool).get("Ready") == "True" for pool in api_server.get("overlaypools")["items"])


def _speed(what: str, seconds: float, limit: float) -> Row:
    return "phpipam", what, f"{NODES_JOINING / seconds:.0f} nodes/s", f"{limit / seconds:.2f}"


def _listed(made: Mapping[str, int]) -> str:
    return "\n".join([str(sum(made.values())), *(f"{count} {kind}" for kind, count in sorted(made.items()) if count)])


async def _bare() -> tuple[float, float, float]:
    """Seconds for a reserve request per node, sequential and parallel, and for the three requests that are safe."""
    base = f"{phpipam.URL}/api/{phpipam.APP}"
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=PARALLEL), cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        secret = {"Authorization": aiohttp.encode_basic_auth(phpipam.USER["username"], phpipam.USER["password"])}
        async with session.post(f"{base}/user/", headers=secret, json={}) as response:
            headers = {"token": (await response.json())["data"]["token"]}

        async def reserve(number: int, subnet: int = RESERVED) -> str:
            body = {"hostname": f"bare-{number}", "description": "bare", "note": f"bare {number}"}
            url = f"{base}/addresses/first_free/{subnet}/"
            async with session.post(url, headers=headers, json=body, raise_for_status=True) as response:
                return str((await response.json())["data"])

        async def read(*path: str) -> None:
            # An empty result is a 404.
            async with session.get("/".join((base, "addresses", *path, "")), headers=headers) as response:
                await response.read()

        async def one(number: int) -> None:
            await reserve(number)

        async def three(number: int) -> None:
            await read("search_hostname", f"three-{number}")
            await read("search", await reserve(number, THREE_CALLS))

        return (
            await seconds_for_all(one, parallel=1),
            await seconds_for_all(one, parallel=PARALLEL),
            await seconds_for_all(three, parallel=PARALLEL),
        )


async def _through_the_client() -> float:
    """Seconds for the product's client to find or reserve an address per node."""
    subnet = CONTENT["subnets"][CLIENT - 1]
    pool = Pool.parse(
        {
            "metadata": {"name": "bench"},
            "spec": {"phpIPAM": {"subnetID": CLIENT}},
            "status": {"cidr": subnet["cidr"], "gateway": subnet["gateway"]},
        }
    )
    credentials = Credentials(None, Secret(**phpipam.USER), code=False)
    breakers = CircuitBreakers(asyncio.get_running_loop().time, TIMEOUT)
    async with connect_phpipam(
        ca_file=None, insecure=False, proxy=None, timeout=TIMEOUT, connections=2 * PARALLEL
    ) as session:
        api = ApiSession(
            session, phpipam.URL, phpipam.APP, credentials, breakers, ControllerMetrics(), concurrency=PARALLEL
        )
        ipam = PhpIpam(Client(api), "bench", lambda _: pool, lambda _, __: False)
        await ipam.inspect_pool(pool)

        async def one(number: int) -> None:
            owner = Owner("bench", f"client-{number}", f"uid-{number}")
            if not await ipam.find(owner, None):
                await ipam.reserve(owner, pool)

        return await seconds_for_all(one, parallel=PARALLEL)
