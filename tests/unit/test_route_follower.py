"""An observation reads what may have changed since the last one that succeeded, and everything if it has no reason.

All routes are searched if one that matters may have appeared.
"""

import sys
from dataclasses import replace

import pytest

from overlay_net.adapters.netlink.bulk.codec import HEADER
from overlay_net.adapters.netlink.monitor import Monitor
from overlay_net.agent.route_follower import RouteFollower, follow_none
from overlay_net.domain.kernel.desired import LinkConfig
from overlay_net.domain.kernel.parent_interface import ByName
from overlay_net.model.awaited_routes import AwaitedRoutes
from overlay_net.model.kernel_changes import EVERYTHING, UNKNOWN, KernelChanges
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.policy_rule import PrivateTable
from tests.unit.test_awaited_routes import NEW, OVERLAY, PRIVATE, message

CONFIG = LinkConfig(ByName(("eth0",)))


def overlay(*subnets: str) -> NodeOverlay:
    gateways = [{"address": "192.168.100.1"}]
    routes = [{"subnet": each, "staticRoute": "r", "gateways": gateways} for each in subnets]
    return NodeOverlay.parse({"metadata": {"name": "n1"}, "spec": {"routes": routes}})


class Watched:
    """A follower with a monitor that has no socket."""

    def __init__(self, *subnets: str, config: LinkConfig = CONFIG) -> None:
        self.wakes = 0
        self.monitor = Monitor(117, self._wake)
        self.follower = RouteFollower(config, self.monitor.follow)
        assignment = replace(overlay().assignment, address=OVERLAY)
        self.overlay = replace(overlay(*subnets), assignment=assignment)
        self.reconcile()

    def reconcile(self) -> bool:
        """Whether all routes are searched."""
        return self.observe().awaited_routes

    def observe(self) -> KernelChanges:
        """What is read."""
        self.follower.follow(self.overlay)
        read = self.follower.observing()
        self.follower.observed()
        self.follower.record(())
        return read

    def notify(self, data: bytes) -> None:
        self.monitor._received([data])

    def _wake(self) -> None:
        self.wakes += 1


def test_routes_are_searched_once() -> None:
    monitor = Monitor(117, lambda: None)
    follower = RouteFollower(CONFIG, monitor.follow)
    follower.follow(overlay("10.1.0.0/16"))
    assert follower.observing() == UNKNOWN
    assert follower.observing() == UNKNOWN, "nothing has been observed yet"
    follower.observed()
    assert not follower.observing().awaited_routes


@pytest.mark.parametrize(
    ("data", "searched"),
    [
        (message("10.1.0.0/16", NEW), True),
        (message("192.168.0.0/24", protocol=117) + message("10.1.0.0/16", NEW), True),
        (message("10.2.0.0/16", NEW), False),
        (message("10.1.0.0/16", protocol=117), False),
        (message("10.1.0.0/16", NEW, protocol=2), False),
        (message("10.1.0.0/16"), False),
        (message("10.1.0.0/16", NEW, protocol=117), False),
        (message("10.7.0.0/16", NEW, protocol=117, table=999), True),
        (message("10.7.0.0/16", protocol=117, table=999), False),
        (message("10.1.0.0/16", NEW)[:-5], True),
    ],
    ids=[
        "awaited",
        "awaited after ours",
        "not awaited",
        "ours",
        "of the kernel",
        "deleted",
        "ours again",
        "ours in a table",
        "deleted from a table",
        "truncated",
    ],
)
def test_routes_are_searched_again_if_an_awaited_one_appears(data: bytes, searched: bool) -> None:
    watched = Watched("10.1.0.0/16")
    watched.notify(data)
    assert watched.reconcile() is searched
    assert not watched.reconcile()


def test_a_route_that_appears_during_a_reconciliation_is_searched_by_the_next_one() -> None:
    watched = Watched("10.1.0.0/16")
    watched.follower.observing()
    watched.notify(message("10.1.0.0/16", NEW))
    watched.follower.observed()
    watched.follower.record(())
    assert watched.reconcile()


def test_other_desired_routes_await_other_routes() -> None:
    watched = Watched("10.1.0.0/16")
    watched.overlay = replace(watched.overlay, routes=overlay("10.1.0.0/16", "10.2.0.0/16").routes)
    assert watched.reconcile()
    assert not watched.reconcile()


def test_the_route_to_the_overlay_subnet_is_awaited() -> None:
    watched = Watched()
    watched.notify(message("192.168.100.0/24", NEW))
    assert watched.reconcile()


@pytest.mark.parametrize(("table", "searched"), [(254, True), (118, True), (300, True), (119, False)])
def test_a_route_in_a_table_that_a_plan_needs_wakes_nothing_and_is_searched_by_the_next_one(
    table: int, searched: bool
) -> None:
    private = PrivateTable(300 if table == 300 else 118, 11800)
    watched = Watched("10.1.0.0/16", config=replace(PRIVATE, private=private))
    watched.notify(message("10.7.0.0/16", NEW, table=table))
    assert not watched.wakes
    assert watched.reconcile() is searched
    watched.notify(message("10.7.0.0/16", table=table))
    assert not watched.reconcile(), "a route that is gone is missing wherever it was read"


@pytest.mark.parametrize("subnet", ["0.0.0.0/0", "::/0"])
def test_a_default_route_of_the_node_is_awaited_for_its_private_addresses(subnet: str) -> None:
    watched = Watched(config=PRIVATE)
    watched.notify(message(subnet, NEW))
    assert watched.wakes == 1
    assert watched.reconcile()


async def test_lost_notifications_may_have_been_about_an_awaited_route() -> None:
    watched = Watched("10.1.0.0/16")
    watched.monitor._missed()
    assert watched.reconcile()


def test_without_notifications_every_observation_searches() -> None:
    follower = RouteFollower(CONFIG, follow_none)
    follower.observed()
    assert follower.observing() == UNKNOWN
    assert follower.awaited == AwaitedRoutes()


OURS = message("10.1.0.0/16", protocol=117)
NEW_LINK, NEW_ADDRESS, NEW_NETCONF, UNHEARD_OF = 16, 20, 80, 999


def about_link(kind: int, index: int) -> bytes:
    body = bytes(4) + index.to_bytes(4, sys.byteorder) + bytes(8)
    return HEADER.pack(HEADER.size + len(body), kind, 0, 0, 0) + body


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (OURS, KernelChanges(is_reason=True)),
        (about_link(NEW_NETCONF, 7), KernelChanges(is_reason=True)),
        (message("10.1.0.0/16", NEW), KernelChanges(awaited_routes=True, is_reason=True)),
        (message("10.9.0.0/16", protocol=2), KernelChanges(derived_routes=True, is_reason=True)),
        (OURS + message("10.9.0.0/16", NEW, protocol=2), KernelChanges(derived_routes=True, is_reason=True)),
        (
            about_link(NEW_ADDRESS, 7) + about_link(NEW_ADDRESS, 300),
            KernelChanges(addresses=frozenset({7, 300}), derived_routes=True, is_reason=True),
        ),
        (
            OURS + about_link(NEW_LINK, 7),
            KernelChanges(links=True, addresses=frozenset({7}), derived_routes=True, is_reason=True),
        ),
        (about_link(NEW_ADDRESS, 7)[:-12], UNKNOWN),
        (HEADER.pack(HEADER.size, NEW_LINK, 0, 0, 0), UNKNOWN),
        (about_link(UNHEARD_OF, 7), UNKNOWN),
        (message("10.9.0.0/16", NEW, protocol=2), EVERYTHING | KernelChanges(derived_routes=True)),
        (message("10.9.0.0/16", NEW), EVERYTHING),
        (b"", EVERYTHING),
    ],
    ids=[
        "our route",
        "a sysctl",
        "an awaited route",
        "a derived route that is gone",
        "a derived route beside ours",
        "addresses",
        "a link",
        "a truncated message",
        "a message without content",
        "a message of another kind",
        "a derived route, which is no reason",
        "a route of another process, which is no reason",
        "no notification",
    ],
)
def test_an_observation_reads_what_its_reason_may_have_changed(data: bytes, read: KernelChanges) -> None:
    watched = Watched("10.1.0.0/16")
    watched.notify(data)
    assert watched.observe() == read
    assert watched.observe() == EVERYTHING, "a resync makes up for a lost notification"


def test_what_the_agent_has_changed_itself_is_read_whatever_is_notified() -> None:
    watched = Watched("10.1.0.0/16")
    watched.follower.changing()
    watched.notify(OURS)
    assert watched.observe().everything
    watched.notify(OURS)
    assert not watched.observe().everything


async def test_lost_notifications_may_have_been_about_anything() -> None:
    watched = Watched("10.1.0.0/16")
    watched.monitor._missed()
    watched.notify(OURS)
    assert watched.observe().everything


def test_what_changed_before_a_failed_observation_is_read_by_the_next_one() -> None:
    watched = Watched("10.1.0.0/16")
    watched.notify(about_link(NEW_LINK, 7))
    watched.follower.observing()
    watched.notify(OURS)
    assert watched.observe().links
