"""Overlay addresses from phpIPAM are switched off: subnet map and pools are removed, and all rows released."""

from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import NODE_OVERLAY_IPS, OVERLAY_POOLS
from tests.component.eventually import eventually
from tests.component.phpipam_lab import Lab
from tests.component.test_controller import (
    addresses,
    agent_reports,
    all_agents_use_their_address,
    have_addresses,
    join,
    reason,
)


async def all_agents_release(api: KubeApi) -> None:
    for item in (await api.list(NODE_OVERLAY_IPS)).items:
        metadata = item["metadata"]
        await agent_reports(api, metadata["name"], observedGeneration=metadata["generation"])


async def all_routes_only(api: KubeApi) -> bool:
    return all(item["spec"].get("routesOnly") for item in (await api.list(NODE_OVERLAY_IPS)).items)


async def test_rows_are_released_without_subnet_map_and_pools_after_an_outage(admin: KubeApi, lab: Lab) -> None:
    await join(admin, "n1", "n2")
    async with lab.controller():
        await have_addresses(admin, 2)
        await all_agents_use_their_address(admin)
        held = lab.owned_rows()
    await lab.stop()
    async with lab.controller({"subnetMap": {}}, overlay_addresses="false"):
        await eventually(lambda: all_routes_only(admin), "all agents are notified")

        async def pools_gone() -> bool:
            return not (await admin.list(OVERLAY_POOLS)).items

        await eventually(pools_gone, "the pools of the subnet map are removed")
        await all_agents_release(admin)

        async def waits() -> bool:
            return {await reason(admin, name) for name in ("n1", "n2")} == {"IpamUnavailable"}

        await eventually(waits, "both wait for phpIPAM")
        assert lab.owned_rows() == held
        await lab.serve()

        async def released() -> bool:
            reasons = {await reason(admin, name) for name in ("n1", "n2")}
            return not lab.owned_rows() and reasons == {"RoutesOnly"} and await addresses(admin) == {}

        await eventually(released, "every row is released")
    lab.assert_foreign_rows_unchanged()
