"""What is written is what is read again, so that an unchanged status is not written again and again."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from overlay_net.agent.gateway_prober import GatewayDown
from overlay_net.agent.gateway_watch import GatewayWatch
from overlay_net.model.conditions import (
    CHECKPOINT_STORED,
    CONFIGURED,
    CONTROLLER_CONDITIONS,
    GATEWAY_REACHABLE,
    METRICS_SERVED,
    READY,
    Condition,
    parse_conditions,
)
from overlay_net.model.node import NodeInstance
from overlay_net.model.node_report import GATEWAY_IS_THIS_NODE, Report, RouteFailure, SilentGateway
from overlay_net.model.overlay import Assignment, Withdrawal
from overlay_net.model.route_probe import Probe, RouteGeneration, RouteProbe, RouteProbeState, parse_seconds
from tests.unit.test_checkpoint import some_routes
from tests.unit.test_first_answer import OVERLAY_GATEWAY, Prober, assigned
from tests.unit.test_node_agent import Node

addresses = st.sampled_from(
    [ip_address(each) for each in ("192.168.100.1", "fd00::1", "::ffff:10.0.0.1", "fe80::1%tmp0")]
)
interfaces = st.sampled_from([ip_interface(each) for each in ("192.168.100.4/24", "fd00::4/64", "10.0.0.1/32")])
networks = st.sampled_from([ip_network(each) for each in ("10.1.0.0/16", "0.0.0.0/0", "fd00:1::/48")])
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=11))])
times = st.builds(lambda micros, zone: datetime.fromtimestamp(micros / 1e6, zone), st.integers(0, 10**16), zones)
texts = st.text(st.characters(codec="utf-8"))
messages = texts | st.sampled_from(["a \ud800 b", "\udcff", "\ud83d\ude00", "\U0001f600", "\0"])
"""Messages may quote what another system has sent."""


def conditions(types: Any) -> Any:
    status = st.sampled_from([True, False])
    return st.builds(Condition, types, status, texts, messages, st.integers(0, 9), st.none() | times)


def listed_routes(states: Any) -> Any:
    tables = st.sampled_from([254, 100])
    return st.builds(RouteFailure, networks, st.integers(0, 9), texts, states, texts, texts, tables)


reasons = st.sampled_from(["GatewayDown", "LinkDown"])
agent_types = (CONFIGURED, GATEWAY_REACHABLE, READY, METRICS_SERVED, CHECKPOINT_STORED)
route_probes = st.builds(
    RouteProbe,
    texts,
    texts,
    st.integers(0, 9),
    st.sampled_from(get_args(RouteProbeState)),
    texts,
    st.none() | st.lists(some_routes, max_size=3).map(tuple),
)
reports = st.builds(
    Report,
    texts,
    texts,
    st.none() | interfaces,
    st.none() | addresses,
    st.integers(0, 9),
    texts,
    st.builds(NodeInstance, texts, texts),
    texts,
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 9),
    st.lists(listed_routes(texts), max_size=2).map(tuple),
    st.lists(listed_routes(st.just(GATEWAY_IS_THIS_NODE)), max_size=2).map(tuple),
    st.lists(st.builds(SilentGateway, addresses, st.none() | times, texts, reasons), max_size=2).map(tuple),
    st.none() | addresses,
    texts,
    st.lists(route_probes, max_size=2).map(tuple),
    st.lists(conditions(st.sampled_from(agent_types)), max_size=3).map(tuple),
)


def through_api(raw: Any) -> Any:
    """The JSON as the API server returns it: it replaces what is not Unicode, as Go's decoder does."""
    text = json.dumps(raw)
    decoded = json.loads(text)
    return json.loads(
        json.dumps(decoded, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    )


@settings(deadline=None)
@given(reports)
def test_report_is_read_as_it_was_written(report: Report) -> None:
    status = through_api(report.to_json())
    assert Report.parse(status, parse_conditions(status)) == report


assignments = st.builds(
    Assignment,
    st.none() | interfaces,
    st.none() | addresses,
    texts,
    texts,
    st.lists(texts, max_size=2).map(tuple),
    st.lists(texts, max_size=2).map(tuple),
    st.none() | times,
    st.integers(0, 9),
    st.none() | times,
    texts,
    st.integers(0, 9),
)


@settings(deadline=None)
@given(assignments, conditions(st.sampled_from(sorted(CONTROLLER_CONDITIONS))))
def test_assignment_of_the_controller_is_read_as_it_was_written(assignment: Assignment, condition: Condition) -> None:
    fields = {"Reserved": "reserved", "RoutesWithdrawn": "withdrawn", "UpToDate": "up_to_date"}
    field = fields.get(condition.type, "routes_accepted")
    assignment = replace(assignment, **{field: condition})  # type: ignore[arg-type]
    status = through_api(assignment.to_json())
    assert Assignment.parse(status, parse_conditions(status)) == assignment


@settings(deadline=None)
@given(
    st.builds(Withdrawal, texts, st.none() | times),
    st.builds(
        Probe, addresses, st.integers(0, 65535), st.floats(0.5, 90).map(lambda each: parse_seconds(f"{each:f}s"))
    ),
)
def test_spec_of_the_controller_is_read_as_it_was_written(withdrawal: Withdrawal, probe: Probe) -> None:
    assert Withdrawal.parse(through_api(withdrawal.to_json())) == withdrawal
    entry = RouteGeneration("r1", "uid-1", 3, probe)
    assert RouteGeneration.parse(through_api(entry.to_json())) == entry


async def test_nothing_is_written_again_while_a_gateway_stays_down() -> None:
    prober = Prober()
    node = Node(gateways=GatewayWatch(prober))
    found = assigned(OVERLAY_GATEWAY)
    node.answer(found)
    await node.reconcile()
    (target,) = prober.targets
    since = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)
    prober.down = frozenset({OVERLAY_GATEWAY})
    prober.reports = (GatewayDown(OVERLAY_GATEWAY, since, "no answer to ARP on tmp0", target.link, False),)
    await node.reconcile()
    status = through_api(node.reports[-1].to_json())
    node.answer(replace(found, report=Report.parse(status, parse_conditions(status))))
    written = len(node.reports)
    for _ in range(3):
        await node.reconcile()
    assert len(node.reports) == written
    assert node.reports[-1].silent_gateways[0].since == since.replace(microsecond=0)
