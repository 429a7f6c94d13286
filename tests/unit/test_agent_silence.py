"""A node whose agent is silent, or has not reported since the node returned or booted, is Ready=Unknown."""

from datetime import timedelta
from typing import Any

from overlay_net.agent.heartbeat import GRACE, Heartbeat
from overlay_net.controller.agent_leases import INTERVAL, AgentLeases
from overlay_net.domain.allocation.agent_silence import Silence, observe_leases
from overlay_net.model.errors import Refused, Unavailable
from overlay_net.model.lease import LeaseRecord
from overlay_net.model.names import LEASES, NODE_OVERLAY_IPS, NODES
from overlay_net.model.overlay import NodeOverlay
from tests.fakes.cluster import NAME, Cluster
from tests.fakes.kube import InMemoryKube
from tests.unit.factories import overlay, raw_node, raw_pool, raw_static_route

NAMESPACE, TAINT = "overlay-net", "overlay-net.example.com/not-ready"
STALE_AFTER = timedelta(minutes=5)


class Watch:
    """The cluster of one node, whose agent renews its Lease, and a controller that reads it once a minute."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.seconds = 1000.0
        self.down = False
        self.woken: list[str] = []
        self.renewals = True
        self.heartbeat = Heartbeat(cluster.kube, NAMESPACE, NAME, self.overlay, 66, self.clock, lambda: None)
        self.leases: AgentLeases | None = None
        self.present: NodeOverlay | None = None

    @classmethod
    async def start(cls) -> "Watch":
        cluster = await Cluster.start(raw_pool())
        await cluster.join(raw_node(NAME, boot="boot-1"))
        cluster.boot = "boot-1"
        await cluster.settle()
        watch = cls(cluster)
        await watch.agent_works()
        cluster.lease = watch.heartbeat.lease
        await cluster.settle()
        await watch.minutes(2)
        return watch

    def overlay(self) -> NodeOverlay | None:
        return self.present

    def clock(self) -> float:
        return self.seconds

    async def agent_works(self) -> None:
        raw = await self.cluster.overlay()
        self.present = NodeOverlay.parse(raw) if raw is not None else None
        self.heartbeat.reconciled()
        await self.heartbeat.renew()

    async def minutes(self, count: int, *, renewals: bool = True) -> None:
        """Time passes; the agent renews its Lease, or is silent."""
        for _ in range(count):
            self.seconds += INTERVAL
            self.cluster.now += timedelta(seconds=INTERVAL)
            if renewals:
                await self.agent_works()
            await self.read()
            await self.cluster.reconcile()

    async def read(self) -> None:
        """The present leader reads the Leases, if the API server answers."""
        controller = await self.cluster.running()
        if self.leases is None:
            self.leases = AgentLeases(
                self.cluster.kube,  # type: ignore[arg-type]
                controller.caches,
                NAMESPACE,
                STALE_AFTER,
                self.woken.append,
                self.clock,
            )
        if not self.down:
            await self.leases.read()

    async def ready(self) -> tuple[str, str]:
        conditions = (await self.cluster.present_overlay())["status"]["conditions"]
        (found,) = [each for each in conditions if each["type"] == "Ready"]
        return found["status"], found["reason"]


READY, STALE = ("True", "Ready"), ("Unknown", "AgentStale")


async def test_a_node_whose_agent_is_silent_is_ready_unknown_until_the_agent_reports() -> None:
    watch = await Watch.start()
    assert await watch.ready() == READY
    await watch.minutes(4, renewals=False)
    assert await watch.ready() == READY
    await watch.minutes(2, renewals=False)
    assert await watch.ready() == STALE
    assert watch.woken == [NAME]
    before = watch.cluster.changes
    await watch.minutes(60, renewals=False)
    assert watch.cluster.changes == before, "nothing is written while the cause is the same"
    await watch.minutes(2)
    await watch.cluster.settle()
    assert await watch.ready() == READY


async def test_a_report_changes_only_the_entry_of_its_node_as_thousands_may_be_back_at_once() -> None:
    watch = await Watch.start()
    await watch.minutes(6, renewals=False)
    silent = (await watch.cluster.running()).caches.silent_agents
    assert list(silent) == [NAME]
    watch.woken.clear()
    await watch.cluster.run_agent()
    assert list(silent) == []
    assert watch.woken == [NAME]


async def test_a_renewed_lease_writes_no_object_that_others_watch() -> None:
    watch = await Watch.start()
    before = await watch.cluster.present_overlay()
    await watch.minutes(60)
    assert await watch.cluster.present_overlay() == before
    assert await watch.ready() == READY


async def test_a_new_leader_observes_the_whole_time_again() -> None:
    watch = await Watch.start()
    await watch.minutes(4, renewals=False)
    await watch.cluster.set_policy()
    watch.leases = None
    await watch.minutes(4, renewals=False)
    assert await watch.ready() == READY
    await watch.minutes(2, renewals=False)
    assert await watch.ready() == STALE


async def test_an_outage_of_the_api_server_makes_no_agent_stale() -> None:
    watch = await Watch.start()
    watch.down = True
    await watch.minutes(60, renewals=False)
    watch.down = False
    await watch.minutes(2, renewals=False)
    await watch.minutes(5)
    assert await watch.ready() == READY


async def test_an_agent_of_an_earlier_version_is_never_stale() -> None:
    watch = await Watch.start()
    watch.cluster.lease = ""
    await watch.cluster.settle()
    await watch.minutes(30, renewals=False)
    assert await watch.ready() == READY


async def test_an_agent_that_reports_but_cannot_renew_is_not_contradicted_all_the_time() -> None:
    watch = await Watch.start()
    flips, last = 0, READY
    for _ in range(60):
        await watch.minutes(1, renewals=False)
        flips += await watch.ready() != last
        await watch.cluster.run_agent()
        last = await watch.ready()
    assert flips <= 60 / 5


async def test_the_startup_taint_of_a_node_with_a_silent_agent_stays() -> None:
    watch = await Watch.start()
    await watch.minutes(7, renewals=False)
    await watch.cluster.set_policy(startup_taint=TAINT)
    await watch.cluster.kube.merge_patch(NODES, NAME, {"spec": {"taints": [{"key": TAINT, "effect": "NoSchedule"}]}})
    await watch.cluster.reconcile()
    assert [each["key"] for each in (await watch.cluster.kube.get(NODES, NAME))["spec"]["taints"]] == [TAINT]


async def test_each_later_status_write_keeps_the_condition_until_the_agent_reports() -> None:
    watch = await Watch.start()
    await watch.minutes(7, renewals=False)
    await watch.cluster.pin("192.168.100.9")
    await watch.cluster.reconcile()
    assert (await watch.cluster.present_overlay())["status"]["ipAddr"] == "192.168.100.9/24"
    assert await watch.ready() == STALE
    await watch.cluster.leave()
    await watch.cluster.reconcile()
    assert "nodeGoneSince" in (await watch.cluster.present_overlay())["status"]
    assert await watch.ready() == STALE
    await watch.cluster.join(raw_node(NAME, boot="boot-1"))
    await watch.minutes(2)
    await watch.cluster.settle()
    assert await watch.ready() == READY


async def test_a_node_that_booted_or_returned_is_ready_unknown_until_its_agent_reports() -> None:
    watch = await Watch.start()
    change = {"status": {"nodeInfo": {"bootID": "boot-2"}}}
    await watch.cluster.kube.merge_patch(NODES, NAME, change, subresource="status")
    await watch.cluster.add_route(raw_static_route())
    await watch.cluster.reconcile()
    assert await watch.ready() == ("Unknown", "WaitingForAgent")
    watch.cluster.boot = "boot-2"
    await watch.cluster.settle()
    assert await watch.ready() == READY


# --- What is observed ------------------------------------------------------------------------------------------------


def test_only_an_unchanged_renewal_counts_as_silence() -> None:
    silences = observe_leases({}, ["n1"], {"n1": "12:00"}, 0.0)
    assert silences == {"n1": Silence("12:00")}
    silences = observe_leases(silences, ["n1"], {"n1": "12:00"}, 60.0)
    assert silences == {"n1": Silence("12:00", 60.0)}
    assert observe_leases(silences, ["n1"], {"n1": "11:00"}, 60.0) == {"n1": Silence("11:00")}, "a clock was set back"
    assert observe_leases(silences, [], {"n1": "12:00"}, 60.0) == {}
    deleted = observe_leases(silences, ["n1"], {}, 60.0)
    assert observe_leases(deleted, ["n1"], {}, 60.0) == {"n1": Silence("", 60.0)}, "a running agent creates it again"


# --- The agent -------------------------------------------------------------------------------------------------------


class Api(InMemoryKube):
    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None

    async def apply(self, *arguments: Any, **more: Any) -> Any:
        if self.error is not None:
            raise self.error
        return await super().apply(*arguments, **more)


class Beating:
    """An agent's heartbeat, its clock, and the API server."""

    def __init__(self) -> None:
        self.api = Api()
        self.seconds = 0.0
        self.overlay: NodeOverlay | None = overlay()
        self.changes = 0
        self.heartbeat = Heartbeat(
            self.api, NAMESPACE, "n1", lambda: self.overlay, 66.0, lambda: self.seconds, self.changed
        )

    def changed(self) -> None:
        self.changes += 1

    async def renewed(self) -> str:
        return LeaseRecord.parse(await self.api.get(LEASES, "n1", namespace=NAMESPACE)).renewed


async def test_the_lease_belongs_to_the_object_of_the_node() -> None:
    agent = Beating()
    await agent.heartbeat.renew()
    found = await agent.api.get(LEASES, "n1", namespace=NAMESPACE)
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == (NODE_OVERLAY_IPS.kind, "n1", "overlay-n1")
    assert (agent.heartbeat.lease, agent.changes) == ("overlay-net/n1", 1)


async def test_an_agent_that_does_not_reconcile_does_not_renew() -> None:
    agent = Beating()
    await agent.heartbeat.renew()
    before = await agent.renewed()
    agent.seconds = 66 + GRACE + 1
    await agent.heartbeat.renew()
    assert await agent.renewed() == before
    agent.heartbeat.reconciled()
    await agent.heartbeat.renew()
    assert await agent.renewed() != before


async def test_an_agent_without_an_object_writes_no_lease() -> None:
    agent = Beating()
    agent.overlay = None
    await agent.heartbeat.renew()
    assert (await agent.api.list(LEASES, namespace=NAMESPACE)).items == ()


async def test_an_agent_that_may_not_write_its_lease_does_not_claim_to_renew_it() -> None:
    agent = Beating()
    await agent.heartbeat.renew()
    agent.api.error = Unavailable("no answer")
    await agent.heartbeat.renew()
    assert (agent.heartbeat.lease, agent.changes) == ("overlay-net/n1", 1), "it will answer again"
    agent.api.error = Refused("403 Forbidden")
    await agent.heartbeat.renew()
    assert (agent.heartbeat.lease, agent.changes) == ("", 2)


REPORTED = {"lease": "overlay-net/n1"}


async def test_an_agent_that_restarts_changes_no_object() -> None:
    agent = Beating()
    agent.overlay = None
    await agent.heartbeat.renew()
    agent.overlay = overlay(status=REPORTED)
    assert agent.heartbeat.lease == "overlay-net/n1", "the same as in its last report"
    agent.api.error = Unavailable("no answer")
    await agent.heartbeat.renew()
    assert agent.heartbeat.lease == "overlay-net/n1"
    agent.api.error = None
    await agent.heartbeat.renew()
    assert (agent.heartbeat.lease, agent.changes) == ("overlay-net/n1", 0)


async def test_an_agent_that_restarts_and_may_not_write_its_lease_any_more_reports_none() -> None:
    agent = Beating()
    agent.overlay = overlay(status=REPORTED)
    agent.api.error = Refused("403 Forbidden")
    await agent.heartbeat.renew()
    assert (agent.heartbeat.lease, agent.changes) == ("", 1)


async def test_an_agent_that_no_longer_renews_a_lease_reports_none() -> None:
    without = Heartbeat(Api(), "", "n1", lambda: overlay(status=REPORTED), 66.0, lambda: 0.0, lambda: None)
    assert without.lease == ""
