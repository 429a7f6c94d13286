"""The demo's scenario with assertions, undisturbed and while its processes are killed."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.net import vlan
from lab.net.traffic import observed_source
from lab.processes import wait_until
from lab.product import NAMESPACE
from lab.scenario.address_source import KINDS
from lab.scenario.foreign import OVERLAY_LINK, add_foreign_objects, foreign_state
from lab.scenario.process_lab import ProcessLab
from lab.scenario.process_scenario import ProcessScenario

NODES = vlan.NODE_NAMES


@pytest.mark.parametrize("lab", KINDS, indirect=True)
def test_every_step_of_the_scenario_succeeds_without_losing_a_packet(lab: ProcessLab) -> None:
    scenario = ProcessScenario(lab)
    scenario.run()
    assert [result.lost for result in scenario.results] == [0] * len(scenario.results)
    assert sum(result.sent for result in scenario.results) > 100
    assert not lab.reserved()
    assert not lab.overlays()


@contextmanager
def killing(lab: ProcessLab, seed: int) -> Iterator[list[str]]:
    """Kill (-9) one process after another at random moments, and start each again at once.

    The pauses are fractions of the time that a start takes on this machine: whether it is busy or idle, some processes
    are killed before they are ready, and some after.
    """
    chance, stop, killed = random.Random(seed), threading.Event(), list[str]()

    def kill() -> None:
        while not stop.wait(chance.uniform(0.05, 0.8) * lab.product.start_seconds):
            name, process = chance.choice(sorted(lab.processes().items()))
            process.kill9()
            if process is lab.product.controller:
                # Leases expire more slowly than controllers are killed here: without this there would be no leader.
                lease = ("lease", "overlay-net-controller", f"--namespace={NAMESPACE}")
                lab.api_server.kubectl("delete", *lease, "--ignore-not-found")
            process.start()
            killed.append(name)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(("lab", "seed"), [("cluster", 1), ("phpipam", 2)], indirect=["lab"])
def test_processes_killed_at_any_time_converge_to_the_same_state(lab: ProcessLab, seed: int) -> None:
    lab.build()
    for node in lab.nodes.values():
        add_foreign_objects(node)
    before = {name: foreign_state(node) for name, node in lab.nodes.items()}
    records = lab.source.foreign_records()
    lab.start()
    # The progress between two kills depends on the time that a start takes, as the pauses do.
    lab.patience = max(60.0, 60 * lab.product.start_seconds)
    with killing(lab, seed) as killed:
        lab.register_nodes(NODES)
        lab.create_route()
        lab.apply_route(gateway=vlan.OTHER_OVERLAY_GATEWAY)
        lab.wait_route(len(NODES))
        ProcessScenario(lab).repair_route()
        lab.remove_node(NODES[0])
        wait_until(
            lambda: set(lab.addresses()) == set(NODES[1:]),
            "the NodeOverlayIp of the deleted node is gone",
            timeout=lab.patience,
        )
    assert killed, "no process was killed"
    wait_until(lambda: all(lab.is_ready(name) for name in NODES[1:]), "the remaining nodes are Ready")
    addresses = lab.addresses()
    assert len(set(addresses.values())) == 2
    wait_until(
        lambda: lab.reserved() == {address: node for node, address in addresses.items()},
        "each address has exactly one record, which names its node",
    )
    for name in NODES[1:]:
        assert observed_source(lab.nodes[name], vlan.ON_PREMISE_HOST) == addresses[name]
    assert lab.source.foreign_records() == records
    removed = lab.nodes[NODES[0]]
    wait_until(lambda: OVERLAY_LINK not in removed.ip("link"), f"{removed.name} has no overlay link")
    for name, node in lab.nodes.items():
        assert foreign_state(node) == before[name]
