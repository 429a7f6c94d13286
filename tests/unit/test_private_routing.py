"""Source routing for the private addresses, and the warning about a strict reverse path filter."""

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from overlay_net.domain.kernel.desired import LinkConfig, desired_link, desired_state
from overlay_net.domain.kernel.parent_interface import interface_selector
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.domain.kernel.reverse_path import private_address_condition
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel import Address, Desired, DesiredLink, Link, LinkMode, Observed
from overlay_net.model.kernel_actions import SetLinkGroup
from overlay_net.model.policy_rule import AddPolicyRule, PrivateTable, SourceRouting, SourceTable
from overlay_net.model.route import NextHop, Route
from tests.fakes.kernel import FakeKernel
from tests.unit.factories import desired_route, overlay
from tests.unit.test_kernel_plan import ETH0, ETH0_ADDRESS, LINK, MARK, OVERLAY, converge, desired, machine, route
from tests.unit.test_source_routing import problems, table

PRIVATE = PrivateTable(118, 11700)
GATEWAY, PUBLIC = "10.176.162.129", "10.176.162.130"


def own(subnet: str, gateway: str, metric: int = 0, link: int = 2) -> Route:
    return Route(ip_network(subnet), (NextHop(ip_address(gateway), link),), 3, metric)


def node(*more: object) -> FakeKernel:
    """A node whose only route is the default route."""
    return FakeKernel(MARK, machine(own("0.0.0.0/0", GATEWAY), *more))


def with_private(*routes: DesiredRoute, address: object = OVERLAY) -> Desired:
    link = replace(LINK, group=MARK.group)
    return replace(desired(*routes, address=address), link=link, private=PRIVATE)


def rules(kernel: FakeKernel) -> list[tuple[int, str, int, int | None]]:
    return [(each.priority, str(each.source), each.table, each.suppress_group) for each in kernel.rules]


def test_private_addresses_have_two_rules_and_their_own_table() -> None:
    kernel = node()
    converge(kernel, with_private(route()))
    assert rules(kernel) == [
        (11700, "10.176.162.151/32", 254, MARK.group),
        (11701, "10.176.162.151/32", 118, None),
    ]
    assert table(kernel, 118) == {"0.0.0.0/0": GATEWAY, "192.168.100.0/24": "None"}
    assert [each.group for each in kernel.links.values()] == [0, MARK.group]


def test_routes_of_the_node_that_static_routes_replace_are_in_the_table() -> None:
    """10/8 through the private gateway, but not routes that no StaticRoute is in, or of other interfaces."""
    eth1 = Link(9, "eth1", "veth", None, None, up=True)
    kernel = node(
        eth1,
        Address(9, ip_interface("10.9.9.2/24"), None),
        own("10.0.0.0/8", PUBLIC),
        own("10.0.0.0/8", GATEWAY, metric=9),
        own("172.16.0.0/12", PUBLIC),
        own("10.64.0.0/10", "10.9.9.1", link=9),
    )
    converge(kernel, with_private(route("10.77.0.0/16")))
    assert table(kernel, 118) == {"0.0.0.0/0": GATEWAY, "10.0.0.0/8": PUBLIC, "192.168.100.0/24": "None"}


def test_a_private_interface_without_default_route_uses_the_gateway_of_its_widest_route() -> None:
    kernel = FakeKernel(MARK, machine(own("10.64.0.0/10", PUBLIC), own("10.0.0.0/8", GATEWAY)))
    converge(kernel, with_private(route()))
    assert table(kernel, 118)["0.0.0.0/0"] == GATEWAY


def test_each_address_of_the_private_interface_has_rules_as_long_as_it_exists() -> None:
    kernel = node(
        Address(2, ip_interface("10.176.162.152/32"), None),
        Address(2, ip_interface("2001:db8::2/64"), None),
        Address(2, ip_interface("2001:db8::3/64"), None, tentative=True),
        Address(2, ip_interface("fe80::2/64"), None, link_local=True),
        own("::/0", "2001:db8::1"),
    )
    converge(kernel, with_private(route()))
    assert {source for _, source, _, _ in rules(kernel)} == {
        "10.176.162.151/32",
        "10.176.162.152/32",
        "2001:db8::2/128",
    }
    assert table(kernel, 118)["::/0"] == "2001:db8::1"
    kernel.addresses = [each for each in kernel.addresses if each.interface.version == 4]
    converge(kernel, with_private(route()))
    assert {source for _, source, _, _ in rules(kernel)} == {"10.176.162.151/32", "10.176.162.152/32"}
    assert "::/0" not in table(kernel, 118)


def test_both_kinds_of_source_routing_and_disabling_each() -> None:
    kernel = node()
    converge(kernel, desired(route()))
    before = kernel.observe()
    overlay_source = SourceRouting(SourceTable(117, 11700, 8), ip_address("192.168.100.1"))
    converge(kernel, replace(with_private(route()), source=overlay_source))
    assert [source for _, source, _, _ in rules(kernel)] == ["192.168.100.4/32", "10.176.162.151/32"] * 2
    converge(kernel, with_private(route()))
    assert {source for _, source, _, _ in rules(kernel)} == {"10.176.162.151/32"}
    assert (table(kernel, 117), len(table(kernel, 118))) == ({}, 2)
    converge(kernel, desired(route()))
    assert kernel.observe() == before


def test_rules_are_added_after_the_group_of_the_link_and_the_routes() -> None:
    kernel = node()
    converge(kernel, desired(route()))
    actions = plan_kernel(with_private(route()), kernel.observe(), MARK).actions
    assert isinstance(actions[0], SetLinkGroup)
    assert [type(each) for each in actions[-2:]] == [AddPolicyRule, AddPolicyRule]


def test_a_group_of_another_process_stays_without_the_setting() -> None:
    kernel = node()
    converge(kernel, desired())
    index = max(kernel.links)
    kernel.links[index] = replace(kernel.links[index], group=7)
    assert not plan_kernel(desired(), kernel.observe(), MARK).actions
    converge(kernel, with_private())
    assert kernel.links[index].group == MARK.group


def test_unknown_private_gateway_is_reported_and_changes_nothing() -> None:
    kernel = node()
    converge(kernel, with_private(route()))
    kernel.routes = [each for each in kernel.routes if each.protocol != 3]
    plan = plan_kernel(with_private(route()), kernel.observe(), MARK)
    assert ([each.reason for each in plan.problems], plan.actions) == (["NoPrivateGateway"], ())


@pytest.mark.parametrize("parent", ["", "eth9"])
def test_unknown_parent_interface_is_reported_and_changes_nothing(parent: str) -> None:
    """The selector ``route:ADDRESS`` finds none while a DHCP client has no route."""
    kernel = node(Address(2, ip_interface("2001:db8::2/64"), None))
    kernel.routes.append(own("::/0", "fe80::1"))
    converge(kernel, with_private(route()))
    assert {each.version for each in kernel.rules} == {4, 6}
    unknown = replace(with_private(route()), link=replace(LINK, group=MARK.group, parent=parent))
    plan = plan_kernel(unknown, kernel.observe(), MARK)
    assert ([each.reason for each in plan.problems], plan.actions) == (["ParentMissing"], ())


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ((), "KernelTooOld"),
        ((own("0.0.0.0/0", GATEWAY).replace(table=118),), "SourceTableTaken"),
    ],
)
def test_impossible_private_source_routing_is_reported_and_changes_nothing(
    more: tuple[Route, ...], reason: str
) -> None:
    kernel = node()
    converge(kernel, replace(with_private(), private=None))
    kernel.routes += more
    observed = replace(kernel.observe(), keeps_rule_protocol=reason != "KernelTooOld")
    plan = plan_kernel(with_private(), observed, MARK)
    assert ([each.reason for each in plan.problems], plan.actions) == ([reason], ())


def test_a_static_route_in_the_private_source_table_is_refused() -> None:
    kernel = node()
    converge(kernel, desired())
    assert problems(kernel, desired(route(table=118))) == [], "the table is free without the setting"
    converge(kernel, with_private())
    assert problems(kernel, with_private(route(table=118))) == ["SourceTable"]


@pytest.mark.parametrize(
    ("mode", "expected"), [("macvlan", True), ("ipvlan", True), ("address", False), ("none", False)]
)
def test_private_source_routing_needs_a_link_of_its_own(mode: LinkMode, expected: bool) -> None:
    config = LinkConfig(interface_selector("eth0", None), mode=mode, private=PRIVATE)
    link = desired_link(config, machine(), MARK)
    found = overlay(status={"ipAddr": str(OVERLAY), "gateway": "192.168.100.1"})
    state = desired_state(found, link, private=config.private)
    assert (state.private is not None, link.group != 0) == (expected, expected)


# --- The warning ------------------------------------------------------------------------------------------------------


def warning(
    sysctls: Mapping[str, str],
    state: Desired | None = None,
    kernel: FakeKernel | None = None,
) -> str:
    """The message of the condition, once the kernel is converged; empty: none."""
    kernel = kernel or node()
    state = state or desired(route())
    converge(kernel, state)
    kernel.sysctls |= {(link, "rp_filter"): value for link, value in sysctls.items()}
    found = private_address_condition(state, kernel.observe(), plan_kernel(state, kernel.observe(), MARK), MARK)
    assert all((each.status, each.reason) == (False, "StrictReversePathFilter") for each in found)
    return "".join(each.message for each in found)


@pytest.mark.parametrize(
    ("everywhere", "eth0", "warns"),
    [
        ("0", "1", True),
        ("1", "0", True),
        ("1", "1", True),
        ("0", "0", False),
        ("0", "2", False),
        ("1", "2", False),
        ("2", "1", False),
        ("2", "0", False),
    ],
)
def test_the_stricter_of_both_values_does_not_count_but_the_maximum(everywhere: str, eth0: str, warns: bool) -> None:
    assert bool(warning({"all": everywhere, "eth0": eth0})) is warns


def test_warning_names_cause_and_remedy_and_is_stable() -> None:
    expected = (
        "eth0 has a strict rp_filter and drops packets from 192.168.0.0/24 to 10.176.162.151, because StaticRoutes "
        "lead back over tmp0; set agent.settings.private_source_routing to true, or net.ipv4.conf.eth0.rp_filter to 2"
    )
    assert warning({"eth0": "1"}) == expected
    more = desired(route(), *(route(f"172.16.{number}.0/24") for number in range(9)))
    assert warning({"all": "1"}, more) == expected


@pytest.mark.parametrize(
    "state",
    [
        desired(),
        desired(route("192.168.0.0/24", GATEWAY)),
        desired(route("192.168.0.0/24", table=70)),
        desired(desired_route("192.168.0.0/24", kind="blackhole")),
        desired(desired_route("2001:db8:9::/48", "2001:db8:100::1"), address=ip_interface("2001:db8:100::4/64")),
        replace(desired(route()), link=DesiredLink("eth0", "eth0", "address")),
        Desired(routes=(route("192.168.0.0/24", GATEWAY),), interface="eth0"),
        with_private(route()),
    ],
    ids=["no route", "private gateway", "other table", "blackhole", "IPv6", "link_mode address", "none", "setting"],
)
def test_no_warning_where_nothing_is_dropped(state: Desired) -> None:
    assert warning({"eth0": "1"}, state) == ""


def test_unknown_sysctls_and_an_interface_without_address_cause_no_warning() -> None:
    assert warning({}) == ""
    without = FakeKernel(MARK, Observed(links=(ETH0,)))
    assert warning({"eth0": "1"}, kernel=without) == ""


def test_an_address_whose_rules_are_missing_is_warned_about() -> None:
    kernel = node()
    state = with_private(route())
    converge(kernel, state)
    kernel.sysctls["eth0", "rp_filter"] = "1"
    kernel.rules = []
    (condition,) = private_address_condition(state, kernel.observe(), plan_kernel(state, kernel.observe(), MARK), MARK)
    assert condition.message.endswith("; see Configured, or set net.ipv4.conf.eth0.rp_filter to 2")
    assert ETH0_ADDRESS.interface.ip.exploded in condition.message
