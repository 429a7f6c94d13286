"""The controller and its rows in phpIPAM: rows that others change, orphaned rows, and rows after many faults."""

import asyncio
import random

import pytest

from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import NAMESPACES, NODE_OVERLAY_IPS, NODES
from tests.component.eventually import eventually
from tests.component.phpipam_lab import Lab, assert_consistent
from tests.component.test_controller import (
    addresses,
    agent_reports,
    all_agents_use_their_address,
    have_addresses,
    join,
    reason,
)


async def test_edited_deleted_and_taken_rows_are_reported_and_not_overwritten(admin: KubeApi, lab: Lab) -> None:
    await join(admin, "edited", "removed", "stolen")
    async with lab.controller(audit_interval="100ms"):
        await have_addresses(admin, 3)
        before = await addresses(admin)
        for name, address in before.items():
            await agent_reports(admin, name, configuredIpAddr=f"{address}/24", observedGeneration=99)
        rows = {row["hostname"]: row["id"] for row in lab.phpipam.rows(lab.subnet)}
        lab.phpipam.edit(rows["edited"], hostname="renamed")
        lab.phpipam.remove(rows["removed"])
        lab.phpipam.edit(rows["stolen"], note="mine now", hostname="scanner")

        async def settled() -> bool:
            events = lab.api_server.kubectl("get", "events", "-n", "default")
            return (
                set(lab.owned_rows()) == {"edited", "removed"}
                and "RecordEdited" in events
                and await reason(admin, "stolen") == "RecordTaken"
            )

        await eventually(settled, "the deleted row is created again and the others are reported")
        assert await addresses(admin) == before, "no node gets another address"
        assert [row["hostname"] for row in lab.phpipam.rows(lab.subnet) if row["ip"] == before["stolen"]] == ["scanner"]
        await join(admin, "newcomer")
        await have_addresses(admin, 4)
        assert (await addresses(admin))["newcomer"] not in before.values()
        lab.phpipam.remove(rows["stolen"])

        async def reserved_again() -> bool:
            return before["stolen"] in lab.owned_rows().get("stolen", [])

        await admin.merge_patch(NODE_OVERLAY_IPS, "stolen", {"metadata": {"labels": {"touched": "yes"}}})
        await eventually(reserved_again, "the freed address is reserved again")


async def test_orphaned_rows_of_this_cluster_only_are_released(admin: KubeApi, lab: Lab) -> None:
    uid = (await admin.get(NAMESPACES, "kube-system"))["metadata"]["uid"]
    for last, cluster in ((200, uid), (201, "another")):
        note = f"overlay-net cluster={cluster} node=ghost uid=x"
        lab.phpipam.add_address(lab.subnet, f"192.168.100.{last}", hostname="ghost", note=note)
    async with lab.controller(audit_interval="100ms", audit_grace="200ms"):

        async def released() -> bool:
            return lab.owned_rows() == {"ghost": ["192.168.100.201"]}

        await eventually(released, "only the orphan of this cluster is released")
    lab.assert_foreign_rows_unchanged()


async def read_unique_addresses(api: KubeApi) -> dict[str, str]:
    shown = await addresses(api)
    assert len(set(shown.values())) == len(shown), "two nodes show one address"
    return shown


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.timeout(240)
async def test_each_node_has_exactly_one_row_after_many_faults(admin: KubeApi, lab: Lab, seed: int) -> None:
    chance = random.Random(seed)
    lab.phpipam.chance.seed(seed)
    names = [f"node-{number:03}" for number in range(200)]
    alive: set[str] = set()
    faults = lab.phpipam.faults
    faults.latency, faults.lose_response, faults.lose_request = 0.002, 0.08, 0.04
    faults.server_error, faults.html, faults.lock_timeout = 0.05, 0.03, 0.02
    faults.duplicates = True
    async with lab.controller(audit_interval="300ms", audit_grace="1s", workers="32") as process:
        for start in range(0, 200, 40):
            joining = names[start : start + 40]
            leaving = chance.sample(sorted(alive), len(alive) // 3)
            await join(admin, *joining)
            await asyncio.gather(*(admin.delete(NODES, name) for name in leaving))
            alive = (alive | set(joining)) - set(leaving)
            enough = chance.randint(1, len(alive) // 2)

            async def some(enough: int = enough) -> bool:
                await read_unique_addresses(admin)
                return len(lab.owned_rows()) >= enough

            await eventually(some, f"{enough} nodes have a row")
            await asyncio.to_thread(process.restart)
            if chance.random() < 0.5:
                await lab.restart()
        faults.lose_response = faults.lose_request = faults.server_error = faults.html = faults.lock_timeout = 0

        async def settled() -> bool:
            await all_agents_use_their_address(admin)
            shown = await read_unique_addresses(admin)
            return set(shown) == alive and lab.owned_rows() == {node: [address] for node, address in shown.items()}

        await eventually(settled, "each node has one row, and there are no others", seconds=120)
        # Five more audits release nothing.
        released = lab.phpipam.calls["DELETE addresses"]
        audits = lab.phpipam.calls["GET subnets/addresses"]

        async def audited() -> bool:
            return lab.phpipam.calls["GET subnets/addresses"] >= audits + 5

        await eventually(audited, "five more audits")
        assert lab.phpipam.calls["DELETE addresses"] == released
    await assert_consistent(admin, lab)
