"""Route probes and rollback as decisions: a node's routes during a probe, after a failed one, and after a crash."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import ip_interface, ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from overlay_net.domain.kernel.checkpoint import (
    Checkpoint,
    CheckpointContent,
    Moment,
    checkpoint_digest,
    decode_checkpoint,
    encode_checkpoint,
    encode_confirmation,
)
from overlay_net.domain.kernel.probe_rollback import applied_routes, conclude_probe, effective_routes, update_probes
from overlay_net.domain.kernel.report import make_report
from overlay_net.model.conditions import find_condition
from overlay_net.model.kernel import Desired, DesiredLink
from overlay_net.model.kernel_actions import DeleteRoute, KernelPlan, Problem
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route import Route
from overlay_net.model.route_probe import Probe, RouteGeneration, RouteProbe, parse_seconds
from tests.unit.factories import overlay

MOMENT = Moment(datetime(2026, 1, 1, tzinfo=UTC), "boot", 1.0)
PROBE = {"tcp": "192.168.0.10:80", "timeout": "2s"}
OTHER = {"subnet": "10.9.0.0/16", "staticRoute": "other", "gateways": [{"address": "192.168.100.9"}]}


def route(gateway: int, subnet: str = "10.1.0.0/16", name: str = "r1") -> dict[str, Any]:
    return {"subnet": subnet, "staticRoute": name, "gateways": [{"address": f"192.168.100.{gateway}"}]}


def overlay_at(
    generation: int, *gateways: int, probe: Any = PROBE, uid: str = "u1", observed: int = 0, probes: Any = ()
) -> NodeOverlay:
    """The node's object with a generation of StaticRoute r1, one route per gateway, and one of another StaticRoute."""
    routes = [route(gateway, f"10.{place}.0.0/16") for place, gateway in enumerate(gateways, 1)]
    generations = [{"staticRoute": "r1", "uid": uid, "generation": generation, "probe": probe}] if probe else []
    status = {"observedGeneration": observed, "probes": list(probes)}
    return overlay(spec={"routes": [*routes, OTHER], "generations": generations}, status=status, generation=generation)


def step(route_probes: tuple[RouteProbe, ...], before: NodeOverlay | None, now: NodeOverlay) -> tuple[RouteProbe, ...]:
    return update_probes(route_probes, before, now, known=True)


def route_gateways(now: NodeOverlay, route_probes: tuple[RouteProbe, ...]) -> set[tuple[str, str]]:
    return {
        (str(each.subnet), str(each.spec.gateways[0].address)) for each in effective_routes(now.routes, route_probes)
    }


OTHER_ROUTE = ("10.9.0.0/16", "192.168.100.9")


def test_an_unanswered_change_is_rolled_back_and_not_tried_again() -> None:
    first, second = overlay_at(1, 1), overlay_at(2, 2)
    probing = step((), first, second)
    assert [(each.state, each.generation) for each in probing] == [("Probing", 2)]
    assert route_gateways(second, probing) == {("10.1.0.0/16", "192.168.100.2"), OTHER_ROUTE}, (
        "the change itself is probed"
    )
    failed = conclude_probe(probing, probing[0], "no answer")
    assert [each.state for each in failed] == ["RolledBack"]
    assert route_gateways(second, failed) == {("10.1.0.0/16", "192.168.100.1"), OTHER_ROUTE}
    assert step(failed, second, overlay_at(2, 2)) == failed, "the same generation is not probed again"
    third = overlay_at(3, 3)
    again = step(failed, second, third)
    assert [(each.state, each.generation) for each in again] == [("Probing", 3)]
    assert again[0].previous == failed[0].previous, "a failed generation is not rolled back to"
    assert conclude_probe(again, again[0], "") == ()
    assert route_gateways(third, ()) == {("10.1.0.0/16", "192.168.100.3"), OTHER_ROUTE}


def test_an_unanswered_new_static_route_is_withdrawn_and_others_stay() -> None:
    now = overlay_at(1, 1, 2)
    probing = step((), overlay(spec={"routes": [OTHER]}), now)
    failed = conclude_probe(probing, probing[0], "no answer")
    assert route_gateways(now, failed) == {OTHER_ROUTE}
    assert "withdrawn" in failed[0].message


def test_a_change_during_a_probe_rolls_back_to_the_proven_routes() -> None:
    first, second, third = overlay_at(1, 1), overlay_at(2, 2), overlay_at(3, 3)
    probing = step(step((), first, second), second, third)
    failed = conclude_probe(probing, probing[0], "no answer")
    assert route_gateways(third, failed) == {
        ("10.1.0.0/16", "192.168.100.1"),
        OTHER_ROUTE,
    }


def test_other_routes_of_the_same_generation_are_probed_too() -> None:
    """The overlay gateway of the node changed, or an older object with the subnet was deleted."""
    first = overlay_at(1, 1)
    assert step((), first, overlay_at(1, 1)) == (), "another object changed"
    assert [each.state for each in step((), first, overlay_at(1, 2))] == ["Probing"]


def test_a_new_object_of_the_same_name_is_probed() -> None:
    probing = step((), overlay_at(1, 1), overlay_at(2, 2))
    failed = conclude_probe(probing, probing[0], "no answer")
    assert [each.state for each in step(failed, overlay_at(2, 2), overlay_at(2, 2, uid="u2"))] == ["Probing"]


def test_without_a_probe_changes_apply_at_once_even_after_a_rollback() -> None:
    assert step((), overlay_at(1, 1, probe=None), overlay_at(2, 2, probe=None)) == ()
    probing = step((), overlay_at(1, 1), overlay_at(2, 2))
    failed = conclude_probe(probing, probing[0], "no answer")
    assert step(failed, overlay_at(2, 2), overlay_at(3, 2, probe=None)) == ()


def test_a_rollback_does_not_take_a_subnet_from_another_static_route() -> None:
    probing = step((), overlay_at(1, 1), overlay_at(2, 2))
    failed = conclude_probe(probing, probing[0], "no answer")
    taken = overlay(
        spec={
            "routes": [route(7, name="older"), route(2, "10.5.0.0/16")],
            "generations": [{"staticRoute": "r1", "uid": "u1", "generation": 2, "probe": PROBE}],
        }
    )
    assert route_gateways(taken, step(failed, overlay_at(2, 2), taken)) == {("10.1.0.0/16", "192.168.100.7")}


def test_an_agent_without_checkpoint_continues_from_its_last_report() -> None:
    proven = overlay_at(2, 2, observed=2)
    assert update_probes((), None, proven, known=False) == (), "its report is on this generation, and names no probe"
    probing = step((), overlay_at(1, 1), overlay_at(2, 2))
    failed = conclude_probe(probing, probing[0], "no answer")
    reported = overlay_at(2, 2, observed=2, probes=[each.to_json() for each in failed])
    found = update_probes(reported.report.route_probes, None, reported, known=False)
    assert found == failed
    assert route_gateways(reported, found) == {("10.1.0.0/16", "192.168.100.1"), OTHER_ROUTE}


def test_a_failed_probe_with_unknown_previous_routes_withdraws_nothing() -> None:
    now = overlay_at(2, 2, observed=1)
    probing = update_probes((), None, now, known=False)
    assert [each.previous for each in probing] == [None]
    failed = conclude_probe(probing, probing[0], "no answer")
    assert [each.state for each in failed] == ["ProbeFailed"]
    assert route_gateways(now, failed) == {("10.1.0.0/16", "192.168.100.2"), OTHER_ROUTE}
    assert RouteProbe.parse(failed[0].to_json()) == failed[0]


def test_only_routes_that_the_kernel_has_as_desired_count_as_applied() -> None:
    routes = overlay_at(1, 1, 2, 3).routes
    plan = KernelPlan(
        placed=((routes[0], "tmp0"), (routes[3], "tmp0")),
        problems=(Problem("GatewayNotOnLink", "", routes[1]), Problem("GatewaysDown", "", routes[2])),
    )
    # While its gateways are down, a withdrawn route is the desired state.
    assert applied_routes("r1", plan) == {routes[0], routes[2]}


def test_probes_and_timeouts_are_parsed_as_they_are_encoded() -> None:
    for raw in ({"tcp": "10.1.2.3:179"}, {"tcp": "[fd00::1]:443", "timeout": "1m"}, {"icmp": "fd00::1"}):
        probe = Probe.parse(raw)
        assert probe is not None
        assert Probe.parse(probe.to_json()) == probe
        assert RouteGeneration.parse(RouteGeneration("r", "u", 3, probe).to_json()).probe == probe
    for broken in (
        {},
        {"tcp": "10.1.2.3"},
        {"tcp": "10.1.2.3:0"},
        {"tcp": "a:1"},
        {"icmp": "a"},
        {"tcp": "10.1.2.3:٣"},
    ):
        assert Probe.parse(broken) is None
    times = {"1500ms": 1.5, "1m": 60.0, "2.5s": 2.5, "1.23456s": 1.235, "1s500ms": 1.5, "10m": 60.0, "1ms": 1.0}
    assert {text: parse_seconds(text) for text in times} == times
    assert parse_seconds(None) == parse_seconds("soon") == 5.0


@dataclass
class Agent:
    """The agent's steps in their order, with a checkpoint and a kernel."""

    file: bytes | None = None
    last: NodeOverlay | None = None
    known: bool = False
    route_probes: tuple[RouteProbe, ...] = ()
    kernel: set[tuple[str, str]] = field(default_factory=set)

    def reconcile(self, now: NodeOverlay, *, dies_before_apply: bool = False) -> None:
        self.route_probes = update_probes(self.route_probes, self.last, now, known=self.known)
        self.last, self.known = now, True
        self.file = encode_checkpoint(now, self.route_probes)
        if dies_before_apply:
            self.restart()
        else:
            self.kernel = route_gateways(now, self.route_probes)

    def answer(self, failure: str) -> None:
        """The result of the probe, stored at once."""
        for route_probe in self.route_probes:
            if route_probe.state == "Probing":
                self.route_probes = conclude_probe(self.route_probes, route_probe, failure)
        assert self.last is not None
        self.file = encode_checkpoint(self.last, self.route_probes)

    def restart(self) -> None:
        assert self.file is not None
        confirmation = encode_confirmation(checkpoint_digest(self.file), MOMENT)
        found = decode_checkpoint(CheckpointContent(self.file, confirmation), "n1")
        assert isinstance(found, Checkpoint)
        self.last, self.route_probes, self.known = found.overlay, found.overlay.report.route_probes, True


def test_a_restarted_agent_does_not_probe_a_proven_generation_again() -> None:
    agent = Agent(known=True)
    agent.reconcile(overlay_at(1, 1))
    agent.answer("")
    agent.restart()
    agent.reconcile(overlay_at(1, 1))
    assert agent.route_probes == ()


moves = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.integers(1, 5)),
        st.tuples(st.sampled_from(["reconcile", "answer", "restart", "dies"]), st.just(0)),
    ),
    max_size=25,
)


@dataclass
class Node:
    """The agent with the object as the controller has written it last."""

    good: set[int]
    """Gateway N answers if N is ``good``."""
    agent: Agent = field(default_factory=lambda: Agent(known=True))
    generation: int = 1
    gateway: int = 1
    failed: set[int] = field(default_factory=set)
    """Generations whose probe has failed."""
    proven: int | None = None

    def change(self, gateway: int) -> None:
        self.generation, self.gateway = self.generation + 1, gateway

    def reconcile(self, *, dies_before_apply: bool = False) -> None:
        self.agent.reconcile(overlay_at(self.generation, self.gateway), dies_before_apply=dies_before_apply)

    def answer(self) -> None:
        probed = [each.generation for each in self.agent.route_probes if each.state == "Probing"]
        assert not self.failed.intersection(probed), "a generation is probed again"
        # The probe goes through the routes of the kernel.
        (gateways,) = [{int(via.rsplit(".", 1)[1]) for subnet, via in self.agent.kernel if subnet != "10.9.0.0/16"}]
        if probed != [self.generation] or gateways != {self.gateway}:
            return
        if self.gateway in self.good:
            self.agent.answer("")
            self.proven = self.gateway
        else:
            self.agent.answer("no answer")
            self.failed.add(self.generation)

    def move(self, name: str, gateway: int) -> None:
        match name:
            case "change":
                self.change(gateway)
            case "reconcile":
                self.reconcile()
            case "answer":
                self.answer()
            case "restart":
                self.agent.restart()
            case "dies":
                self.reconcile(dies_before_apply=True)


@settings(deadline=None)
@given(st.sets(st.integers(1, 5)), moves)
def test_any_history_ends_with_the_newest_proven_change_and_probes_each_once(
    good: set[int], history: list[tuple[str, int]]
) -> None:
    node = Node(good)
    node.reconcile()
    for name, gateway in history:
        node.move(name, gateway)
        assert node.agent.kernel >= {OTHER_ROUTE}
    for _ in range(3):
        # Whatever a process has lost, the next one finds.
        node.reconcile()
        node.answer()
    node.reconcile()
    expected = node.gateway if node.gateway in good else node.proven
    desired = {("10.1.0.0/16", f"192.168.100.{expected}")} if expected is not None else set()
    assert node.agent.kernel == desired | {OTHER_ROUTE}
    assert [each.state for each in node.agent.route_probes] == ([] if node.gateway in good else ["RolledBack"])


# --- The report -------------------------------------------------------------------------------------------------------

LINK = DesiredLink("tmp0", "eth0")
ADDRESS = ip_interface("192.168.100.4/24")


def ready(plan: KernelPlan, route_probes: tuple[RouteProbe, ...] = ()) -> tuple[bool | None, str, str]:
    now = overlay_at(2, 2)
    target = Desired(LINK, ADDRESS, now.routes)
    placed = tuple((each, "tmp0") for each in now.routes)
    report = make_report(
        now, target, LINK, replace(plan, placed=placed), {}, ADDRESS, MOMENT.wall, route_probes=route_probes
    )
    assert NodeOverlay.parse({"status": report.to_json()}).report.route_probes == route_probes
    found = find_condition(report.conditions, "Ready")
    assert found is not None
    return found.status, found.reason, found.message


def test_a_node_is_ready_once_its_changes_are_proven() -> None:
    assert ready(KernelPlan())[:2] == (True, "Ready")
    probing = step((), overlay_at(1, 1), overlay_at(2, 2))
    assert ready(KernelPlan(), probing)[:2] == (False, "Probing")
    status, reason, message = ready(KernelPlan(), conclude_probe(probing, probing[0], "no answer"))
    assert (status, reason) == (False, "RolledBack")
    assert message.startswith("generation 2 of StaticRoute r1: no answer")


def test_a_route_that_cannot_be_deleted_is_reported() -> None:
    left = DeleteRoute(Route(ip_network("10.7.0.0/16"), (), 117, kind="blackhole"))
    status, reason, message = ready(KernelPlan(actions=(left,)))
    assert (status, reason) == (False, "RoutesLeft")
    assert "10.7.0.0/16" in message
