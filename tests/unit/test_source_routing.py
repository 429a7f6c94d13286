"""Source routing: which rules and routes it makes, from anywhere, and that it ends without a trace."""

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
from tests.unit.test_kernel_plan import MARKS, OVERLAY, converge, desired, foreign, machine, route

PLACE = SourceTable(117, 11700, 8)
GATEWAY = ip_address("192.168.100.1")
V6 = ip_interface("2001:db8:100::4/64")


def wish(*routes: DesiredRoute, address: object = OVERLAY, gateway: str | None = "192.168.100.1") -> Desired:
    source = SourceRouting(PLACE, ip_address(gateway) if gateway else None)
    return replace(desired(*routes, address=address), source=source)


def rules(kernel: FakeKernel) -> list[tuple[int, str, int, int | None]]:
    return [(each.priority, str(each.source), each.table, each.suppress) for each in kernel.rules]


def table(kernel: FakeKernel, number: int = 117) -> dict[str, str]:
    """Subnet -> gateways of the routes of a table."""
    return {
        str(each.subnet): " ".join(str(hop.gateway) for hop in each.next_hops) or str(each.kind)
        for each in kernel.routes
        if each.table == number and owns_route(each, MARKS)
    }


def problems(kernel: FakeKernel, wished: Desired) -> list[str]:
    return [each.reason for each in plan_kernel(wished, kernel.observe(), MARKS).problems]


def test_two_rules_and_a_table_of_its_own() -> None:
    kernel = FakeKernel(MARKS, machine())
    converge(kernel, wish(route()))
    assert rules(kernel) == [
        (11700, "192.168.100.4/32", 254, 8),
        (11701, "192.168.100.4/32", 117, None),
    ]
    assert table(kernel) == {"192.168.100.0/24": "None", "0.0.0.0/0": "192.168.100.1"}
    assert {each.source for each in kernel.routes if each.table == 117} == {OVERLAY.ip}
    assert table(kernel, 254) == {"192.168.0.0/24": "192.168.100.1"}


def test_ipv6_has_it_too() -> None:
    kernel = FakeKernel(MARKS, machine())
    wished = wish(address=V6, gateway="2001:db8:100::1")
    converge(kernel, wished)
    assert [(each.version, str(each.source)) for each in kernel.rules] == [(6, "2001:db8:100::4/128")] * 2
    assert table(kernel) == {"2001:db8:100::/64": "None", "::/0": "2001:db8:100::1"}
    assert problems(kernel, wish(address=V6, gateway="192.168.100.1")) == ["NoOverlayGateway"]


def test_without_the_setting_there_is_nothing_of_it() -> None:
    kernel = FakeKernel(MARKS, machine())
    converge(kernel, desired(route()))
    assert (rules(kernel), table(kernel)) == ([], {})


def test_the_order_rules_last_and_first_to_go() -> None:
    kernel = FakeKernel(MARKS, machine())
    converge(kernel, desired())
    kinds = [type(each) for each in plan_kernel(wish(), kernel.observe(), MARKS).actions]
    assert kinds == [AddRoute, AddRoute, AddPolicyRule, AddPolicyRule]
    converge(kernel, wish())
    kinds = [type(each) for each in plan_kernel(Desired(), kernel.observe(), MARKS).actions]
    assert kinds == [DeletePolicyRule, DeletePolicyRule, DeleteRoute, DeleteRoute, DeleteLink]


def test_the_setting_switched_off_sweeps_it() -> None:
    kernel = FakeKernel(MARKS, machine())
    converge(kernel, desired(route()))
    before = kernel.observe()
    converge(kernel, wish(route()))
    assert kernel.observe() != before
    converge(kernel, desired(route()))
    assert kernel.observe() == before


def test_another_table_and_priority_leave_nothing_behind() -> None:
    kernel = FakeKernel(MARKS, machine())
    converge(kernel, wish(route()))
    moved = replace(wish(route()), source=SourceRouting(SourceTable(200, 500, 0), GATEWAY))
    converge(kernel, moved)
    assert rules(kernel) == [(500, "192.168.100.4/32", 254, 0), (501, "192.168.100.4/32", 200, None)]
    assert table(kernel) == {}
    assert table(kernel, 200).keys() == {"192.168.100.0/24", "0.0.0.0/0"}


def test_a_changed_address_has_its_rules_before_the_old_one_goes() -> None:
    kernel = FakeKernel(MARKS, machine())
    converge(kernel, wish())
    moved = wish(address=ip_interface("192.168.100.9/24"))
    actions = plan_kernel(moved, kernel.observe(), MARKS).actions
    kinds = [type(each) for each in actions]
    assert kinds[-1] is DeleteAddress
    assert kinds.index(AddPolicyRule) < kinds.index(DeletePolicyRule)
    assert kinds.count(ReplaceRoute) == 2
    converge(kernel, moved)
    assert {source for _, source, _, _ in rules(kernel)} == {"192.168.100.9/32"}


def test_a_changed_gateway_replaces_the_default_route() -> None:
    kernel = FakeKernel(MARKS, machine())
    converge(kernel, wish())
    (action,) = plan_kernel(wish(gateway="192.168.100.254"), kernel.observe(), MARKS).actions
    assert isinstance(action, ReplaceRoute)
    converge(kernel, wish(gateway="10.77.0.1"))
    (default,) = [each for each in kernel.routes if each.subnet.prefixlen == 0]
    assert default.next_hops[0].on_link, "it is in no subnet of the link"


def test_wide_static_routes_over_the_overlay_count_in_the_table_too() -> None:
    """The first rule passes over them in the main table; the private network's stay there."""
    kernel = FakeKernel(MARKS, machine())
    wide = route("10.0.0.0/8", "192.168.100.254")
    nowhere = desired_route("172.0.0.0/7", kind="blackhole")
    private = route("11.0.0.0/8", "10.176.162.129")
    wished = wish(wide, nowhere, private, route("10.1.0.0/16"))
    converge(kernel, wished)
    expected = {"192.168.100.0/24": "None", "0.0.0.0/0": "192.168.100.1", "10.0.0.0/8": "192.168.100.254"}
    assert table(kernel) == expected | {"172.0.0.0/7": "blackhole"}
    converge(kernel, wish())
    assert table(kernel) == {"192.168.100.0/24": "None", "0.0.0.0/0": "192.168.100.1"}
    everything = route("0.0.0.0/0", "192.168.100.254")
    converge(kernel, wish(everything))
    assert table(kernel)["0.0.0.0/0"] == "192.168.100.254", "a StaticRoute may be the default route"


@pytest.mark.parametrize(
    ("wished", "more", "reason"),
    [
        (wish(gateway=None), {}, "NoOverlayGateway"),
        (wish(), {"keeps_rule_protocol": False}, "KernelTooOld"),
        (
            wish(),
            {"routes": (Route(ip_network("0.0.0.0/0"), (NextHop(ip_address("10.176.162.129"), 2),), 4, table=117),)},
            "SourceTableTaken",
        ),
    ],
)
def test_what_cannot_be_had_is_said_and_changes_nothing(wished: Desired, more: dict[str, object], reason: str) -> None:
    kernel = FakeKernel(MARKS, machine())
    converge(kernel, desired())
    observed = replace(kernel.observe(), **more)  # type: ignore[arg-type]
    plan = plan_kernel(wished, observed, MARKS)
    assert ([each.reason for each in plan.problems], plan.actions) == ([reason], ())


def test_a_gateway_that_is_not_known_for_a_moment_changes_nothing() -> None:
    kernel = FakeKernel(MARKS, machine())
    converge(kernel, wish(route()))
    assert not plan_kernel(wish(route(), gateway=None), kernel.observe(), MARKS).actions


def test_a_static_route_in_the_source_table_is_refused_and_the_rest_is_done() -> None:
    kernel = FakeKernel(MARKS, machine())
    wished = wish(route("10.1.0.0/16", table=117), route())
    converge(kernel, wished)
    assert problems(kernel, wished) == ["SourceTable"]
    assert table(kernel, 254) == {"192.168.0.0/24": "192.168.100.1"}
    assert table(kernel).keys() == {"192.168.100.0/24", "0.0.0.0/0"}


def test_somebodys_rule_that_says_the_same_is_neither_ours_nor_in_the_way() -> None:
    theirs = PolicyRule(4, 11701, ip_network("192.168.100.4/32"), 117, 0)
    kernel = FakeKernel(MARKS, replace(machine(), rules=(theirs,)))
    converge(kernel, wish())
    assert [owns_policy_rule(each, MARKS) for each in kernel.rules] == [True, False, True]
    converge(kernel, Desired())
    assert kernel.rules == [theirs]


# --- Properties ------------------------------------------------------------------------------------------------------

OTHER_RULES = st.lists(
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
OUR_RULES = st.lists(
    st.builds(
        lambda priority, last, number, plain: PolicyRule(
            4, priority, ip_network(f"192.168.100.{last}/32"), number, MARKS.protocol, None, plain
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
WISHES = st.one_of(
    st.just(Desired()),
    st.builds(lambda found: desired(*found), ROUTES),
    st.builds(
        lambda found, last, gateway: wish(*found, address=ip_interface(f"192.168.100.{last}/24"), gateway=gateway),
        ROUTES,
        st.integers(4, 6),
        st.sampled_from(("192.168.100.1", "192.168.100.254", None)),
    ),
)


def mark_free(observed: Observed) -> tuple[set[object], tuple[PolicyRule, ...]]:
    return foreign(observed), tuple(each for each in observed.rules if not owns_policy_rule(each, MARKS))


@settings(max_examples=examples(300), deadline=None)
@given(OTHER_RULES, OUR_RULES, st.lists(WISHES, min_size=1, max_size=4), st.lists(st.integers(0, 9), max_size=4))
def test_any_walk_through_wishes_and_crashes_converges_and_leaves_other_peoples_rules(
    others: list[PolicyRule], leftovers: list[PolicyRule], walk: list[Desired], crashes: list[int]
) -> None:
    start = sorted((*others, *leftovers), key=lambda rule: rule.priority)
    kernel = FakeKernel(MARKS, replace(machine(), rules=tuple(start)))
    before = mark_free(kernel.observe())
    for wished, steps in zip(walk, [*crashes, *[0] * len(walk)], strict=False):
        actions: tuple[KernelAction, ...] = plan_kernel(wished, kernel.observe(), MARKS).actions
        for action in actions[:steps]:
            kernel.apply(action)
    last = walk[-1]
    converge(kernel, last)
    assert mark_free(kernel.observe()) == before
    if last.source is None:
        assert not any(owns_policy_rule(each, MARKS) for each in kernel.rules)
        assert not any(each.table == 117 for each in kernel.routes)
    elif last.source.gateway is not None and last.address is not None:
        own = f"{last.address.ip}/32"
        ours = [each for each in kernel.rules if owns_policy_rule(each, MARKS)]
        assert [(each.priority, str(each.source), each.table) for each in ours] == [
            (11700, own, 254),
            (11701, own, 117),
        ]
        assert {"192.168.100.0/24", "0.0.0.0/0"} <= table(kernel).keys()


def test_a_link_that_comes_back_has_its_table_again() -> None:
    kernel = FakeKernel(MARKS, machine())
    converge(kernel, wish())
    tmp0 = next(link.index for link in kernel.links.values() if link.name == "tmp0")
    kernel.delete_link(tmp0)
    assert table(kernel) == {}
    converge(kernel, wish())
    assert table(kernel).keys() == {"192.168.100.0/24", "0.0.0.0/0"}


def test_on_the_interface_itself() -> None:
    kernel = FakeKernel(MARKS, machine(Link(9, "eth1", "veth", None, None, up=True), Address(9, V6, None)))
    base = wish()
    assert base.link is not None
    on_eth0 = replace(base, link=replace(base.link, name="eth0", kind="address"))
    converge(kernel, on_eth0)
    assert {hop.link for each in kernel.routes if each.table == 117 for hop in each.next_hops} == {2}
    converge(kernel, Desired())
    assert not kernel.rules
