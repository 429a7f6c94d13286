"""The life of an address, as a random walk: people, agents, crashes and clocks in any order, then a calm end.

At every moment: an address in a node's kernel is reserved for that node, or kept from all, until the node is fenced. In
the end: a node that exists has exactly one address, in its object, in its kernel and in the IPAM; one that does not has
none.
"""

from copy import deepcopy
from datetime import timedelta
from ipaddress import ip_address

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from overlay_net.model.ipam import QUARANTINE
from overlay_net.model.overlay import NodeOverlay
from tests.fakes.cluster import NAME, POLICY, Cluster
from tests.unit.factories import node, pool, static_route

# Room for four: .1 is the gateway, .0 and .7 are never handed out, .6 is excluded.
POOL = pool(cidr="10.9.0.0/29", gateway="10.9.0.1", exclude=["10.9.0.6"])
ADDRESSES = [f"10.9.0.{last}" for last in range(8)]


class NodeLife(RuleBasedStateMachine):
    feed = True

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster([POOL], feed=self.feed)
        self.incarnation = 0
        self.silent = False
        self.fenced = False
        """The node was away so long that its address was given up while its kernel may still have it."""

    @rule()
    def node_joins(self) -> None:
        if self.cluster.node is None:
            self.incarnation += 1
            self.cluster.join(node(NAME, uid=f"uid-{self.incarnation}"))

    @rule()
    def node_leaves(self) -> None:
        self.cluster.leave()

    @rule(address=st.sampled_from([None, *ADDRESSES]))
    def user_pins(self, address: str | None) -> None:
        self.cluster.pin(address)

    @rule(address=st.sampled_from(ADDRESSES[2:6]))
    def another_node_takes(self, address: str) -> None:
        self.cluster.take(address)

    @rule(address=st.sampled_from(ADDRESSES[2:6]))
    def a_lost_answer_leaves_a_second_record(self, address: str) -> None:
        self.cluster.duplicate(address)

    @rule(address=st.sampled_from(ADDRESSES[2:6]), there=st.booleans())
    def somebody_unknown_uses_an_address_or_stops(self, address: str, there: bool) -> None:
        change = self.cluster.squatted.add if there else self.cluster.squatted.discard
        change(ip_address(address))

    @rule(away=st.booleans())
    def ipam_goes_or_returns(self, away: bool) -> None:
        self.cluster.away = away

    @rule(on=st.booleans())
    def overlay_addresses_are_switched(self, on: bool) -> None:
        self.cluster.switch_addresses(on)

    @rule(subnet=st.sampled_from(["10.1.0.0/16", "10.2.0.0/16"]))
    def user_adds_a_route(self, subnet: str) -> None:
        self.cluster.routes.append(static_route(f"r{len(self.cluster.routes)}", subnet))

    @rule(minutes=st.integers(1, 15))
    def time_passes(self, minutes: int) -> None:
        self.cluster.now += timedelta(minutes=minutes)
        self._see_fence()

    def _see_fence(self) -> None:
        """The agent was told to let go, and its node was gone as far as anybody saw, for the fence time."""
        overlay = NodeOverlay.parse(self.cluster.overlay) if self.cluster.overlay else None
        if self.cluster.node is None and overlay is not None and overlay.deleted_at is not None:
            seen = overlay.assignment.node_gone_since
            self.fenced |= seen is not None and self.cluster.now - max(seen, overlay.deleted_at) >= POLICY.fence_after

    @rule(silent=st.booleans())
    def agent_dies_or_returns(self, silent: bool) -> None:
        self.silent = silent

    @rule()
    def agent_works(self) -> None:
        if not self.silent:
            self.cluster.agent()
            self.fenced = False

    @rule()
    def user_deletes_the_object(self) -> None:
        self.cluster.delete_overlay()

    @rule(steps=st.none() | st.integers(0, 3))
    def controller_works_or_dies_on_the_way(self, steps: int | None) -> None:
        self._see_fence()
        self.cluster.reconcile(steps)

    @rule()
    def a_controller_that_stood_still_goes_on(self) -> None:
        if not self.cluster.away:
            self.cluster.go_on()

    @invariant()
    def an_address_in_use_is_reserved(self) -> None:
        cluster = self.cluster
        if cluster.kernel is None:
            return
        record = cluster.records.get(cluster.kernel.ip)
        # A controller that died after a quarantine has not told the agent yet: nobody gets the address meanwhile.
        assert self.fenced or (record is not None and record.owner.node in (NAME, QUARANTINE))

    def teardown(self) -> None:
        cluster = self.cluster
        cluster.pin(None)
        cluster.away = False
        for _ in range(12):
            # Long enough for every pause; without a feed it is the audit that tells of a second record.
            cluster.now += timedelta(minutes=11)
            cluster.audit()
            cluster.reconcile(doubt=not cluster.feed)
            cluster.agent()
        if cluster.node is None:
            for _ in range(3):
                cluster.now += POLICY.release_after + POLICY.fence_after
                cluster.reconcile()
                cluster.agent()
            assert cluster.overlay is None
            assert not cluster.found()
            assert cluster.kernel is None
            return
        assert cluster.overlay is not None
        if not cluster.policy.overlay_addresses:
            self._check_routes_only()
            return
        assert len(cluster.found()) <= 1
        free = {ip_address(address) for address in ADDRESSES[2:6]} - cluster.squatted - cluster.records.keys()
        if cluster.found() and not (cluster.found()[0].address.ip in cluster.squatted and not free):
            (mine,) = cluster.found()
            assert cluster.overlay["status"]["ipAddr"] == str(mine.address)
            assert cluster.kernel == mine.address, "the node uses its address, which nobody else does"
            assert mine.owner.uid == cluster.node.uid
            assert len(cluster.overlay["spec"].get("routes", [])) == len({str(each.subnets) for each in cluster.routes})
        elif not cluster.found():
            assert len(cluster.records) == 4, "the node has no address though one is free"
        self._check_nothing_changes()

    def _check_routes_only(self) -> None:
        cluster = self.cluster
        assert cluster.overlay is not None
        assert not cluster.found()
        assert cluster.kernel is None
        assert not {"ipAddr", "gateway", "pool", "releasing"} & cluster.overlay["status"].keys()
        assert cluster.overlay["spec"]["routesOnly"] is True
        assert len(cluster.overlay["spec"]["routes"]) == len({str(each.subnets) for each in cluster.routes})
        self._check_nothing_changes()

    def _check_nothing_changes(self) -> None:
        cluster = self.cluster
        before = deepcopy((cluster.overlay, cluster.records, cluster.kernel))
        cluster.reconcile()
        assert before == (cluster.overlay, cluster.records, cluster.kernel), "a node that is as it must be was changed"


class NodeLifeWithoutFeed(NodeLife):
    """With an IPAM that tells nothing by itself, as phpIPAM does."""

    feed = False


TestNodeLife = NodeLife.TestCase
TestNodeLifeWithoutFeed = NodeLifeWithoutFeed.TestCase
TestNodeLife.settings = TestNodeLifeWithoutFeed.settings = settings(
    max_examples=400, stateful_step_count=50, deadline=None
)
