"""The routes that the kernel derives from the overlay address are restored, and never in the way of the node."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from overlay_net.domain.kernel.connected_route import NODE_SUBNET_METRIC
from overlay_net.domain.kernel.plan import KernelPlanner, plan_kernel
from overlay_net.domain.kernel.report import configured_address, make_report
from overlay_net.model.kernel import Address, Desired, DesiredLink, Link
from overlay_net.model.kernel_actions import AddAddress, AddLocalRoute, AddRoute, DeleteAddress, Problem
from overlay_net.model.net import IpInterface
from overlay_net.model.route import RTPROT_KERNEL, NextHop, Route
from tests.fakes.kernel import FakeKernel
from tests.unit.factories import overlay
from tests.unit.test_kernel_plan import LINK, MARK, NOW, OVERLAY, converge, desired, machine, route

V6 = ip_interface("fd00:100::4/64")
ADDRESS_MODE = DesiredLink("eth0", "eth0", "address")
NODE_IP = ip_address("10.176.162.151")
IN_SUBNET = {4: ip_interface("192.168.100.77/24"), 6: ip_interface("fd00:100::77/64")}
BY_FAMILY = pytest.mark.parametrize("address", [OVERLAY, V6], ids=["IPv4", "IPv6"])
BY_MODE = pytest.mark.parametrize("link", [LINK, ADDRESS_MODE], ids=["macvlan", "address"])


def target(address: IpInterface = OVERLAY, link: DesiredLink = LINK) -> Desired:
    gateway = {4: "192.168.100.1", 6: "fd00:100::1"}[address.version]
    subnet = {4: "10.1.0.0/16", 6: "fd00:1::/48"}[address.version]
    return Desired(link, address, (route(subnet, gateway),), interface="eth0", node_ip=NODE_IP)


def converged(state: Desired, *more: object) -> FakeKernel:
    kernel = FakeKernel(MARK, machine(*more))
    converge(kernel, state)
    return kernel


def index(kernel: FakeKernel, name: str) -> int:
    return next(link.index for link in kernel.links.values() if link.name == name)


def conditions(
    kernel: FakeKernel, state: Desired, errors: dict[object, str] | None = None
) -> dict[str, tuple[object, str]]:
    observed = kernel.observe()
    found = overlay(status={"ipAddr": str(state.address)})
    plan = plan_kernel(state, observed, MARK)
    configured = configured_address(found, state, observed, MARK)
    assert state.link is not None
    report = make_report(found, state, state.link, plan, errors or {}, configured, NOW)  # type: ignore[arg-type]
    return {each.type: (each.status, each.reason) for each in report.conditions}


def problems(kernel: FakeKernel, state: Desired) -> tuple[Problem, ...]:
    return plan_kernel(state, kernel.observe(), MARK).problems


@BY_FAMILY
@BY_MODE
@pytest.mark.parametrize("flushed", ["connected", "all"])
def test_deleted_connected_route_is_restored_before_the_routes_that_need_it(
    address: IpInterface, link: DesiredLink, flushed: str
) -> None:
    state = target(address, link)
    kernel = converged(state)
    before = set(kernel.routes)
    kernel.routes = [
        each
        for each in kernel.routes
        if each.subnet != address.network and (flushed == "connected" or not each.next_hops)
    ]
    assert conditions(kernel, state)["Configured"] == (False, "ConnectedRouteMissing")
    assert conditions(kernel, state)["Ready"] == (False, "NotConfigured")
    first = plan_kernel(state, kernel.observe(), MARK).actions[0]
    assert isinstance(first, AddRoute)
    assert (first.route.subnet, first.route.protocol) == (address.network, RTPROT_KERNEL)
    converge(kernel, state)
    assert set(kernel.routes) == {each for each in before if flushed == "connected" or each.next_hops}
    assert conditions(kernel, state)["Ready"] == (True, "Ready")
    converge(kernel, Desired())
    assert all(each.subnet != address.network for each in kernel.routes), "it is deleted with the address"


def test_refused_connected_route_is_reported_with_the_error_of_the_kernel() -> None:
    state = target()
    kernel = converged(state)
    kernel.routes = [each for each in kernel.routes if each.subnet != OVERLAY.network]
    observed, found = kernel.observe(), overlay(status={"ipAddr": str(OVERLAY)})
    plan = plan_kernel(state, observed, MARK)
    report = make_report(found, state, LINK, plan, {None: "add route: no buffer space"}, OVERLAY, NOW)
    configured = next(each for each in report.conditions if each.type == "Configured")
    assert (configured.reason, "no buffer space" in configured.message) == ("ConnectedRouteMissing", True)


@pytest.mark.parametrize("address", ["192.168.100.4/32", "fd00:100::4/128"])
def test_address_without_a_subnet_needs_no_connected_route(address: str) -> None:
    state = Desired(LINK, ip_interface(address))
    kernel = converged(state)
    assert not [each for each in kernel.routes if each.subnet == ip_network(address)]
    assert conditions(kernel, state)["Ready"] == (True, "Ready")


def test_subnet_of_two_addresses_has_a_connected_route() -> None:
    state = Desired(LINK, ip_interface("192.168.100.4/31"))
    kernel = converged(state)
    kernel.routes.clear()
    assert conditions(kernel, state)["Configured"] == (False, "ConnectedRouteMissing")


def test_link_that_is_down_gets_its_connected_route_from_the_kernel() -> None:
    state = target()
    kernel = converged(state)
    kernel.set_down(index(kernel, "tmp0"))
    actions = plan_kernel(state, kernel.observe(), MARK).actions
    assert not [each for each in actions if isinstance(each, AddRoute) and each.route.protocol == RTPROT_KERNEL]
    converge(kernel, state)
    assert conditions(kernel, state)["Ready"] == (True, "Ready")


@pytest.mark.parametrize(
    ("change", "equivalent"),
    [
        ({"protocol": 4}, True),
        ({"source": None}, True),
        ({"source": ip_address("192.168.100.77")}, False),
        ({"next_hops": (NextHop(None, 2),)}, False),
        ({"next_hops": (NextHop(ip_address("10.176.162.129"), 2),), "protocol": 3}, False),
        ({"next_hops": (), "kind": "blackhole"}, False),
        ({"kind": None, "protocol": 9}, True),
    ],
)
def test_route_of_another_process_in_its_place_is_kept_and_reported_if_it_leads_elsewhere(
    change: dict[str, object], equivalent: bool
) -> None:
    state = target()
    kernel = converged(state)
    kernel.routes = [
        each.replace(**change) if each.subnet == OVERLAY.network else each  # type: ignore[arg-type]
        for each in kernel.routes
    ]
    plan = plan_kernel(state, kernel.observe(), MARK)
    assert plan.actions == ()
    assert [each.reason for each in plan.problems] == ([] if equivalent else ["ConnectedRouteShadowed"])
    if not equivalent:
        kernel.routes = [each for each in kernel.routes if each.subnet != OVERLAY.network]
        converge(kernel, state)
        assert conditions(kernel, state)["Ready"] == (True, "Ready")


@pytest.mark.parametrize(
    ("address", "metric", "first", "wins"),
    [(OVERLAY, 0, True, True), (OVERLAY, 0, False, False), (OVERLAY, 100, True, False), (V6, 100, False, True)],
)
def test_route_that_the_kernel_prefers_is_reported(address: IpInterface, metric: int, first: bool, wins: bool) -> None:
    """`ip route prepend`, and a lower metric than that of IPv6 connected routes."""
    state = target(address)
    kernel = converged(state)
    theirs = Route(address.network, (NextHop(None, 2),), 3, metric)
    kernel.routes = [theirs, *kernel.routes] if first else [*kernel.routes, theirs]
    plan = plan_kernel(state, kernel.observe(), MARK)
    assert plan.actions == ()
    assert [each.reason for each in plan.problems] == (["ConnectedRouteShadowed"] if wins else [])
    assert not wins or "over eth0" in plan.problems[0].message


def test_connected_route_in_the_table_of_a_vrf_is_enough() -> None:
    state = target()
    kernel = converged(state)
    kernel.routes = [each.replace(table=10) if each.protocol == RTPROT_KERNEL else each for each in kernel.routes]
    plan = plan_kernel(state, kernel.observe(), MARK)
    assert (plan.actions, plan.problems) == ((), ())


def test_changed_subnet_is_looked_up_among_unchanged_routes() -> None:
    kernel, planner = converged(target()), KernelPlanner(MARK)
    address = ip_interface("192.168.100.4/16")
    wider = replace(target(), address=address)
    observed = kernel.observe()
    assert not planner.plan(target(), observed).problems
    others = tuple(
        replace(each, interface=address) if each.interface == OVERLAY else each for each in observed.addresses
    )
    plan = planner.plan(wider, replace(observed, addresses=others))
    assert [each.reason for each in plan.problems] == ["ConnectedRouteMissing"]


@BY_FAMILY
@BY_MODE
def test_deleted_local_route_is_restored(address: IpInterface, link: DesiredLink) -> None:
    state = target(address, link)
    kernel = converged(state)
    kernel.addresses = [replace(each, has_local_route=each.interface != address) for each in kernel.addresses]
    assert conditions(kernel, state)["Configured"] == (False, "LocalRouteMissing")
    assert conditions(kernel, state)["Ready"] == (False, "NotConfigured")
    kinds = [type(each) for each in plan_kernel(state, kernel.observe(), MARK).actions]
    assert kinds[:2] == ([AddLocalRoute] if address.version == 4 else [DeleteAddress, AddAddress])
    converge(kernel, state)
    assert conditions(kernel, state)["Ready"] == (True, "Ready")


@BY_FAMILY
@pytest.mark.parametrize("prefix", ["same", "wider", "narrower"])
def test_address_that_the_kernel_prefers_on_our_link_is_reported_and_kept(address: IpInterface, prefix: str) -> None:
    state = target(address)
    kernel = converged(state)
    tmp0 = index(kernel, "tmp0")
    length = address.network.prefixlen + {"same": 0, "wider": -1, "narrower": 1}[prefix]
    theirs = Address(tmp0, ip_interface(f"{IN_SUBNET[address.version].ip}/{length}"), None)
    kernel.addresses.append(theirs)
    assert conditions(kernel, state)["Ready"] == (True, "Ready"), "the kernel prefers ours"
    kernel.addresses.remove(theirs)
    kernel.addresses.insert(0, theirs)
    plan = plan_kernel(state, kernel.observe(), MARK)
    assert (plan.actions, [each.reason for each in plan.problems]) == ((), ["AddressNotPreferred"])
    assert conditions(kernel, state)["Ready"] == (False, "NotConfigured")


@pytest.mark.parametrize(
    "theirs",
    [
        Address(3, ip_interface("192.168.100.77/32"), None),
        Address(3, ip_interface("172.31.0.1/24"), None),
        Address(3, ip_interface("192.168.100.9/24"), MARK.protocol),
        Address(3, ip_interface("fd00:100::77/64"), None, deprecated=True),
        Address(3, ip_interface("fd00:100::77/64"), None, dad_failed=True),
        Address(3, ip_interface("fe80::1/64"), None, link_local=True),
    ],
)
def test_address_that_the_kernel_does_not_choose_is_not_reported(theirs: Address) -> None:
    address = OVERLAY if theirs.interface.version == 4 else V6
    kernel = converged(target(address))
    assert index(kernel, "tmp0") == 3
    kernel.addresses.insert(0, theirs)
    assert not problems(kernel, target(address))


def test_secondary_address_with_link_mode_address_is_reported_unless_the_subnet_is_that_of_the_node() -> None:
    theirs = Address(2, IN_SUBNET[4], None)
    state = target(link=ADDRESS_MODE)
    kernel = FakeKernel(MARK, machine())
    kernel.add_address(theirs)
    converge(kernel, state)
    assert [each.reason for each in problems(kernel, state)] == ["AddressNotPreferred"]
    of_the_node = replace(state, node_ip=theirs.interface.ip)
    assert not problems(kernel, of_the_node)
    assert conditions(kernel, of_the_node)["Ready"] == (True, "Ready")
    kernel.routes = [each for each in kernel.routes if each.subnet != OVERLAY.network]
    plan = plan_kernel(of_the_node, kernel.observe(), MARK)
    assert plan.actions == (), "the route of the node's own address is not ours"
    assert conditions(kernel, of_the_node)["Configured"] == (False, "ConnectedRouteMissing")


def test_primary_overlay_address_yields_to_the_address_of_the_node() -> None:
    theirs = Address(2, IN_SUBNET[4], None)
    state = replace(target(link=ADDRESS_MODE), node_ip=theirs.interface.ip)
    kernel = converged(state)
    kernel.addresses.append(theirs)
    plan = plan_kernel(state, kernel.observe(), MARK)
    assert (plan.actions, [each.reason for each in plan.problems]) == ((), ["NodeSubnet"])
    assert "promote_secondaries" in plan.problems[0].message
    kernel.sysctls["eth0", "promote_secondaries"] = "1"
    converge(kernel, state)
    assert [each.interface for each in kernel.addresses if each.interface.network == OVERLAY.network] == [
        theirs.interface,
        OVERLAY,
    ]
    assert conditions(kernel, state)["Ready"] == (True, "Ready")


@BY_FAMILY
@pytest.mark.parametrize("order", ["before", "after"])
def test_traffic_of_a_node_in_the_overlay_subnet_keeps_its_own_link(address: IpInterface, order: str) -> None:
    theirs = Address(2, IN_SUBNET[address.version], None)
    kernel = FakeKernel(MARK, machine())
    if order == "after":
        converge(kernel, target(address))
    kernel.add_address(theirs)
    converge(kernel, target(address))
    for flapped in ("eth0", "tmp0", "eth0"):
        kernel.set_down(index(kernel, flapped))
        kernel.set_up(kernel.links[index(kernel, flapped)])
        converge(kernel, target(address))
        to_subnet = [each for each in kernel.routes if each.subnet == address.network]
        best, ours = sorted(to_subnet, key=lambda each: each.metric)
        assert (best.next_hops[0].link, ours.metric) == (2, NODE_SUBNET_METRIC)
        assert conditions(kernel, target(address))["Ready"] == (True, "Ready")
    kernel.delete_address(2, theirs.interface)
    converge(kernel, target(address))
    (alone,) = [each for each in kernel.routes if each.subnet == address.network]
    assert (alone.next_hops[0].link, alone.metric) == (index(kernel, "tmp0"), 0 if address.version == 4 else 256)


def test_connected_route_behind_that_of_the_node_is_restored_there() -> None:
    theirs = Address(2, IN_SUBNET[4], None)
    kernel = FakeKernel(MARK, machine())
    kernel.add_address(theirs)
    converge(kernel, target())
    before = set(kernel.routes)
    kernel.routes = [each for each in kernel.routes if each.metric != NODE_SUBNET_METRIC]
    converge(kernel, target())
    assert set(kernel.routes) == before


def test_overlay_subnet_on_a_link_that_is_not_the_parent_is_refused() -> None:
    other = Link(7, "docker0", "bridge", None, None, up=True)
    kernel = FakeKernel(MARK, machine(other))
    kernel.add_address(Address(7, IN_SUBNET[4], None))
    converge(kernel, target())
    (problem,) = problems(kernel, target())
    assert (problem.reason, "docker0" in problem.message) == ("NodeSubnet", True)
    assert conditions(kernel, target())["Ready"] == (False, "NotConfigured")


@pytest.mark.parametrize("in_container", [False, True], ids=["physical parent", "parent is a macvlan itself"])
def test_overlay_subnet_on_another_link_of_the_parent_is_accepted(in_container: bool) -> None:
    manual = Link(7, "hand0", "macvlan", 2, None, up=True)
    node = machine(manual)
    if in_container:
        # The kernel attaches macvlans on a macvlan to the link below it, which is in the namespace of the host.
        links = (replace(each, kind="macvlan", parent=None, outside=(0, 5)) for each in node.links)
        node = replace(node, links=tuple(links))
    kernel = FakeKernel(MARK, node)
    kernel.add_address(Address(7, IN_SUBNET[4], None))
    converge(kernel, target())
    assert conditions(kernel, target())["Ready"] == (True, "Ready")
    to_subnet = [each for each in kernel.routes if each.subnet == OVERLAY.network]
    assert min(to_subnet, key=lambda each: each.metric).next_hops[0].link == 7


def test_kernel_without_metrics_of_addresses_is_reported() -> None:
    """Before Linux 4.18 the metric of an address is ignored."""
    theirs = Address(2, IN_SUBNET[4], None)
    kernel = FakeKernel(MARK, machine())
    kernel.add_address(theirs)
    converge(kernel, target())
    kernel.addresses = [replace(each, metric=0) for each in kernel.addresses]
    plan = plan_kernel(target(), kernel.observe(), MARK)
    assert plan.actions == (AddAddress("tmp0", OVERLAY, NODE_SUBNET_METRIC),)
    assert [each.reason for each in plan.problems] == ["NodeSubnet"]


def test_other_addresses_are_untouched() -> None:
    kernel = converged(desired(route()))
    before = [each for each in kernel.addresses if each.link == 2]
    kernel.routes.clear()
    converge(kernel, desired(route()))
    assert [each for each in kernel.addresses if each.link == 2] == before
