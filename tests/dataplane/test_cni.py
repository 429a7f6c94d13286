"""The rules that CNIs write (cni/*.yaml): which source an on-premise host sees of a pod, and what doctor reports."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyroute2 import IPSet

from lab.build import debian
from lab.net.namespaces import Namespace
from overlay_net.cli.node_state import read_node_state
from overlay_net.domain.diagnosis.finding import Finding
from overlay_net.domain.diagnosis.masquerade import check_masquerade
from overlay_net.domain.diagnosis.snapshot import Read
from tests.dataplane.edge import NODE_IP, OVERLAY, make_edge, observed_source, require
from tests.fakes.netns import enter_netns, ip, private_netns
from tests.unit.test_diagnosis import snapshot

POD = "10.244.1.5"
SOURCES = {"overlay": str(OVERLAY.ip), "pod": POD, "private": NODE_IP}
CASES = {
    f"{file.stem}: {state}": case
    for file in sorted((Path(__file__).parent / "cni").glob("*.yaml"))
    for state, case in yaml.safe_load(file.read_text()).items()
}
EMPTY = "*nat\nCOMMIT\n"


@dataclass(frozen=True, slots=True)
class Node:
    """A node with an overlay link and a pod; the on-premise network has routes to both of their addresses."""

    pod: Namespace
    gateway: Namespace

    def source_of_pod(self, timeout: float = 5.0) -> str:
        """Raises TimeoutError."""
        with enter_netns(self.pod.pid):
            return observed_source(timeout)

    def examine(self) -> list[Finding]:
        return list(check_masquerade(snapshot(kernels={"n1": Read(read_node_state())})))


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    log = tmp_path_factory.mktemp("cni") / "traffic.log"
    with private_netns(), make_edge(log) as edge, Namespace("pod") as pod:
        require("macvlan")
        ip("link", "add", "tmp0", "link", "eth0", "type", "macvlan", "mode", "bridge")
        ip("link", "set", "tmp0", "alias", "overlay-net", "addrgenmode", "none", "up")
        # As the agent sets them.
        for key, value in {"arp_ignore": "1", "arp_announce": "2", "rp_filter": "2"}.items():
            for link in ("eth0", "tmp0"):
                Path(f"/proc/sys/net/ipv4/conf/{link}/{key}").write_text(value)
        ip("address", "add", str(OVERLAY), "dev", "tmp0")
        ip("route", "add", "192.168.0.0/24", "via", "192.168.100.1", "proto", "117")
        ip("link", "add", "pod0", "type", "veth", "peer", "name", "eth0", "netns", str(pod.pid))
        ip("link", "set", "pod0", "up")
        ip("address", "add", "10.244.1.1/24", "dev", "pod0")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        pod.ip("address", "add", f"{POD}/24", "dev", "eth0")
        pod.ip("link", "set", "eth0", "up")
        pod.ip("route", "add", "default", "via", "10.244.1.1")
        edge.gateway.ip("route", "add", "10.244.1.0/24", "via", str(OVERLAY.ip))
        yield Node(pod, edge.gateway)


def run(package: str, program: str, *arguments: str, stdin: str) -> None:
    """Run a program of a Debian package. Skips where it cannot be fetched, or the kernel cannot translate."""
    try:
        root = debian.unpack([package], lambda text: None)
    except debian.PackageUnavailable as reason:
        pytest.skip(f"needs `{program}`: {reason}")
    modules = {"XTABLES_LIBDIR": str(next(root.glob("usr/lib/*/xtables"), root))}
    environment = debian.environment(root, os.environ | modules)
    command = [str(debian.program(root, program)), *arguments]
    done = subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True, check=False)
    if "not supported" in done.stderr or "No such file" in done.stderr:
        pytest.skip(f"the kernel cannot translate: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def rules(node: Node, request: pytest.FixtureRequest) -> Iterator[Mapping[str, Any]]:
    """The rules of a case, in the kernel of the node."""
    case = CASES[request.param]
    with ExitStack() as written:
        for name, members in case.get("ipsets", {}).items():
            written.callback(add_ipset(name, members))
        if "iptables" in case:
            run("iptables", "iptables-nft-restore", stdin=case["iptables"])
            written.callback(run, "iptables", "iptables-nft-restore", stdin=EMPTY)
        if "nft" in case:
            run("nftables", "nft", "-f", "-", stdin=case["nft"])
            written.callback(run, "nftables", "nft", "-f", "-", stdin="flush ruleset")
        yield case


def add_ipset(name: str, members: list[str]) -> Any:
    """Create an ipset, and return what removes it."""
    kind = "net" if "/" in members[0] else "ip"
    with IPSet() as kernel:
        kernel.create(name, stype=f"hash:{kind}")
        for member in members:
            kernel.add(name, member, etype=kind)

    def remove() -> None:
        with IPSet() as kernel:
            kernel.destroy(name)

    return remove


@pytest.mark.parametrize("rules", CASES, indirect=True)
def test_the_source_of_a_pod_is_the_expected_one_and_doctor_names_the_rule(
    node: Node, rules: Mapping[str, Any]
) -> None:
    assert node.source_of_pod() == SOURCES[rules["seen"]]
    found = node.examine()
    if "verdict" not in rules:
        assert found == []
        return
    (finding,) = found
    assert (finding.verdict, finding.subjects) == (rules["verdict"], ("n1",))
    assert finding.what.endswith(f": {rules['rule']}")
    assert rules["fix"] in finding.fix


def test_answers_to_a_pod_over_the_private_interface_need_a_loose_filter(node: Node) -> None:
    """Without a rule, the pod keeps its address; the on-premise network sends the answers to the private address."""
    rp_filter = Path("/proc/sys/net/ipv4/conf/eth0/rp_filter")
    node.gateway.ip("route", "replace", "10.244.1.0/24", "via", NODE_IP)
    try:
        assert node.source_of_pod() == POD
        rp_filter.write_text("1")
        with pytest.raises(TimeoutError):
            node.source_of_pod(timeout=0.3)
    finally:
        rp_filter.write_text("2")
        node.gateway.ip("route", "replace", "10.244.1.0/24", "via", str(OVERLAY.ip))
    assert node.source_of_pod() == POD


def test_rules_of_ip6tables_are_read(netns: None) -> None:
    rules = (
        "*nat",
        "-A POSTROUTING -s fd00:1::/64 ! -d fd00::/16 -m addrtype --src-type LOCAL -j SNAT --to-source fd01::1",
        "-A POSTROUTING -s fd00:2::/48 -j MASQUERADE --random-fully",
        "COMMIT\n",
    )
    run("iptables", "ip6tables-nft-restore", stdin="\n".join(rules))
    assert [each["text"] for each in read_node_state()["nat"]] == [
        "saddr fd00:1::/64 daddr != fd00::/16 saddr type local snat to fd01::1",
        "saddr fd00:2::/48 masquerade",
    ]


def test_rules_of_iptables_legacy_are_not_examined(netns: None) -> None:
    run("iptables", "iptables-legacy-restore", stdin="*nat\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n")
    assert "iptables-legacy-save -t nat" in read_node_state()["natUnread"]
