"""Which StaticRoutes a node gets in a cluster: none over a subnet that the cluster itself uses."""

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import pytest

from overlay_net.controller.caches import Caches
from overlay_net.controller.event_routes import Queues
from overlay_net.controller.leader import Leader
from overlay_net.controller.protected_sources import make_protected_subnets
from overlay_net.controller.protected_subnets import ProtectedSubnets
from overlay_net.domain.routes.protected_subnets import refusal
from overlay_net.model.api import JsonObject, Listing
from overlay_net.model.errors import Expired, NotFound, Refused, Unavailable
from overlay_net.model.names import Resource
from overlay_net.model.static_route import StaticRoute
from overlay_net.ops.controller_metrics import ControllerMetrics
from overlay_net.settings.controller import ControllerSettings
from tests.unit.factories import raw_pool, raw_static_route

NODE = {
    "metadata": {"name": "n1", "annotations": {"flannel.alpha.coreos.com/public-ip": "172.20.5.9"}},
    "spec": {"podCIDRs": ["10.2.1.0/24"]},
    "status": {"addresses": [{"type": "InternalIP", "address": "10.176.162.151"}]},
}
OVERLAY = {
    "metadata": {"name": "n1", "uid": "o1", "generation": 1},
    "spec": {"gateway": "192.168.77.1"},
    "status": {"ipAddr": "192.168.66.4/24", "gateway": "192.168.55.1"},
}


class Api:
    """Objects by plural; a kind that is absent does not exist on this API server."""

    def __init__(self, **objects: Any) -> None:
        self.objects = objects
        self._asked: list[str] = []
        self._request = asyncio.Event()

    async def asked_again(self, kind: str) -> None:
        while self._asked.count(kind) < 2:
            self._request.clear()
            await self._request.wait()

    async def pages(self, resource: Resource) -> AsyncIterator[Listing]:
        """One object in each page."""
        for item in self._find(resource):
            yield Listing((item,), "1")

    async def get(self, resource: Resource, name: str, **_: Any) -> JsonObject:
        for item in self._find(resource):
            if item["metadata"]["name"] == name:
                return item
        raise NotFound("404")

    def _find(self, resource: Resource) -> tuple[JsonObject, ...]:
        key = resource.plural if resource.version != "v3" else f"v3/{resource.plural}"
        self._asked.append(key)
        self._request.set()
        found = self.objects.get(key, NotFound("404"))
        if isinstance(found, Exception):
            raise found
        return tuple(found)


def named(name: str, **fields: Any) -> JsonObject:
    return {"metadata": {"name": name}, **fields}


CLUSTER = {
    "servicecidrs": [named("kubernetes", spec={"cidrs": ["10.96.0.0/12"]})],
    "endpointslices": [named("kubernetes", endpoints=[{"addresses": ["10.10.0.1"]}])],
    "ippools": [named("default", spec={"cidr": "10.2.0.0/16"})],
    "ciliumnodes": [
        named("n1", spec={"ipam": {"podCIDRs": ["10.3.4.0/24"]}}),
        named("n2", spec={"ipam": {"pools": {"allocated": [{"pool": "blue", "cidrs": ["10.8.4.0/27"]}]}}}),
    ],
    "configmaps": [
        named(
            "cilium-config",
            data={"cluster-pool-ipv4-cidr": "10.4.0.0/16 10.5.0.0/16", "cluster-pool-ipv6-cidr": "fd00:4::/104"},
        )
    ],
}


def start(api: Api, **settings: Any) -> tuple[Caches, ProtectedSubnets]:
    """The caches of a cluster with one node and one pool, and the reader of what else is protected."""
    caches = Caches()
    caches.nodes.replace(Listing((NODE,), "1"))
    caches.overlays.replace(Listing((OVERLAY,), "1"))
    caches.pools.replace(Listing((raw_pool("onprem"),), "1"))
    kube: Any = api
    leader = Leader(
        ControllerSettings(**settings), kube, "https://10.11.0.1:6443", None, caches, Queues(), ControllerMetrics()
    )
    return caches, make_protected_subnets(leader)


def refuse(caches: Caches, subnet: str) -> tuple[str, str]:
    found = refusal(StaticRoute.parse(raw_static_route(subnet=subnet)), caches.protection)
    return found or ("", "")


@pytest.mark.parametrize(
    ("subnet", "named"),
    [
        ("127.0.0.53/32", "127.0.0.0/8 (loopback"),
        ("169.254.169.254/32", "169.254.0.0/16 (link-local"),
        ("224.0.0.0/4", "224.0.0.0/4 (multicast"),
        ("192.168.100.0/25", "192.168.100.0/24 (OverlayPool onprem"),
        ("192.168.96.0/20", "192.168.100.0/24 (OverlayPool onprem"),
        ("192.168.66.4/32", "192.168.66.4/32 (overlay address of node n1"),
        ("192.168.55.1/32", "192.168.55.1/32 (overlay gateway"),
        ("192.168.77.0/24", "192.168.77.1/32 (overlay gateway"),
        ("10.2.56.0/28", "10.2.0.0/16 (Calico IPPool default"),
        ("10.3.4.8/29", "10.3.4.0/24 (CiliumNode n1"),
        ("10.8.0.0/16", "10.8.4.0/27 (CiliumNode n2"),
        ("10.5.6.0/24", "10.5.0.0/16 (Cilium"),
        ("fd00:4::/64", "fd00:4::/104 (Cilium"),
        ("172.20.5.0/24", "172.20.5.9/32 (flannel address of node n1"),
        ("10.96.0.0/12", "10.96.0.0/12 (services"),
        ("10.10.0.0/24", "10.10.0.1/32 (API server"),
        ("10.11.0.0/24", "10.11.0.1/32 (API server"),
        ("10.2.1.0/24", "10.2.0.0/16 (Calico IPPool default"),
        ("10.176.162.0/24", "10.176.162.151/32 (address of node n1"),
    ],
)
async def test_a_route_over_what_the_cluster_uses_is_refused_by_name(subnet: str, named: str) -> None:
    caches, protected = start(Api(**CLUSTER))
    await protected.read()
    reason, message = refuse(caches, subnet)
    assert reason == "Protected"
    assert named in message


@pytest.mark.parametrize(
    ("cidr", "named"),
    [
        ("10.2.56.0/28", "Calico IPPool default"),
        ("10.3.4.8/29", "CiliumNode n1"),
        ("fd00:4::/64", "Cilium's ConfigMap cilium-config"),
        ("10.100.0.0/16", "services"),
        ("10.176.162.0/24", "address of node n1"),
        ("10.10.0.0/24", ""),
        ("172.20.5.0/24", ""),
        ("192.168.100.0/24", ""),
    ],
)
async def test_networks_that_no_pool_should_overlap(cidr: str, named: str) -> None:
    caches, protected = start(Api(**CLUSTER))
    await protected.read()
    found = next(caches.protected.networks.overlapping(ip_network(cidr)), None)
    assert ("" if found is None else found.description) == named


async def test_networks_in_the_settings_are_among_those_that_no_pool_should_overlap() -> None:
    caches, protected = start(Api(), service_subnets=["10.32.0.0/16"], pod_subnets=["10.33.0.0/16"])
    await protected.read()
    for cidr, named in (("10.32.5.0/24", "in service_subnets"), ("10.33.5.0/24", "in pod_subnets")):
        found = [each.description for each in caches.protected.networks.overlapping(ip_network(cidr))]
        assert found == [named]


@pytest.mark.parametrize("subnet", ["10.7.0.0/16", "192.168.0.0/24", "10.9.0.0/24"])
async def test_other_routes_are_accepted(subnet: str) -> None:
    disabled = named("onprem", spec={"cidr": "10.9.0.0/16", "disabled": True})
    caches, protected = start(Api(**CLUSTER | {"ippools": [*CLUSTER["ippools"], disabled]}))
    await protected.read()
    assert refuse(caches, subnet) == ("", "")


# --- Clusters that publish less, or later ----------------------------------------------------------------------------

KUBEADM = named(
    "kubeadm-config", data={"ClusterConfiguration": "networking: {serviceSubnet: '10.96.0.0/12,fd00:9::/108'}"}
)
SERVICE = named("kubernetes", spec={"clusterIPs": ["10.96.0.1"]})


async def test_services_before_servicecidrs_are_those_of_kubeadm() -> None:
    caches, protected = start(Api(configmaps=[KUBEADM], services=[SERVICE]))
    await protected.read()
    assert "10.96.0.0/12 (services)" in refuse(caches, "10.100.0.0/16")[1]
    assert "fd00:9::/108 (services)" in refuse(caches, "fd00:9::/108")[1]
    assert refuse(caches, "10.7.0.0/16") == ("", "")


@pytest.mark.parametrize(
    "objects",
    [
        {},
        {"servicecidrs": []},
        {"configmaps": [named("kubeadm-config", data={"ClusterConfiguration": "networking: {dnsDomain: x}"})]},
        {"configmaps": [named("kubeadm-config", data={"ClusterConfiguration": "{"})]},
        {"configmaps": [KUBEADM], "services": [named("kubernetes", spec={"clusterIPs": ["10.200.0.1"]})]},
    ],
    ids=["nothing", "no ServiceCIDR", "no serviceSubnet", "invalid YAML", "another range"],
)
async def test_without_a_source_for_services_no_route_is_accepted_until_they_are_set(objects: Any) -> None:
    caches, protected = start(Api(**objects))
    await protected.read()
    reason, message = refuse(caches, "10.7.0.0/16")
    assert (reason, "set service_subnets" in message) == ("ProtectedSubnetsUnknown", True)
    caches, protected = start(Api(**objects), service_subnets=["10.96.0.0/12"])
    await protected.read()
    assert refuse(caches, "10.7.0.0/16") == ("", "")
    assert "10.96.0.0/12 (in service_subnets)" in refuse(caches, "10.96.0.0/24")[1]


@pytest.mark.parametrize("kind", ["servicecidrs", "endpointslices", "ippools", "ciliumnodes", "configmaps"])
async def test_a_source_that_may_not_be_read_is_reported_and_no_route_is_accepted(kind: str) -> None:
    caches, protected = start(Api(**CLUSTER | {kind: Refused("403 Forbidden")}))
    await protected.read()
    reason, message = refuse(caches, "10.7.0.0/16")
    assert (reason, "403 Forbidden" in message) == ("ProtectedSubnetsUnknown", True)
    assert refuse(caches, "127.0.0.1/32")[0] == "Protected", "what is known counts"


async def test_pod_subnets_that_are_set_replace_what_cnis_publish() -> None:
    api = Api(**CLUSTER | {"ippools": Refused("403 Forbidden"), "ciliumnodes": Refused("403 Forbidden")})
    caches, protected = start(api, pod_subnets=["10.2.0.0/16"])
    await protected.read()
    assert refuse(caches, "10.7.0.0/16") == ("", "")
    assert "10.2.0.0/16 (in pod_subnets)" in refuse(caches, "10.2.56.0/28")[1]


@pytest.mark.parametrize("kind", ["servicecidrs", "endpointslices", "ippools", "ciliumnodes", "configmaps"])
@pytest.mark.parametrize("error", [Unavailable("503"), Expired("410")])
async def test_nothing_is_decided_before_the_api_server_has_answered(kind: str, error: Exception) -> None:
    api = Api(**CLUSTER | {kind: error})
    caches, protected = start(api)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(protected.read())
        await api.asked_again(kind)
        assert not reading.done()
        assert refuse(caches, "10.7.0.0/16")[0] == "ProtectedSubnetsUnknown"
        api.objects |= CLUSTER
    assert refuse(caches, "10.7.0.0/16") == ("", "")


@pytest.mark.parametrize("error", [Unavailable("503"), Refused("403"), NotFound("404")])
async def test_a_source_that_fails_later_keeps_its_last_result(error: Exception) -> None:
    api = Api(**CLUSTER)
    caches, protected = start(api)
    await protected.read()
    api.objects["servicecidrs"] = error
    await protected.refresh()
    assert "10.96.0.0/12 (services)" in refuse(caches, "10.96.0.0/24")[1]
    assert refuse(caches, "10.7.0.0/16") == ("", "")


async def test_a_cni_that_is_installed_later_is_noticed() -> None:
    api = Api(**{kind: objects for kind, objects in CLUSTER.items() if kind not in ("ippools", "ciliumnodes")})
    caches, protected = start(api)
    await protected.read()
    assert refuse(caches, "10.2.56.0/28") == ("", "")
    changed: list[str] = []
    caches.protected.subscribe(changed.extend)
    api.objects |= CLUSTER
    await protected.refresh()
    assert changed == ["r1"]
    assert "Calico IPPool default" in refuse(caches, "10.2.56.0/28")[1]


async def test_an_aggregated_api_that_is_down_does_not_stop_the_controller() -> None:
    api = Api(**CLUSTER | {"ippools": []})
    api.objects["v3/ippools"] = Unavailable("503 the server is currently unable to handle the request")
    caches, protected = start(api)
    await protected.read()
    reason, message = refuse(caches, "10.7.0.0/16")
    assert (reason, "set pod_subnets" in message) == ("ProtectedSubnetsUnknown", True)
    api.objects["v3/ippools"] = [named("v3", spec={"cidr": "10.7.0.0/16"})]
    await protected.refresh()
    assert "Calico IPPool v3" in refuse(caches, "10.7.0.0/16")[1]


async def test_other_modes_of_cilium_do_not_use_the_range_of_cluster_pool() -> None:
    data = {"ipam": "kubernetes", "cluster-pool-ipv4-cidr": "10.0.0.0/8"}
    caches, protected = start(Api(**CLUSTER | {"configmaps": [named("cilium-config", data=data)]}))
    await protected.read()
    assert refuse(caches, "10.7.0.0/16") == ("", "")
