"""Kernel actions as log fields and as the phrase of an error message."""

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from overlay_net.adapters.netlink import action_fields, describe
from overlay_net.model.kernel_actions import (
    AddAddress,
    AddLink,
    AddRoute,
    AdoptLink,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    KernelAction,
    ReplaceRoute,
    SetLinkUp,
    SetMacvlanMode,
    SetMtu,
    SetSysctl,
)
from overlay_net.model.policy_rule import AddPolicyRule, DeletePolicyRule, PolicyRule
from overlay_net.model.route import NextHop, Route, RouteKind

OVERLAY = ip_interface("192.168.100.4/24")
SOURCE = PolicyRule(4, 11701, ip_network("192.168.100.4/32"), 117, 117)
MAIN = PolicyRule(6, 11700, None, 254, 117, suppress=8)


def route(*gateways: str | None, metric: int = 0, table: int = 254, kind: RouteKind = "unicast") -> Route:
    hops = tuple(NextHop(ip_address(each) if each else None, 7) for each in gateways)
    return Route(ip_network("10.1.0.0/16"), hops, 117, metric, table=table, kind=kind)


@pytest.mark.parametrize(
    ("action", "phrase"),
    [
        (AddRoute(route("192.168.100.1")), "add route 10.1.0.0/16 via 192.168.100.1"),
        (ReplaceRoute(route("10.0.0.1", "10.0.0.2")), "replace route 10.1.0.0/16 via 10.0.0.1,10.0.0.2"),
        (DeleteRoute(route(None, metric=50, table=117)), "delete route 10.1.0.0/16 via link 7 metric 50 table 117"),
        (AddRoute(route(kind="blackhole")), "add route 10.1.0.0/16 type blackhole"),
        (AddPolicyRule(SOURCE), "add policy rule 11701 from 192.168.100.4/32 table 117"),
        (DeletePolicyRule(MAIN), "delete policy rule 11700 from all table 254 suppress_prefixlength 8"),
        (AddLink("tmp0", "eth0", "ipvlan"), "add link tmp0 type ipvlan on eth0"),
        (AdoptLink("tmp0"), "adopt link tmp0"),
        (SetLinkUp("tmp0"), "bring up link tmp0"),
        (SetMtu("tmp0", 1400), "set mtu 1400 on tmp0"),
        (SetMacvlanMode("tmp0", "vepa"), "set macvlan mode vepa on tmp0"),
        (DeleteLink(7, "tmp0"), "delete link tmp0"),
        (AddAddress("tmp0", OVERLAY), "add address 192.168.100.4/24 on tmp0"),
        (DeleteAddress("tmp0", OVERLAY), "delete address 192.168.100.4/24 on tmp0"),
        (SetSysctl("tmp0", "rp_filter", "2"), "set sysctl net.ipv4.conf.tmp0.rp_filter to 2"),
        (SetSysctl("tmp0", "ipv6.accept_ra", "0"), "set sysctl net.ipv6.conf.tmp0.accept_ra to 0"),
    ],
)
def test_phrase_names_the_action_and_its_object(action: KernelAction, phrase: str) -> None:
    assert describe(action) == phrase


def test_log_fields_of_a_route_name_subnet_gateway_and_metric() -> None:
    fields = action_fields(AddRoute(route("192.168.100.1", metric=50)))
    assert fields == {"action": "add route", "subnet": "10.1.0.0/16", "gateway": "192.168.100.1", "metric": 50}


def test_log_fields_of_an_address_name_address_and_link() -> None:
    fields = action_fields(AddAddress("tmp0", OVERLAY))
    assert fields == {"action": "add address", "address": "192.168.100.4/24", "link": "tmp0"}
