"""Staged rollout: the limit of unavailable nodes holds, a failure stops it, and success completes it."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from overlay_net.domain.routes.rollout import choose
from overlay_net.model.api import JsonObject
from overlay_net.model.names import NODE_OVERLAY_IPS, OVERLAY_ROUTE_SLICES, STATIC_ROUTES
from overlay_net.model.static_route import Rollout
from tests.fakes.cluster import POLICY, Cluster
from tests.unit.factories import raw_node, raw_static_route

HOUR = timedelta(hours=1)


@dataclass
class Nodes:
    """Nodes with a StaticRoute whose generations have gateways of their own."""

    cluster: Cluster
    names: list[str] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    """As reported last."""
    current: str = "192.168.100.1"
    """The gateway of the present generation."""

    @classmethod
    async def start(cls, *names: str, **spec: Any) -> "Nodes":
        """Nodes that joined before the StaticRoute was created."""
        cluster = await Cluster.start()
        cluster.policy = replace(POLICY, overlay_addresses=False)
        cluster.names = []
        made = cls(cluster)
        for name in names:
            await made.join(name)
        cluster.now += HOUR
        await cluster.add_route(raw_static_route(gateway=made.current, **spec))
        return made

    async def join(self, name: str) -> None:
        self.names.append(name)
        await self.cluster.join(raw_node(name))

    async def roll_out(self, generation: int, limit: Any) -> None:
        self.current = f"192.168.100.{generation}"
        spec = {"gateway": self.current, "rollout": {"maxUnavailable": limit}}
        await self.cluster.kube.merge_patch(STATIC_ROUTES, "r1", {"spec": spec})

    async def update_status(self) -> None:
        await self.cluster.update_status()

    async def reconcile(self) -> None:
        await self.update_status()
        await self.cluster.reconcile()

    async def reconcile_node(self, name: str) -> None:
        await (await self.cluster.running()).node.reconcile(name)

    async def plan_slices(self) -> None:
        await (await self.cluster.running()).slices.reconcile("slices")

    async def report(self, *names: str, failing: bool = False) -> None:
        failure = {"subnet": "192.168.0.0/24", "staticRoute": "r1", "state": "KernelRefused", "message": "no"}
        for name in names:
            if await self.cluster.overlay(name) is None:
                continue
            await self.cluster.run_agent(name)
            status = {"routes": [failure] * failing, "routesFailed": int(failing)}
            await self.cluster.kube.merge_patch(NODE_OVERLAY_IPS, name, {"status": status}, subresource="status")
            (self.failing.add if failing else self.failing.discard)(name)

    async def gateways(self, *names: str) -> list[str]:
        """The last part of the gateway on each of these nodes, as an agent would set it; empty: it has no route."""
        found = []
        for name in names or self.names:
            routes = await self.cluster.routes(name) if await self.cluster.overlay(name) else []
            found.append("".join(each["gateways"][0]["address"].rpartition(".")[2] for each in routes))
        return found

    async def unavailable(self) -> set[str]:
        """Nodes that have the present generation and have not reported it in place."""
        found = set()
        for name in self.names:
            is_current = await self.gateways(name) == [self.current.rpartition(".")[2]]
            if is_current and (name in self.failing or not await self._has_reported(name)):
                found.add(name)
        return found

    async def _has_reported(self, name: str) -> bool:
        """Whether the agent has reported a slice with the present generation."""
        observed = (await self.cluster.present_overlay(name)).get("status", {}).get("observedSlices", {})
        for raw in (await self.cluster.kube.list(OVERLAY_ROUTE_SLICES)).items:
            gateways = [each["gateways"][0]["address"] for each in raw["spec"]["staticRoutes"]]
            generations = [each["sliceGeneration"] for each in raw["spec"]["staticRoutes"]]
            if gateways == [self.current] and observed.get(raw["metadata"]["name"], 0) >= generations[0]:
                return True
        return False

    async def status(self) -> JsonObject:
        status: JsonObject = (await self.cluster.kube.get(STATIC_ROUTES, "r1"))["status"]
        return status

    async def programmed(self) -> tuple[str, str]:
        (found,) = [each for each in (await self.status())["conditions"] if each["type"] == "Programmed"]
        return found["reason"], found["message"]


async def updating(*names: str, limit: Any = 1) -> Nodes:
    """All nodes have generation 1, via .1; generation 2 is via .2."""
    made = await Nodes.start(*names)
    await made.cluster.settle()
    await made.roll_out(2, limit)
    return made


async def test_nodes_are_updated_one_after_the_other_and_the_status_shows_the_progress() -> None:
    made = await updating("n1", "n2", "n3")
    for done in range(3):
        await made.reconcile()
        await made.reconcile()
        assert await made.unavailable() == {f"n{done + 1}"}
        assert await made.gateways() == ["2" if place <= done else "1" for place in range(3)]
        await made.update_status()
        status = await made.status()
        assert (status["updated"], status["ready"]) == (done + 1, done)
        assert (await made.programmed())[0] == ("RollingOut" if done < 2 else "Pending")
        await made.report(f"n{done + 1}")
    await made.reconcile()
    status = await made.status()
    assert (status["updated"], status["ready"]) == (3, 3)
    assert (await made.programmed())[0] == "Programmed"


async def test_a_failure_stops_the_rollout_and_the_next_generation_continues_it() -> None:
    made = await updating("n1", "n2", "n3")
    for _ in range(2):
        await made.reconcile()
    await made.report("n1")
    for _ in range(2):
        await made.reconcile()
    await made.report("n2", failing=True)
    for _ in range(3):
        await made.reconcile()
    reason, message = await made.programmed()
    assert reason == "RolloutStopped"
    assert "2 of 3 nodes updated" in message
    assert "not in place on n2" in message
    assert await made.gateways("n3") == ["1"]
    await made.roll_out(3, 1)
    for _ in range(2):
        await made.reconcile()
    assert await made.gateways() == ["2", "3", "1"], "the failing node is updated first"
    await made.update_status()
    status = await made.status()
    assert (status["updated"], status["ready"]) == (1, 0)
    for name in ("n2", "n1", "n3"):
        await made.report(name)
        for _ in range(2):
            await made.reconcile()
    await made.report("n3")
    await made.update_status()
    assert (await made.status())["ready"] == 3


async def test_a_new_node_gets_the_current_generation_although_the_rollout_is_stopped() -> None:
    made = await updating("n1", "n2")
    for _ in range(2):
        await made.reconcile()
    await made.report("n1", failing=True)
    made.cluster.now += HOUR
    await made.join("a-new")
    for _ in range(2):
        await made.reconcile()
    assert await made.gateways("a-new", "n2") == ["2", "1"]


async def test_a_recreated_node_overlay_ip_gets_the_current_generation_although_the_rollout_is_stopped() -> None:
    made = await updating("n1", "n2", "n3")
    for _ in range(2):
        await made.reconcile()
    await made.report("n1", failing=True)
    await made.reconcile()
    made.cluster.now += HOUR
    await made.cluster.kube.merge_patch(NODE_OVERLAY_IPS, "n2", {"metadata": {"finalizers": None}})
    await made.cluster.kube.delete(NODE_OVERLAY_IPS, "n2")
    for _ in range(2):
        await made.reconcile()
    assert await made.gateways("n2") == ["2"], "its previous generation is unknown, and no routes is worse"
    assert await made.gateways("n3") == ["1"]
    await made.report("n2")
    await made.reconcile()
    assert await made.gateways("n3") == ["1"]
    assert (await made.programmed())[0] == "RolloutStopped"


async def test_a_new_object_is_rolled_out_in_stages_too() -> None:
    made = await Nodes.start("n1", "n2", "n3", rollout={"maxUnavailable": 2})
    for _ in range(3):
        await made.reconcile()
    assert await made.gateways() == ["1", "1", ""]


async def test_without_rollout_all_nodes_are_updated_at_once_and_progress_is_not_shown() -> None:
    made = await Nodes.start("n1", "n2", "n3")
    await made.reconcile()
    assert await made.gateways() == ["1", "1", "1"]
    await made.update_status()
    assert "updated" not in await made.status()


async def test_a_deleted_object_is_removed_from_all_nodes_at_once() -> None:
    made = await updating("n1", "n2")
    for _ in range(2):
        await made.reconcile()
    assert await made.gateways() == ["2", "1"]
    await made.cluster.remove_route("r1")
    await made.reconcile()
    assert await made.gateways() == ["", ""]


async def test_a_rollout_that_is_removed_reaches_all_nodes_at_once() -> None:
    made = await updating("n1", "n2", "n3")
    for _ in range(2):
        await made.reconcile()
    assert await made.gateways() == ["2", "1", "1"]
    await made.cluster.kube.merge_patch(STATIC_ROUTES, "r1", {"spec": {"rollout": None}})
    await made.reconcile()
    assert await made.gateways() == ["2", "2", "2"]
    await made.cluster.settle()
    sets = [(await made.cluster.present_overlay(name))["spec"]["routeSets"] for name in made.names]
    assert all(len(each) == 1 and each[0]["name"].startswith("rs-") for each in sets)


def test_percentages_are_rounded_up_as_in_a_daemonset() -> None:
    for value, nodes, limit in ((3, 1, 3), ("10%", 5, 1), ("10%", 11, 2), ("100%", 7, 7), ("50%", 0, 1), ("x", 9, 1)):
        rollout = Rollout.parse({"maxUnavailable": value})
        assert rollout is not None
        assert rollout.limit(nodes) == limit, value
    assert Rollout.parse({}) is None


@given(st.lists(st.booleans(), max_size=12), st.integers(0, 5), st.sets(st.integers(0, 15)), st.integers(1, 5))
def test_admission_is_never_revoked_and_respects_the_limit(
    failing: list[bool], unavailable: int, numbers: set[int], limit: int
) -> None:
    kept_back = [f"n{number:02}" for number in range(len(failing))]
    before = {f"n{number:02}" for number in numbers}

    def fails(name: str) -> bool:
        return failing[int(name[1:])]

    result = choose(kept_back, unavailable, limit, before, fails)
    assert result >= before.intersection(kept_back)
    newly_admitted = sorted(result - before)
    assert not newly_admitted or unavailable + len(result) <= limit
    waiting = [name for name in kept_back if name not in before]
    first = sorted(waiting, key=lambda name: not fails(name))
    assert newly_admitted == sorted(first[: len(newly_admitted)]), "failing nodes first, then the others by name"
    assert len(newly_admitted) == len(waiting) or unavailable + len(result) >= limit, "as many as possible"
    assert choose(kept_back, unavailable, limit, result, fails) == result, "the result is stable"


moves = st.lists(
    st.tuples(st.sampled_from(["status", "slices", "node", "report", "fail", "restart", "change"]), st.integers(0, 5)),
    max_size=40,
)


async def check_any_order(count: int, limit: int, steps: list[tuple[str, int]]) -> None:
    made = await updating(*[f"n{number}" for number in range(count)], limit=limit)
    generation = 2
    for move, number in steps:
        name = made.names[number % count]
        match move:
            case "status":
                await made.update_status()
            case "slices":
                await made.plan_slices()
            case "node":
                await made.reconcile_node(name)
            case "report":
                await made.report(name)
            case "fail":
                await made.report(name, failing=await made.gateways(name) == [str(generation)])
            case "restart":
                made.cluster.replace_controller(timedelta())
            case "change":
                generation += 1
                await made.roll_out(generation, limit)
        assert len(await made.unavailable()) <= limit
    for _ in range(2 * count + 2):
        await made.reconcile()
        assert len(await made.unavailable()) <= limit
        await made.report(*made.names)
    await made.reconcile()
    assert await made.gateways() == [str(generation)] * count


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 3), moves)
def test_the_limit_holds_in_any_order_of_events_and_the_rollout_completes(
    count: int, limit: int, steps: list[tuple[str, int]]
) -> None:
    asyncio.run(check_any_order(count, limit, steps))


async def check_that_all_fail(count: int, limit: int) -> None:
    made = await updating(*[f"n{number}" for number in range(count)], limit=limit)
    for _ in range(count + 2):
        await made.reconcile()
        for name in made.names:
            await made.report(name, failing=await made.gateways(name) == ["2"])
    assert (await made.gateways()).count("2") == limit
    await made.reconcile()
    assert (await made.programmed())[0] == "RolloutStopped"


@settings(deadline=None, max_examples=10)
@given(st.integers(2, 5), st.integers(1, 3))
def test_if_every_node_fails_only_as_many_as_the_limit_are_affected(count: int, limit: int) -> None:
    assume(limit < count)
    asyncio.run(check_that_all_fail(count, limit))
