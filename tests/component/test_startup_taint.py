"""The startup taint is removed from a node if, and only if, its overlay is ready."""

from collections.abc import Iterator

import pytest

from lab.cluster.api_server import ApiServer
from lab.manifests import node_manifest, parse_manifests
from lab.product import CHART, NAMESPACE, WITH_IMAGE
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import NODE_OVERLAY_IPS, NODES
from tests.component.controller_process import controller
from tests.component.eventually import eventually
from tests.component.test_controller import add_pool, agent_condition, agent_reports, have_addresses, join

TAINT = "overlay-net.example.com/not-ready"
OTHER = {"key": "node.example.com/maintenance", "value": "yes", "effect": "NoExecute"}


def roles(api_server: ApiServer, *values: str) -> list[object]:
    shown = api_server.helm("template", "overlay-net", str(CHART), f"--namespace={NAMESPACE}", WITH_IMAGE, *values)
    return [
        each
        for each in parse_manifests(shown)
        if each and each["kind"] == "ClusterRole" and each["metadata"]["name"] == "overlay-net-controller"
    ]


@pytest.fixture
def may_untaint(api_server: ApiServer) -> Iterator[None]:
    """The permissions of a release with the setting."""
    api_server.apply(*roles(api_server, "--set", f"controller.settings.startup_taint={TAINT}"))  # type: ignore[arg-type]
    yield
    api_server.apply(*roles(api_server))  # type: ignore[arg-type]


async def taints(api: KubeApi, name: str) -> set[str]:
    """Their keys; the API server adds one of its own to a node without status."""
    return {taint["key"] for taint in (await api.get(NODES, name))["spec"].get("taints", [])}


@pytest.mark.usefixtures("may_untaint")
async def test_only_the_startup_taint_is_removed_once_the_node_is_ready(admin: KubeApi, api_server: ApiServer) -> None:
    await add_pool(admin)
    async with controller(api_server, startup_taint=TAINT):
        await admin.create(
            NODES, node_manifest("n1") | {"spec": {"taints": [{"key": TAINT, "effect": "NoSchedule"}, OTHER]}}
        )
        await have_addresses(admin, 1)
        metadata = (await admin.get(NODE_OVERLAY_IPS, "n1"))["metadata"]
        ready = agent_condition("Ready", "True", "Ready")
        # Of an earlier generation: not ready for the current one.
        await agent_reports(admin, "n1", observedGeneration=metadata["generation"] - 1, conditions=[ready])
        await join(admin, "n2")
        await have_addresses(admin, 2)
        before = await taints(admin, "n1")
        assert {TAINT, OTHER["key"]} <= before
        await agent_reports(admin, "n1", observedGeneration=metadata["generation"], conditions=[ready])

        async def removed() -> bool:
            return await taints(admin, "n1") == before - {TAINT}

        await eventually(removed, "only the startup taint is removed")


def test_without_the_setting_the_controller_may_not_write_nodes(api_server: ApiServer) -> None:
    (role,) = roles(api_server)
    (nodes,) = [rule for rule in role["rules"] if rule["resources"] == ["nodes"]]  # type: ignore[index]
    assert "patch" not in nodes["verbs"]
