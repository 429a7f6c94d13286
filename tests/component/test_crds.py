"""Validation of the CRDs: what `kubectl apply` accepts, and the messages with which the API server rejects the rest."""

import json
from typing import Any

import pytest

from lab.cluster.api_server import ApiServer
from lab.processes import CommandFailed

KINDS = {
    "noip": "NodeOverlayIp",
    "sroute": "StaticRoute",
    "opool": "OverlayPool",
    "oaddr": "OverlayAddress",
    "oslice": "OverlayRouteSlice",
}


def manifest(kind: str, spec: Any = None, name: str = "x", **metadata: Any) -> str:
    body = {"apiVersion": "iks.ibm.com/v1alpha1", "kind": KINDS[kind], "metadata": {"name": name, **metadata}}
    return json.dumps(body if spec is None else body | {"spec": spec})


def pool(**spec: Any) -> dict[str, Any]:
    return {"cidr": "192.168.100.0/24", "gateway": "192.168.100.1", **spec}


ACCEPTED = [
    # Objects of the earlier operator.
    manifest("noip", {}, "10.176.162.199", labels={"node": "10.176.162.199", "region": "us-south", "zone": "dal10"}),
    manifest("noip"),
    manifest("sroute", {"subnet": "192.168.0.0/24"}, labels={"failure-domain.beta.kubernetes.io/zone": "dal10"}),
    manifest("sroute", {"subnet": "192.168.0.0/24", "gateway": "192.168.100.254"}),
    # Fields that the earlier operator does not have.
    manifest("noip", {"ipAddr": "192.168.100.9", "gateway": "192.168.100.254"}),
    manifest("sroute", {"subnets": ["10.1.0.0/16", "10.2.0.0/16"], "gateways": [{"address": "10.0.0.1"}]}),
    manifest("sroute", {"subnet": "fd00:1::/64", "gateway": "fd00::1", "metric": 4294967295}),
    manifest("sroute", {"subnet": "0.0.0.0/0", "gateway": "10.0.0.1"}),
    manifest("sroute", {"subnet": "10.1.2.3/32", "nodeSelector": {"matchLabels": {"a": "b"}}}),
    manifest(
        "sroute",
        {
            "subnets": ["10.1.0.0/16"],
            "gateways": [{"address": "10.0.0.1", "weight": 3}, {"address": "10.0.0.2", "priority": 1}],
            "healthCheck": {"type": "tcp", "port": 179, "intervalMilliseconds": 500, "failureThreshold": 3},
            "onAllDown": "unreachable",
            "onLink": True,
            "table": 100,
            "mtu": 1400,
            "advmss": 1360,
        },
    ),
    manifest("sroute", {"subnet": "10.66.0.0/16", "type": "blackhole", "metric": 9999}),
    manifest("sroute", {"subnet": "10.1.0.0/16", "mtu": 65520, "advmss": 65495}),
    manifest("sroute", {"subnet": "fd00::/64", "mtu": 1280}),
    *(
        manifest("sroute", {"subnet": "10.1.0.0/16", "probe": probe})
        for probe in (
            {"tcp": "10.1.0.9:443"},
            {"icmp": "192.168.0.10", "timeout": "1s"},
            {"tcp": "[fd00::1]:65535", "timeout": "1m"},
            {"icmp": "fd00::1", "timeout": "1500ms"},
        )
    ),
    # The probe of a blackhole may check that another subnet is still reachable.
    manifest("sroute", {"subnet": "10.1.0.0/16", "type": "blackhole", "probe": {"icmp": "10.2.0.1"}}),
    manifest(
        "sroute", {"subnets": ["10.1.0.0/16", "10.3.0.0/16"], "type": "blackhole", "probe": {"tcp": "10.2.0.1:80"}}
    ),
    *(manifest("sroute", {"subnet": "10.1.0.0/16", "rollout": {"maxUnavailable": each}}) for each in (1, 50, "10%")),
    manifest("noip", {"adoptable": [{"gateway": "10.0.0.1", "device": "tmp0", "subnets": ["10.1.0.0/16"]}]}),
    manifest("noip", {"adoptable": [{"device": "tmp0", "subnets": ["10.1.0.0/16", "10.2.0.0/16"]}]}),
    # As written by an earlier version.
    manifest("noip", {"routes": [{"subnet": "10.1.0.0/16", "staticRoute": "a"}], "generations": [], "omitted": ["b"]}),
    manifest("noip", {"routeSets": [{"name": "rs-0123456789ab", "since": "2026-01-01T00:00:00Z"}]}),
    manifest("noip", {"routeSets": []}),
    manifest("oslice", {"routeSet": "rs-0123456789ab", "selector": "zone:dal10", "routes": 0, "slices": [0, 2]}),
    manifest(
        "oslice",
        {
            "routeSet": "ro-0123456789-01234567-3",
            "staticRoutes": [
                {
                    "name": "a",
                    "uid": "u",
                    "generation": 3,
                    "created": "2026-01-01T00:00:00Z",
                    "sliceGeneration": 7,
                    "closedSince": "2026-01-01T00:00:00Z",
                    "probe": {"tcp": "10.1.0.9:443", "timeout": "5000ms"},
                    "subnets": ["10.1.0.0/16", "10.2.0.0/16"],
                    "gateways": [{"address": "10.0.0.1", "weight": 3, "priority": 1}],
                    "metric": 4294967295,
                    "table": 100,
                    "mtu": 1400,
                    "advmss": 1360,
                    "onLink": True,
                    "onAllDown": "withdraw",
                    "healthCheck": {"type": "tcp", "port": 179, "intervalMilliseconds": 500},
                },
                {"name": "b", "subnets": ["fd00::/64"], "type": "blackhole"},
            ],
            "retained": [{"name": "a", "subnets": ["10.3.0.0/16"], "closedSince": "2026-01-01T00:00:00Z"}],
            "withdrawn": [{"staticRoute": "c", "since": "2026-01-01T00:00:00Z", "sliceGeneration": 6}],
        },
    ),
    manifest("opool", pool()),
    manifest("opool", pool(exclude=["192.168.100.2", "192.168.100.8/29", "192.168.100.20-192.168.100.30"])),
    manifest("opool", {"cidr": "fd00::/64", "gateway": "fd00::1", "exclude": ["fd00::2-fd00::9"], "zones": ["dal10"]}),
    manifest("opool", {"phpIPAM": {"subnetID": 7}, "zones": ["dal10"], "priority": 0}),
    manifest("oaddr", {"address": "10.1.0.9", "pool": "p", "node": "n", "nodeUID": "u"}, "10.1.0.9"),
    manifest(
        "oaddr",
        {"address": "fd00::9", "pool": "p", "node": "n", "nodeUID": "u"},
        "fd00-0000-0000-0000-0000-0000-0000-0009",
    ),
]

REFUSED = [
    (manifest("noip", {"ipAddr": "10.1.2"}), "10.1.2"),
    (manifest("noip", {"ipAddr": "10.1.2.3/24"}), "not an IP address"),
    (manifest("noip", {"gateway": "0.0.0.0"}), "cannot be a gateway"),
    (manifest("noip", {"routes": [{"subnet": "10.1.0.0"}]}), "routes[0].subnet"),
    (manifest("noip", {"routes": [{"gateways": [{"address": "10.0.0.1"}]}]}), "subnet"),
    (manifest("noip", {"ipaddr": "10.1.2.3"}), "ipaddr"),
    (manifest("noip", {"routeSets": [{"since": "2026-01-01T00:00:00Z"}]}), "routeSets[0].name"),
    (manifest("oslice", {}), "routeSet"),
    (manifest("oslice", {"routeSet": "s", "staticRoutes": [{"name": "a"}]}), "subnets"),
    (manifest("oslice", {"routeSet": "s", "staticRoutes": [{"name": "a", "subnets": ["10.1.0.0"]}]}), "subnets[0]"),
    (manifest("oslice", {"routeSet": "s", "retained": [{"name": "a", "subnets": ["10.1.0.0"]}]}), "subnets[0]"),
    (manifest("sroute"), "spec"),
    (manifest("sroute", {}), "exactly one of subnet and subnets"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "subnets": ["10.2.0.0/16"]}), "exactly one of subnet and subnets"),
    (manifest("sroute", {"subnet": "10.1.0.0"}), "not a subnet such as"),
    (manifest("sroute", {"subnet": "10.1.0.0/33"}), "10.1.0.0/33"),
    (manifest("sroute", {"subnet": "10.1.2.3/24"}), "10.1.2.3/24 has host bits set"),
    (manifest("sroute", {"subnet": "fd00::1/64"}), "host bits"),
    (manifest("sroute", {"subnets": []}), "subnets"),
    (manifest("sroute", {"subnets": ["10.1.0.0/16", "10.1.0.0/16"]}), "Duplicate"),
    (manifest("sroute", {"subnets": ["10.1.0.0/16", "10.1.0.9/24"]}), "host bits"),
    (manifest("sroute", {"subnets": ["10.1.0.0/16", "fd00::/64"]}), "the same IP family"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "gateway": "gw"}), '"gw" is not an IP address'),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "gateway": "fd00::1"}), "the same IP family"),
    (manifest("sroute", {"subnets": ["10.1.0.0/16"], "gateway": "fd00::1"}), "the same IP family"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "gateways": [{"address": "fd00::1"}]}), "the same IP family"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "gateway": "0.0.0.0"}), "cannot be a gateway"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "gateway": "127.0.0.1"}), "cannot be a gateway"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "gateway": "224.0.0.1"}), "cannot be a gateway"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "gateway": "255.255.255.255"}), "cannot be a gateway"),
    (
        manifest("sroute", {"subnet": "10.1.0.0/16", "gateway": "10.0.0.1", "gateways": [{"address": "10.0.0.2"}]}),
        "at most one of gateway and gateways",
    ),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "gateways": []}), "gateways"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "metric": -1}), "metric"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "gatway": "10.0.0.1"}), "gatway"),
    (
        manifest(
            "sroute",
            {"subnet": "10.1.0.0/16", "nodeSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
        ),
        "require values",
    ),
    (
        manifest("sroute", {"subnet": "10.1.0.0/16", "type": "blackhole", "gateway": "10.0.0.1"}),
        "type blackhole cannot have",
    ),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "type": "throw"}), "type"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "table": 255}), "managed by the kernel"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "table": 0}), "table"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "mtu": 60}), "mtu"),
    (manifest("sroute", {"subnet": "fd00::/64", "mtu": 1000}), "at least 1280"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "healthCheck": {"type": "tcp"}}), "port is required with type tcp"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "healthCheck": {"port": 80}}), "port is required with type tcp"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "healthCheck": {"intervalMilliseconds": 5}}), "intervalMilliseconds"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "onAllDown": "explode"}), "onAllDown"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "gateways": [{"address": "10.0.0.1", "weight": 0}]}), "weight"),
    (
        manifest("sroute", {"subnet": "10.1.0.0/16", "gateways": [{"address": "10.0.0.1"}, {"address": "10.0.0.1"}]}),
        "Duplicate",
    ),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "mtu": 65521}), "less than or equal to 65520"),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "advmss": 65496}), "less than or equal to 65495"),
    *(
        (manifest("sroute", {"subnet": "10.1.0.0/16", "probe": probe}), part)
        for probe, part in (
            ({}, "exactly one of tcp and icmp"),
            ({"tcp": "10.1.0.9:443", "icmp": "10.1.0.9"}, "exactly one of tcp and icmp"),
            ({"icmp": "example.com"}, "host names are not resolved"),
            ({"tcp": "example.com:443"}, "host names are not resolved"),
            ({"tcp": "10.1.0.9"}, "not an IP address with a port"),
            ({"tcp": "10.1.0.9:0"}, "not an IP address with a port"),
            ({"tcp": "10.1.0.9:65536"}, "not an IP address with a port"),
            ({"tcp": "fd00::1:443"}, "not an IP address with a port"),
            ({"tcp": "127.0.0.1:443"}, "can never answer"),
            ({"icmp": "0.0.0.0"}, "can never answer"),
            ({"icmp": "239.1.1.1"}, "can never answer"),
            ({"icmp": "255.255.255.255"}, "can never answer"),
            ({"icmp": "fe80::1"}, "can never answer"),
            ({"tcp": "[ff02::1]:443"}, "can never answer"),
            ({"icmp": "::1"}, "can never answer"),
            ({"icmp": "10.1.0.9", "timeout": "5"}, "timeout"),
            ({"icmp": "10.1.0.9", "timeout": "999ms"}, "not between 1s and 60s"),
            ({"icmp": "10.1.0.9", "timeout": "61s"}, "not between 1s and 60s"),
        )
    ),
    (
        manifest("sroute", {"subnet": "10.1.0.0/16", "type": "blackhole", "probe": {"icmp": "10.1.2.3"}}),
        "the probe can never succeed",
    ),
    (
        manifest("sroute", {"subnet": "10.1.0.0/16", "type": "prohibit", "probe": {"tcp": "10.1.2.3:80"}}),
        "the probe can never succeed",
    ),
    *(
        (manifest("sroute", {"subnets": subnets, "type": "unreachable", "probe": probe}), "the probe can never succeed")
        for subnets, probe in (
            (["10.9.0.0/16", "10.1.0.0/16"], {"icmp": "10.1.2.3"}),
            (["10.9.0.0/16", "10.1.0.0/16"], {"tcp": "10.1.2.3:80"}),
            (["fd00:9::/64", "fd00:1::/64"], {"icmp": "fd00:1::2"}),
            (["fd00:9::/64", "fd00:1::/64"], {"tcp": "[fd00:1::2]:80"}),
        )
    ),
    *(
        (manifest("sroute", {"subnet": "10.1.0.0/16", "rollout": {"maxUnavailable": each}}), "maxUnavailable")
        for each in (0, -1, "0%", "101%", "10", "all")
    ),
    (manifest("sroute", {"subnet": "10.1.0.0/16", "rollout": {}}), "maxUnavailable"),
    (manifest("opool", {}), "exactly one of cidr and phpIPAM"),
    (manifest("opool", {"cidr": "10.1.0.0/24"}), "gateway is required"),
    (manifest("opool", pool(phpIPAM={"subnetID": 1})), "exactly one of cidr and phpIPAM"),
    (manifest("opool", pool(gateway="10.9.9.9")), "10.9.9.9 is not in 192.168.100.0/24"),
    (manifest("opool", pool(gateway="192.168.100.0")), "network address"),
    (manifest("opool", pool(cidr="192.168.100.1/24")), "host bits"),
    (manifest("opool", {"cidr": "10.0.0.0/31", "gateway": "10.0.0.1"}), "8 to 30"),
    (manifest("opool", pool(exclude=["10.9.9.9"])), "must be in 192.168.100.0/24"),
    (manifest("opool", pool(exclude=["192.168.100.9-192.168.101.1"])), "must be in 192.168.100.0/24"),
    (manifest("opool", pool(exclude=["192.168.100.30-192.168.100.20"])), "is higher than the last one"),
    (manifest("opool", pool(exclude=["all"])), '"all" is not an address, a subnet or a range'),
    (manifest("opool", pool(priority=-1)), "priority"),
    (manifest("opool", {"phpIPAM": {"subnetID": 0}}), "subnetID"),
    (manifest("oaddr", {"address": "10.1.0.9", "pool": "p", "node": "n", "nodeUID": "u"}), "the name must be"),
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_valid_object_is_accepted(api_server: ApiServer, text: str) -> None:
    assert "created" in api_server.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)


@pytest.mark.parametrize(("text", "part"), REFUSED)
def test_invalid_object_is_rejected_with_a_reason(api_server: ApiServer, text: str, part: str) -> None:
    with pytest.raises(CommandFailed) as refusal:
        api_server.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=text)
    assert part in str(refusal.value)


def test_subnet_of_a_pool_is_immutable(api_server: ApiServer) -> None:
    api_server.kubectl("apply", "-f", "-", stdin=manifest("opool", pool(), "fixed"))
    for spec in (pool(cidr="192.168.100.0/25"), {"phpIPAM": {"subnetID": 3}}):
        with pytest.raises(CommandFailed, match="create another pool"):
            api_server.kubectl("replace", "-f", "-", stdin=manifest("opool", spec, "fixed"))
    api_server.kubectl("apply", "-f", "-", stdin=manifest("opool", pool(priority=7), "fixed"))
    api_server.kubectl("delete", "opool", "fixed")


def test_kubectl_explains_the_fields_and_lists_the_category(api_server: ApiServer) -> None:
    assert "Pins the overlay address" in api_server.kubectl("explain", "noip.spec.ipAddr")
    assert "Next hop" in api_server.kubectl("explain", "staticroute.spec.gateway")
    names = api_server.kubectl("api-resources", "--categories=overlay-net", "-o", "name").split()
    assert sorted(name.split(".")[0] for name in names) == [
        "nodeoverlayips",
        "overlayaddresses",
        "overlaypools",
        "overlayrouteslices",
        "staticroutes",
    ]
