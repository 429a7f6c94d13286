"""The plan for a node's kernel: it converges from any state, completes an interrupted plan, and never changes anything
without our mark."""

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay_net.domain.kernel.ownership import owns_address, owns_link, owns_route
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.domain.kernel.report import configured_address, make_report
from overlay_net.model.desired_route import DesiredRoute
from overlay_net.model.kernel import Address, Desired, DesiredLink, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import AddRoute, AdoptLink, DeleteAddress, DeleteLink, ReplaceRoute, SetSysctl
from overlay_net.model.route import NextHop, Route
from tests.examples import examples
from tests.fakes.kernel import FakeKernel
from tests.unit.factories import desired_route, overlay

MARK = OwnershipMark(117, "overlay-net")
LINK = DesiredLink("tmp0", "eth0")
ETH0 = Link(2, "eth0", "veth", None, None, up=True)
ETH0_ADDRESS = Address(2, ip_interface("10.176.162.151/26"), None)
OVERLAY = ip_interface("192.168.100.4/24")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def route(subnet: str = "192.168.0.0/24", *gateways: str, metric: int = 0, table: int = 254) -> DesiredRoute:
    return desired_route(subnet, *(gateways or ("192.168.100.1",)), metric=metric, table=table)


def desired(*routes: DesiredRoute, address: object = OVERLAY) -> Desired:
    return Desired(LINK, address, routes)  # type: ignore[arg-type]


def machine(*more: object) -> Observed:
    """A node without anything of ours, and whatever else is given."""
    return Observed(
        links=(ETH0, *(each for each in more if isinstance(each, Link))),
        addresses=(ETH0_ADDRESS, *(each for each in more if isinstance(each, Address))),
        routes=tuple(each for each in more if isinstance(each, Route)),
        sysctls={("eth0", "arp_ignore"): "0"},
    )


def converge(kernel: FakeKernel, target: Desired, *, passes: int = 5) -> None:
    for _ in range(passes):
        plan = plan_kernel(target, kernel.observe(), MARK)
        if not plan.actions:
            return
        for action in plan.actions:
            kernel.apply(action)
    raise AssertionError(f"it does not converge: {plan_kernel(target, kernel.observe(), MARK).actions}")


def foreign(observed: Observed) -> set[object]:
    """Everything without our mark, except the routes that the kernel adds for our own addresses."""
    ours = {link.index for link in observed.links if owns_link(link, MARK)}
    return {
        *(link for link in observed.links if not owns_link(link, MARK)),
        *(each for each in observed.addresses if not owns_address(each, observed, MARK)),
        *(
            each
            for each in observed.routes
            if not owns_route(each, MARK) and not any(hop.link in ours for hop in each.next_hops)
        ),
    }


def test_link_address_and_route_are_configured_from_nothing() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired(route()))
    after = kernel.observe()
    (tmp0,) = [link for link in after.links if link.name == "tmp0"]
    assert (tmp0.kind, tmp0.parent, tmp0.alias, tmp0.up) == ("macvlan", 2, "overlay-net", True)
    assert Address(tmp0.index, OVERLAY, 117) in after.addresses
    hop = NextHop(ip_address("192.168.100.1"), tmp0.index)
    assert Route(ip_network("192.168.0.0/24"), (hop,), 117, source=OVERLAY.ip) in after.routes
    values = {key: value for (link, key), value in after.sysctls.items() if link == "tmp0"}
    assert values == {
        "rp_filter": "2",
        "arp_ignore": "1",
        "arp_announce": "2",
        "promote_secondaries": "1",
        "proxy_arp": "0",
        "accept_redirects": "0",
        "send_redirects": "0",
        "ipv6.accept_redirects": "0",
        "ipv6.accept_ra": "0",
        "ipv6.accept_dad": "1",
    }
    assert after.sysctls["eth0", "arp_ignore"] == "1", "else the parent answers ARP for the overlay address"
    assert plan_kernel(desired(route()), after, MARK).placed == ((route(), "tmp0"),)


def test_a_changed_gateway_replaces_the_route_in_place() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired(route()))
    (action,) = plan_kernel(desired(route("192.168.0.0/24", "192.168.100.254")), kernel.observe(), MARK).actions
    assert isinstance(action, ReplaceRoute)


def test_a_changed_address_is_added_first_and_the_previous_one_deleted_last() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired(route()))
    target = desired(route(), address=ip_interface("192.168.100.9/24"))
    kinds = [type(action).__name__ for action in plan_kernel(target, kernel.observe(), MARK).actions]
    assert kinds == ["AddAddress", "ReplaceRoute", "DeleteAddress"]


def test_routes_are_added_before_others_are_deleted() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired(route("10.1.0.0/16")))
    kinds = [type(each).__name__ for each in plan_kernel(desired(route("10.2.0.0/16")), kernel.observe(), MARK).actions]
    assert kinds == ["AddRoute", "DeleteRoute"]


def test_several_gateways_become_one_multipath_route() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired(route("10.1.0.0/16", "192.168.100.3", "192.168.100.1")))
    (found,) = [each for each in kernel.routes if each.subnet == ip_network("10.1.0.0/16")]
    assert [str(hop.gateway) for hop in found.next_hops] == ["192.168.100.1", "192.168.100.3"]


def test_a_gateway_on_the_private_network_uses_its_interface_and_source() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired(route("10.1.0.0/16", "10.176.162.129")))
    (found,) = [each for each in kernel.routes if each.subnet == ip_network("10.1.0.0/16")]
    assert (found.next_hops[0].link, found.source) == (2, None)


@pytest.mark.parametrize(
    ("target", "more", "reason", "part"),
    [
        (desired(route("10.1.0.0/16", "10.9.0.254")), (), "GatewayNotOnLink", "10.9.0.254"),
        (desired(desired_route("10.1.0.0/16")), (), "NoGateway", "no overlay gateway"),
        (desired(route(), route()), (), "Duplicate", "specified twice"),
        (
            desired(route()),
            (Route(ip_network("192.168.0.0/24"), (NextHop(ip_address("10.176.162.129"), 2),), 186),),
            "ForeignRoute",
            "186",
        ),
        (desired(route()), (Link(9, "tmp0", "vlan", 2, None, up=True),), "LinkNameTaken", "vlan"),
        (Desired(DesiredLink("tmp0", "eth7"), OVERLAY), (), "ParentMissing", "eth7"),
    ],
)
def test_an_impossible_part_is_reported_and_the_rest_is_configured(
    target: Desired, more: tuple[object, ...], reason: str, part: str
) -> None:
    kernel = FakeKernel(MARK, machine(*more))
    before = foreign(kernel.observe())
    converge(kernel, target)
    problems = plan_kernel(target, kernel.observe(), MARK).problems
    assert any(each.reason == reason and part in each.message for each in problems), problems
    # The subnet is beside the message wherever it is shown.
    assert [each for each in problems if each.route is not None and str(each.route.subnet) in each.message] == []
    assert foreign(kernel.observe()) == before


def test_a_route_without_reachable_gateway_keeps_the_one_in_the_kernel() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired(route()))
    assert not plan_kernel(desired(route("192.168.0.0/24", "10.9.0.254")), kernel.observe(), MARK).actions


def test_the_earlier_operators_link_is_adopted_if_it_has_the_nodes_address() -> None:
    link = Link(9, "tmp0", "macvlan", 2, None, up=True)
    unmanaged = machine(link, Address(9, OVERLAY, None))
    assert AdoptLink("tmp0") in plan_kernel(desired(), unmanaged, MARK).actions
    kernel = FakeKernel(MARK, unmanaged)
    converge(kernel, desired(route()))
    assert Address(9, OVERLAY, 117) in kernel.addresses
    other = machine(link, Address(9, ip_interface("192.168.100.5/24"), None))
    assert not plan_kernel(desired(), other, MARK).actions


def test_the_earlier_operators_address_gets_the_prefix_length_of_the_pool() -> None:
    link = Link(7, "tmp0", "macvlan", 2, None, up=True)
    kernel = FakeKernel(MARK, machine(link, Address(7, ip_interface("192.168.100.4/25"), None)))
    converge(kernel, desired(route()))
    on_link = [each for each in kernel.observe().addresses if each.link == 7]
    assert [(str(each.interface), each.protocol) for each in on_link] == [("192.168.100.4/24", 117)]


def test_an_address_without_our_mark_is_not_reported_as_removed() -> None:
    """On a link of the earlier operator that was never adopted: an address in use must not be released."""
    link = Link(7, "tmp0", "macvlan", 2, None, up=True)
    observed = machine(link, Address(7, OVERLAY, None))
    deleted = overlay(status={"ipAddr": str(OVERLAY)}, deleting=True)
    configured = configured_address(deleted, Desired(), observed, MARK)
    report = make_report(deleted, Desired(), LINK, plan_kernel(Desired(), observed, MARK), {}, configured, NOW)
    assert configured == OVERLAY
    assert [(each.status, each.reason) for each in report.conditions if each.type == "Configured"] == [
        (False, "Releasing")
    ]


def test_a_previous_address_still_in_the_kernel_is_the_reported_one() -> None:
    link = Link(7, "tmp0", "macvlan", 2, "overlay-net", up=True)
    old = ip_interface("192.168.100.9/24")
    observed = machine(link, Address(7, old, 117), Address(7, OVERLAY, 117))
    moving = overlay(status={"ipAddr": str(OVERLAY)})
    assert configured_address(moving, desired(), observed, MARK) == old
    moved = machine(link, Address(7, OVERLAY, 117))
    assert configured_address(moving, desired(), moved, MARK) == OVERLAY


def test_a_missing_parent_does_not_remove_the_source_of_routes() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired(route()))
    before = kernel.observe()
    renamed = replace(
        before, links=tuple(replace(each, name="eth9") if each.index == 2 else each for each in before.links)
    )
    assert not plan_kernel(desired(route()), renamed, MARK).actions


def test_an_ipv6_route_over_the_overlay_link_has_no_ipv4_source() -> None:
    link = Link(7, "tmp0", "macvlan", 2, "overlay-net", up=True)
    observed = machine(link, Address(7, OVERLAY, 117), Address(7, ip_interface("2001:db8::4/64"), 117))
    plan = plan_kernel(desired(route("2001:db8:1::/48", "2001:db8::1")), observed, MARK)
    (added,) = [each.route for each in plan.actions if isinstance(each, AddRoute) and each.route.protocol == 117]
    assert added.source is None


def test_a_foreign_route_with_the_key_of_ours_changes_nothing() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired(route()))
    ours = next(each for each in kernel.observe().routes if each.protocol == 117)
    observed = replace(kernel.observe(), routes=(*kernel.observe().routes, ours.replace(protocol=186)))
    plan = plan_kernel(desired(route()), observed, MARK)
    assert (plan.actions, plan.problems) == ((), ())


def test_our_link_on_another_parent_is_recreated_and_obsolete_links_are_deleted() -> None:
    other = Link(3, "eth1", "veth", None, None, up=True)
    wrong = Link(9, "tmp0", "macvlan", 3, "overlay-net", up=True)
    leftover = Link(10, "tmp1", "macvlan", 2, "overlay-net", up=True)
    kernel = FakeKernel(MARK, machine(other, wrong, leftover))
    converge(kernel, desired(route()))
    assert {(link.name, link.parent) for link in kernel.links.values() if link.kind == "macvlan"} == {("tmp0", 2)}


def test_our_link_that_someone_renamed_is_replaced_by_one_with_its_mac() -> None:
    """The kernel brings up only one of two macvlans with the same MAC."""
    target = replace(desired(route()), link=replace(LINK, mac="02:00:00:00:00:77"))
    kernel = FakeKernel(MARK, machine())
    converge(kernel, target)
    tmp0 = next(link for link in kernel.links.values() if link.name == "tmp0")
    kernel.links[tmp0.index] = replace(tmp0, name="renamed0")
    converge(kernel, target)
    macvlans = [(link.name, link.mac) for link in kernel.links.values() if link.kind == "macvlan"]
    assert macvlans == [("tmp0", "02:00:00:00:00:77")]


def test_an_empty_desired_state_removes_exactly_our_objects_link_last() -> None:
    kernel = FakeKernel(MARK, machine())
    before = kernel.observe()
    converge(kernel, desired(route()))
    kinds = [type(action) for action in plan_kernel(Desired(), kernel.observe(), MARK).actions]
    assert kinds[-1] is DeleteLink
    converge(kernel, Desired())
    assert replace(kernel.observe(), sysctls={}) == replace(before, sysctls={})


def test_changed_sysctls_are_set_again() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired())
    kernel.sysctls["tmp0", "arp_ignore"] = "0"
    assert plan_kernel(desired(), kernel.observe(), MARK).actions == (SetSysctl("tmp0", "arp_ignore", "1"),)


def test_without_address_protocols_every_address_on_our_link_is_managed() -> None:
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired())
    tmp0 = next(link for link in kernel.links.values() if link.name == "tmp0")
    kernel.addresses.append(Address(tmp0.index, ip_interface("192.168.100.99/24"), None))
    drop = DeleteAddress("tmp0", ip_interface("192.168.100.99/24"))
    assert drop not in plan_kernel(desired(), kernel.observe(), MARK).actions
    assert drop in plan_kernel(desired(), replace(kernel.observe(), keeps_address_protocol=False), MARK).actions


# --- Properties ------------------------------------------------------------------------------------------------------

SUBNETS = [f"10.{number}.0.0/16" for number in range(4)]
GATEWAYS = ["192.168.100.1", "192.168.100.254", "10.176.162.129", "10.9.0.254"]
routes = st.lists(
    st.builds(
        lambda subnet, gateways, metric: route(subnet, *gateways, metric=metric),
        st.sampled_from(SUBNETS),
        st.lists(st.sampled_from(GATEWAYS), min_size=1, max_size=2, unique=True),
        st.sampled_from([0, 50]),
    ),
    max_size=4,
)
desired_states = st.builds(
    lambda found, last: desired(*found, address=ip_interface(f"192.168.100.{last}/24")), routes, st.integers(4, 6)
) | st.just(Desired())
foreigners = st.lists(
    st.one_of(
        st.builds(
            lambda subnet, protocol: Route(ip_network(subnet), (NextHop(ip_address("10.176.162.129"), 2),), protocol),
            st.sampled_from(SUBNETS),
            st.sampled_from([2, 4, 186]),
        ),
        st.builds(lambda last: Address(2, ip_interface(f"172.31.0.{last}/32"), None), st.integers(1, 3)),
        st.builds(lambda last: Link(20 + last, f"other{last}", "veth", None, None, up=True), st.integers(1, 3)),
    ),
    max_size=5,
    unique_by=lambda each: each.key if isinstance(each, Route) else each,
)


@settings(max_examples=examples(300), deadline=None)
@given(
    foreigners, st.lists(desired_states, min_size=1, max_size=4), st.lists(st.integers(0, 8), max_size=4), st.booleans()
)
def test_any_history_of_changes_crashes_and_flaps_converges_and_keeps_foreign_objects(
    others: list[object], history: list[Desired], crashes: list[int], flap: bool
) -> None:
    kernel = FakeKernel(MARK, machine(*others))
    before = foreign(kernel.observe())
    for target, steps in zip(history, [*crashes, *[0] * len(history)], strict=False):
        # A process that dies after some actions.
        for action in plan_kernel(target, kernel.observe(), MARK).actions[:steps]:
            kernel.apply(action)
    tmp0 = next((link.index for link in kernel.links.values() if link.name == "tmp0"), None)
    if flap and tmp0 is not None:
        kernel.set_down(tmp0)
    converge(kernel, history[-1])
    assert foreign(kernel.observe()) == before
    final = plan_kernel(history[-1], kernel.observe(), MARK)
    with_problem = {problem.route for problem in final.problems}
    assert {placed for placed, _ in final.placed} | with_problem >= set(history[-1].routes)
    if history[-1] == Desired():
        assert not any(owns_route(each, MARK) for each in kernel.routes)
        assert not any(owns_link(each, MARK) for each in kernel.links.values())
