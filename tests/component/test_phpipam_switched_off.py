"""Overlay addresses from phpIPAM that are switched off: the map and its pools are gone, and every row is given back."""

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


async def all_let_go(api: KubeApi) -> None:
    for item in (await api.list(NODE_OVERLAY_IPS)).items:
        metadata = item["metadata"]
        await agent_reports(api, metadata["name"], observedGeneration=metadata["generation"])


async def told(api: KubeApi) -> bool:
    return all(item["spec"].get("routesOnly") for item in (await api.list(NODE_OVERLAY_IPS)).items)


async def test_rows_are_given_back_without_map_and_pools_once_phpipam_answers(admin: KubeApi, lab: Lab) -> None:
    await join(admin, "n1", "n2")
    async with lab.controller():
        await have_addresses(admin, 2)
        await all_agents_use_their_address(admin)
        held = lab.ours()
    await lab.stop()
    async with lab.controller({"subnetMap": {}}, overlay_addresses="false"):
        await eventually(lambda: told(admin), "the agents are told")

        async def pools_gone() -> bool:
            return not (await admin.list(OVERLAY_POOLS)).items

        await eventually(pools_gone, "the pools of the map are gone")
        await all_let_go(admin)

        async def waits() -> bool:
            return {await reason(admin, name) for name in ("n1", "n2")} == {"IpamUnavailable"}

        await eventually(waits, "both wait for phpIPAM")
        assert lab.ours() == held
        await lab.serve()

        async def given_back() -> bool:
            reasons = {await reason(admin, name) for name in ("n1", "n2")}
            return not lab.ours() and reasons == {"RoutesOnly"} and await addresses(admin) == {}

        await eventually(given_back, "every row is given back")
    lab.foreign_untouched()
