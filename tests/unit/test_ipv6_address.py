"""An IPv6 address between its configuration and its use, and one that failed duplicate address detection."""

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_interface

import pytest

from overlay_net.domain.kernel.gateway_health import probe_targets
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.domain.kernel.report import configured_address, make_report
from overlay_net.model.kernel import Desired, Link, Observed
from overlay_net.model.kernel_actions import AddAddress, AddRoute, DeleteAddress
from overlay_net.model.policy_rule import AddPolicyRule, SourceRouting, SourceTable
from tests.fakes.kernel import FakeKernel
from tests.unit.factories import overlay
from tests.unit.test_kernel_plan import LINK, MARK, converge, desired, machine, route

V6 = ip_interface("2001:db8:100::4/64")
GATEWAY = "2001:db8:100::1"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def target() -> Desired:
    source = SourceRouting(SourceTable(117, 11700, 8), ip_address(GATEWAY))
    return replace(desired(route("2001:db8:1::/48", GATEWAY), address=V6), source=source)


def observed_with(**state: bool) -> Observed:
    """The desired link and address, with the address in a given state."""
    kernel = FakeKernel(MARK, machine())
    converge(kernel, desired(address=V6))
    observed = kernel.observe()
    addresses = (
        replace(each, **state) if each.interface == V6 else each  # type: ignore[arg-type]
        for each in observed.addresses
    )
    return replace(observed, addresses=tuple(addresses))


def test_routes_and_rules_wait_until_the_address_is_in_use() -> None:
    plan = plan_kernel(target(), observed_with(tentative=True), MARK)
    assert (plan.actions, [each.reason for each in plan.problems]) == ((), ["AddressTentative"])
    plan = plan_kernel(target(), observed_with(), MARK)
    kinds = [type(each) for each in plan.actions]
    assert (kinds, plan.problems) == ([AddRoute, AddRoute, AddRoute, AddPolicyRule, AddPolicyRule], ())
    kernel = FakeKernel(MARK, machine(Link(7, "tmp0", "macvlan", 2, "overlay-net", up=True)))
    assert [type(each) for each in plan_kernel(target(), kernel.observe(), MARK).actions][-1] is AddAddress


def test_a_failed_address_is_added_again_to_repeat_the_detection() -> None:
    actions = plan_kernel(target(), observed_with(dad_failed=True), MARK).actions
    assert actions == (DeleteAddress("tmp0", V6), AddAddress("tmp0", V6))


@pytest.mark.parametrize(
    ("state", "configured", "condition", "ready"),
    [
        ({}, V6, (True, "Configured"), True),
        ({"tentative": True}, V6, (False, "AddressTentative"), False),
        ({"dad_failed": True}, None, (False, "Pending"), False),
    ],
)
def test_the_report_shows_the_state_of_the_address(
    state: dict[str, bool], configured: object, condition: tuple[bool, str], ready: bool
) -> None:
    """A tentative address is reported, so that it is not released; it is configured only once it is in use."""
    observed, found = observed_with(**state), overlay(status={"ipAddr": str(V6)})
    without_routes = desired(address=V6)
    reported = configured_address(found, without_routes, observed, MARK)
    report = make_report(found, without_routes, LINK, plan_kernel(without_routes, observed, MARK), {}, reported, NOW)
    assert report.configured == configured
    conditions = {each.type: (each.status, each.reason) for each in report.conditions}
    assert (conditions["Configured"], conditions["Ready"][0]) == (condition, ready)


def test_no_probe_is_sent_from_an_address_that_is_not_in_use() -> None:
    routes = target().routes
    assert {str(each.source) for each in probe_targets(routes, observed_with(), "tmp0")} == {str(V6.ip)}
    assert not probe_targets(routes, observed_with(tentative=True), "tmp0")
