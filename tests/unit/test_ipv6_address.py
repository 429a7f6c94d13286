"""An IPv6 address between being set and being in use, and one that somebody else has."""

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_interface

import pytest

from overlay_net.domain.kernel.gateway_health import probe_targets
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.domain.kernel.report import configured_address, make_report
from overlay_net.model.kernel import Address, Desired, Link, Observed
from overlay_net.model.kernel_actions import AddAddress, AddRoute, DeleteAddress
from overlay_net.model.policy_rule import AddPolicyRule, SourceRouting, SourceTable
from tests.fakes.kernel import FakeKernel
from tests.unit.factories import overlay
from tests.unit.test_kernel_plan import LINK, MARKS, converge, desired, machine, route

V6 = ip_interface("2001:db8:100::4/64")
GATEWAY = "2001:db8:100::1"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def wish() -> Desired:
    source = SourceRouting(SourceTable(117, 11700, 8), ip_address(GATEWAY))
    return replace(desired(route("2001:db8:1::/48", GATEWAY), address=V6), source=source)


def having(**state: bool) -> Observed:
    """The link is as wished, and so is the address but for its state."""
    kernel = FakeKernel(MARKS, machine())
    converge(kernel, desired())
    tmp0 = next(link for link in kernel.links.values() if link.name == "tmp0")
    observed = kernel.observe()
    ours = Address(tmp0.index, V6, MARKS.protocol, **state)
    return replace(observed, addresses=(*(each for each in observed.addresses if each.link != tmp0.index), ours))


def test_routes_and_rules_wait_until_the_kernel_takes_the_address() -> None:
    plan = plan_kernel(wish(), having(tentative=True), MARKS)
    assert (plan.actions, [each.reason for each in plan.problems]) == ((), ["AddressTentative"])
    plan = plan_kernel(wish(), having(), MARKS)
    kinds = [type(each) for each in plan.actions]
    assert (kinds, plan.problems) == ([AddRoute, AddRoute, AddRoute, AddPolicyRule, AddPolicyRule], ())
    kernel = FakeKernel(MARKS, machine(Link(7, "tmp0", "macvlan", 2, "overlay-net", up=True)))
    assert [type(each) for each in plan_kernel(wish(), kernel.observe(), MARKS).actions][-1] is AddAddress


def test_an_address_that_failed_is_added_anew_to_be_asked_for_again() -> None:
    actions = plan_kernel(wish(), having(dad_failed=True), MARKS).actions
    assert actions == (DeleteAddress("tmp0", V6), AddAddress("tmp0", V6))


@pytest.mark.parametrize(
    ("state", "configured", "condition", "ready"),
    [
        ({}, V6, (True, "Configured"), True),
        ({"tentative": True}, V6, (False, "AddressTentative"), False),
        ({"dad_failed": True}, None, (False, "Pending"), False),
    ],
)
def test_what_is_reported(state: dict[str, bool], configured: object, condition: tuple[bool, str], ready: bool) -> None:
    """A tentative address counts as there, so that nobody else is given it; as configured only once it is in use."""
    observed, found = having(**state), overlay(status={"ipAddr": str(V6)})
    wished = desired(address=V6)
    told = configured_address(found, wished, observed, MARKS)
    report = make_report(found, wished, LINK, plan_kernel(wished, observed, MARKS), {}, told, NOW)
    assert report.configured == configured
    conditions = {each.type: (each.status, each.reason) for each in report.conditions}
    assert (conditions["Configured"], conditions["Ready"][0]) == (condition, ready)


def test_nobody_is_asked_from_an_address_that_is_not_in_use() -> None:
    routes = wish().routes
    assert {str(each.source) for each in probe_targets(routes, having(), "tmp0")} == {str(V6.ip)}
    assert not probe_targets(routes, having(tentative=True), "tmp0")
