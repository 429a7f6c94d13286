"""A node is ready once a gateway on its overlay link has answered: a switch may drop the frames of a second MAC."""

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest

from overlay_net.agent.gateway_prober import GatewayDown
from overlay_net.agent.gateway_watch import GatewayWatch
from overlay_net.domain.kernel.gateway_health import Target
from overlay_net.model.conditions import Condition
from overlay_net.model.kernel import LinkMode
from overlay_net.model.node import NodeInstance
from overlay_net.model.node_report import Report
from overlay_net.model.overlay import NodeOverlay
from tests.fakes.agent import NoProber
from tests.unit.factories import overlay
from tests.unit.test_node_agent import OURS, Node

OVERLAY_GATEWAY, PRIVATE_GATEWAY = ip_address("192.168.100.1"), ip_address("10.176.162.129")


class Prober(NoProber):
    """Gateways that answer on the given links, and the targets of the last ``watch``."""

    def __init__(self, *answered: str) -> None:
        self.answered = set(answered)
        self.targets: frozenset[Target] = frozenset()

    @property
    def known(self) -> bool:  # type: ignore[override]
        return bool(self.answered or self.down)

    def has_answer(self, link: str) -> bool:
        return link in self.answered

    def watch(self, targets: Any) -> None:
        self.targets = frozenset(targets)

    def fall(self, address: Any, *, answered: bool = False) -> None:
        """The prober has found that this gateway does not answer."""
        (target,) = [each for each in self.targets if each.address == address]
        down = GatewayDown(address, datetime(2026, 1, 1, tzinfo=UTC), "no answer to ARP on tmp0", target.link, answered)
        self.down, self.reports = frozenset({address}), (down,)


def assigned(*gateways: object, check: dict[str, Any] | None = None, **more: Any) -> NodeOverlay:
    """An object with one route through these gateways."""
    route: dict[str, Any] = {"subnet": "10.1.0.0/16", "staticRoute": "r1"}
    route["gateways"] = [{"address": str(each)} for each in gateways]
    if check is not None:
        route["healthCheck"] = check
    status = {"ipAddr": str(OURS), "gateway": "192.168.100.1"}
    return overlay(spec={"node": {"uid": "uid-1", "bootID": "boot-1"}, "routes": [route]}, status=status, **more)


def node(prober: Prober, found: NodeOverlay, mode: LinkMode = "macvlan") -> Node:
    made = Node(gateways=GatewayWatch(prober), mode=mode)
    made.answer(found)
    return made


async def report(made: Node, found: NodeOverlay | None = None) -> Report:
    """The report after the kernel has everything."""
    if found is not None:
        made.answer(found)
    await made.reconcile()
    await made.reconcile()
    return made.reports[-1]


def condition(found: Report, type_: str) -> Condition:
    (each,) = [each for each in found.conditions if each.type == type_]
    return each


async def test_a_node_is_not_ready_before_a_gateway_on_its_overlay_link_has_answered() -> None:
    prober = Prober()
    made = node(prober, assigned(OVERLAY_GATEWAY))
    ready = condition(first := await report(made), "Ready")
    assert (ready.status, ready.reason) == (False, "WaitingForGateway")
    assert "192.168.100.1" in ready.message
    reachable = condition(first, "GatewayReachable")
    assert reachable.status is None
    prober.answered.add("tmp0")
    last = await report(made)
    assert condition(last, "Ready").status is True
    assert condition(last, "GatewayReachable").status is True


async def test_one_of_several_gateways_is_enough() -> None:
    prober = Prober("tmp0")
    made = node(prober, assigned(OVERLAY_GATEWAY, "192.168.100.254"))
    await report(made)
    prober.fall(ip_address("192.168.100.254"))
    assert condition(await report(made), "Ready").status is True


async def test_an_answer_on_the_private_interface_proves_nothing_about_the_overlay_link() -> None:
    made = node(Prober("eth0"), assigned(OVERLAY_GATEWAY, PRIVATE_GATEWAY))
    assert condition(await report(made), "Ready").reason == "WaitingForGateway"


@pytest.mark.parametrize(
    "found",
    [
        assigned(PRIVATE_GATEWAY),
        assigned(OVERLAY_GATEWAY, check={"type": "none"}),
        overlay(spec={"routes": []}, status={"ipAddr": str(OURS), "gateway": "192.168.100.1"}),
    ],
    ids=["no gateway on the overlay link", "gateways are not probed", "no routes"],
)
async def test_a_node_without_a_probed_gateway_on_its_overlay_link_is_ready_at_once(found: NodeOverlay) -> None:
    assert condition(await report(node(Prober(), found)), "Ready").status is True


@pytest.mark.parametrize("mode", ["macvlan", "ipvlan", "address"])
async def test_the_message_of_a_gateway_that_never_answered_names_what_stops_a_second_mac(mode: LinkMode) -> None:
    prober = Prober()
    made = node(prober, assigned(OVERLAY_GATEWAY), mode)
    await report(made)
    prober.fall(OVERLAY_GATEWAY)
    found = await report(made)
    hints = ("port security", "MAC limit", "anti-spoofing", "link_mode: address")
    for message in (condition(found, "GatewayReachable").message, found.silent_gateways[0].message):
        assert [hint in message for hint in hints] == [mode == "macvlan"] * 4, message
    assert condition(found, "Ready").reason == "WaitingForGateway"


async def test_a_gateway_that_has_answered_before_is_just_down() -> None:
    prober = Prober("tmp0")
    made = node(prober, assigned(OVERLAY_GATEWAY))
    await report(made)
    prober.fall(OVERLAY_GATEWAY, answered=True)
    found = await report(made)
    assert condition(found, "GatewayReachable").message == "192.168.100.1: no answer to ARP on tmp0"
    assert condition(found, "Ready").status is True, "a standby or onAllDown takes over"


def ready_before(found: NodeOverlay, **changes: Any) -> NodeOverlay:
    """The object with the report of an agent that was ready and has been restarted."""
    conditions = (Condition("GatewayReachable", True, "Reachable"), Condition("Ready", True, "Ready"))
    before = Report(
        configured=OURS,
        observed_uid=found.uid,
        observed_node=NodeInstance("uid-1", "boot-1"),
        routes_desired=1,
        conditions=conditions,
    )
    return replace(found, report=replace(before, **changes))


@pytest.mark.parametrize("reason", ["RolledBack", "RoutesFailing", "RoutesLeft"])
async def test_a_restarted_agent_keeps_the_proof_of_a_node_that_was_not_ready_for_another_reason(reason: str) -> None:
    conditions = (Condition("GatewayReachable", True, "Reachable"), Condition("Ready", False, reason))
    found = await report(node(Prober(), ready_before(assigned(OVERLAY_GATEWAY), conditions=conditions)))
    assert (condition(found, "Ready").status, condition(found, "GatewayReachable").status) == (True, True)


async def test_a_restarted_agent_stays_ready_without_another_answer() -> None:
    found = await report(node(Prober(), ready_before(assigned(OVERLAY_GATEWAY))))
    assert (condition(found, "Ready").status, condition(found, "GatewayReachable").status) == (True, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"observed_node": NodeInstance("uid-1", "boot-0")},
        {"observed_node": NodeInstance("uid-0", "boot-1")},
        {"observed_uid": "overlay-before"},
        {"configured": None},
        {"routes_desired": 0},
        {"conditions": (Condition("Ready", False, "RoutesFailing"),)},
    ],
    ids=["another boot", "another Node", "another object", "another address", "before its routes", "not ready"],
)
async def test_a_report_that_proves_nothing_about_the_present_link_is_no_answer(changes: dict[str, Any]) -> None:
    found = ready_before(assigned(OVERLAY_GATEWAY), **changes)
    assert condition(await report(node(Prober(), found)), "Ready").reason == "WaitingForGateway"
