"""The controller as a separate process, against the API server of the component tests."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from lab.cluster.api_server import ApiServer
from lab.processes import Process
from lab.product import NAMESPACE


@asynccontextmanager
async def controller(api_server: ApiServer, config: Path | None = None, **settings: str) -> AsyncIterator[Process]:
    """Runs the controller with its service account; killed (-9) at the end of the context.

    Without leader election: a killed controller would leave a lease that the next one has to wait for.
    """
    with start_controller(api_server, config, leader_election__enabled="false", **settings) as process:
        yield process
        assert process.alive, process.tail()


def start_controller(api_server: ApiServer, config: Path | None = None, **settings: str) -> Process:
    chosen = {
        "kubeconfig": str(api_server.service_account_kubeconfig(NAMESPACE, "overlay-net-controller")),
        "http__bind": "127.0.0.1:0",
        "status_batch": "50ms",
        "release_after": "0s",
        "fence_after": "0s",
        # All processes of the tests are of one release, unless a test sets another.
        "leader_election__namespace": NAMESPACE,
        **settings,
    }
    return Process(
        "controller",
        [sys.executable, "-m", "overlay_net", "controller", *((f"--config={config}",) if config else ())],
        log=api_server.directory / f"{settings.get('leader_election__identity', 'controller')}.log",
        env={f"OVERLAY_{name.upper()}": value for name, value in chosen.items()},
    )
