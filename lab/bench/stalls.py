"""The time to repair external changes while the API server, or the disk of the checkpoint, does not answer."""

import itertools
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.bench.dataplane import create_routes, inject_faults, quantile_row, running
from lab.bench.measure import Row
from lab.net import vlan
from lab.processes import CommandFailed, run, wait_until
from lab.scenario.process_lab import ProcessLab

FAULTS = 120
DISK_SIZE = "32M"


def bench_stalls(directory: Path) -> list[Row]:
    try:
        with _own_disk(directory / "state"), running(directory) as lab:
            subnets = create_routes(lab)
            rows = [_nothing_hangs(lab, subnets), _api_hangs(lab, subnets)]
            return [*rows, _disk_hangs(lab, subnets, directory / "state")]
    except _NoDisk as error:
        with running(directory) as lab:
            subnets = create_routes(lab)
            skipped = ("stalls", "state disk hangs", f"skipped: {error}", "")
            return [_nothing_hangs(lab, subnets), _api_hangs(lab, subnets), skipped]


def _nothing_hangs(lab: ProcessLab, subnets: Sequence[str]) -> Row:
    return _row("nothing hangs", inject_faults(lab, subnets, FAULTS))


def _api_hangs(lab: ProcessLab, subnets: Sequence[str]) -> Row:
    """A gateway goes down, so that the agent has something to report."""
    agent = lab.product.agents[lab.first_node.name]
    before = agent.log.read_text().count("gateway is down")
    lab.api_server.pause()
    try:
        lab.vlan.gateway.ip("link", "set", "inner", "down")
        wait_until(lambda: agent.log.read_text().count("gateway is down") > before, "the gateway is down")
        return _row("API server hangs", inject_faults(lab, subnets, FAULTS))
    finally:
        lab.vlan.gateway.ip("link", "set", "inner", "up")
        lab.api_server.resume()
        lab.api_server.wait_ready()
        wait_until(lambda: lab.is_ready(lab.first_node.name) and not _silent(lab), "the node is healthy", timeout=90)


def _silent(lab: ProcessLab) -> bool:
    return bool(lab.overlays()[0]["status"].get("gateways"))


def _disk_hangs(lab: ProcessLab, subnets: Sequence[str], directory: Path) -> Row:
    """A StaticRoute is added, so that the agent has something to store."""
    run(["fsfreeze", "--freeze", str(directory)])
    try:
        lab.apply_route(gateway=vlan.OTHER_OVERLAY_GATEWAY)
        row = _row("state disk hangs", inject_faults(lab, subnets, FAULTS))
        wait_until(lambda: "via" in lab.first_node.ip("route", "show", vlan.ON_PREMISE_SUBNET), "the route is there")
        return row
    finally:
        run(["fsfreeze", "--unfreeze", str(directory)])


def _row(what: str, measured: dict[str, list[float]]) -> Row:
    everything = list(itertools.chain.from_iterable(measured.values()))
    return quantile_row("stalls", f"{what}: {len(everything)} faults", everything)


class _NoDisk(Exception):
    """No file system can be mounted here; the text is the reason."""


@contextmanager
def _own_disk(directory: Path) -> Iterator[None]:
    """A file system of its own in this directory, which can be frozen. Raises _NoDisk."""
    missing = [each for each in ("mkfs.ext4", "fsfreeze", "mount") if shutil.which(each) is None]
    if missing:
        raise _NoDisk(f"{missing[0]} is missing")
    image = directory.with_suffix(".image")
    directory.mkdir()
    try:
        run(["truncate", f"--size={DISK_SIZE}", str(image)])
        run(["mkfs.ext4", "-q", str(image)])
        run(["mount", "-o", "loop", str(image), str(directory)])
    except CommandFailed as error:
        directory.rmdir()
        raise _NoDisk(str(error)) from None
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=False)
