"""Which source on-premise hosts see, as `overlay-net doctor` finds it in the rules of a node (docs/cni.md)."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from overlay_net.domain.diagnosis.finding import Finding
from overlay_net.domain.diagnosis.masquerade import check_masquerade
from overlay_net.domain.diagnosis.networks import Networks
from overlay_net.domain.diagnosis.snapshot import Read, Unread
from tests.unit.test_diagnosis import snapshot

ROOT = Path(__file__).parent.parent.parent
PODS, TO = "10.244.1.0/24", "192.168.7.0/24"
CILIUM = {"enable-ipv4-masquerade": "true", "enable-bpf-masquerade": "true"}


def match(field: str, *networks: str, inverted: bool = False, **content: Any) -> dict[str, Any]:
    return {"field": field, "networks": list(networks), "inverted": inverted, **content}


def rule(action: str, *matches: Mapping[str, Any], chain: str = "c", table: str = "nat", **content: Any) -> Any:
    place = {"family": "ip", "table": table, "chain": chain}
    return {**place, "action": action, "matches": list(matches), "text": action, **content}


def pod_route(subnet: str, link: str = "cni0") -> dict[str, Any]:
    return {"subnet": subnet, "links": [link], "table": 254}


def examine(*rules: Mapping[str, Any], pods: Sequence[str] = (PODS,), **changed: Any) -> list[Finding]:
    """What is found on a node with routes over tmp0 to 192.168.7.0/24 and, if pods run there, to them."""
    links = ["tmp0", "eth0", "cni0", *changed.pop("links", ())]
    kinds = {"tmp0": {"alias": "overlay-net", "parent": "eth0"}, "cni0": {"kind": "bridge"}, "eth0": {"kind": "veth"}}
    subnets = changed.pop("subnets", (TO,))
    cilium = changed.pop("cilium", Read(None))
    kernel = {
        "links": [{"name": name, **kinds.get(name, {"kind": "veth"})} for name in links],
        "addresses": [{"link": "tmp0", "address": "192.168.100.4/24"}],
        "routes": [
            *({"subnet": each, "links": ["tmp0"], "table": 254, "gateways": ["192.168.100.1"]} for each in subnets),
            pod_route("192.168.100.0/24", "tmp0"),
            pod_route("10.176.162.128/26", "eth0"),
            *map(pod_route, pods),
        ],
        "natHooks": [{"family": "ip", "table": each, "chain": "c"} for each in ("nat", "other")],
        "nat": list(rules),
    }
    return list(check_masquerade(snapshot(kernels={"n1": Read(kernel | changed)}, cilium=cilium)))


def verdicts(*rules: Mapping[str, Any], **changed: Any) -> list[str]:
    return [each.verdict for each in examine(*rules, **changed)]


@pytest.mark.parametrize(
    "harmless",
    [
        rule("snat", target="192.168.100.4"),
        rule("snat", match("output", name="tmp*", inverted=True), target="10.0.0.9"),
        rule("snat", match("destination", "10.0.0.0/8"), target="10.0.0.9"),
        rule("snat", match("source", "10.9.0.0/16"), target="10.0.0.9"),
        rule("snat", match("mark", value=0x4000, mask=0x4000), target="10.0.0.9"),
        rule("snat", match("destinationType", local=True), target="10.0.0.9"),
        rule("snat", match("version", version=6), target="10.0.0.9"),
        rule("snat", target="fd01::1", family="ip6"),
        rule("snat", chain="unreachable", target="10.0.0.9"),
        rule("return", match("destination", "10.0.0.0/8")),
        rule("return"),
    ],
    ids=lambda each: f"{each['action']} {each['matches']}",
)
def test_a_rule_about_other_traffic_is_no_finding(harmless: Mapping[str, Any]) -> None:
    assert examine(harmless) == []


def test_a_rule_that_sets_another_source_is_a_problem_for_pods_or_for_the_node() -> None:
    everything, of_pods = rule("snat", target="10.0.0.9"), rule("snat", match("source", PODS), target="10.0.0.9")
    of_node = rule("snat", match("sourceType", local=True), target="10.0.0.9")
    for each in (everything, of_pods, of_node):
        (found,) = examine(each)
        assert found.verdict == "problem"
        assert found.what == f"traffic to {TO} leaves as 10.0.0.9, not as the overlay address: snat (ip nat c)"
        assert "iptables -t nat -I POSTROUTING -o tmp0 -j MASQUERADE" in found.fix


def test_the_first_rule_that_matches_decides() -> None:
    exempt = rule("return", match("destination", "192.168.0.0/16"))
    masquerade, snat = rule("masquerade"), rule("snat", target="10.0.0.9")
    assert verdicts(exempt, snat) == ["warning"]
    assert verdicts(masquerade, snat) == ["ok"]
    assert verdicts(snat, masquerade) == ["problem"]
    # A chain returns to the one that jumped to it.
    jump, inner = rule("jump", to="inner"), {**exempt, "chain": "inner"}
    assert verdicts(jump, snat, inner) == ["problem"]
    assert verdicts({**jump, "action": "goto"}, snat, inner) == ["warning"]
    # To accept ends the chains of one table only.
    assert verdicts({**exempt, "action": "accept"}, {**snat, "table": "other"}) == ["problem"]


def test_a_rule_about_a_part_of_a_subnet_is_found() -> None:
    (found,) = examine(rule("snat", match("destination", "192.168.7.128/25"), target="10.0.0.9"))
    assert (found.verdict, "traffic to 192.168.7.128/25 leaves" in found.what) == ("problem", True)
    # The rest of it is masqueraded.
    rest = rule("masquerade")
    assert verdicts(rule("return", match("destination", "192.168.7.128/25")), rest) == ["ok", "warning"]


def test_what_excludes_the_subnet_from_a_translation_is_named() -> None:
    by_destination = rule("masquerade", match("destination", PODS, "192.168.0.0/16", inverted=True))
    by_link = rule("masquerade", match("output", name="eth0"))
    for each in (by_destination, by_link, rule("snat", match("output", name="eth0"), target="10.0.0.9")):
        (found,) = examine(each)
        assert found.verdict == "warning"
        assert found.what.startswith(
            f"pods reach {TO} with their own addresses, not with the overlay address: {each['action']}"
        )
    # A rule for the destination itself comes first.
    (found,) = examine(by_link, by_destination, rule("return", match("destination", TO)))
    assert found.what.endswith(": return (ip nat c)")
    # Without pods on the node and in rules, it may be about anything that leaves through eth0.
    assert examine(by_link, pods=()) == []


def test_conditions_that_are_not_examined_are_unknown_if_the_source_would_be_another_one() -> None:
    unread = match("unread", text="ct")
    assert verdicts(rule("snat", unread, target="10.0.0.9"), rule("masquerade")) == ["unknown", "ok"]
    assert verdicts(rule("snat", unread, target="192.168.100.4"), rule("masquerade")) == ["ok"]
    assert verdicts(rule("masquerade", unread)) == []
    # The target may be that of a map.
    assert verdicts(rule("snat")) == ["unknown"]


def test_rules_that_name_single_pods_are_one_finding_if_they_masquerade() -> None:
    pods = [f"10.244.1.{number}/32" for number in range(2, 7)]
    found = examine(*(rule("masquerade", match("source", pod)) for pod in pods))
    assert [each.what for each in found] == [f"pods reach {TO} as the overlay address: masquerade (ip nat c)"]


def test_without_pods_on_the_node_rules_say_where_they_are() -> None:
    masquerade = rule("masquerade", match("source", "10.244.0.0/16"))
    assert verdicts(masquerade, pods=()) == ["ok"]
    assert verdicts(rule("masquerade"), pods=()) == ["ok"]
    # With pods, a rule about others is not of interest.
    assert verdicts(rule("masquerade", match("source", "172.17.0.0/16"))) == []


def test_many_subnets_are_one_finding() -> None:
    subnets = [f"192.168.{number}.0/24" for number in range(7, 107)]
    (found,) = examine(rule("snat", target="10.0.0.9"), subnets=subnets)
    assert found.what.startswith("traffic to 192.168.7.0/24 and 99 more leaves as 10.0.0.9")


def test_an_overlay_address_on_the_private_interface_is_examined_as_well() -> None:
    route = {"subnet": TO, "links": ["eth0"], "table": 254, "gateways": ["192.168.100.1"], "source": "192.168.100.4"}
    changed = {
        "links": [{"name": "eth0"}],
        "addresses": [
            {"link": "eth0", "address": "10.176.162.151/26"},
            {"link": "eth0", "address": "192.168.100.4/24", "protocol": 117},
        ],
        "routes": [
            {**route, "protocol": 117},
            {**route, "subnet": "10.0.0.0/8", "source": "10.176.162.151", "protocol": 3},
        ],
    }
    kernel = {"natHooks": [{"family": "ip", "table": "nat", "chain": "c"}], **changed}

    def found(each: Mapping[str, Any]) -> list[tuple[str, str]]:
        view = snapshot(kernels={"n1": Read({**kernel, "nat": [each]})})
        return [(finding.verdict, finding.what.partition(" leaves")[0]) for finding in check_masquerade(view)]

    assert found(rule("snat", target="10.176.162.151")) == [("problem", f"traffic to {TO}")]
    assert found(rule("snat", target="192.168.100.4")) == []


def test_rules_that_were_not_read_are_unknown() -> None:
    assert verdicts(natUnread="the rules of iptables-legacy are not read") == ["unknown"]


def test_pods_that_bypass_the_routes_of_the_node_are_found() -> None:
    (found,) = examine(links=["ovn-k8s-mp0"])
    assert (found.verdict, "gateway mode shared of OVN-Kubernetes" in found.what) == ("warning", True)
    assert "routingViaHost: true" in found.fix
    assert verdicts(rule("masquerade"), links=["ovn-k8s-mp0"]) == ["ok"]


@pytest.mark.parametrize(
    ("config", "verdict", "part"),
    [
        ({}, "unknown", "Cilium masquerades in eBPF, which is not examined: its program must run on tmp0"),
        ({"enable-ip-masq-agent": "true"}, "unknown", "which also has a list of its ip-masq-agent"),
        ({"ipv4-native-routing-cidr": "192.168.0.0/16"}, "warning", f"pods reach {TO} with their own addresses"),
        ({"ipv4-native-routing-cidr": "10.0.0.0/8", "devices": "eth0,tmp+"}, "unknown", "must run on tmp0"),
        ({"devices": "eth0 eth1"}, "warning", "but not on tmp0: devices are eth0, eth1 in the ConfigMap cilium-config"),
    ],
)
def test_cilium_is_judged_by_its_configuration(config: dict[str, str], verdict: str, part: str) -> None:
    (found,) = examine(links=["cilium_host"], cilium=Read(CILIUM | config))
    assert (found.verdict, part in found.what) == (verdict, True)


def test_cilium_that_masquerades_by_rules_or_not_at_all_has_no_program_to_look_at() -> None:
    for config in (CILIUM | {"enable-bpf-masquerade": "false"}, CILIUM | {"enable-ipv4-masquerade": "false"}, {}):
        assert examine(links=["cilium_host"], cilium=Read(config)) == []
    # Another CNI: the ConfigMap is a leftover.
    assert examine(cilium=Read(CILIUM)) == []


@pytest.mark.parametrize("cilium", [Unread("403 Forbidden"), Read(None)])
def test_an_unread_configuration_of_cilium_is_unknown(cilium: Any) -> None:
    (found,) = examine(links=["cilium_host"], cilium=cilium)
    assert (found.verdict, "not known" in found.what) == ("unknown", True)


def test_the_programs_of_calico_are_not_examined() -> None:
    (found,) = examine(links=["bpfin.cali"])
    assert (found.verdict, "Calico's eBPF data plane" in found.what) == ("unknown", True)


@pytest.mark.parametrize("file", sorted(ROOT.glob("tests/dataplane/cni/*.yaml")), ids=lambda file: file.stem)
def test_the_page_about_cnis_names_each_state_whose_rules_are_tested(file: Path) -> None:
    page = (ROOT / "docs" / "cni.md").read_text()
    for state, case in yaml.safe_load(file.read_text()).items():
        assert state in page or state == "default", (file.stem, state)
        # As doctor shows it.
        assert case.get("rule", "") in page, (file.stem, state)


@given(st.lists(st.integers(0, 255), max_size=8), st.lists(st.integers(20, 32), max_size=8), st.integers(22, 30))
def test_networks_are_found_as_by_a_check_of_each(hosts: list[int], lengths: list[int], length: int) -> None:
    listed = [
        IPv4Network(f"10.0.{host // 64}.{host}/{bits}", strict=False)
        for host, bits in zip(hosts, lengths, strict=False)
    ]
    subnet = IPv4Network(f"10.0.1.64/{length}", strict=False)
    networks = Networks([*listed, ip_network("fd00::/8")])
    assert networks.contains(subnet) == any(subnet.subnet_of(each) for each in listed)
    assert set(networks.find_inside(subnet)) == {each for each in listed if each != subnet and each.subnet_of(subnet)}
