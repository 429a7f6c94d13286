"""`overlay-net plan` against the real API server: validation, the rules of the controller, and no writes."""

import asyncio
import json
from pathlib import Path

from lab.cluster.api_server import ApiServer
from overlay_net.adapters.kube import KubeApi
from overlay_net.model.names import NODE_OVERLAY_IPS, STATIC_ROUTES
from tests.component.controller_process import controller
from tests.component.eventually import eventually
from tests.component.people import answered, overlay_net
from tests.component.slices import node_routes
from tests.component.test_controller import add_pool, create, have_addresses, join


def manifest(name: str, **spec: object) -> str:
    return json.dumps(STATIC_ROUTES.manifest(name, spec=spec)) + "\n---\n"


async def test_a_plan_predicts_what_the_controller_does(admin: KubeApi, api_server: ApiServer, tmp_path: Path) -> None:
    await add_pool(admin)
    await join(admin, "n1", "n2")
    await create(admin, STATIC_ROUTES, "older", {"subnet": "10.5.0.0/16"})
    file = tmp_path / "routes.yaml"
    file.write_text(
        "kind: ConfigMap\n---\n"
        + manifest("fine", subnet="10.6.0.0/16")
        + manifest("services", subnet="10.96.1.0/24")
        + manifest("younger", subnet="10.5.0.0/16", gateway="192.168.100.9")
        + manifest("invalid", subnet="10.7.0.1/16")
    )
    async with controller(api_server):
        await have_addresses(admin, 2)

        async def routed() -> bool:
            return len(await node_routes(admin, "n1")) == 1

        await eventually(routed, "the node has the route of the older StaticRoute")
        found = await asyncio.to_thread(answered, api_server, "plan", "-f", str(file), code=1)
        (invalid,) = found["invalid"]
        assert (invalid["staticRoute"], "10.7.0.1/16" in invalid["message"]) == ("invalid", True)
        effects = {(each["staticRoute"], each["action"], each["subnet"]): each for each in found["effects"]}
        assert effects.keys() == {
            ("services", "refuse", "10.96.1.0/24"),
            ("younger", "conflict", "10.5.0.0/16"),
            ("fine", "add", "10.6.0.0/16"),
        }
        assert "(services)" in effects["services", "refuse", "10.96.1.0/24"]["message"]
        added = effects["fine", "add", "10.6.0.0/16"]
        assert (added["gateways"], added["nodes"]) == (["192.168.100.1"], ["n1", "n2"])
        assert found["notes"] == []
        # Nothing was written, and what was planned is what happens.
        assert await admin.names(STATIC_ROUTES) == {"older"}
        for name, spec in (("fine", {"subnet": "10.6.0.0/16"}), ("services", {"subnet": "10.96.1.0/24"})):
            await create(admin, STATIC_ROUTES, name, spec)

        async def as_planned() -> bool:
            return {each["subnet"] for each in await node_routes(admin, "n2")} == {"10.5.0.0/16", "10.6.0.0/16"}

        await eventually(as_planned, "the node has the planned routes")
        again = await asyncio.to_thread(
            overlay_net, api_server, "plan", "-f", "-", stdin=manifest("fine", subnet="10.6.0.0/16")
        )
        assert (again.returncode, again.stderr) == (0, "")
        assert again.stdout.splitlines()[1].split() == [
            "keep",
            "fine",
            "10.6.0.0/16",
            "192.168.100.1",
            "2",
            "(n1,",
            "n2)",
        ]
        changed = await asyncio.to_thread(
            overlay_net, api_server, "plan", "-f", "-", stdin=manifest("fine", subnet="10.8.0.0/16")
        )
        assert [line.split()[0] for line in changed.stdout.splitlines()[1:]] == ["remove", "add"]
    assert (await admin.get(STATIC_ROUTES, "fine"))["spec"]["subnet"] == "10.6.0.0/16"
    assert {item["metadata"]["name"] for item in (await admin.list(NODE_OVERLAY_IPS)).items} == {"n1", "n2"}


def test_settings_in_variables_of_the_deployment_count(api_server: ApiServer) -> None:
    """As those of `controller.extraEnv`; a note names those that are read from another object."""
    deployment = ("deployment/overlay-net-controller", "--namespace=overlay-net")
    protect = 'OVERLAY_PROTECTED_SUBNETS=["10.60.0.0/16"]'
    api_server.kubectl("set", "env", *deployment, protect, "OVERLAY_ALLOW_DEFAULT_ROUTE=true")
    secret = {"name": "OVERLAY_POD_SUBNETS", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}
    add = [{"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": secret}]
    api_server.kubectl("patch", *deployment, "--type=json", f"--patch={json.dumps(add)}")
    try:
        file = manifest("private", subnet="10.60.1.0/24") + manifest("default", subnet="0.0.0.0/0")
        shown = overlay_net(api_server, "plan", "-f", "-", "-o", "json", stdin=file)
    finally:
        names = ("OVERLAY_PROTECTED_SUBNETS-", "OVERLAY_ALLOW_DEFAULT_ROUTE-", "OVERLAY_POD_SUBNETS-")
        api_server.kubectl("set", "env", *deployment, *names)
    found = json.loads(shown.stdout)
    (refused,) = (each for each in found["effects"] if each["action"] == "refuse")
    assert refused["staticRoute"] == "private"
    assert "10.60.0.0/16 (in protected_subnets)" in refused["message"]
    (note,) = found["notes"]
    assert note == (
        "the setting of variable OVERLAY_POD_SUBNETS of Deployment overlay-net-controller is unknown: "
        "it is read from another object"
    )


def test_a_file_that_cannot_be_planned_is_one_line(api_server: ApiServer, tmp_path: Path) -> None:
    cases = {
        "a: [": "invalid YAML",
        "kind: Pod": "no StaticRoute in it",
        "kind: StaticRoute\napiVersion: iks.ibm.com/v1\nmetadata: {name: a}": "must be iks.ibm.com/v1alpha1, not",
        manifest("a") * 2: "StaticRoute a is specified twice",
    }
    for text, part in cases.items():
        file = tmp_path / "file.yaml"
        file.write_text(text)
        answer = overlay_net(api_server, "plan", "-f", str(file))
        (line,) = answer.stderr.splitlines()
        assert (answer.returncode, answer.stdout, part in line) == (2, "", True), line
