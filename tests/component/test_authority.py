"""RBAC and admission policy of the chart, checked with a real API server for every resource that it serves."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from lab.cluster.api_server import ApiServer
from lab.product import NAMESPACE
from overlay_net.adapters.kube import Connection, KubeApi, connect_agent
from overlay_net.agent.heartbeat import Heartbeat
from overlay_net.agent.status_writer import StatusWriter
from overlay_net.model.api import JsonObject
from overlay_net.model.conditions import CONTROLLER_CONDITIONS
from overlay_net.model.errors import Refused
from overlay_net.model.lease import LeaseRecord
from overlay_net.model.names import (
    AGENT_FIELD_MANAGER,
    CONTROLLER_FIELD_MANAGER,
    LEASES,
    NODE_OVERLAY_IPS,
    OVERLAY_ROUTE_SLICES,
    STATIC_ROUTES,
    Resource,
)
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.runtime.store import Store
from tests.component.eventually import eventually

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview")
OWN_NODE, OTHER_NODE = "10.176.162.151", "10.176.162.152"

Grant = tuple[str, str, str]
"""Group, resource with its subresource, verb."""

# Granted to every authenticated user (system:basic-user).
BASIC_USER: set[Grant] = {
    ("authorization.k8s.io", "selfsubjectaccessreviews", "create"),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "create"),
    ("authentication.k8s.io", "selfsubjectreviews", "create"),
}
IKS = "iks.ibm.com"


def grants(group: str, resource: str, *verbs: str) -> set[Grant]:
    return {(group, resource, verb) for verb in verbs}


# Grants for all namespaces and names; grants for a single name or namespace are in NAMED.
NEEDED: dict[str, set[Grant]] = {
    "agent": BASIC_USER
    | grants(IKS, "nodeoverlayips", "get", "list", "watch")
    | grants(IKS, "nodeoverlayips/status", "patch")
    | grants(IKS, "overlayrouteslices", "get", "list", "watch"),
    "controller": BASIC_USER
    | grants("", "nodes", "get", "list", "watch")
    | grants(IKS, "nodeoverlayips", "get", "list", "watch", "create", "patch", "delete")
    | grants(IKS, "nodeoverlayips/status", "patch")
    | grants(IKS, "overlayrouteslices", "get", "list", "watch", "create", "update", "delete")
    | grants(IKS, "staticroutes", "get", "list", "watch", "patch")
    | grants(IKS, "staticroutes/status", "patch")
    | grants(IKS, "overlaypools", "get", "list", "watch")
    | grants(IKS, "overlaypools/status", "patch")
    | grants(IKS, "overlayaddresses", "get", "list", "watch", "create", "patch", "delete")
    | grants("networking.k8s.io", "servicecidrs", "list")
    | grants("events.k8s.io", "events", "get", "create", "patch"),
}

NAMED = [
    ("controller", "", "namespaces", "get", "", "kube-system", True),
    ("controller", "", "namespaces", "get", "", "default", False),
    ("controller", "discovery.k8s.io", "endpointslices", "get", "default", "kubernetes", True),
    ("controller", "discovery.k8s.io", "endpointslices", "get", "default", "other", False),
    ("controller", "", "services", "get", "default", "kubernetes", True),
    ("controller", "", "services", "get", "default", "other", False),
    ("controller", "", "configmaps", "get", "kube-system", "kubeadm-config", True),
    ("controller", "", "configmaps", "get", "kube-system", "cilium-config", True),
    ("controller", "", "configmaps", "get", "kube-system", "other", False),
    ("controller", "crd.projectcalico.org", "ippools", "list", "", "", True),
    ("controller", "projectcalico.org", "ippools", "list", "", "", True),
    ("controller", "cilium.io", "ciliumnodes", "list", "", "", True),
    ("controller", "cilium.io", "ciliumnodes", "watch", "", "", False),
    ("controller", "", "secrets", "get", NAMESPACE, "phpipam-secret", False),
    ("agent", "", "secrets", "get", NAMESPACE, "phpipam-secret", False),
    ("agent", "", "namespaces", "get", "", "kube-system", False),
    ("agent", "coordination.k8s.io", "leases", "patch", NAMESPACE, OWN_NODE, True),
    ("agent", "coordination.k8s.io", "leases", "create", NAMESPACE, "", True),
    ("agent", "coordination.k8s.io", "leases", "update", NAMESPACE, OWN_NODE, False),
    ("agent", "coordination.k8s.io", "leases", "list", NAMESPACE, "", False),
    ("agent", "coordination.k8s.io", "leases", "patch", "kube-node-lease", OWN_NODE, False),
    ("controller", "coordination.k8s.io", "leases", "list", NAMESPACE, "", True),
    ("controller", "coordination.k8s.io", "leases", "list", "kube-system", "", False),
    ("controller", "coordination.k8s.io", "leases", "create", "kube-system", "", True),
    ("controller", "coordination.k8s.io", "leases", "update", "kube-system", "overlay-net", True),
    ("controller", "coordination.k8s.io", "leases", "update", "kube-system", "kube-scheduler", False),
    ("agent", "coordination.k8s.io", "leases", "get", "kube-system", "overlay-net", False),
    ("controller", "coordination.k8s.io", "leases", "patch", NAMESPACE, OWN_NODE, False),
]


def review(account: str, group: str, resource: str, verb: str, namespace: str = "", name: str = "") -> JsonObject:
    plural, _, subresource = resource.partition("/")
    attributes = {"group": group, "resource": plural, "subresource": subresource, "verb": verb}
    user = f"system:serviceaccount:{NAMESPACE}:overlay-net-{account}"
    return {
        "apiVersion": REVIEWS.api_version,
        "kind": REVIEWS.kind,
        "spec": {
            "user": user,
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}", "system:authenticated"],
            "resourceAttributes": attributes | {"namespace": namespace, "name": name, "version": "*"},
        },
    }


async def may(admin: KubeApi, *question: str) -> bool:
    answer: dict[str, Any] = await admin.create(REVIEWS, review(*question))
    return bool(answer["status"]["allowed"])


async def fetch(connection: Connection, path: str, headers: dict[str, str] | None = None) -> aiohttp.ClientResponse:
    url = connection.server + path
    return await connection.tls.open(lambda tls: connection.session.get(url, headers=headers, ssl=tls))


async def served(api_server: ApiServer) -> set[tuple[str, str]]:
    """Group and name of every resource and subresource that the API server serves."""
    found = set()
    async with connect_agent(str(api_server.admin())) as connection:

        async def get(path: str) -> Any:
            async with await fetch(connection, path) as answer:
                assert answer.status == 200
                return await answer.json()

        groups = {"": "/api/v1"}
        for each in (await get("/apis"))["groups"]:
            groups[each["name"]] = f"/apis/{each['preferredVersion']['groupVersion']}"
        for group, path in groups.items():
            found |= {(group, each["name"]) for each in (await get(path))["resources"]}
    return found


@pytest.mark.parametrize("account", NEEDED)
async def test_only_the_needed_permissions_are_granted(admin: KubeApi, api_server: ApiServer, account: str) -> None:
    resources = await served(api_server)
    assert len(resources) > 80
    questions = [(group, resource, verb) for group, resource in resources for verb in VERBS]
    answers: dict[Grant, bool] = {}
    for start in range(0, len(questions), 64):
        part = questions[start : start + 64]
        answers |= dict(zip(part, await asyncio.gather(*(may(admin, account, *each) for each in part)), strict=True))
    assert {question for question, allowed in answers.items() if allowed} == NEEDED[account]


@pytest.mark.parametrize(("account", "group", "resource", "verb", "namespace", "name", "allowed"), NAMED)
async def test_permission_for_a_named_object_covers_no_other_object(
    admin: KubeApi, account: str, group: str, resource: str, verb: str, namespace: str, name: str, allowed: bool
) -> None:
    assert await may(admin, account, group, resource, verb, namespace, name) is allowed


# --- Token of an agent ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def agent(api_server: ApiServer, node: str) -> AsyncIterator[KubeApi]:
    """A client with the token that the kubelet requests for an agent pod on ``node``."""
    kubeconfig = api_server.service_account_kubeconfig(NAMESPACE, "overlay-net-agent", node)
    async with connect_agent(str(kubeconfig)) as connection:
        yield KubeApi(connection)


@pytest.fixture
async def objects(admin: KubeApi) -> KubeApi:
    """The NodeOverlayIps of two nodes, with the status that the controller writes."""
    reserved = {
        "type": "Reserved",
        "status": "True",
        "reason": "Reserved",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    for name in (OWN_NODE, OTHER_NODE):
        body = named(name)
        await admin.apply(NODE_OVERLAY_IPS, name, body | {"spec": {}}, field_manager=CONTROLLER_FIELD_MANAGER)
        status = {"ipAddr": "192.168.100.4/24", "gateway": "192.168.100.1", "conditions": [reserved]}
        await write(admin, name, status, manager=CONTROLLER_FIELD_MANAGER)
    return admin


def named(name: str) -> JsonObject:
    return {
        "apiVersion": NODE_OVERLAY_IPS.api_version,
        "kind": NODE_OVERLAY_IPS.kind,
        "metadata": {"name": name},
    }


async def write(api: KubeApi, name: str, status: JsonObject, manager: str = AGENT_FIELD_MANAGER) -> JsonObject:
    body = named(name) | {"status": status}
    return await api.apply(NODE_OVERLAY_IPS, name, body, field_manager=manager, subresource="status")


async def test_agent_can_write_the_status_of_its_own_node(objects: KubeApi, api_server: ApiServer) -> None:
    async with agent(api_server, OWN_NODE) as api:
        await write(api, OWN_NODE, {"interface": "eth0", "configuredIpAddr": "192.168.100.4/24"})
    status = (await objects.get(NODE_OVERLAY_IPS, OWN_NODE))["status"]
    assert (status["ipAddr"], status["configuredIpAddr"]) == ("192.168.100.4/24", "192.168.100.4/24")


async def test_agent_removes_what_another_client_reported_for_its_node(objects: KubeApi, api_server: ApiServer) -> None:
    before = (await objects.get(NODE_OVERLAY_IPS, OWN_NODE))["status"]
    claimed = {"conflictingIpAddr": "192.168.100.4", "conflictingMAC": "02:00:00:00:00:01"}
    failing = {"type": "MetricsServed", "status": "False", "reason": "CannotListen", "message": ""}
    conditions = [*before["conditions"], failing | {"lastTransitionTime": "2026-01-01T00:00:00Z"}]
    restored = {"status": {**claimed, "conditions": conditions}}
    await objects.merge_patch(NODE_OVERLAY_IPS, OWN_NODE, restored, subresource="status")
    store: Store[NodeOverlay] = Store(NodeOverlay.parse)
    store.replace(await objects.list(NODE_OVERLAY_IPS))
    overlay = store.get(OWN_NODE)
    assert overlay is not None
    async with agent(api_server, OWN_NODE) as api:
        await StatusWriter(api, store).write(overlay, Report(interface="eth0"))
    assert store.get(OWN_NODE) == NodeOverlay.parse(await objects.get(NODE_OVERLAY_IPS, OWN_NODE))
    status = (await objects.get(NODE_OVERLAY_IPS, OWN_NODE))["status"]
    assert not status.keys() & claimed.keys()
    assert status["interface"] == "eth0"
    assert {key: status[key] for key in before} == before, "the part of the controller"


async def test_agent_cannot_write_the_status_of_another_node(objects: KubeApi, api_server: ApiServer) -> None:
    async with agent(api_server, OWN_NODE) as api:
        with pytest.raises(Refused, match=f"runs on node {OWN_NODE}; it may not write .* {OTHER_NODE}"):
            await write(api, OTHER_NODE, {"interface": "eth0"})
    assert "interface" not in (await objects.get(NODE_OVERLAY_IPS, OTHER_NODE))["status"]


async def test_agent_can_write_the_lease_of_its_own_node_and_no_other_lease(
    objects: KubeApi, api_server: ApiServer
) -> None:
    async def renew(api: KubeApi, name: str) -> None:
        body = LEASES.manifest(name, namespace=NAMESPACE, spec={"holderIdentity": name})
        await api.apply(LEASES, name, body, field_manager=AGENT_FIELD_MANAGER, namespace=NAMESPACE)

    async with agent(api_server, OWN_NODE) as api:
        await renew(api, OWN_NODE)
        for name in (OTHER_NODE, "overlay-net-controller"):
            with pytest.raises(Refused, match="an agent may only write the Lease of its own node"):
                await renew(api, name)
    unbound = api_server.service_account_kubeconfig(NAMESPACE, "overlay-net-agent")
    async with connect_agent(str(unbound)) as connection:
        with pytest.raises(Refused, match="an agent may only write the Lease of its own node"):
            await renew(KubeApi(connection), OWN_NODE)


async def test_controller_reads_the_lease_that_an_agent_renews(objects: KubeApi, api_server: ApiServer) -> None:
    found = NodeOverlay.parse(await objects.get(NODE_OVERLAY_IPS, OWN_NODE))
    async with agent(api_server, OWN_NODE) as api:
        heartbeat = Heartbeat(api, NAMESPACE, OWN_NODE, lambda: found, 60.0, time.monotonic, lambda: None)
        await heartbeat.renew()
        first = await objects.get(LEASES, OWN_NODE, namespace=NAMESPACE)
        await heartbeat.renew()
    assert heartbeat.lease == f"{NAMESPACE}/{OWN_NODE}"
    kubeconfig = api_server.service_account_kubeconfig(NAMESPACE, "overlay-net-controller")
    async with connect_agent(str(kubeconfig)) as connection:
        pages = KubeApi(connection).pages(LEASES, namespace=NAMESPACE, page=1)
        leases = {item["metadata"]["name"]: item async for page in pages for item in page.items}
    assert LeaseRecord.parse(leases[OWN_NODE]).renewed > LeaseRecord.parse(first).renewed
    assert leases[OWN_NODE]["metadata"]["ownerReferences"][0]["uid"] == found.uid


async def test_agent_token_that_is_not_bound_to_a_node_cannot_write(objects: KubeApi, api_server: ApiServer) -> None:
    kubeconfig = api_server.service_account_kubeconfig(NAMESPACE, "overlay-net-agent")
    async with connect_agent(str(kubeconfig)) as connection:
        with pytest.raises(Refused, match="the token of this agent is not bound to a node"):
            await write(KubeApi(connection), OWN_NODE, {"interface": "eth0"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ipAddr", "192.168.100.9/24"),
        ("gateway", "192.168.100.9"),
        ("pool", "other"),
        ("nodeUID", "other"),
        ("releasing", ["192.168.100.9"]),
        ("ipams", ["phpipam"]),
        ("conflicts", 3),
        ("lastConflict", "2026-01-01T00:00:00Z"),
        ("lastConflictMAC", "02:00:00:00:01:00"),
        ("consecutiveConflicts", 3),
        ("nodeGoneSince", "2026-01-01T00:00:00Z"),
    ],
)
async def test_agent_cannot_write_status_fields_of_the_controller(
    objects: KubeApi, api_server: ApiServer, field: str, value: object
) -> None:
    async with agent(api_server, OWN_NODE) as api:
        with pytest.raises(Refused, match=rf"only the controller may write status\.{field}"):
            await write(api, OWN_NODE, {field: value})


@pytest.mark.parametrize("kind", sorted(CONTROLLER_CONDITIONS))
async def test_agent_cannot_write_the_conditions_of_the_controller(
    objects: KubeApi, api_server: ApiServer, kind: str
) -> None:
    claim = {"type": kind, "status": "False", "reason": "Mine", "message": "", "lastTransitionTime": None}
    async with agent(api_server, OWN_NODE) as api:
        with pytest.raises(Refused, match=f"only the controller may write the condition {kind}"):
            await write(api, OWN_NODE, {"conditions": [claim | {"lastTransitionTime": "2026-01-01T00:00:00Z"}]})


async def test_agent_cannot_change_spec_or_metadata_or_create_or_delete(
    objects: KubeApi, api_server: ApiServer
) -> None:
    async with agent(api_server, OWN_NODE) as api:
        changes: tuple[JsonObject, ...] = ({"spec": {"ipAddr": "192.168.100.9"}}, {"metadata": {"finalizers": []}})
        for change in changes:
            with pytest.raises(Refused, match="cannot patch resource"):
                await api.merge_patch(NODE_OVERLAY_IPS, OWN_NODE, change)
        with pytest.raises(Refused, match="cannot delete resource"):
            await api.delete(NODE_OVERLAY_IPS, OWN_NODE)
        with pytest.raises(Refused, match="cannot create resource"):
            await api.create(NODE_OVERLAY_IPS, named("new"))
        # The status subresource ignores changes of other fields.
        body = named(OWN_NODE) | {"spec": {"ipAddr": "192.168.100.9"}, "status": {"interface": "eth1"}}
        body["metadata"]["labels"] = {"zone": "elsewhere"}
        await api.apply(NODE_OVERLAY_IPS, OWN_NODE, body, field_manager="x", subresource="status")
    after = await objects.get(NODE_OVERLAY_IPS, OWN_NODE)
    assert after["spec"] == {}
    assert "labels" not in after["metadata"]
    assert after["status"]["interface"] == "eth1"


@pytest.fixture
def mistaken_role(api_server: ApiServer) -> Iterator[None]:
    """A role that lets agents write all kinds of the group."""
    api_server.kubectl("create", "clusterrole", "mistake", "--verb=*", f"--resource=*.{IKS}")
    account = f"--serviceaccount={NAMESPACE}:overlay-net-agent"
    api_server.kubectl("create", "clusterrolebinding", "mistake", "--clusterrole=mistake", account)
    yield
    api_server.kubectl("delete", "clusterrole,clusterrolebinding", "mistake")


async def test_admission_policy_keeps_agents_from_other_kinds_if_a_role_allows_them(
    objects: KubeApi, api_server: ApiServer, mistaken_role: None
) -> None:
    first = OVERLAY_ROUTE_SLICES.manifest("rs-a-0", spec={"routeSet": "rs-a"})
    await objects.create(OVERLAY_ROUTE_SLICES, first)
    # With the name of the node, whose status is the agent's.
    await objects.create(STATIC_ROUTES, STATIC_ROUTES.manifest(OWN_NODE, spec={"subnet": "10.1.0.0/16"}))

    async def granted() -> bool:
        return await may(objects, "agent", IKS, OVERLAY_ROUTE_SLICES.plural, "delete")

    await eventually(granted, "the role is in effect")
    async with agent(api_server, OWN_NODE) as api:
        second = OVERLAY_ROUTE_SLICES.manifest("rs-a-1", spec={"routeSet": "rs-a"})
        status: JsonObject = {"status": {"ready": 1}}
        writes: tuple[Awaitable[object], ...] = (
            api.create(OVERLAY_ROUTE_SLICES, second),
            api.merge_patch(OVERLAY_ROUTE_SLICES, "rs-a-0", {"spec": {"staticRoutes": []}}),
            api.delete(OVERLAY_ROUTE_SLICES, "rs-a-0"),
            api.merge_patch(STATIC_ROUTES, OWN_NODE, status, subresource="status"),
        )
        for write_it in writes:
            with pytest.raises(Refused, match="an agent may only write the status of a NodeOverlayIp"):
                await write_it
    assert (await objects.get(OVERLAY_ROUTE_SLICES, "rs-a-0"))["spec"] == first["spec"]


async def test_agent_cannot_list_secrets(objects: KubeApi, api_server: ApiServer) -> None:
    async with agent(api_server, OWN_NODE) as api:
        with pytest.raises(Refused, match="cannot list resource"):
            await api.list(Resource("", "v1", "secrets", "Secret", namespaced=True))


async def test_metrics_of_the_api_server_are_denied_to_both(api_server: ApiServer) -> None:
    for account in NEEDED:
        kubeconfig = api_server.service_account_kubeconfig(NAMESPACE, f"overlay-net-{account}")
        async with connect_agent(str(kubeconfig)) as connection:
            headers = {"Authorization": await connection.authorization(False) or ""}
            async with await fetch(connection, "/metrics", headers) as answer:
                assert answer.status == 403
