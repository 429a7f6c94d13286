"""An agent's reports about its gateways: the condition GatewayReachable, and the routes that no gateway carries."""

from datetime import UTC, datetime
from ipaddress import ip_address

import pytest

from overlay_net.agent.gateway_prober import GatewayDown
from overlay_net.agent.gateway_watch import GatewayWatch
from overlay_net.domain.kernel.agent_conditions import NeighbourState, ProbeResult, gateway_condition
from overlay_net.domain.kernel.gateway_selection import count_dead_routes
from overlay_net.model.conditions import GATEWAY_REACHABLE, Condition
from overlay_net.model.desired_route import DesiredRoute, Gateway, HealthCheck
from overlay_net.model.kernel import Address, Desired, Link, Observed
from overlay_net.model.net import IpAddress
from overlay_net.model.node_report import SilentGateway
from overlay_net.model.parse import parse_interface
from tests.fakes.agent import NoProber
from tests.unit.factories import desired_route

FIRST, SECOND = ip_address("192.168.100.1"), ip_address("192.168.100.254")
SILENT = SilentGateway(FIRST, datetime(2026, 1, 1, tzinfo=UTC), "no answer to ARP on tmp0")
REACHED = Condition(GATEWAY_REACHABLE, True, "Reachable")
DOWN = Condition(GATEWAY_REACHABLE, False, "GatewayDown", "192.168.100.1: no answer to ARP on tmp0")
UNKNOWN = Condition(GATEWAY_REACHABLE, None, "NotProbed", "waiting for the first answers of the gateways")
UNUSED = Condition(GATEWAY_REACHABLE, None, "NotProbed", "no gateway is probed")


@pytest.mark.parametrize("reported", [None, REACHED, DOWN, UNKNOWN, UNUSED])
def test_gateways_without_a_result_are_unknown_unless_the_agent_was_restarted(reported: Condition | None) -> None:
    def condition(probes: ProbeResult, *silent: SilentGateway) -> Condition:
        return gateway_condition(NeighbourState(silent=silent, probes=probes), reported)

    assert condition(ProbeResult.NONE) == UNUSED
    assert condition(ProbeResult.KNOWN) == REACHED
    assert condition(ProbeResult.KNOWN, SILENT) == DOWN
    assert condition(ProbeResult.AWAITED, SILENT) == DOWN, "one gateway is down, another one is not known yet"
    assert condition(ProbeResult.AWAITED) == (reported if reported in (REACHED, DOWN) else UNKNOWN)


SOLE = desired_route("10.1.0.0/16", str(FIRST))
OTHER = desired_route("10.2.0.0/16", str(SECOND))
BALANCED = desired_route("10.3.0.0/16", str(FIRST), str(SECOND))
STANDBY = DesiredRoute.to(
    BALANCED.subnet,
    type(BALANCED.spec)((Gateway(FIRST), Gateway(SECOND, priority=1)), on_all_down="withdraw"),
    "r",
)
UNCHECKED = desired_route("10.4.0.0/16", str(FIRST), check=HealthCheck("none"))
BLACKHOLE = desired_route("10.5.0.0/16", kind="blackhole")


@pytest.mark.parametrize(
    ("routes", "down", "dead"),
    [
        ([SOLE, OTHER], [], {}),
        ([SOLE, OTHER], [FIRST], {FIRST: 1}),
        ([BALANCED, STANDBY], [FIRST], {}),
        ([BALANCED, STANDBY], [SECOND], {}),
        ([BALANCED, STANDBY], [FIRST, SECOND], {FIRST: 2, SECOND: 2}),
        ([SOLE, BALANCED], [FIRST], {FIRST: 1}),
        ([UNCHECKED, BLACKHOLE], [FIRST], {}),
        ([], [FIRST], {}),
    ],
)
def test_a_route_counts_as_dead_only_if_no_gateway_of_it_is_up(
    routes: list[DesiredRoute], down: list[IpAddress], dead: dict[IpAddress, int]
) -> None:
    assert count_dead_routes(routes, frozenset(down)) == dead


class Prober(NoProber):
    def __init__(self) -> None:
        self.known = False
        self.down: frozenset[IpAddress] = frozenset()
        self.reports: tuple[GatewayDown, ...] = ()


def test_each_probed_gateway_has_its_number_of_dead_routes() -> None:
    address = parse_interface("192.168.100.4/24")
    assert address is not None
    observed = Observed(
        links=(Link(7, "tmp0", "macvlan", None, None, up=True),), addresses=(Address(7, address, None),)
    )
    prober = Prober()
    watch = GatewayWatch(prober)
    assert (watch.result, watch.dead_routes) == (ProbeResult.NONE, {})
    desired = Desired(link=None, address=address, routes=(SOLE, OTHER, UNCHECKED), interface="tmp0")
    watch.follow(desired, observed)
    assert watch.result == ProbeResult.AWAITED
    prober.known, prober.down = True, frozenset([FIRST])
    watch.follow(desired, observed)
    assert (watch.result, watch.dead_routes) == (ProbeResult.KNOWN, {FIRST: 1, SECOND: 0})
    watch.follow(Desired(link=None, address=address, routes=(UNCHECKED,), interface="tmp0"), observed)
    assert (watch.result, watch.dead_routes) == (ProbeResult.NONE, {})
