"""Probe and roll back as decisions: what a node has while a change is tried, after it failed, and after a crash."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import ip_interface, ip_network
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from overlay_net.domain.kernel.checkpoint import (
    Checkpoint,
    Moment,
    checkpoint_digest,
    decode_checkpoint,
    encode_checkpoint,
    encode_confirmation,
)
from overlay_net.domain.kernel.probe_rollback import applied_routes, conclude_probe, effective_routes, update_probes
from overlay_net.domain.kernel.report import make_report
from overlay_net.model.conditions import find
from overlay_net.model.kernel import Desired, DesiredLink
from overlay_net.model.kernel_actions import DeleteRoute, KernelPlan, Problem
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.route import Route
from overlay_net.model.route_probe import Probe, RouteGeneration, RouteProbe, seconds_of
from tests.unit.factories import overlay

MOMENT = Moment(datetime(2026, 1, 1, tzinfo=UTC), "boot", 1.0)
PROBE = {"tcp": "192.168.0.10:80", "timeout": "2s"}
OTHER = {"subnet": "10.9.0.0/16", "staticRoute": "other", "gateways": [{"address": "192.168.100.9"}]}


def route(gateway: int, subnet: str = "10.1.0.0/16", owner: str = "r1") -> dict[str, Any]:
    return {"subnet": subnet, "staticRoute": owner, "gateways": [{"address": f"192.168.100.{gateway}"}]}


def told(
    generation: int, *gateways: int, probe: Any = PROBE, uid: str = "u1", seen: int = 0, probes: Any = ()
) -> NodeOverlay:
    """The node's object with StaticRoute r1 at this generation, one route a gateway, beside one of another object."""
    routes = [route(gateway, f"10.{place}.0.0/16") for place, gateway in enumerate(gateways, 1)]
    generations = [{"staticRoute": "r1", "uid": uid, "generation": generation, "probe": probe}] if probe else []
    status = {"observedGeneration": seen, "probes": list(probes)}
    return overlay(spec={"routes": [*routes, OTHER], "generations": generations}, status=status, generation=generation)


def step(route_probes: tuple[RouteProbe, ...], before: NodeOverlay | None, now: NodeOverlay) -> tuple[RouteProbe, ...]:
    return update_probes(route_probes, before, now, known=True)


def route_gateways(now: NodeOverlay, route_probes: tuple[RouteProbe, ...]) -> set[tuple[str, str]]:
    return {
        (str(each.subnet), str(each.spec.gateways[0].address)) for each in effective_routes(now.routes, route_probes)
    }


OTHERS_WAY = ("10.9.0.0/16", "192.168.100.9")


def test_a_change_that_is_not_answered_gives_the_routes_of_before_back_once() -> None:
    first, second = told(1, 1), told(2, 2)
    tried = step((), first, second)
    assert [(each.state, each.generation) for each in tried] == [("Probing", 2)]
    assert route_gateways(second, tried) == {("10.1.0.0/16", "192.168.100.2"), OTHERS_WAY}, "the change itself is tried"
    failed = conclude_probe(tried, tried[0], "no answer")
    assert [each.state for each in failed] == ["RolledBack"]
    assert route_gateways(second, failed) == {("10.1.0.0/16", "192.168.100.1"), OTHERS_WAY}
    assert step(failed, second, told(2, 2)) == failed, "the same generation is not tried again"
    third = told(3, 3)
    again = step(failed, second, third)
    assert [(each.state, each.generation) for each in again] == [("Probing", 3)]
    assert again[0].previous == failed[0].previous, "what was refuted is not what one goes back to"
    assert conclude_probe(again, again[0], "") == ()
    assert route_gateways(third, ()) == {("10.1.0.0/16", "192.168.100.3"), OTHERS_WAY}


def test_a_new_object_that_is_not_answered_is_withdrawn_and_others_stay() -> None:
    now = told(1, 1, 2)
    tried = step((), overlay(spec={"routes": [OTHER]}), now)
    failed = conclude_probe(tried, tried[0], "no answer")
    assert route_gateways(now, failed) == {OTHERS_WAY}
    assert "withdrawn" in failed[0].message


def test_a_change_during_a_trial_goes_back_to_what_was_proven() -> None:
    first, second, third = told(1, 1), told(2, 2), told(3, 3)
    tried = step(step((), first, second), second, third)
    failed = conclude_probe(tried, tried[0], "no answer")
    assert route_gateways(third, failed) == {
        ("10.1.0.0/16", "192.168.100.1"),
        OTHERS_WAY,
    }


def test_other_routes_of_the_same_generation_are_tried_too() -> None:
    """The overlay gateway of the node changed, or an older object with the subnet went."""
    first = told(1, 1)
    assert step((), first, told(1, 1)) == (), "another object changed"
    assert [each.state for each in step((), first, told(1, 2))] == ["Probing"]


def test_an_object_of_the_same_name_is_another_one() -> None:
    tried = step((), told(1, 1), told(2, 2))
    failed = conclude_probe(tried, tried[0], "no answer")
    assert [each.state for each in step(failed, told(2, 2), told(2, 2, uid="u2"))] == ["Probing"]


def test_without_a_probe_nothing_is_tried_and_what_was_rolled_back_is_taken() -> None:
    assert step((), told(1, 1, probe=None), told(2, 2, probe=None)) == ()
    tried = step((), told(1, 1), told(2, 2))
    failed = conclude_probe(tried, tried[0], "no answer")
    assert step(failed, told(2, 2), told(3, 2, probe=None)) == ()


def test_a_subnet_that_another_object_has_by_now_stays_there() -> None:
    tried = step((), told(1, 1), told(2, 2))
    failed = conclude_probe(tried, tried[0], "no answer")
    taken = overlay(
        spec={
            "routes": [route(7, owner="elder"), route(2, "10.5.0.0/16")],
            "generations": [{"staticRoute": "r1", "uid": "u1", "generation": 2, "probe": PROBE}],
        }
    )
    assert route_gateways(taken, step(failed, told(2, 2), taken)) == {("10.1.0.0/16", "192.168.100.7")}


def test_an_agent_that_remembers_nothing_goes_by_its_last_report() -> None:
    proven = told(2, 2, seen=2)
    assert update_probes((), None, proven, known=False) == (), "it reported on this very spec, and named nothing"
    tried = step((), told(1, 1), told(2, 2))
    failed = conclude_probe(tried, tried[0], "no answer")
    reported = told(2, 2, seen=2, probes=[each.to_json() for each in failed])
    found = update_probes(reported.report.route_probes, None, reported, known=False)
    assert found == failed
    assert route_gateways(reported, found) == {("10.1.0.0/16", "192.168.100.1"), OTHERS_WAY}


def test_not_knowing_what_was_before_withdraws_nothing() -> None:
    now = told(2, 2, seen=1)
    tried = update_probes((), None, now, known=False)
    assert [each.previous for each in tried] == [None]
    failed = conclude_probe(tried, tried[0], "no answer")
    assert [each.state for each in failed] == ["ProbeFailed"]
    assert route_gateways(now, failed) == {("10.1.0.0/16", "192.168.100.2"), OTHERS_WAY}
    assert RouteProbe.parse(failed[0].to_json()) == failed[0]


def test_only_what_the_kernel_has_as_wished_can_be_asked_about() -> None:
    routes = told(1, 1, 2, 3).routes
    plan = KernelPlan(
        placed=((routes[0], "tmp0"), (routes[3], "tmp0")),
        problems=(Problem("GatewayNotOnLink", "", routes[1]), Problem("GatewaysDown", "", routes[2])),
    )
    # That a route is withdrawn while its gateways are down is what its object asks for.
    assert applied_routes("r1", plan) == {routes[0], routes[2]}


def test_probes_and_their_times_are_read_as_they_are_written() -> None:
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
    assert {text: seconds_of(text) for text in times} == times
    assert seconds_of(None) == seconds_of("soon") == 5.0


@dataclass
class Agent:
    """The order of the agent's steps, with a file, and a kernel that has what it was given last."""

    file: bytes | None = None
    last: NodeOverlay | None = None
    known: bool = False
    route_probes: tuple[RouteProbe, ...] = ()
    kernel: set[tuple[str, str]] = field(default_factory=set)

    def look(self, now: NodeOverlay, *, dies_before_apply: bool = False) -> None:
        self.route_probes = update_probes(self.route_probes, self.last, now, known=self.known)
        self.last, self.known = now, True
        self.file = encode_checkpoint(now, self.route_probes)
        if dies_before_apply:
            self.restart()
        else:
            self.kernel = route_gateways(now, self.route_probes)

    def answer(self, failure: str) -> None:
        """An answer that is lost with the process before it is kept was never given."""
        for route_probe in self.route_probes:
            if route_probe.state == "Probing":
                self.route_probes = conclude_probe(self.route_probes, route_probe, failure)
        assert self.last is not None
        self.file = encode_checkpoint(self.last, self.route_probes)

    def restart(self) -> None:
        assert self.file is not None
        found = decode_checkpoint(self.file, encode_confirmation(checkpoint_digest(self.file), MOMENT), "n1")
        assert isinstance(found, Checkpoint)
        self.last, self.route_probes, self.known = found.overlay, found.overlay.report.route_probes, True


def test_what_was_proven_is_not_tried_again_by_an_agent_that_starts_anew() -> None:
    agent = Agent(known=True)
    agent.look(told(1, 1))
    agent.answer("")
    agent.restart()
    agent.look(told(1, 1))
    assert agent.route_probes == ()


moves = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.integers(1, 5)),
        st.tuples(st.sampled_from(["look", "answer", "restart", "dies"]), st.just(0)),
    ),
    max_size=25,
)


@settings(deadline=None)
@given(st.sets(st.integers(1, 5)), moves)
def test_whatever_happens_the_node_ends_with_the_newest_proven_change_and_tries_each_once(
    good: set[int], story: list[tuple[str, int]]
) -> None:
    """Gateway N answers when N is ``good``."""
    agent, generation, gateway = Agent(known=True), 1, 1
    refuted: set[int] = set()
    proven: int | None = None

    def answer() -> None:
        nonlocal proven
        trying = [each.generation for each in agent.route_probes if each.state == "Probing"]
        assert not refuted.intersection(trying), "a generation is tried again"
        # What is asked about is what the kernel has.
        (gateways,) = [{int(way.rsplit(".", 1)[1]) for subnet, way in agent.kernel if subnet != "10.9.0.0/16"}]
        if trying and gateways == {gateway} and trying == [generation]:
            agent.answer("" if gateway in good else "no answer")
            if gateway in good:
                proven = gateway
            else:
                refuted.add(generation)

    agent.look(told(1, 1))
    for move, number in story:
        match move:
            case "change":
                generation, gateway = generation + 1, number
            case "look":
                agent.look(told(generation, gateway))
            case "answer":
                answer()
            case "restart":
                agent.restart()
            case "dies":
                agent.look(told(generation, gateway), dies_before_apply=True)
        assert agent.kernel >= {OTHERS_WAY}
    for _ in range(3):
        # Whatever was lost with a process is found again.
        agent.look(told(generation, gateway))
        answer()
    agent.look(told(generation, gateway))
    expected = gateway if gateway in good else proven
    desired = {("10.1.0.0/16", f"192.168.100.{expected}")} if expected is not None else set()
    assert agent.kernel == desired | {OTHERS_WAY}
    assert [each.state for each in agent.route_probes] == ([] if gateway in good else ["RolledBack"])


# --- The report -------------------------------------------------------------------------------------------------------

LINK = DesiredLink("tmp0", "eth0")
ADDRESS = ip_interface("192.168.100.4/24")


def ready(plan: KernelPlan, route_probes: tuple[RouteProbe, ...] = ()) -> tuple[bool, str, str]:
    now = told(2, 2)
    wish = Desired(LINK, ADDRESS, now.routes)
    placed = tuple((each, "tmp0") for each in now.routes)
    report = make_report(
        now, wish, LINK, replace(plan, placed=placed), {}, ADDRESS, MOMENT.wall, route_probes=route_probes
    )
    assert NodeOverlay.parse({"status": report.to_json()}).report.route_probes == route_probes
    found = find(report.conditions, "Ready")
    assert found is not None
    return found.status, found.reason, found.message


def test_a_node_is_ready_when_its_changes_are_proven() -> None:
    assert ready(KernelPlan())[:2] == (True, "Ready")
    tried = step((), told(1, 1), told(2, 2))
    assert ready(KernelPlan(), tried)[:2] == (False, "Probing")
    status, reason, message = ready(KernelPlan(), conclude_probe(tried, tried[0], "no answer"))
    assert (status, reason) == (False, "RolledBack")
    assert message.startswith("generation 2 of StaticRoute r1: no answer")


def test_a_route_that_cannot_be_taken_away_is_said() -> None:
    left = DeleteRoute(Route(ip_network("10.7.0.0/16"), (), 117, kind="blackhole"))
    status, reason, message = ready(KernelPlan(actions=(left,)))
    assert (status, reason) == (False, "RoutesLeft")
    assert "10.7.0.0/16" in message
