"""Two controllers as processes, one Lease: whoever leads dies, stands still, is cut off or ends in order."""

import signal
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
    """Starts a replica of a name; all of them are killed in the end, and the Lease is gone before and after."""
    with ExitStack() as running:

        def begin(name: str, **settings: str) -> Process:
            (api_server.directory / f"{name}.log").unlink(missing_ok=True)
            chosen = TIMES | settings
            return running.enter_context(start_controller(api_server, None, leader_election__identity=name, **chosen))

        forget(api_server)
        yield begin
    forget(api_server)


def forget(api_server: ApiServer) -> None:
    api_server.kubectl("delete", "lease", LEASE, f"--namespace={NAMESPACE}", "--ignore-not-found")


def lease(api_server: ApiServer) -> dict[str, Any]:
    """The Lease's spec; empty while there is none."""
    try:
        spec: dict[str, Any] = api_server.get("lease", LEASE, f"--namespace={NAMESPACE}")["spec"]
    except CommandFailed:
        return {}
    return spec


async def leads(api_server: ApiServer, name: str) -> None:
    async def holds() -> bool:
        return str(lease(api_server).get("holderIdentity", "")).startswith(f"{name}_")

    await eventually(holds, f"{name} leads")


async def stands_by(process: Process) -> None:
    async def synced() -> bool:
        return "synced" in process.log.read_text()

    await eventually(synced, f"{process.name} stands by")


async def test_a_killed_leader_is_followed_by_one_that_finishes_what_it_began(
    admin: KubeApi, api_server: ApiServer, start: Start
) -> None:
    await add_pool(admin)
    first = start("one")
    await leads(api_server, "one")
    second = start("two")
    await stands_by(second)
    await join(admin, *NAMES[:40])

    async def half_done() -> bool:
        return len(await records(admin)) >= 15

    await eventually(half_done, "fifteen addresses are reserved")
    first.kill9()
    assert len(await addresses(admin)) < 40, "it was killed on the way"
    await have_addresses(admin, 40)
    await consistent(admin)
    assert lease(api_server)["leaseTransitions"] == 1
    assert "controller started" in second.log.read_text()


async def test_one_that_stands_by_reconciles_nothing(admin: KubeApi, api_server: ApiServer, start: Start) -> None:
    await add_pool(admin)
    start("one")
    await leads(api_server, "one")
    second = start("two")
    await stands_by(second)
    await join(admin, *NAMES[:10])
    await have_addresses(admin, 10)
    said = second.log.read_text()
    assert not any(word in said for word in ("controller started", "reserved", "object created")), said


async def test_a_leader_that_stood_still_writes_nothing_when_it_goes_on(
    admin: KubeApi, api_server: ApiServer, start: Start
) -> None:
    """It missed that nodes left, that the new leader gave their addresses away, and that they came back."""
    await add_pool(admin)
    first = start("one")
    await leads(api_server, "one")
    second = start("two")
    await stands_by(second)
    await join(admin, *NAMES[:20])
    await have_addresses(admin, 20)
    first.send(signal.SIGSTOP)
    # What the old leader will find in its watches when it goes on: half the nodes are gone, and others came.
    for name in NAMES[:10]:
        await admin.delete(NODES, name)
    await join(admin, *NAMES[20:30])
    await leads(api_server, "two")

    async def settled() -> bool:
        return sorted((await records(admin)).values()) == NAMES[10:30]

    await eventually(settled, "the new leader has given back ten addresses and reserved ten")
    await join(admin, *NAMES[:10])
    await have_addresses(admin, 30)
    before = versions(await admin.list(OVERLAY_ADDRESSES))
    first.send(signal.SIGCONT)
    assert first.wait(10) == 1
    said = [line for line in first.log.read_text().splitlines() if " ERROR " in line]
    assert len(said) == 1, said
    assert f"lost the lease {NAMESPACE}/{LEASE}" in said[0]
    assert "Traceback" not in first.log.read_text()
    await consistent(admin)
    assert versions(await admin.list(OVERLAY_ADDRESSES)) == before, "nothing was released and made again"
    assert len(before) == 30


def versions(listing: Any) -> set[str]:
    return {item["metadata"]["uid"] for item in listing.items}


async def test_a_leader_that_ends_in_order_gives_its_lease_up(
    admin: KubeApi, api_server: ApiServer, start: Start
) -> None:
    await add_pool(admin)
    # Whoever had to wait for the end of this lease would wait for an hour.
    long = {"leader_election__lease_duration": "1h", "leader_election__renew_deadline": "50m"}
    first = start("one", **long)
    await leads(api_server, "one")
    second = start("two", **long)
    await stands_by(second)
    assert first.terminate() == 0
    await leads(api_server, "two")
    await join(admin, "n1")
    await have_addresses(admin, 1)
    assert second.terminate() == 0
    assert lease(api_server).get("holderIdentity", "") == ""


async def test_a_short_outage_of_the_api_does_not_end_the_leader(
    admin: KubeApi, api_server: ApiServer, start: Start
) -> None:
    await add_pool(admin)
    deadline = {"leader_election__lease_duration": "30s", "leader_election__renew_deadline": "12s"}
    first = start("one", **deadline)
    await leads(api_server, "one")
    api_server.pause()
    try:

        async def noticed() -> bool:
            return f"the lease {NAMESPACE}/{LEASE}: " in first.log.read_text()

        # A renewal has failed, which takes half a deadline.
        await eventually(noticed, "the leader could not renew")
    finally:
        api_server.resume()
    await join(admin, "n1")
    await have_addresses(admin, 1)
    assert first.alive
    assert lease(api_server)["leaseTransitions"] == 0


async def test_a_long_outage_of_the_api_ends_the_leader(admin: KubeApi, api_server: ApiServer, start: Start) -> None:
    first = start("one")
    await leads(api_server, "one")
    api_server.pause()
    try:
        assert first.wait(20) == 1
    finally:
        api_server.resume()
