"""A node that joins with a taint gets rid of it when, and only when, its overlay works."""

from collections.abc import Iterator

import pytest
import yaml

from lab.cluster.api_server import ControlPlane
from lab.product import CHART, NAMESPACE
from lab.story import node_object
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import NODE_OVERLAY_IPS, NODES
from tests.component.controller_process import controller
from tests.component.eventually import eventually
from tests.component.test_controller import add_pool, agent_reports, have_addresses, join, stands

TAINT = "overlay-net.example.com/not-ready"
OTHER = {"key": "node.example.com/maintenance", "value": "yes", "effect": "NoExecute"}


def roles(plane: ControlPlane, *values: str) -> list[object]:
    shown = plane.helm("template", "overlay-net", str(CHART), f"--namespace={NAMESPACE}", *values)
    return [
        each
        for each in yaml.safe_load_all(shown)
        if each and each["kind"] == "ClusterRole" and each["metadata"]["name"] == "overlay-net-controller"
    ]


@pytest.fixture
def may_untaint(control_plane: ControlPlane) -> Iterator[None]:
    """The rights of a release that has the setting."""
    control_plane.apply(*roles(control_plane, "--set", f"controller.settings.startup_taint={TAINT}"))  # type: ignore[arg-type]
    yield
    control_plane.apply(*roles(control_plane))  # type: ignore[arg-type]


async def taints(api: KubeApi, name: str) -> set[str]:
    """Their keys; the API server adds one of its own to a node without status."""
    return {taint["key"] for taint in (await api.get(NODES, name))["spec"].get("taints", [])}


@pytest.mark.usefixtures("may_untaint")
async def test_the_taint_goes_once_the_node_is_ready_and_others_stay(
    admin: KubeApi, control_plane: ControlPlane
) -> None:
    await add_pool(admin)
    async with controller(control_plane, startup_taint=TAINT):
        await admin.create(
            NODES, node_object("n1") | {"spec": {"taints": [{"key": TAINT, "effect": "NoSchedule"}, OTHER]}}
        )
        await have_addresses(admin, 1)
        metadata = (await admin.get(NODE_OVERLAY_IPS, "n1"))["metadata"]
        ready = stands("Ready", "True", "Ready")
        # Of an earlier generation: that says nothing of what the node must have now.
        await agent_reports(admin, "n1", observedGeneration=metadata["generation"] - 1, conditions=[ready])
        await join(admin, "n2")
        await have_addresses(admin, 2)
        before = await taints(admin, "n1")
        assert {TAINT, OTHER["key"]} <= before
        await agent_reports(admin, "n1", observedGeneration=metadata["generation"], conditions=[ready])

        async def free() -> bool:
            return await taints(admin, "n1") == before - {TAINT}

        await eventually(free, "the startup taint is gone, and nothing else")


def test_without_the_setting_the_controller_may_not_write_nodes(control_plane: ControlPlane) -> None:
    (role,) = roles(control_plane)
    (nodes,) = [rule for rule in role["rules"] if rule["resources"] == ["nodes"]]  # type: ignore[index]
    assert "patch" not in nodes["verbs"]
