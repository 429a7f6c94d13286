"""`overlay-net node-state` in a network namespace: what the kernel has, and which of its rules doctor objects to."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lab.build import debian
from overlay_net.domain.diagnosis.kernels import check_mtu, check_neighbours, check_reverse_path
from overlay_net.domain.diagnosis.masquerade import check_masquerade
from overlay_net.domain.diagnosis.snapshot import Read
from tests.fakes.netns import ip
from tests.unit.test_diagnosis import snapshot

RULES = """
table ip nat {
    chain cni {
        ip daddr 192.168.0.0/16 counter return
        ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 counter masquerade fully-random
    }
    chain unused {
        snat to 10.0.0.7
    }
    chain postrouting {
        type nat hook postrouting priority 100
        meta mark & 0x4000 == 0x4000 masquerade
        ip daddr { 172.16.0.0/12, 10.9.9.9 } return
        ip daddr 192.168.8.0-192.168.8.20 ct status dnat snat to 10.0.0.6
        oifname "tmp0" ip daddr 192.168.9.0/24 snat to ip saddr map { 10.1.1.1 : 10.0.0.5 }
        oifname "tmp0" ip daddr 192.168.7.0/24 snat to 10.0.0.9
        oifname "other0" snat to 10.0.0.8
        jump cni
    }
}
table ip6 nat6 {
    chain postrouting {
        type nat hook postrouting priority 100
        ip6 saddr fd00::/64 snat to fd01::1
    }
}
"""


def read_state() -> dict[str, Any]:
    command = [sys.executable, "-m", "overlay_net", "node-state"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


@pytest.fixture
def overlay_link(eth0: None) -> None:
    """tmp0 with an overlay address, a gateway that does not answer, and routes through it."""
    ip("link", "add", "tmp0", "link", "eth0", "type", "macvlan", "mode", "bridge")
    ip("link", "set", "tmp0", "alias", "overlay-net", "addrgenmode", "none", "up")
    ip("address", "add", "192.168.100.4/24", "dev", "tmp0")
    ip("route", "add", "192.168.7.0/24", "via", "192.168.100.1", "proto", "117")
    ip("route", "add", "192.168.8.0/24", "via", "192.168.100.1", "proto", "117", "metric", "7")
    ip("route", "add", "10.0.0.0/8", "dev", "eth0")
    ip("rule", "add", "from", "192.168.100.4", "lookup", "117", "priority", "11701")
    ip("neighbour", "replace", "10.176.162.129", "lladdr", "02:00:00:00:00:01", "dev", "eth0", "nud", "reachable")
    ip("neighbour", "replace", "192.168.100.1", "dev", "tmp0", "nud", "failed")


def test_the_state_has_links_addresses_routes_rules_neighbours_and_sysctls(overlay_link: None) -> None:
    state = read_state()
    links = {each["name"]: each for each in state["links"]}
    assert (links["tmp0"]["parent"], links["tmp0"]["alias"], links["tmp0"]["mtu"]) == ("eth0", "overlay-net", 1500)
    assert {"link": "tmp0", "address": "192.168.100.4/24"} in state["addresses"]
    routes = {each["subnet"]: each for each in state["routes"] if each["table"] == 254}
    assert routes["192.168.8.0/24"] == {
        "subnet": "192.168.8.0/24",
        "links": ["tmp0"],
        "table": 254,
        "protocol": 117,
        "gateways": ["192.168.100.1"],
        "metric": 7,
    }
    # Of other processes, too.
    assert routes["10.0.0.0/8"]["links"] == ["eth0"]
    (rule,) = (each for each in state["rules"] if each["priority"] == 11701)
    assert (rule["source"], rule["table"]) == ("192.168.100.4/32", 117)
    neighbours = {each["address"]: (each["link"], each["state"]) for each in state["neighbours"]}
    assert neighbours["10.176.162.129"] == ("eth0", "REACHABLE")
    assert neighbours["192.168.100.1"] == ("tmp0", "FAILED")
    assert state["sysctls"]["tmp0.rp_filter"].isdigit()


def test_faults_of_a_real_kernel_are_found(overlay_link: None) -> None:
    ip("link", "set", "tmp0", "mtu", "1400")
    Path("/proc/sys/net/ipv4/conf/tmp0/rp_filter").write_text("1")
    kernel = snapshot(kernels={"n1": Read(read_state())})
    (mtu,) = check_mtu(kernel)
    assert mtu.what == "tmp0 has an MTU of 1400, its parent eth0 of 1500"
    (strict,) = check_reverse_path(kernel)
    assert strict.what.startswith("tmp0 has a strict reverse path filter")
    (silent,) = check_neighbours(kernel)
    assert silent.what == "no neighbour answers on tmp0, but some do on its parent eth0"


def test_translations_in_the_way_are_found_in_nftables(overlay_link: None) -> None:
    try:
        nft = debian.command("nft", "nftables")
    except debian.PackageUnavailable as reason:
        pytest.skip(str(reason))
    refused = subprocess.run([*nft, "-f", "-"], input=RULES, capture_output=True, text=True, check=False).stderr
    if refused:
        pytest.skip(f"the kernel cannot translate: {refused.splitlines()[0]}")
    state = read_state()
    assert [(each["chain"], each["text"]) for each in state["nat"]] == [
        ("cni", "daddr 192.168.0.0/16 return"),
        ("cni", "saddr 10.244.0.0/16 daddr != 224.0.0.0/4 masquerade"),
        ("postrouting", "mark 0x4000/0x4000 masquerade"),
        ("postrouting", "daddr { 10.9.9.9/32, 172.16.0.0/12 } return"),
        ("postrouting", "(range) (ct) snat to 10.0.0.6"),
        ("postrouting", "oifname tmp0 daddr 192.168.9.0/24 (@__map0) snat"),
        ("postrouting", "oifname tmp0 daddr 192.168.7.0/24 snat to 10.0.0.9"),
        ("postrouting", "oifname other0 snat to 10.0.0.8"),
        ("postrouting", "jump cni"),
        ("postrouting", "saddr fd00::/64 snat to fd01::1"),
    ]
    found = [(each.verdict, each.what) for each in check_masquerade(snapshot(kernels={"n1": Read(state)}))]
    exempt = "daddr 192.168.0.0/16 return (ip nat cni)"
    snat = "oifname tmp0 daddr 192.168.7.0/24 snat to 10.0.0.9 (ip nat postrouting)"
    unclear = "(range) (ct) snat to 10.0.0.6 (ip nat postrouting)"
    assert found == [
        ("problem", f"traffic to 192.168.7.0/24 leaves as 10.0.0.9, not as the overlay address: {snat}"),
        ("unknown", f"traffic to 192.168.7.0/24 and 1 more may leave as another address: {unclear}"),
        ("warning", f"pods reach 192.168.8.0/24 with their own addresses, not with the overlay address: {exempt}"),
    ]
