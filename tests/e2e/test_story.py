"""The demo's story with assertions, and the same story with every process killed on the way."""

import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.net import vlan
from lab.net.traffic import Stream, observed_source
from lab.net.vlan import Node
from lab.processes import Process, wait_until
from lab.product import NAMESPACE
from lab.sources import KINDS
from lab.story import Story

NODES = vlan.NODE_NAMES


@pytest.mark.parametrize("story", KINDS, indirect=True)
def test_the_story(story: Story) -> None:
    story.build()
    foreign, others = {name: _plant(story, name) for name in NODES}, story.others()
    story.start()
    story.register_nodes(NODES)
    story.create_route()
    seen = story.check_traffic()
    assert {one.node: one.source for one in seen} == story.addresses()
    assert {address: node for node, address in story.addresses().items()} == story.reserved()
    story.change_gateway()
    story.check_traffic()
    story.remove_route_by_hand()
    story.check_traffic()
    story.delete_route()
    story.delete_node(NODES[0])
    assert set(story.reserved().values()) == set(NODES[1:])
    for name in NODES[1:]:
        story.api_server.kubectl("delete", "node", name)
    wait_until(lambda: not story.reserved() and not story.overlays(), "every address is given back")
    assert story.others() == others
    for name, node in story.vlan.nodes.items():
        wait_no_link(node)
        assert story.foreign_state(node) == foreign[name]


def wait_no_link(node: Node) -> None:
    wait_until(lambda: "tmp0" not in node.ip("link"), f"{node.name} has no overlay link any more")


def _plant(story: Story, name: str) -> str:
    story.plant_foreign(story.vlan.nodes[name])
    return story.foreign_state(story.vlan.nodes[name])


@contextmanager
def killing(story: Story, seed: int) -> Iterator[list[str]]:
    """Kills (-9) one process after the other, at random moments, and starts each again at once.

    The pauses are fractions of the time that a start takes here and now: on a busy machine as on an idle one some are
    killed before they have come up, and some after.
    """
    chance, stop, killed = random.Random(seed), threading.Event(), list[str]()

    def kill() -> None:
        while not stop.wait(chance.uniform(0.05, 0.8) * story.product.start_seconds):
            name, process = chance.choice(sorted(story.processes().items()))
            process.kill9()
            if process is story.product.controller:
                # Its lease goes with it: else kills that come faster than leases end would let nobody lead.
                lease = ("lease", "overlay-net-controller", f"--namespace={NAMESPACE}")
                story.api_server.kubectl("delete", *lease, "--ignore-not-found")
            process.start()
            killed.append(name)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("story", "seed"),
    [("cluster", 1), ("phpipam", 2)],
    indirect=["story"],
)
def test_killed_at_any_time_it_ends_in_the_same_state(story: Story, seed: int) -> None:
    story.build()
    before, others = {name: _plant(story, name) for name in NODES}, story.others()
    story.start()
    # As the pauses between two kills: how far anybody gets between them depends on the time that a start takes.
    story.patience = max(60.0, 60 * story.product.start_seconds)
    with killing(story, seed) as killed:
        story.register_nodes(NODES)
        story.create_route()
        story.apply_route(gateway=vlan.OTHER_OVERLAY_GATEWAY)
        story.wait_route(len(NODES))
        story.remove_route_by_hand()
        story.api_server.kubectl("delete", "node", NODES[0])
        gone = "the deleted node's object is gone"
        wait_until(lambda: set(story.addresses()) == set(NODES[1:]), gone, timeout=story.patience)
    assert killed, "nothing was killed"
    wait_until(lambda: all(story.is_ready(name) for name in NODES[1:]), "the nodes that are left are Ready")
    addresses = story.addresses()
    assert len(set(addresses.values())) == 2
    wait_until(
        lambda: story.reserved() == {address: node for node, address in addresses.items()},
        "each address has one record, of its node, and there is no other",
    )
    for name in NODES[1:]:
        assert observed_source(story.vlan.nodes[name], vlan.ON_PREMISE_HOST) == addresses[name]
    assert story.others() == others
    wait_no_link(story.vlan.nodes[NODES[0]])
    for name, node in story.vlan.nodes.items():
        assert story.foreign_state(node) == before[name]


@pytest.fixture
def running(story: Story) -> Story:
    story.build()
    story.start()
    story.register_nodes(NODES)
    story.create_route()
    return story


def test_no_packet_is_lost_by_a_restart(running: Story) -> None:
    node = running.a_node
    stream = Stream(node, vlan.ON_PREMISE_HOST)
    agent, controller = running.product.agents[node.name], running.product.controller
    assert controller is not None
    for process in (agent, controller):
        process.restart()
        _wait_back(running, process)
    agent.terminate()
    agent.start()
    _wait_back(running, agent)
    count = stream.stop()
    assert count.sent > 100
    assert count.lost == 0


def _wait_back(story: Story, process: Process) -> None:
    if process is story.product.controller:
        story.product.wait_controller()
    else:
        story.product.wait_agent(story.a_node)


def test_an_api_server_that_is_away_changes_nothing_in_the_kernel(running: Story) -> None:
    node = running.a_node
    stream = Stream(node, vlan.ON_PREMISE_HOST)
    running.api_server.kube_apiserver.kill9()
    agent = running.product.agents[node.name]
    # With nobody to ask, an agent that is up repairs what it knows, and one that starts leaves all as it is.
    node.ip("route", "delete", vlan.ON_PREMISE_SUBNET)
    wait_until(lambda: bool(node.ip("route", "show", vlan.ON_PREMISE_SUBNET)), "the route is repaired without the API")
    agent.restart()
    other = list(running.vlan.nodes.values())[1]
    running.product.agents[other.name].kill9()
    running.api_server.kube_apiserver.start()
    running.api_server.wait_ready()
    running.product.wait_agent(node)
    assert node.ip("route", "show", vlan.ON_PREMISE_SUBNET)
    assert other.ip("route", "show", vlan.ON_PREMISE_SUBNET)
    count = stream.stop()
    assert count.received > 0
    assert observed_source(node, vlan.ON_PREMISE_HOST) == running.addresses()[node.name]


def test_a_link_that_went_down_or_away_comes_back_with_everything_on_it(running: Story) -> None:
    node = running.a_node
    address = running.addresses()[node.name]
    for damage in (
        ("link", "set", "tmp0", "down"),
        ("link", "delete", "tmp0"),
        ("address", "flush", "dev", "tmp0"),
        ("link", "set", "eth0", "down"),
    ):
        node.ip(*damage)
        if "eth0" in damage:
            node.ip("link", "set", "eth0", "up")
            node.ip("route", "replace", "10.0.0.0/8", "via", vlan.PRIVATE_GATEWAY)

        def works() -> bool:
            return f"src {address}" in node.ip("route", "show", vlan.ON_PREMISE_SUBNET)

        wait_until(works, f"the route is back after {' '.join(damage)}")
        assert observed_source(node, vlan.ON_PREMISE_HOST) == address


def test_a_dead_node_is_fenced_and_its_address_given_to_another(running: Story) -> None:
    """Power failure: no agent ever lets go; the address is free after the fence time."""
    name = NODES[0]
    address = running.addresses()[name]
    running.product.agents[name].kill9()
    running.vlan.remove_node(name)
    running.api_server.kubectl("delete", "node", name)
    wait_until(lambda: address not in running.reserved(), "the address is free after the fence time")
    newcomer = "10.176.162.154"
    running.product.start_agent(running.vlan.add_node(newcomer))
    running.register_nodes([newcomer])
    assert running.addresses()[newcomer] == address, "the lowest free address is the one that was given back"
    running.vlan.gateway.ip("neighbour", "flush", "all")
    assert observed_source(running.vlan.nodes[newcomer], vlan.ON_PREMISE_HOST) == address


def test_only_the_overlay_link_answers_arp_for_the_overlay_address(running: Story) -> None:
    """With an address on a macvlan and its parent in one namespace, Linux answers for both on both (ARP flux)."""
    node = running.a_node
    address = running.addresses()[node.name]
    running.vlan.gateway.ip("neighbour", "flush", "all")
    mac = _mac(node.ip("-o", "link", "show", "tmp0"))
    for _ in range(5):
        running.vlan.gateway.ip("neighbour", "flush", "all")
        assert observed_source(node, vlan.ON_PREMISE_HOST) == address
        neighbours = running.vlan.gateway.ip("neighbour", "show", address)
        assert mac in neighbours, f"tmp0 has {mac}, the gateway learnt {neighbours}"


def _mac(line: str) -> str:
    words = line.split()
    return dict(itertools.pairwise(words))["link/ether"]
