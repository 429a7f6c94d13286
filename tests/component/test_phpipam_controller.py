"""The controller with phpIPAM as IPAM: the resulting nodes, pools and rows."""

import asyncio
import urllib.request
from typing import Any

import pytest

from lab.cluster.api_server import free_port
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.errors import NotFound
from overlay_net.model.names import NODE_OVERLAY_IPS, NODES, OVERLAY_POOLS, STATIC_ROUTES
from tests.component.eventually import eventually
from tests.component.phpipam_lab import PASSWORD, USER, Lab, assert_consistent, statuses
from tests.component.slices import node_routes
from tests.component.test_controller import (
    NAMES,
    addresses,
    create,
    have_addresses,
    join,
    reason,
)


async def pool_condition(api: KubeApi, name: str) -> str:
    try:
        status = (await api.get(OVERLAY_POOLS, name)).get("status", {})
    except NotFound:
        return "absent"
    return "/".join(f"{each['status']}:{each['reason']}" for each in status.get("conditions", []))


async def test_configuration_of_the_earlier_operator_works_unchanged(admin: KubeApi, lab: Lab) -> None:
    await join(admin, *NAMES[:5])
    name = f"phpipam-dal10-{lab.subnet}"
    bind = f"127.0.0.1:{free_port()}"
    async with lab.controller(audit_interval="100ms", http__bind=bind):
        await have_addresses(admin, 5)
        pool = await admin.get(OVERLAY_POOLS, name)
        assert pool["spec"]["zones"] == ["dal10"]
        assert pool["status"]["cidr"] == "192.168.100.0/24"
        assert pool["status"]["gateway"] == "192.168.100.1", "the address that phpIPAM marks as gateway"
        assert set((await addresses(admin)).values()) == {f"192.168.100.{last}" for last in range(3, 8)}
        await assert_consistent(admin, lab)
        row = next(row for row in lab.phpipam.rows(lab.subnet) if row["ip"] == "192.168.100.3")
        assert row["hostname"] in NAMES[:5], "people see which node has the address"
        assert row["description"] == "overlay address of a Kubernetes node"
        await asyncio.gather(*(admin.delete(NODES, name) for name in NAMES[:5]))

        async def all_back() -> bool:
            return not lab.owned_rows() and not (await admin.list(NODE_OVERLAY_IPS)).items

        await eventually(all_back, "every row is released")
        shown = await asyncio.to_thread(fetch_metrics, bind)
    assert 'overlay_net_ipam_requests_total{backend="phpipam",operation="reserve",outcome="ok"} 5.0' in shown
    assert 'overlay_net_ipam_up{backend="phpipam"} 1.0' in shown
    for secret in (PASSWORD, USER, lab.phpipam.users[USER].token or ""):
        assert secret
        assert secret not in shown, "metrics are readable without authentication"
    lab.assert_foreign_rows_unchanged()
    assert lab.phpipam.logins == 1
    logs = "".join(path.read_text(errors="replace") for path in lab.api_server.directory.glob("controller.log"))
    assert PASSWORD not in logs


def fetch_metrics(bind: str) -> str:
    with urllib.request.urlopen(f"http://{bind}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


async def test_pools_follow_the_subnet_map_and_user_pools_are_not_changed(admin: KubeApi, lab: Lab) -> None:
    await create(admin, OVERLAY_POOLS, "mine", {"cidr": "10.1.0.0/24", "gateway": "10.1.0.1", "zones": ["nowhere"]})
    first, second = f"phpipam-dal10-{lab.subnet}", f"phpipam-wdc04-{lab.subnet}"

    async def pools() -> set[str]:
        return {item["metadata"]["name"] for item in (await admin.list(OVERLAY_POOLS)).items}

    async with lab.controller():

        async def made() -> bool:
            return await pools() == {"mine", first}

        await eventually(made, "the pool of the map exists")
    async with lab.controller({"subnetMap": {"wdc04": [lab.subnet]}}):

        async def changed() -> bool:
            return await pools() == {"mine", second}

        await eventually(changed, "the pools match the new map")


async def test_nodes_keep_addresses_during_an_outage_and_pending_work_completes_afterwards(
    admin: KubeApi, lab: Lab
) -> None:
    await join(admin, "n1")
    async with lab.controller({"refresh_interval": "1h"}):
        await have_addresses(admin, 1)
        before = await addresses(admin)
        await lab.stop()
        await join(admin, "n2")

        async def reports_reason() -> bool:
            return await reason(admin, "n2") == "IpamUnavailable"

        await eventually(reports_reason, "the new NodeOverlayIp reports why it waits")
        await eventually_in_pool(admin, lab, "False:IpamUnavailable")
        await create(admin, STATIC_ROUTES, "r1", {"subnet": "10.1.0.0/16"})

        async def compiled() -> bool:
            return bool(await node_routes(admin, "n1"))

        await eventually(compiled, "routes of nodes with an address are still compiled")
        await admin.delete(NODES, "n1")

        async def held() -> bool:
            return "deletionTimestamp" in (await admin.get(NODE_OVERLAY_IPS, "n1"))["metadata"]

        await eventually(held, "the NodeOverlayIp of the deleted node waits for the release")
        assert await reason(admin, "n2") == "IpamUnavailable"
        assert (await statuses(admin))["n1"]["ipAddr"].split("/")[0] == before["n1"]
        await lab.serve()

        async def caught_up() -> bool:
            return set(lab.owned_rows()) == {"n2"} and set(await addresses(admin)) == {"n2"}

        await eventually(caught_up, "the waiting node gets an address and the row of the deleted node is released")
    await assert_consistent(admin, lab)


async def test_hanging_phpipam_does_not_delay_routes(admin: KubeApi, lab: Lab) -> None:
    await join(admin, "n1")
    async with lab.controller({"timeout": "30s"}, workers="2"):
        await have_addresses(admin, 1)
        lab.phpipam.faults.hang = 1
        calls = sum(lab.phpipam.calls.values())
        await join(admin, *NAMES[:10])

        async def all_workers_wait() -> bool:
            return sum(lab.phpipam.calls.values()) >= calls + 2

        await eventually(all_workers_wait, "all workers wait for phpIPAM")
        await create(admin, STATIC_ROUTES, "r1", {"subnet": "10.1.0.0/16"})

        async def compiled() -> bool:
            return bool(await node_routes(admin, "n1"))

        await eventually(compiled, "the route is compiled while every call to phpIPAM hangs", seconds=15)


async def test_wrong_password_is_reported_once_and_fixed_by_changing_the_secret(admin: KubeApi, lab: Lab) -> None:
    lab.phpipam.set_password("operator", "changed meanwhile")
    await join(admin, *NAMES[:20])
    async with lab.controller():

        async def refused() -> bool:
            return await pool_condition(admin, f"phpipam-dal10-{lab.subnet}") == "False:CredentialsRefused"

        await eventually(refused, "the pool reports the refused credentials")
        assert len(lab.phpipam.failed_logins) == 1, "twenty nodes and a pool cause one login"
        lab.write_secret("changed meanwhile")
        await have_addresses(admin, 20)
    assert len(lab.phpipam.failed_logins) == 1
    await assert_consistent(admin, lab)


async def test_read_only_app_is_reported(admin: KubeApi, lab: Lab) -> None:
    lab.phpipam.add_app("readonly", security="none", permission=1)
    await join(admin, "n1")
    async with lab.controller({"appID": "readonly"}):

        async def reported() -> bool:
            return await reason(admin, "n1") == "IpamRefused"

        await eventually(reported, "the NodeOverlayIp reports the refusal")
        found = (await statuses(admin))["n1"]["conditions"]
        assert "read-only" in next(each["message"] for each in found if each["type"] == "Reserved")
        await eventually_in_pool(admin, lab, "False:IpamRefused")
    assert not lab.owned_rows()


async def test_refusal_of_the_database_is_reported_at_once_and_cleared_with_its_cause(admin: KubeApi, lab: Lab) -> None:
    async with lab.controller({"refresh_interval": "1h"}):
        await eventually_in_pool(admin, lab, "True:Ready")
        lab.phpipam.add_custom_field("custom_rack", null=False)
        await join(admin, *NAMES[:5])

        async def reported() -> bool:
            return {await reason(admin, name) for name in NAMES[:5]} == {"IpamRefused"}

        await eventually(reported, "every node reports the refusal")
        await eventually_in_pool(admin, lab, "False:IpamRefused")
        (condition,) = (await admin.get(OVERLAY_POOLS, f"phpipam-dal10-{lab.subnet}"))["status"]["conditions"]
        assert "1364 Field 'custom_rack' doesn't have a default value" in condition["message"]
        del lab.phpipam.columns["addresses"]["custom_rack"]
        await have_addresses(admin, 5)
        await eventually_in_pool(admin, lab, "True:Ready")
    assert sorted(lab.owned_rows()) == sorted(NAMES[:5])


async def eventually_in_pool(api: KubeApi, lab: Lab, condition: str) -> None:
    """Wait for the condition of the pool."""

    async def shown() -> bool:
        return await pool_condition(api, f"phpipam-dal10-{lab.subnet}") == condition

    await eventually(shown, f"the pool is {condition}")


@pytest.mark.parametrize(
    ("spec", "subnet", "condition"),
    [
        ({}, {"gateway": None}, "False:NoGateway"),
        ({}, {"is_folder": True, "gateway": None}, "False:Folder"),
        ({}, {"is_full": True}, "False:MarkedFull"),
        ({"subnetID": 9999}, {}, "False:UnknownSubnet"),
        ({}, {}, "True:Ready"),
    ],
)
async def test_pool_condition_reports_an_unusable_subnet(
    admin: KubeApi, lab: Lab, spec: dict[str, Any], subnet: dict[str, Any], condition: str
) -> None:
    section = lab.phpipam.add_section("More")
    made = lab.phpipam.add_subnet(section, "10.77.0.0/24", **{"gateway": "10.77.0.1", **subnet})
    await create(admin, OVERLAY_POOLS, "p1", {"phpIPAM": {"subnetID": made, **spec}})
    async with lab.controller({"subnetMap": {}}):

        async def reported() -> bool:
            return await pool_condition(admin, "p1") == condition

        await eventually(reported, f"the pool's condition is {condition}")


async def test_second_subnet_of_a_zone_is_used_when_the_first_is_full(admin: KubeApi, lab: Lab) -> None:
    section = lab.phpipam.add_section("More")
    small = lab.phpipam.add_subnet(section, "10.5.0.0/30", gateway="10.5.0.1")
    await join(admin, "n1", "n2")
    async with lab.controller({"subnetMap": {"dal10": [small, lab.subnet]}}):
        await have_addresses(admin, 2)
    assert sorted((await addresses(admin)).values()) == ["10.5.0.2", "192.168.100.3"]
    await assert_consistent(admin, lab)


async def test_overlapping_pools_of_both_ipams_report_it_and_assign_no_gateway(admin: KubeApi, lab: Lab) -> None:
    inside = {"cidr": "192.168.100.0/29", "gateway": "192.168.100.3", "zones": ["elsewhere"]}
    await create(admin, OVERLAY_POOLS, "inside", inside)
    outside = f"phpipam-dal10-{lab.subnet}"

    async def reported() -> bool:
        found = {await pool_condition(admin, name) for name in ("inside", outside)}
        return found == {"True:Ready/False:GatewayInOtherPool"}

    async with lab.controller():
        await eventually(reported, "both pools name each other")
        await join(admin, "n1", "n2")
        await have_addresses(admin, 2)
        assert sorted((await addresses(admin)).values()) == ["192.168.100.4", "192.168.100.5"]
        await admin.delete(OVERLAY_POOLS, "inside")

        async def resolved() -> bool:
            return await pool_condition(admin, outside) == "True:Ready"

        await eventually(resolved, "the condition goes with its cause")
    await assert_consistent(admin, lab)
    lab.assert_foreign_rows_unchanged()


async def test_a_resized_subnet_reaches_the_addresses_of_its_nodes(admin: KubeApi, lab: Lab) -> None:
    await join(admin, "n1")
    async with lab.controller({"refresh_interval": "200ms"}):
        await have_addresses(admin, 1)
        assert (await statuses(admin))["n1"]["ipAddr"] == "192.168.100.3/24"
        lab.phpipam.subnets[lab.subnet]["mask"] = 23

        async def followed() -> bool:
            return str((await statuses(admin))["n1"]["ipAddr"]) == "192.168.100.3/23"

        await eventually(followed, "the prefix length follows")
