"""A cluster that is restored from a backup: which addresses its nodes get."""

from overlay_net.adapters.cluster_ipam import object_name
from overlay_net.model.names import NODE_LABEL, OVERLAY_ADDRESSES
from overlay_net.model.net import IpAddress
from overlay_net.model.parse import parse_address
from tests.fakes.cluster import NAME, Cluster
from tests.unit.factories import raw_node, raw_pool

POOL = raw_pool(cidr="10.9.0.0/29", gateway="10.9.0.1")


def address(text: str) -> IpAddress:
    found = parse_address(text)
    assert found is not None
    return found


async def restore_record(cluster: Cluster, text: str) -> None:
    body = {
        "metadata": {"name": object_name(address(text)), "labels": {NODE_LABEL: NAME}},
        "spec": {"address": text, "pool": "p1", "node": NAME, "nodeUID": "uid-before-the-disaster"},
    }
    await cluster.ipam_kube.create(OVERLAY_ADDRESSES, body)


async def test_records_restored_before_the_controller_starts_keep_the_addresses_of_nodes() -> None:
    cluster = await Cluster.start(POOL)
    await restore_record(cluster, "10.9.0.5")
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    assert (await cluster.present_overlay())["status"]["ipAddr"] == "10.9.0.5/29"
    assert set(await cluster.records()) == {address("10.9.0.5")}


async def test_records_restored_while_a_controller_runs_are_released() -> None:
    cluster = await Cluster.start(POOL)
    await cluster.join(raw_node(NAME))
    await cluster.settle()
    await restore_record(cluster, "10.9.0.5")
    await cluster.settle()
    assert (await cluster.present_overlay())["status"]["ipAddr"] == "10.9.0.2/29"
    assert set(await cluster.records()) == {address("10.9.0.2")}
