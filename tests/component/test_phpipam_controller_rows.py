"""The controller and its rows in phpIPAM: rows that others change, orphaned rows, and rows after many faults."""

import asyncio
import random
from typing import Any

import pytest

from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import EVENTS, NAMESPACES, NODE_OVERLAY_IPS, NODES, OVERLAY_POOLS
from tests.component.eventually import eventually
from tests.component.phpipam_lab import Lab, assert_consistent
from tests.component.test_controller import (
    addresses,
    agent_reports,
    all_agents_use_their_address,
    create,
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


async def test_node_is_not_renumbered_when_the_address_or_subnet_of_its_row_is_changed(
    admin: KubeApi, lab: Lab
) -> None:
    """As a person does in the UI of phpIPAM."""
    names = ("readdressed", "elsewhere", "served-elsewhere", "split-a", "split-b", "given-away", "retagged", "renamed")
    twin = lab.phpipam.add_subnet(lab.phpipam.add_section("Twin"), "192.168.100.0/24", gateway="192.168.100.254")
    unserved = lab.phpipam.add_subnet(lab.phpipam.add_section("Unserved"), "10.44.0.0/16")
    pool = {"phpIPAM": {"subnetID": twin}, "zones": ["elsewhere"]}
    await create(admin, OVERLAY_POOLS, "twin", pool)
    await join(admin, *names)
    async with lab.controller(audit_interval="100ms"):
        await have_addresses(admin, len(names))
        await all_agents_use_their_address(admin)
        before = await object_statuses(admin)
        address = {name: status["ipAddr"].split("/")[0] for name, status in before.items()}
        move_rows(lab, address, twin, unserved)
        taken = {"split-a", "split-b", "given-away", "retagged"}
        reasons = {name: "RecordTaken" if name in taken else "Reserved" for name in names}
        kept = {(lab.subnet, each) for name, each in address.items() if name not in taken}
        left = {(lab.subnet, each) for each in ("192.168.100.78", "192.168.100.79", *map(address.get, taken))}

        async def settled() -> bool:
            rows = {(each["subnetId"], each["ip"]) for each in lab.phpipam.rows() if each["note"]}
            return rows - left == kept and {name: await reason(admin, name) for name in names} == reasons

        await eventually(settled, "addresses that are free are recorded again, and the others are reported")
        after = await object_statuses(admin)
        assert in_use(after) == in_use(before)
        assert_contains(reserved_message(after["split-a"]), address["split-a"], address["split-b"])
        assert_contains(reserved_message(after["given-away"]), address["given-away"], "192.168.100.78")
        await edit_is_reported(admin, "readdressed", address["readdressed"], "192.168.100.77")
        await edit_is_reported(admin, "elsewhere", address["elsewhere"], "10.44.0.7")
        await edit_is_reported(admin, "served-elsewhere", address["served-elsewhere"], "OverlayPool twin")
        await edit_is_reported(admin, "renamed", address["renamed"], "192.168.100.79")
        await join(admin, "newcomer")
        await have_addresses(admin, len(names) + 1)
        assert (await addresses(admin))["newcomer"] not in address.values()


def move_rows(lab: Lab, address: dict[str, str], twin: int, unserved: int) -> None:
    server = lab.phpipam
    row = {each["hostname"]: each["id"] for each in server.rows(lab.subnet)}
    server.readdress(row["readdressed"], "192.168.100.77")
    server.readdress(row["elsewhere"], "10.44.0.7", unserved)
    server.readdress(row["served-elsewhere"], address["served-elsewhere"], twin)
    server.readdress(row["split-a"], "192.168.100.250")
    server.readdress(row["split-b"], address["split-a"])
    server.readdress(row["split-a"], address["split-b"])
    server.readdress(row["given-away"], "192.168.100.78")
    server.add_address(lab.subnet, address["given-away"], hostname="scanner")
    server.edit(row["retagged"], note=f"overlay-net cluster=elsewhere node=other uid={'0' * 36}")
    server.edit(row["renamed"], hostname="database")
    server.readdress(row["renamed"], "192.168.100.79")


async def object_statuses(api: KubeApi) -> dict[str, Any]:
    return {item["metadata"]["name"]: item["status"] for item in (await api.list(NODE_OVERLAY_IPS)).items}


def in_use(statuses: dict[str, Any]) -> dict[str, dict[str, str]]:
    fields = ("ipAddr", "gateway", "pool", "configuredIpAddr")
    return {name: {field: status[field] for field in fields} for name, status in statuses.items()}


def reserved_message(status: Any) -> str:
    return str(next(each["message"] for each in status["conditions"] if each["type"] == "Reserved"))


def assert_contains(text: str, *parts: str) -> None:
    assert [part for part in parts if part not in text] == [], text


async def edit_is_reported(api: KubeApi, name: str, *parts: str) -> None:
    async def reported() -> bool:
        events = [each for each in (await api.list(EVENTS)).items if each["reason"] == "RecordEdited"]
        notes = [each["note"] for each in events if each["regarding"]["name"] == name]
        return any(all(part in note for part in parts) for note in notes)

    await eventually(reported, f"RecordEdited of {name} has {parts}")


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


async def test_copy_of_the_cluster_that_creates_its_rows_again_stops_releases(admin: KubeApi, lab: Lab) -> None:
    uid = (await admin.get(NAMESPACES, "kube-system"))["metadata"]["uid"]
    note = f"overlay-net cluster={uid} node=in-the-copy uid=x"

    def copy_creates_its_row() -> None:
        lab.phpipam.add_address(lab.subnet, "192.168.100.200", hostname="in-the-copy", note=note)

    copy_creates_its_row()
    async with lab.controller(audit_interval="100ms", audit_grace="200ms"):

        async def released() -> bool:
            return not lab.owned_rows()

        await eventually(released, "the row is released once")
        copy_creates_its_row()

        async def reported() -> bool:
            conditions = (await admin.list(OVERLAY_POOLS)).items[0]["status"]["conditions"]
            return any(each["reason"] == "SharedClusterID" for each in conditions)

        await eventually(reported, "the pool reports the copy")
        await let_audits_run(lab, 5)
        assert lab.owned_rows() == {"in-the-copy": ["192.168.100.200"]}


async def let_audits_run(lab: Lab, number: int) -> None:
    audits = lab.phpipam.calls["GET subnets/addresses"]

    async def audited() -> bool:
        return lab.phpipam.calls["GET subnets/addresses"] >= audits + number

    await eventually(audited, f"{number} more audits")


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
        await let_audits_run(lab, 5)
        assert lab.phpipam.calls["DELETE addresses"] == released
    await assert_consistent(admin, lab)
