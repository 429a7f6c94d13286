"""Two controller processes and one Lease: the leader is killed, paused, disconnected or terminated."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lab.cluster.api_server import ApiServer
from lab.processes import CommandFailed, Process
from lab.product import NAMESPACE
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import NODES, OVERLAY_ADDRESSES
from tests.component.controller_process import start_controller
from tests.component.eventually import eventually
from tests.component.test_controller import (
    NAMES,
    add_pool,
    addresses,
    consistent,
    have_addresses,
    join,
    records,
)

LEASE = "overlay-net-controller"
TIMES = {
    "leader_election__lease_duration": "3s",
    "leader_election__renew_deadline": "2s",
    "leader_election__retry_period": "200ms",
    "leader_election__namespace": NAMESPACE,
}
Start = Callable[..., Process]


@pytest.fixture
def start(api_server: ApiServer) -> Iterator[Start]:
    """Starts a replica by name. All replicas are killed at the end, and the Lease is deleted before and after."""
    with ExitStack() as running:

        def start_replica(name: str, **settings: str) -> Process:
            (api_server.directory / f"{name}.log").unlink(missing_ok=True)
            chosen = TIMES | settings
            return running.enter_context(start_controller(api_server, None, leader_election__identity=name, **chosen))

        delete_lease(api_server)
        yield start_replica
    delete_lease(api_server)


def delete_lease(api_server: ApiServer) -> None:
    api_server.kubectl("delete", "lease", LEASE, f"--namespace={NAMESPACE}", "--ignore-not-found")


def lease(api_server: ApiServer) -> dict[str, Any]:
    """The spec of the Lease; empty if there is none."""
    try:
        spec: dict[str, Any] = api_server.get("lease", LEASE, f"--namespace={NAMESPACE}")["spec"]
    except CommandFailed:
        return {}
    return spec


async def wait_leader(api_server: ApiServer, name: str) -> None:
    async def holds() -> bool:
        return str(lease(api_server).get("holderIdentity", "")).startswith(f"{name}_")

    await eventually(holds, f"{name} is the leader")


async def wait_standby(process: Process) -> None:
    async def synced() -> bool:
        return "synced" in process.log.read_text()

    await eventually(synced, f"{process.name} is on standby")


async def test_the_successor_of_a_killed_leader_finishes_its_work(
    admin: KubeApi, api_server: ApiServer, start: Start
) -> None:
    await add_pool(admin)
    first = start("one")
    await wait_leader(api_server, "one")
    second = start("two")
    await wait_standby(second)
    await join(admin, *NAMES[:40])

    async def half_done() -> bool:
        return len(await records(admin)) >= 15

    await eventually(half_done, "fifteen addresses are reserved")
    first.kill9()
    assert len(await addresses(admin)) < 40, "it was killed before it had finished"
    await have_addresses(admin, 40)
    await consistent(admin)
    assert lease(api_server)["leaseTransitions"] == 1
    assert "became leader" in second.log.read_text()


async def test_a_controller_on_standby_reconciles_nothing(admin: KubeApi, api_server: ApiServer, start: Start) -> None:
    await add_pool(admin)
    start("one")
    await wait_leader(api_server, "one")
    second = start("two", log__level="debug")
    await wait_standby(second)
    await join(admin, *NAMES[:10])
    await have_addresses(admin, 10)
    log = second.log.read_text()
    assert not any(message in log for message in ("became leader", "reserved", "object created")), log


async def test_a_paused_leader_writes_nothing_after_it_resumes(
    admin: KubeApi, api_server: ApiServer, start: Start
) -> None:
    """Meanwhile nodes were deleted, the new leader reassigned their addresses, and the nodes joined again."""
    await add_pool(admin)
    first = start("one")
    await wait_leader(api_server, "one")
    second = start("two")
    await wait_standby(second)
    await join(admin, *NAMES[:20])
    await have_addresses(admin, 20)
    first.pause()
    # Events that the old leader will receive when it resumes: half of the nodes are deleted, and others have joined.
    for name in NAMES[:10]:
        await admin.delete(NODES, name)
    await join(admin, *NAMES[20:30])
    await wait_leader(api_server, "two")

    async def settled() -> bool:
        return sorted((await records(admin)).values()) == NAMES[10:30]

    await eventually(settled, "the new leader has released ten addresses and reserved ten")
    await join(admin, *NAMES[:10])

    async def rejoined() -> bool:
        # An object that is being deleted shows its address until its finalizer is removed, also after the release.
        return sorted((await records(admin)).values()) == NAMES[:30]

    await eventually(rejoined, "each node has a record again")
    await have_addresses(admin, 30)
    before = versions(await admin.list(OVERLAY_ADDRESSES))
    first.resume()
    assert first.wait(10) == 1
    errors = [line for line in first.log.read_text().splitlines() if " ERROR " in line]
    assert len(errors) == 1, errors
    assert f"lost the lease {NAMESPACE}/{LEASE}" in errors[0]
    assert "Traceback" not in first.log.read_text()
    await consistent(admin)
    assert versions(await admin.list(OVERLAY_ADDRESSES)) == before, "no record was recreated"
    assert len(before) == 30


def versions(listing: Any) -> set[str]:
    return {item["metadata"]["uid"] for item in listing.items}


async def test_a_terminated_leader_releases_the_lease(admin: KubeApi, api_server: ApiServer, start: Start) -> None:
    await add_pool(admin)
    # If the lease were not released, the other replica would have to wait for an hour.
    long = {"leader_election__lease_duration": "1h", "leader_election__renew_deadline": "50m"}
    first = start("one", **long)
    await wait_leader(api_server, "one")
    second = start("two", **long)
    await wait_standby(second)
    assert first.terminate() == 0
    await wait_leader(api_server, "two")
    await join(admin, "n1")
    await have_addresses(admin, 1)
    assert second.terminate() == 0
    assert lease(api_server).get("holderIdentity", "") == ""


async def test_the_leader_survives_a_short_outage(admin: KubeApi, api_server: ApiServer, start: Start) -> None:
    await add_pool(admin)
    deadline = {"leader_election__lease_duration": "30s", "leader_election__renew_deadline": "12s"}
    first = start("one", **deadline)
    await wait_leader(api_server, "one")
    api_server.pause()
    try:

        async def noticed() -> bool:
            return f"cannot acquire or renew the lease lease={NAMESPACE}/{LEASE} " in first.log.read_text()

        # A renewal times out after half of the deadline.
        await eventually(noticed, "the leader could not renew")
    finally:
        api_server.resume()
    await join(admin, "n1")
    await have_addresses(admin, 1)
    assert first.alive
    assert lease(api_server)["leaseTransitions"] == 0


async def test_the_leader_exits_in_a_long_outage(admin: KubeApi, api_server: ApiServer, start: Start) -> None:
    first = start("one")
    await wait_leader(api_server, "one")
    api_server.pause()
    try:
        assert first.wait(20) == 1
    finally:
        api_server.resume()
