"""Source routing: its rules and routes, from any initial state, and their complete removal."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay_net.domain.kernel.ownership import owns_policy_rule, owns_route
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel import Address, Desired, Link, Observed
from overlay_net.model.kernel_actions import (
    AddRoute,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    KernelAction,
    ReplaceRoute,
)
from overlay_net.model.policy_rule import AddPolicyRule, DeletePolicyRule, PolicyRule, SourceRouting, SourceTable
from overlay_net.model.route import NextHop, Route
from tests.examples import examples
from tests.fakes.kernel import FakeKernel
from tests.unit.factories import desired_route
from tests.unit.test_kernel_plan import MARK, OVERLAY, converge, desired, foreign, machine, route

CONFIG = SourceTable(117, 11700, 8)
GATEWAY = ip_address("192.168.100.1")
V6 = ip_interface("2001:db8:100::4/64")


def with_source(*routes: DesiredRoute, address: object = OVERLAY, gateway: str | None = "192.168.100.1") -> Desired:
    source = SourceRouting(CONFIG, ip_address(gateway) if gateway else None)
    return replace(desired(*routes, address=address), source=source)


def rules(kernel: FakeKernel) -> list[tuple[int, str, int, int | None]]:
    return [(each.priority, str(each.source), each.table, each.suppress) for each in kernel.rules]


def table(kernel: FakeKernel, number: int = 117) -> dict[str, str]:
    """Subnet -> gateways of the routes of a table."""
    return {
        str(each.subnet): " ".join(str(hop.gateway) for hop in each.next_hops) or str(each.kind)
        for each in kernel.routes
        if each.table == number and owns_route(each, MARK)
    }


def problems(kernel: FakeKernel, target: Desired) -> list[str]:
    return [each.reason for each in plan_kernel(target, kernel.observe(), MARK).problems]


def test_source_routing_has_two_rules_and_its_own_table() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, with_source(route()))
    assert rules(kernel) == [
        (11700, "192.168.100.4/32", 254, 8),
        (11701, "192.168.100.4/32", 117, None),
    ]
    assert table(kernel) == {"192.168.100.0/24": "None", "0.0.0.0/0": "192.168.100.1"}
    assert {each.source for each in kernel.routes if each.table == 117} == {OVERLAY.ip}
    assert table(kernel, 254) == {"192.168.0.0/24": "192.168.100.1"}


def test_source_routing_works_for_ipv6() -> None:
    kernel = FakeKernel(MARK, machine())
    target = with_source(address=V6, gateway="2001:db8:100::1")
    converge(kernel, target)
    assert [(each.version, str(each.source)) for each in kernel.rules] == [(6, "2001:db8:100::4/128")] * 2
    assert table(kernel) == {"2001:db8:100::/64": "None", "::/0": "2001:db8:100::1"}
    assert problems(kernel, with_source(address=V6, gateway="192.168.100.1")) == ["NoOverlayGateway"]


def test_without_the_setting_there_are_no_rules_and_no_table() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired(route()))
    assert (rules(kernel), table(kernel)) == ([], {})


def test_rules_are_added_after_the_routes_and_deleted_before_them() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired())
    kinds = [type(each) for each in plan_kernel(with_source(), kernel.observe(), MARK).actions]
    assert kinds == [AddRoute, AddRoute, AddPolicyRule, AddPolicyRule]
    converge(kernel, with_source())
    kinds = [type(each) for each in plan_kernel(Desired(), kernel.observe(), MARK).actions]
    assert kinds == [DeletePolicyRule, DeletePolicyRule, DeleteRoute, DeleteRoute, DeleteLink]


def test_disabling_source_routing_removes_its_rules_and_routes() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired(route()))
    before = kernel.observe()
    converge(kernel, with_source(route()))
    assert kernel.observe() != before
    converge(kernel, desired(route()))
    assert kernel.observe() == before


def test_a_changed_table_and_priority_leave_nothing_behind() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, with_source(route()))
    moved = replace(with_source(route()), source=SourceRouting(SourceTable(200, 500, 0), GATEWAY))
    converge(kernel, moved)
    assert rules(kernel) == [(500, "192.168.100.4/32", 254, 0), (501, "192.168.100.4/32", 200, None)]
    assert table(kernel) == {}
    assert table(kernel, 200).keys() == {"192.168.100.0/24", "0.0.0.0/0"}


def test_a_changed_address_has_its_rules_before_the_previous_one_is_deleted() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, with_source())
    moved = with_source(address=ip_interface("192.168.100.9/24"))
    actions = plan_kernel(moved, kernel.observe(), MARK).actions
    kinds = [type(each) for each in actions]
    assert kinds[-1] is DeleteAddress
    assert kinds.index(AddPolicyRule) < kinds.index(DeletePolicyRule)
    assert kinds.count(ReplaceRoute) == 2
    converge(kernel, moved)
    assert {source for _, source, _, _ in rules(kernel)} == {"192.168.100.9/32"}


def test_a_changed_gateway_replaces_the_default_route() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, with_source())
    (action,) = plan_kernel(with_source(gateway="192.168.100.254"), kernel.observe(), MARK).actions
    assert isinstance(action, ReplaceRoute)
    converge(kernel, with_source(gateway="10.77.0.1"))
    (default,) = [each for each in kernel.routes if each.subnet.prefixlen == 0]
    assert default.next_hops[0].on_link, "the gateway is in no subnet of the link"


def test_suppressed_routes_over_the_overlay_are_copied_to_the_table() -> None:
    """The first rule suppresses them in the main table; routes of the private network are not copied."""
    kernel = FakeKernel(MARK, machine())
    wide = route("10.0.0.0/8", "192.168.100.254")
    nowhere = desired_route("172.0.0.0/7", kind="blackhole")
    private = route("11.0.0.0/8", "10.176.162.129")
    target = with_source(wide, nowhere, private, route("10.1.0.0/16"))
    converge(kernel, target)
    expected = {"192.168.100.0/24": "None", "0.0.0.0/0": "192.168.100.1", "10.0.0.0/8": "192.168.100.254"}
    assert table(kernel) == expected | {"172.0.0.0/7": "blackhole"}
    converge(kernel, with_source())
    assert table(kernel) == {"192.168.100.0/24": "None", "0.0.0.0/0": "192.168.100.1"}
    everything = route("0.0.0.0/0", "192.168.100.254")
    converge(kernel, with_source(everything))
    assert table(kernel)["0.0.0.0/0"] == "192.168.100.254", "a StaticRoute may be the default route"


@pytest.mark.parametrize(
    ("target", "more", "reason"),
    [
        (with_source(gateway=None), (), "NoOverlayGateway"),
        (with_source(), (), "KernelTooOld"),
        (
            with_source(),
            (Route(ip_network("0.0.0.0/0"), (NextHop(ip_address("10.176.162.129"), 2),), 4, table=117),),
            "SourceTableTaken",
        ),
    ],
)
def test_impossible_source_routing_is_reported_and_changes_nothing(
    target: Desired, more: tuple[Route, ...], reason: str
) -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired())
    kernel.routes += more
    observed = replace(kernel.observe(), keeps_rule_protocol=reason != "KernelTooOld")
    plan = plan_kernel(target, observed, MARK)
    assert ([each.reason for each in plan.problems], plan.actions) == ([reason], ())


def test_a_temporarily_unknown_gateway_changes_nothing() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, with_source(route()))
    assert not plan_kernel(with_source(route(), gateway=None), kernel.observe(), MARK).actions


def test_a_static_route_in_the_source_table_is_refused_and_others_are_installed() -> None:
    kernel = FakeKernel(MARK, machine())
    target = with_source(route("10.1.0.0/16", table=117), route())
    converge(kernel, target)
    assert problems(kernel, target) == ["SourceTable"]
    assert table(kernel, 254) == {"192.168.0.0/24": "192.168.100.1"}
    assert table(kernel).keys() == {"192.168.100.0/24", "0.0.0.0/0"}


def test_an_equal_foreign_rule_is_left_alone_beside_ours() -> None:
    theirs = PolicyRule(4, 11701, ip_network("192.168.100.4/32"), 117, 0)
    kernel = FakeKernel(MARK, replace(machine(), rules=(theirs,)))
    converge(kernel, with_source())
    assert [owns_policy_rule(each, MARK) for each in kernel.rules] == [True, False, True]
    converge(kernel, Desired())
    assert kernel.rules == [theirs]


# --- Properties ------------------------------------------------------------------------------------------------------

FOREIGN_RULES = st.lists(
    st.builds(
        PolicyRule,
        st.just(4),
        st.sampled_from((0, 500, 11700, 11701, 32766)),
        st.sampled_from((None, ip_network("192.168.100.4/32"), ip_network("172.31.0.0/24"))),
        st.sampled_from((117, 200, 254)),
        st.sampled_from((0, 2, 186)),
        st.sampled_from((None, 0)),
        st.booleans(),
    ),
    max_size=4,
    unique=True,
)
MANAGED_RULES = st.lists(
    st.builds(
        lambda priority, last, number, plain: PolicyRule(
            4, priority, ip_network(f"192.168.100.{last}/32"), number, MARK.protocol, None, plain
        ),
        st.sampled_from((5, 11700, 11701)),
        st.integers(4, 6),
        st.sampled_from((117, 200)),
        st.booleans(),
    ),
    max_size=3,
    unique=True,
)
ROUTES = st.lists(st.sampled_from((route(), route("10.0.0.0/8"), route("10.0.0.0/8", "10.176.162.129"))), max_size=1)
DESIRED_STATES = st.one_of(
    st.just(Desired()),
    st.builds(lambda found: desired(*found), ROUTES),
    st.builds(
        lambda found, last, gateway: with_source(
            *found, address=ip_interface(f"192.168.100.{last}/24"), gateway=gateway
        ),
        ROUTES,
        st.integers(4, 6),
        st.sampled_from(("192.168.100.1", "192.168.100.254", None)),
    ),
)


def foreign_objects(observed: Observed) -> tuple[set[object], tuple[PolicyRule, ...]]:
    return foreign(observed), tuple(each for each in observed.rules if not owns_policy_rule(each, MARK))


@settings(max_examples=examples(300), deadline=None)
@given(
    FOREIGN_RULES,
    MANAGED_RULES,
    st.lists(DESIRED_STATES, min_size=1, max_size=4),
    st.lists(st.integers(0, 9), max_size=4),
)
def test_any_history_of_changes_and_crashes_converges_and_keeps_foreign_rules(
    foreign_rules: list[PolicyRule], leftovers: list[PolicyRule], history: list[Desired], crashes: list[int]
) -> None:
    start = sorted((*foreign_rules, *leftovers), key=lambda rule: rule.priority)
    kernel = FakeKernel(MARK, replace(machine(), rules=tuple(start)))
    before = foreign_objects(kernel.observe())
    for target, steps in zip(history, [*crashes, *[0] * len(history)], strict=False):
        actions: tuple[KernelAction, ...] = plan_kernel(target, kernel.observe(), MARK).actions
        for action in actions[:steps]:
            kernel.apply(action)
    last = history[-1]
    converge(kernel, last)
    assert foreign_objects(kernel.observe()) == before
    if last.source is None:
        assert not any(owns_policy_rule(each, MARK) for each in kernel.rules)
        assert not any(each.table == 117 for each in kernel.routes)
    elif last.source.gateway is not None and last.address is not None:
        own = f"{last.address.ip}/32"
        ours = [each for each in kernel.rules if owns_policy_rule(each, MARK)]
        assert [(each.priority, str(each.source), each.table) for each in ours] == [
            (11700, own, 254),
            (11701, own, 117),
        ]
        assert {"192.168.100.0/24", "0.0.0.0/0"} <= table(kernel).keys()


def test_a_recreated_link_gets_its_table_back() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, with_source())
    tmp0 = next(link.index for link in kernel.links.values() if link.name == "tmp0")
    kernel.delete_link(tmp0)
    assert table(kernel) == {}
    converge(kernel, with_source())
    assert table(kernel).keys() == {"192.168.100.0/24", "0.0.0.0/0"}


def test_source_routing_works_with_link_mode_address() -> None:
    kernel = FakeKernel(MARK, machine(Link(9, "eth1", "veth", None, None, up=True), Address(9, V6, None)))
    base = with_source()
    assert base.link is not None
    on_eth0 = replace(base, link=replace(base.link, name="eth0", kind="address"))
    converge(kernel, on_eth0)
    assert {hop.link for each in kernel.routes if each.table == 117 for hop in each.next_hops} == {2}
    converge(kernel, Desired())
    assert not kernel.rules
