"""The parent interface and the link modes: each mode converges from every other one and keeps foreign objects."""

import errno
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay_net.domain.kernel.desired import LinkConfig, desired_link, desired_state, stable_mac
from overlay_net.domain.kernel.ownership import owns_address_anywhere, owns_link, owns_route
from overlay_net.domain.kernel.parent_interface import (
    ByAddress,
    ByName,
    ByRoute,
    InterfaceSelector,
    choose_parent,
    explain_missing,
    interface_selector,
)
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.domain.kernel.report import configured_address, make_report
from overlay_net.model.conditions import find_condition
from overlay_net.model.errors import ConfigurationError, KernelError
from overlay_net.model.kernel import Address, Desired, Link, Observed, OwnershipMark
from overlay_net.model.kernel_actions import (
    AddAddress,
    AddLink,
    DeleteAddress,
    DeleteLink,
    KernelAction,
    KernelPlan,
    SetMacvlanMode,
    SetMtu,
)
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route import NextHop, Route
from overlay_net.settings.agent import AgentSettings
from overlay_net.settings.loading import load
from tests.examples import examples
from tests.fakes.kernel import FakeKernel
from tests.unit.factories import overlay

MARK = OwnershipMark(117, "overlay-net")
OVERLAY = ip_interface("192.168.100.4/24")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LO = Link(1, "lo", None, None, None, up=True)
ETH0 = Link(2, "eth0", "veth", None, None, up=True, mtu=1500, mac="52:54:00:00:00:01")
ETH1 = Link(3, "eth1", "veth", None, None, up=True, mtu=9000, mac="52:54:00:00:00:02")
PRIVATE, PUBLIC = Address(2, ip_interface("10.176.162.151/26"), None), Address(3, ip_interface("169.61.1.9/28"), None)


def hop(gateway: str | None, link: int) -> tuple[NextHop, ...]:
    return (NextHop(ip_address(gateway) if gateway else None, link),)


ROUTES = (
    Route(ip_network("10.176.162.128/26"), hop(None, 2), 2),
    Route(ip_network("10.0.0.0/8"), hop("10.176.162.129", 2), 4),
    Route(ip_network("169.61.1.0/28"), hop(None, 3), 2),
    Route(ip_network("0.0.0.0/0"), hop("169.61.1.1", 3), 4),
)


def machine(*more: object) -> Observed:
    return Observed(
        links=(LO, ETH0, ETH1, *(each for each in more if isinstance(each, Link))),
        addresses=(PRIVATE, PUBLIC, *(each for each in more if isinstance(each, Address))),
        routes=(*ROUTES, *(each for each in more if isinstance(each, Route))),
        sysctls={("eth0", "arp_ignore"): "0", ("eth1", "arp_ignore"): "0"},
    )


class ModesKernel(FakeKernel):
    """With secondary addresses as in Linux, which also refuses two kinds of links on one parent."""

    def apply(self, action: KernelAction) -> None:
        match action:
            case AddLink(_, parent, kind):
                below = self._named(parent)
                foreign_objects = {link.kind for link in self.links.values() if link.parent == below.index}
                if foreign_objects & {"macvlan", "ipvlan"} - {kind}:
                    # Each needs the parent's only rx_handler.
                    raise KernelError("busy", code=errno.EBUSY)
                super().apply(action)
            case DeleteAddress(name, interface):
                index = self._named(name).index
                subnet = [a for a in self.addresses if (a.link, a.interface.network) == (index, interface.network)]
                super().apply(action)
                promoted = self.sysctls.get((name, "promote_secondaries")) == "1"
                if subnet and subnet[0].interface == interface and not promoted:
                    for secondary in subnet[1:]:
                        super().apply(DeleteAddress(name, secondary.interface))
            case _:
                super().apply(action)


def link_config(mode: str = "macvlan", parent: str = "eth0", **more: object) -> LinkConfig:
    selector = interface_selector(parent, PRIVATE.interface.ip)
    mac = stable_mac("n1", "tmp0")
    return LinkConfig(selector, mode=mode, mac=mac, fallback=ip_network("10.0.0.0/8"), **more)  # type: ignore[arg-type]


def node(*gateways: str, address: str | None = str(OVERLAY), subnet: str = "192.168.0.0/24") -> NodeOverlay:
    hops = [{"address": each} for each in gateways]
    status = {} if address is None else {"ipAddr": address}
    routes = [{"subnet": subnet, "staticRoute": "r", "gateways": hops}]
    return overlay(spec={"routes": routes}, status=status)


NODE = node("192.168.100.1")


def desired_for(found: NodeOverlay | None, config: LinkConfig, observed: Observed) -> Desired:
    return desired_state(found, desired_link(config, observed, MARK), config.fallback)


def converge(kernel: FakeKernel, found: NodeOverlay | None, config: LinkConfig, passes: int = 6) -> KernelPlan:
    for _ in range(passes):
        observed = kernel.observe()
        plan = plan_kernel(desired_for(found, config, observed), observed, MARK)
        if not plan.actions:
            return plan
        for action in plan.actions:
            kernel.apply(action)
    raise AssertionError(f"it does not converge: {plan.actions}")


def reported(kernel: FakeKernel, found: NodeOverlay, config: LinkConfig) -> Report:
    observed = kernel.observe()
    link = desired_link(config, observed, MARK)
    desired = desired_state(found, link, config.fallback)
    plan = plan_kernel(desired, observed, MARK)
    return make_report(found, desired, link, plan, {}, configured_address(found, desired, observed, MARK), NOW)


def condition(report: Report, type_: str) -> tuple[bool | None, str]:
    found = find_condition(report.conditions, type_)
    assert found is not None
    return (found.status, found.reason)


def foreign(observed: Observed) -> set[object]:
    ours = {link.index for link in observed.links if owns_link(link, MARK)}
    return {
        *(link for link in observed.links if link.index not in ours),
        *(each for each in observed.addresses if not owns_address_anywhere(each, observed, MARK)),
        *(
            each
            for each in observed.routes
            if not owns_route(each, MARK)
            and not any(one.link in ours for one in each.next_hops)
            # The kernel's own route for a managed address.
            and not (each.protocol == 2 and each.subnet == OVERLAY.network)
        ),
    }


# --- The parent -------------------------------------------------------------------------------------------------------

OURS = Link(9, "tmp0", "macvlan", 3, "overlay-net", up=True)
DOWN0, DOWN1 = replace(ETH0, up=False), replace(ETH1, up=False)
BOND = Link(7, "bond1", "bond", None, None, up=True)
ENO1 = Link(4, "eno1", None, None, None, up=True, alternative_names=("eth0", "enp2s0"))
ENS3 = Link(5, "ens3", None, None, None, up=False, alternative_names=("enx525400", "private-network-of-rack-17"))
# Interfaces of a container on one link of its host, and the overlay link on it.
MAC_A = Link(2, "eth0", "macvlan", None, None, up=False, outside=(0, 5))
MAC_B = Link(3, "eth1", "macvlan", None, None, up=True, outside=(0, 5))
OUTSIDE = replace(OURS, parent=None, outside=(0, 5))


@pytest.mark.parametrize(
    ("text", "observed", "chosen"),
    [
        pytest.param("eth0", machine(), "eth0", id="a name"),
        pytest.param("eth7", machine(), None, id="a missing name"),
        pytest.param("eth7,eth1", machine(), "eth1", id="the first existing name"),
        pytest.param("bond*,eth0", machine(BOND), "bond1", id="patterns in their order"),
        pytest.param("bond*, eth0", machine(), "eth0", id="spaces between"),
        pytest.param("eth*", machine(), "eth0", id="the lowest index among equals"),
        pytest.param("eth*", Observed(links=(DOWN0, ETH1)), "eth1", id="prefers one that is up"),
        pytest.param("eth*", Observed(links=(ETH0, ETH1, OURS)), "eth1", id="the current one"),
        pytest.param("eth*", Observed(links=(ETH0, DOWN1, OURS)), "eth1", id="the current one, though down"),
        pytest.param("eth0,eth1", Observed(links=(ETH0, ETH1, OURS)), "eth0", id="an earlier pattern takes precedence"),
        pytest.param("eth0,eth1", Observed(links=(DOWN0, ETH1)), "eth0", id="an earlier pattern, though down"),
        pytest.param("*", Observed(links=(LO, OURS)), None, id="neither loopback nor a managed link"),
        pytest.param("tmp*", Observed(links=(replace(OURS, alias=None),)), None, id="nor a link of that name"),
        pytest.param("eth*", machine(Address(3, OVERLAY, 117)), "eth1", id="the one with our address"),
        pytest.param("route:10.1.2.3", machine(), "eth0", id="a route through a gateway"),
        pytest.param("route:10.176.162.130", machine(), "eth0", id="a route on the link"),
        pytest.param("route:8.8.8.8", machine(), "eth1", id="the default route"),
        pytest.param("route:2001:db8::1", machine(), None, id="no route of that family"),
        pytest.param(
            "route:10.1.2.3", machine(OURS, Route(ip_network("10.1.2.0/24"), hop("192.168.100.1", 9), 117)), "eth0"
        ),
        pytest.param("route:10.1.2.3", machine(Route(ip_network("10.1.0.0/16"), hop(None, 9), 4)), "eth0"),
        pytest.param("route:10.1.2.3", machine(Route(ip_network("10.1.0.0/16"), (), 4, kind="blackhole")), "eth0"),
        pytest.param(
            "route:8.8.8.8", Observed(links=(ETH0, DOWN1, OURS), routes=ROUTES[:2]), "eth1", id="down, not moved"
        ),
        pytest.param(
            "route:8.8.8.8", Observed(links=(MAC_A, MAC_B, OUTSIDE), routes=ROUTES), "eth1", id="of two alike"
        ),
        pytest.param("eth*", Observed(links=(ENO1, replace(ENS3, up=True))), "eno1", id="an alternative name"),
        pytest.param("enp3s0,enx*", Observed(links=(ENO1, ENS3)), "ens3", id="a pattern of alternative names"),
        pytest.param("private-network-of-rack-17", Observed(links=(ENO1, ENS3)), "ens3", id="a long alternative name"),
        pytest.param("e*", Observed(links=(ENO1, ENS3)), "eno1", id="one interface of several names"),
        pytest.param("node-ip", machine(), "eth0", id="the link with the node's address"),
        pytest.param("node-ip", Observed(links=(ETH0, ETH1), addresses=(PUBLIC,)), None, id="a missing address"),
    ],
)
def test_the_setting_selects_the_parent(text: str, observed: Observed, chosen: str | None) -> None:
    selector = interface_selector(text, PRIVATE.interface.ip)
    assert choose_parent(selector, observed, MARK, "tmp0") == chosen
    assert explain_missing(selector)


links = st.builds(
    Link,
    st.integers(1, 6),
    st.sampled_from(["lo", "eth0", "eth1", "bond0", "tmp0", "ens3"]),
    st.sampled_from([None, "macvlan", "veth"]),
    st.sampled_from([None, 2, 3]),
    st.sampled_from([None, "overlay-net"]),
    st.booleans(),
)
routes_somewhere = st.builds(
    Route,
    st.sampled_from([ip_network(each) for each in ("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16")]),
    st.integers(1, 7).map(lambda link: hop("10.9.9.9", link)),
    st.sampled_from([2, 4, 117]),
)
any_selector = st.sampled_from(
    [
        interface_selector(text, ip_address("10.0.0.1"))
        for text in ("eth0", "eth*,bond*", "*", "route:10.1.2.3", "node-ip")
    ]
)


@settings(deadline=None)
@given(
    any_selector,
    st.lists(links, max_size=5, unique_by=(lambda each: each.index, lambda each: each.name)),
    st.lists(routes_somewhere, max_size=4),
    st.lists(st.builds(Address, st.integers(1, 7), st.just(ip_interface("10.0.0.1/24")), st.none()), max_size=2),
    st.randoms(),
)
def test_the_parent_exists_is_foreign_and_independent_of_the_dump_order(
    selector: InterfaceSelector, found: list[Link], routes: list[Route], addresses: list[Address], chance: object
) -> None:
    observed = Observed(tuple(found), tuple(addresses), tuple(routes))
    chosen = choose_parent(selector, observed, MARK, "tmp0")
    if chosen is not None:
        (link,) = [each for each in found if each.name == chosen]
        assert not owns_link(link, MARK)
        assert link.name != "tmp0"
    if isinstance(selector, ByName):
        chance.shuffle(found)  # type: ignore[attr-defined]
        assert choose_parent(selector, replace(observed, links=tuple(found)), MARK, "tmp0") == chosen


@pytest.mark.parametrize("text", ["", "a/b", "eth0,", "route:", "route:eth0", 128 * "x", "eth0;eth1 x"])
def test_an_invalid_selector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"interface|address"):
        interface_selector(text, None)
    with pytest.raises(ValueError, match="node_ip"):
        interface_selector("node-ip", None)


def test_selectors_are_parsed() -> None:
    assert interface_selector("eth1,bond*", None) == ByName(("eth1", "bond*"))
    assert interface_selector("route:2001:db8::1", None) == ByRoute(ip_address("2001:db8::1"))
    assert interface_selector("node-ip", ip_address("10.0.0.1")) == ByAddress(ip_address("10.0.0.1"))


def test_a_missing_parent_is_reported_and_everything_is_restored_with_it() -> None:
    kernel, config = ModesKernel(MARK, machine()), link_config(parent="eth0")
    converge(kernel, NODE, config)
    kernel.delete_link(2)
    converge(kernel, NODE, config)
    report = reported(kernel, NODE, config)
    assert condition(report, "Configured") == (False, "ParentMissing")
    assert condition(report, "Ready") == (False, "NotConfigured")
    kernel.links[12] = replace(ETH0, index=12)
    converge(kernel, NODE, config)
    report = reported(kernel, NODE, config)
    assert (condition(report, "Ready"), report.interface) == ((True, "Ready"), "eth0")


# --- Modes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "kind", "mode"),
    [
        (link_config(), "macvlan", "bridge"),
        (link_config(macvlan_mode="private"), "macvlan", "private"),
        (link_config(macvlan_mode="vepa"), "macvlan", "vepa"),
        (link_config("ipvlan"), "ipvlan", ""),
    ],
)
def test_macvlan_and_ipvlan_links_are_created_with_their_mode(config: LinkConfig, kind: str, mode: str) -> None:
    kernel = ModesKernel(MARK, machine())
    converge(kernel, NODE, config)
    (tmp0,) = [link for link in kernel.links.values() if link.name == "tmp0"]
    assert (tmp0.kind, tmp0.mode, tmp0.mtu, tmp0.parent) == (kind, mode, 1500, 2)
    report = reported(kernel, NODE, config)
    assert (report.interface, report.link, report.configured) == ("eth0", "tmp0", OVERLAY)
    assert condition(report, "Ready") == (True, "Ready")


def test_a_recreated_link_keeps_the_stable_mac_and_an_existing_one_its_own() -> None:
    kernel, config = ModesKernel(MARK, machine()), link_config()
    converge(kernel, NODE, config)
    (tmp0,) = [link for link in kernel.links.values() if link.name == "tmp0"]
    assert tmp0.mac == stable_mac("n1", "tmp0")
    kernel.delete_link(tmp0.index)
    converge(kernel, NODE, config)
    (again,) = [link for link in kernel.links.values() if link.name == "tmp0"]
    assert (again.mac, again.index != tmp0.index) == (tmp0.mac, True)
    kernel.links[again.index] = replace(again, mac="02:11:22:33:44:55")
    observed = kernel.observe()
    assert not plan_kernel(desired_for(NODE, config, observed), observed, MARK).actions


@given(st.text(max_size=20), st.sampled_from(["tmp0", "tmp1"]))
def test_a_stable_mac_is_locally_administered_unicast_and_unique(name: str, link: str) -> None:
    mac = stable_mac(name, link)
    first = int(mac[:2], 16)
    assert (first & 0b10, first & 0b01, len(bytes.fromhex(mac.replace(":", "")))) == (0b10, 0, 6)
    assert mac == stable_mac(name, link)
    assert mac != stable_mac(name + "x", link)


@pytest.mark.parametrize(("before", "after"), [("macvlan", "ipvlan"), ("ipvlan", "macvlan")])
def test_name_and_mode_of_the_link_are_changed_together(before: str, after: str) -> None:
    """No parent carries links of both kinds."""
    kernel = ModesKernel(MARK, machine())
    converge(kernel, NODE, link_config(before))
    converge(kernel, NODE, link_config(after, name="ovl0"))
    ours = [(each.name, each.kind) for each in kernel.links.values() if owns_link(each, MARK)]
    assert ours == [("ovl0", after)]


def test_mode_and_mtu_are_changed_in_place() -> None:
    kernel = ModesKernel(MARK, machine())
    converge(kernel, NODE, link_config())
    kernel.links[2] = replace(kernel.links[2], mtu=9000)
    config = link_config(macvlan_mode="private")
    observed = kernel.observe()
    actions = plan_kernel(desired_for(NODE, config, observed), observed, MARK).actions
    assert actions == (SetMtu("tmp0", 9000), SetMacvlanMode("tmp0", "private"))


def test_mode_address_configures_the_interface_itself() -> None:
    kernel, config = ModesKernel(MARK, machine()), link_config("address")
    before = kernel.observe()
    converge(kernel, NODE, config)
    after = kernel.observe()
    assert Address(2, OVERLAY, 117) in after.addresses
    assert after.links == before.links
    assert after.sysctls == before.sysctls, "no sysctl of the interface is changed"
    (ours,) = [each for each in after.routes if each.protocol == 117]
    assert (ours.next_hops, ours.source) == (hop("192.168.100.1", 2), OVERLAY.ip)
    report = reported(kernel, NODE, config)
    assert (report.interface, report.link, report.configured) == ("eth0", "eth0", OVERLAY)
    assert condition(report, "Ready") == (True, "Ready")
    converge(kernel, None, config)
    assert kernel.observe() == before


def test_mode_address_is_refused_without_address_protocols() -> None:
    observed = replace(machine(), keeps_address_protocol=False)
    plan = plan_kernel(desired_for(NODE, link_config("address"), observed), observed, MARK)
    assert plan.problems[0].reason == "KernelTooOld"
    assert not [each for each in plan.actions if isinstance(each, AddAddress | DeleteLink)]


def test_a_foreign_secondary_address_is_not_deleted_with_ours() -> None:
    theirs = Address(2, ip_interface("192.168.100.77/24"), None)
    kernel, config = ModesKernel(MARK, machine()), link_config("address")
    converge(kernel, NODE, config)
    kernel.addresses.append(theirs)
    deleted = overlay(status={"ipAddr": str(OVERLAY)}, deleting=True)
    plan = converge(kernel, deleted, config)
    assert [each.reason for each in plan.problems] == ["AddressShared"]
    assert theirs in kernel.addresses
    assert condition(reported(kernel, deleted, config), "Configured") == (False, "Releasing")
    kernel.sysctls["eth0", "promote_secondaries"] = "1"
    converge(kernel, deleted, config)
    assert [each for each in kernel.addresses if each.link == 2] == [PRIVATE, theirs]
    # If theirs is the primary address, ours is the secondary one.
    kernel = ModesKernel(MARK, machine(theirs))
    converge(kernel, NODE, config)
    converge(kernel, deleted, config)
    assert [each for each in kernel.addresses if each.link == 2] == [PRIVATE, theirs]


def test_mode_none_configures_routes_only() -> None:
    kernel, config = ModesKernel(MARK, machine()), link_config("none")
    found = node(address=None)
    before = kernel.observe()
    converge(kernel, found, config)
    after = kernel.observe()
    assert (after.links, after.addresses, after.sysctls) == (before.links, before.addresses, before.sysctls)
    (ours,) = [each for each in after.routes if each.protocol == 117]
    assert ours.next_hops == hop("10.176.162.129", 2), "the gateway of the node's own route to 10.0.0.0/8"
    report = reported(kernel, found, config)
    assert (report.interface, report.link, report.configured) == ("eth0", "", None)
    assert (condition(report, "Configured"), condition(report, "Ready")) == ((True, "RoutesOnly"), (True, "Ready"))
    failing = node("10.9.9.9", address=None)
    assert condition(reported(kernel, failing, config), "Ready") == (False, "RoutesFailing")
    deleted = overlay(deleting=True)
    converge(kernel, deleted, config)
    assert condition(reported(kernel, deleted, config), "Configured") == (False, "Released")
    assert kernel.observe() == before


def test_mode_none_removes_a_previous_link_and_is_pending_until_then() -> None:
    kernel = ModesKernel(MARK, machine())
    converge(kernel, NODE, link_config())
    assert condition(reported(kernel, NODE, link_config("none")), "Configured") == (False, "Pending")
    assert condition(reported(kernel, NODE, link_config("none")), "Ready") == (False, "NotConfigured")
    converge(kernel, node("10.176.162.129"), link_config("none"))
    assert "tmp0" not in {link.name for link in kernel.links.values()}
    assert condition(reported(kernel, node("10.176.162.129"), link_config("none")), "Ready") == (True, "Ready")


# --- Properties -------------------------------------------------------------------------------------------------------

configs = st.builds(
    lambda mode, parent, macvlan_mode: link_config(mode, parent, macvlan_mode=macvlan_mode),
    st.sampled_from(["macvlan", "ipvlan", "address", "none"]),
    st.sampled_from(["eth0", "eth1", "eth7,eth*", "route:10.1.2.3", "node-ip", "eth7"]),
    st.sampled_from(["bridge", "private"]),
)
overlays = st.none() | st.builds(
    lambda gateway, address, subnet: node(*gateway, address=address, subnet=subnet),
    st.sampled_from([("192.168.100.1",), ("10.176.162.129",), (), ("192.168.100.1", "192.168.100.254")]),
    st.sampled_from([None, "192.168.100.4/24", "192.168.100.5/24"]),
    st.sampled_from(["192.168.0.0/24", "172.16.0.0/12"]),
)
foreign_objects = st.lists(
    st.sampled_from(
        [
            Address(2, ip_interface("192.168.100.77/24"), None),
            Address(2, ip_interface("172.31.0.1/32"), None),
            Address(3, ip_interface("192.168.100.78/24"), 9),
            Link(20, "other0", "macvlan", 2, None, up=True, mtu=1400, mode="bridge"),
            Route(ip_network("172.31.5.0/24"), hop("10.176.162.129", 2), 186),
            Route(ip_network("172.16.0.0/12"), hop("10.176.162.129", 2), 4),
        ]
    ),
    max_size=4,
    unique=True,
)
steps = st.tuples(configs, overlays, st.integers(0, 9), st.sampled_from([None, 1400, 9000]))


@settings(max_examples=examples(400), deadline=None)
@given(foreign_objects, st.lists(steps, min_size=1, max_size=4), st.booleans())
def test_any_history_of_modes_parents_and_crashes_converges_and_keeps_foreign_objects(
    present: list[object], history: list[tuple[LinkConfig, NodeOverlay | None, int, int | None]], promoted: bool
) -> None:
    # Two kinds of links cannot share a parent, and the foreign macvlan stays.
    history = [
        step for step in history if not (step[0].mode == "ipvlan" and any(isinstance(each, Link) for each in present))
    ]
    kernel = ModesKernel(MARK, machine(*present))
    kernel.sysctls["eth0", "promote_secondaries"] = kernel.sysctls["eth1", "promote_secondaries"] = str(int(promoted))
    for config, found, crash, mtu in history:
        if mtu is not None:
            kernel.links[2] = replace(kernel.links[2], mtu=mtu)
        before, observed = foreign(kernel.observe()), kernel.observe()
        for action in plan_kernel(desired_for(found, config, observed), observed, MARK).actions[:crash]:
            kernel.apply(action)
        plan = converge(kernel, found, config)
        assert foreign(kernel.observe()) == before
        if all(problem.route is not None for problem in plan.problems):
            assert_managed_objects(kernel.observe(), found, config)


def assert_managed_objects(observed: Observed, found: NodeOverlay | None, config: LinkConfig) -> None:
    """At most one address, on a link of the mode that has the MTU of its parent; without an object, nothing."""
    links = [link for link in observed.links if owns_link(link, MARK)]
    addresses = [each for each in observed.addresses if owns_address_anywhere(each, observed, MARK)]
    if found is None:
        assert not links
        assert not addresses
        assert not any(owns_route(each, MARK) for each in observed.routes)
    assert len(addresses) <= 1
    assert len(links) == int(bool(addresses) and config.mode in ("macvlan", "ipvlan"))
    mtus = {link.index: link.mtu for link in observed.links}
    assert all(link.parent is not None and link.mtu == mtus[link.parent] for link in links)


# --- Settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("interface: a/b", "interface: invalid value 'a/b'"),
        ("interface: 'route:eth0'", "an address after route:"),
        ("interface: node-ip", "node_ip"),
        ("node_ip: 1.2.3", "node_ip: invalid value '1.2.3'"),
        ("link_mode: tap", "'macvlan', 'ipvlan', 'address' or 'none'"),
        ("macvlan_mode: passthru", "'bridge', 'private' or 'vepa'"),
        ("fallback_subnet: 10.0.0.1/8", "without host bits"),
        ("state_dir: var/lib", "absolute path"),
        ("resurrect_for: 10m", "less than fence_after"),
        ("{fence_after: 1m, resurrect_for: 2m}", "less than fence_after (60s)"),
    ],
)
def test_an_invalid_setting_is_reported_in_one_line(tmp_path: Path, text: str, part: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text if text.startswith("{") else f"node_name: n1\n{text}\n")
    with pytest.raises(ConfigurationError) as error:
        load(AgentSettings, file)
    assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_the_maximum_age_of_a_checkpoint_follows_fence_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLAY_NODE_NAME", "n1")
    monkeypatch.setenv("OVERLAY_NODE_IP", "")
    usual = load(AgentSettings, None)
    assert (usual.checkpoint_max_age, usual.state_dir) == (timedelta(minutes=9), Path("/var/lib/overlay-net"))
    monkeypatch.setenv("OVERLAY_FENCE_AFTER", "100s")
    monkeypatch.setenv("OVERLAY_STATE_DIR", "")
    assert (load(AgentSettings, None).checkpoint_max_age, load(AgentSettings, None).state_dir) == (
        timedelta(seconds=90),
        None,
    )
    monkeypatch.setenv("OVERLAY_RESURRECT_FOR", "20s")
    assert load(AgentSettings, None).checkpoint_max_age == timedelta(seconds=20)
