"""The life of an address, as a random walk: people, agents, crashes and clocks in any order, then a calm end.

The controller is the product's own, over an in-memory API. At every moment: an address in a node's kernel is reserved
for that node, or in quarantine, until the node is fenced. In the end: a node that exists has exactly one address, in
its object, in its kernel and in the IPAM; one that does not has none.
"""

import asyncio
from collections.abc import Coroutine
from copy import deepcopy
from datetime import timedelta
from ipaddress import ip_address
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from overlay_net.model.ipam import QUARANTINE
from overlay_net.model.names import NODES, STATIC_ROUTES
from overlay_net.model.overlay import NodeOverlay
from tests.examples import examples
from tests.fakes.cluster import NAME, POLICY, Cluster
from tests.unit.factories import raw_node, raw_phpipam_pool, raw_pool, raw_static_route

T = TypeVar("T")

# Room for four: .1 is the gateway, .0 and .7 are never handed out, .6 is excluded.
POOL = raw_pool(cidr="10.9.0.0/29", gateway="10.9.0.1", exclude=["10.9.0.6"])
ADDRESSES = [f"10.9.0.{last}" for last in range(8)]
USABLE = ADDRESSES[2:6]


class NodeLife(RuleBasedStateMachine):
    feed = True

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.cluster = self.run(Cluster.start(POOL if self.feed else raw_phpipam_pool(POOL), feed=self.feed))
        self.present = False
        self.routes = 0
        self.boots = 0
        self.silent = False
        self.fenced = False
        """The node was gone so long that its address was released while its kernel may still have it."""

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(step)

    @rule()
    def everything_runs(self) -> None:
        """What happens most of the time."""
        self.controller_runs_and_may_die_or_be_paused(None, pauses=False)
        self.agent_runs()

    @rule()
    def controller_runs(self) -> None:
        self.controller_runs_and_may_die_or_be_paused(None, pauses=False)

    @initialize(settled=st.booleans())
    def node_may_have_settled(self, settled: bool) -> None:
        if settled:
            self.node_joins()
            self.everything_runs()
            self.everything_runs()

    @rule()
    def node_joins(self) -> None:
        if not self.present:
            self.run(self.cluster.join(raw_node(NAME, boot=self.cluster.boot)))
            self.present = True

    @rule()
    def node_leaves(self) -> None:
        self.run(self.cluster.leave())
        self.present = False

    @rule(kubelet_first=st.booleans())
    def machine_boots(self, kubelet_first: bool) -> None:
        self.boots += 1
        self.cluster.boot_machine(f"boot-{self.boots}")
        if kubelet_first:
            self.run(self.cluster.report_boot())

    @rule(address=st.sampled_from([None, *ADDRESSES]))
    def user_pins(self, address: str | None) -> None:
        self.run(self.cluster.pin(address))

    @rule(address=st.sampled_from(USABLE))
    def user_asks_for_another_address(self, address: str) -> None:
        self.run(self.cluster.renumber(address))

    @rule(excluded=st.sampled_from([[], ["10.9.0.2"], ["10.9.0.3", "10.9.0.4"]]), name=st.sampled_from(["p1", "p2"]))
    def pool_changes(self, excluded: list[str], name: str) -> None:
        """Its exclusions, or its name."""
        changed = raw_pool(name, "10.9.0.0/29", "10.9.0.1", exclude=["10.9.0.6", *excluded])
        self.run(self.cluster.set_pools(changed if self.feed else raw_phpipam_pool(changed)))

    @rule(address=st.sampled_from(USABLE))
    def another_node_takes(self, address: str) -> None:
        self.run(self.cluster.take(address))

    @rule(address=st.sampled_from(USABLE))
    def a_lost_answer_leaves_a_second_record(self, address: str) -> None:
        if self.present and self.overlay() is not None:
            self.run(self.cluster.take(address, NAME))

    @rule(address=st.sampled_from(USABLE), there=st.booleans())
    def an_unknown_host_uses_an_address_or_stops(self, address: str, there: bool) -> None:
        change = self.cluster.foreign_hosts.add if there else self.cluster.foreign_hosts.discard
        change(ip_address(address))

    @rule(down=st.sampled_from([False, False, True]))
    def ipam_fails_or_recovers(self, down: bool) -> None:
        self.cluster.ipam_down = down

    @rule()
    def watches_fall_behind(self) -> None:
        self.cluster.watches_lag = True

    @rule()
    def watches_catch_up(self) -> None:
        self.run(self.cluster.catch_up())

    @rule(on=st.booleans())
    def overlay_addresses_are_switched(self, on: bool) -> None:
        self.run(self.cluster.set_policy(overlay_addresses=on))

    @rule(subnet=st.sampled_from(["10.1.0.0/16", "10.2.0.0/16"]))
    def user_adds_a_route(self, subnet: str) -> None:
        self.run(self.cluster.add_route(raw_static_route(f"r{self.routes}", subnet)))
        self.routes += 1

    @rule(minutes=st.integers(1, 15))
    def time_passes(self, minutes: int) -> None:
        self.cluster.now += timedelta(minutes=minutes)
        self.update_fence()

    def overlay(self) -> NodeOverlay | None:
        raw = self.run(self.cluster.overlay())
        return NodeOverlay.parse(raw) if raw is not None else None

    def update_fence(self) -> None:
        """The agent was asked to release, and its node was observed to be gone for the fence time."""
        overlay = self.overlay()
        if not self.present and overlay is not None and overlay.deleted_at is not None:
            since = overlay.assignment.node_gone_since
            self.fenced |= since is not None and self.cluster.now - max(since, overlay.deleted_at) >= POLICY.fence_after

    @rule(silent=st.sampled_from([False, False, True]))
    def agent_dies_or_returns(self, silent: bool) -> None:
        self.silent = silent

    @rule()
    def agent_runs(self) -> None:
        if not self.silent:
            self.run(self.cluster.run_agent())
            self.fenced = False

    @rule()
    def user_deletes_the_object(self) -> None:
        self.run(self.cluster.delete_overlay())

    @rule(writes=st.integers(0, 5), pauses=st.booleans())
    def controller_runs_and_may_die_or_be_paused(self, writes: int | None, *, pauses: bool) -> None:
        self.update_fence()
        self.run(self.cluster.reconcile(writes, pauses=pauses))

    @rule()
    def paused_controllers_go_on(self) -> None:
        self.update_fence()
        self.run(self.cluster.resume())

    @rule()
    def controller_audits(self) -> None:
        self.run(self.cluster.audit())

    @invariant()
    def an_address_in_use_is_reserved(self) -> None:
        kernel = self.cluster.kernel
        if kernel is None or self.fenced:
            return
        record = self.run(self.cluster.records()).get(kernel.ip)
        # A controller that died after a quarantine has not notified the agent yet: the address is reserved meanwhile.
        assert record is not None
        assert record.node in (NAME, QUARANTINE)

    def teardown(self) -> None:
        try:
            self.run(self.calm_end())
        finally:
            self.run(self.cluster.close())
            self.runner.close()

    async def calm_end(self) -> None:
        cluster = self.cluster
        await cluster.pin(None)
        # Otherwise it keeps trying where unknown hosts use all other addresses.
        await cluster.renumber(None)
        await cluster.set_pools(POOL if self.feed else raw_phpipam_pool(POOL))
        cluster.ipam_down = False
        await cluster.report_boot()
        await cluster.resume()
        await cluster.catch_up()
        for _ in range(12):
            # Long enough for every pause; without a feed it is the audit that finds a second record.
            cluster.now += timedelta(minutes=11)
            await cluster.audit()
            await cluster.reconcile()
            await cluster.run_agent()
        if not self.present:
            await self.check_that_nothing_is_left()
            return
        own = await cluster.own_records()
        if not cluster.policy.overlay_addresses:
            await self.check_routes_only()
            return
        assert len(own) <= 1
        records = await cluster.records()
        free = {ip_address(address) for address in USABLE} - cluster.foreign_hosts - records.keys()
        if not own:
            assert len(records) == len(USABLE), "the node has no address though one is free"
        elif own[0].address not in cluster.foreign_hosts or free:
            overlay = NodeOverlay.parse(await cluster.present_overlay())
            assert overlay.assignment.address is not None
            assert overlay.assignment.address.ip == own[0].address
            assert cluster.kernel == overlay.assignment.address, "the node uses its address, which no one else does"
            present = await cluster.find(NODES)
            assert present is not None
            assert own[0].node_uid == present["metadata"]["uid"], "the record names an earlier node"
            await self.check_routes()
        await self.check_nothing_changes()

    async def check_that_nothing_is_left(self) -> None:
        cluster = self.cluster
        for _ in range(3):
            cluster.now += POLICY.release_after + POLICY.fence_after
            await cluster.reconcile()
            await cluster.run_agent()
            await cluster.audit()
        assert await cluster.overlay() is None
        assert await cluster.own_records() == []
        assert cluster.kernel is None

    async def check_routes_only(self) -> None:
        overlay = await self.cluster.present_overlay()
        assert await self.cluster.own_records() == []
        assert self.cluster.kernel is None
        assert not {"ipAddr", "gateway", "pool", "releasing"} & overlay["status"].keys()
        assert overlay["spec"]["routesOnly"] is True
        await self.check_routes()
        await self.check_nothing_changes()

    async def check_routes(self) -> None:
        """One route for each subnet that StaticRoutes name."""
        static_routes = (await self.cluster.kube.list(STATIC_ROUTES)).items
        assert len(await self.cluster.routes()) == len({raw["spec"]["subnet"] for raw in static_routes})

    async def check_nothing_changes(self) -> None:
        cluster = self.cluster
        before = deepcopy((await cluster.overlay(), await cluster.records(), cluster.kernel))
        await cluster.reconcile()
        after = (await cluster.overlay(), await cluster.records(), cluster.kernel)
        assert before == after, "a node that has what it must have was changed"


class NodeLifeWithoutFeed(NodeLife):
    """With an IPAM whose records are not watched, as phpIPAM's are not."""

    feed = False


TestNodeLife = NodeLife.TestCase
TestNodeLifeWithoutFeed = NodeLifeWithoutFeed.TestCase
TestNodeLife.settings = TestNodeLifeWithoutFeed.settings = settings(
    max_examples=examples(400), stateful_step_count=50, deadline=None
)
