"""A phpIPAM simulator on loopback with the product's client and backend, and a clock that tests advance."""

import logging
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.phpipam import Server, serve
from overlay_net.adapters.phpipam import (
    ApiSession,
    CircuitBreaker,
    CircuitBreakers,
    Client,
    Connection,
    Credentials,
    PhpIpam,
    Secret,
    connect_phpipam,
)
from overlay_net.model.ipam import Owner
from overlay_net.model.net import IpAddress
from overlay_net.model.pool import Pool

APP, USER, PASSWORD = "overlay", "operator", "pass-Wort-7f3a"
CODE = "Code-0123456789abcdef0123456789a"
CLUSTER = "cluster-a"
CIDR, GATEWAY = "192.168.100.0/24", "192.168.100.1"
LOCK_WAIT = timedelta(seconds=35)


class Clock:
    """The seconds of the server, the circuit breaker and the backend."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def __call__(self) -> float:
        return self.seconds

    def forward(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass
class Observed:
    calls: list[tuple[str, str]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)

    def observe_phpipam_request(self, operation: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.calls.append((operation, outcome))

    def observe_phpipam_login(self, outcome: str) -> None:
        self.logins.append(outcome)


@dataclass
class Bench:
    """``subnet`` is the id of the subnet CIDR, in which GATEWAY is marked as gateway."""

    server: Server
    clock: Clock
    url: str
    connection: Connection
    credentials: Credentials
    breakers: CircuitBreakers
    api: ApiSession
    client: Client
    observed: Observed
    recoveries: list[float]
    """When the circuit breaker has closed."""
    subnet: int

    def backend(
        self,
        *pools: Pool,
        cluster: str = CLUSTER,
        used_by_others: Callable[[str, IpAddress], bool] = lambda node, address: False,
        **options: Any,
    ) -> PhpIpam:
        known = {each.subnet_id: each for each in pools or (self.pool(),)}
        options = {"lock_wait": LOCK_WAIT, "clock": self.clock, **options}
        return PhpIpam(self.client, cluster, known.get, used_by_others, **options)

    def pool(self, subnet: int | None = None, cidr: str = CIDR, gateway: str = GATEWAY, **spec: Any) -> Pool:
        return pool(subnet or self.subnet, cidr, gateway, **spec)

    @property
    def breaker(self) -> CircuitBreaker:
        """That of the server."""
        return self.breakers.server

    def call_count(self) -> int:
        """The number of calls that have reached the server."""
        return self.server.calls.total()

    def rows(self, subnet: int | None = None) -> list[dict[str, Any]]:
        """The rows of a subnet, without its gateway."""
        return [row for row in self.server.rows(subnet or self.subnet) if not row["is_gateway"]]


def pool(subnet: int, cidr: str = CIDR, gateway: str = GATEWAY, name: str = "", **spec: Any) -> Pool:
    """A pool whose subnet the controller has read."""
    return Pool.parse(
        {
            "metadata": {"name": name or f"pool-{subnet}", "uid": f"uid-{subnet}"},
            "spec": {"phpIPAM": {"subnetID": subnet}, **spec},
            "status": {"cidr": cidr, "gateway": gateway},
        }
    )


def fresh_pool(subnet: int, gateway: str = "") -> Pool:
    """A pool without status; ``gateway`` is its spec.gateway."""
    spec = {"gateway": gateway} if gateway else {}
    return Pool.parse({"metadata": {"name": "fresh"}, "spec": {"phpIPAM": {"subnetID": subnet}, **spec}})


def owner(node: str = "worker-1", uid: str = "uid-1", cluster: str = CLUSTER) -> Owner:
    return Owner(cluster, node, uid)


def owner_tag(node: str = "worker-1", uid: str = "uid-1", cluster: str = CLUSTER) -> str:
    return f"overlay-net cluster={cluster} node={node} uid={uid}"


def new_server(version: str = "1.8.2", clock: Clock | None = None, **app: Any) -> tuple[Server, Clock]:
    clock = clock or Clock()
    server = Server(version, now=clock)
    server.add_app(APP, **app)
    server.add_user(USER, PASSWORD)
    subnet = server.add_subnet(server.add_section("lab"), CIDR, GATEWAY, "overlay")
    assert subnet == 1
    return server, clock


@asynccontextmanager
async def bench(
    *,
    version: str = "1.8.2",
    app: str = APP,
    secret: Secret = Secret(username=USER, password=PASSWORD),  # noqa: B008 - frozen
    directory: Path | None = None,
    timeout: float = 5,
    concurrency: int = 8,
    tls: ssl.SSLContext | None = None,
    ca_file: Path | None = None,
    insecure: bool = False,
    url: str = "",
    fence: Callable[[], float] | None = None,
    **app_settings: Any,
) -> AsyncIterator[Bench]:
    """``url`` is that of a server other than the simulator; ``app_settings`` are arguments of Server.add_app."""
    server, clock = new_server(version, **app_settings)
    code = bool(secret.code)
    credentials, observed, recoveries = Credentials(directory, secret, code=code), Observed(), list[float]()
    breakers = CircuitBreakers(clock, timeout, lambda: recoveries.append(clock()))
    async with (
        serve(server, tls=tls) as served,
        connect_phpipam(
            ca_file=ca_file, insecure=insecure, proxy=None, timeout=timeout, connections=concurrency
        ) as connection,
    ):
        where = url or served
        api = ApiSession(
            connection, where, app, credentials, breakers, observed, code=code, concurrency=concurrency, fence=fence
        )
        yield Bench(server, clock, where, connection, credentials, breakers, api, Client(api), observed, recoveries, 1)


def assert_nothing_secret(
    caplog: pytest.LogCaptureFixture, errors: Iterable[BaseException], secrets: Iterable[str]
) -> None:
    texts = [record.getMessage() + str(vars(record)) for record in caplog.records]
    for error in errors:
        seen: BaseException | None = error
        while seen is not None:
            texts += [str(seen), repr(seen), repr(seen.args)]
            seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    for secret in secrets:
        assert secret
        assert not [text for text in texts if secret in text]


def capture_all_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
