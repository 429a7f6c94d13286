"""`overlay-net agent --teardown` removes all objects we manage and leaves all others unchanged."""

import subprocess
import sys
from pathlib import Path

import pytest

from overlay_net.adapters.checkpoint_file import CheckpointFile, current_moment
from overlay_net.adapters.netlink import Kernel
from overlay_net.domain.kernel.checkpoint import encode_checkpoint
from overlay_net.domain.kernel.desired import LinkConfig, desired_link, desired_state, stable_mac
from overlay_net.domain.kernel.parent_interface import interface_selector
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.policy_rule import SourceTable
from tests.dataplane.conftest import LINKS, MARK
from tests.fakes.netns import ip, sysctl

ROUTES = [
    {"subnet": "192.168.0.0/24", "staticRoute": "r", "gateways": [{"address": "192.168.100.1"}]},
    {"subnet": "172.20.0.0/16", "staticRoute": "r", "gateways": [{"address": "10.176.162.129"}], "metric": 50},
]
OBJECT = NodeOverlay.parse(
    {
        "metadata": {"name": "n1"},
        "spec": {"routes": ROUTES},
        "status": {"ipAddr": "192.168.100.4/24", "gateway": "192.168.100.1"},
    }
)


def tear_down(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """From a shell: without an API server, and without a service account."""
    environment = {"PATH": "/usr/bin:/bin", "OVERLAY_NODE_NAME": "n1", "OVERLAY_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "overlay_net", "agent", "--teardown", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def files_in(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())


def add_foreign_objects() -> None:
    """Objects of other owners, as similar to ours as possible."""
    for arguments in (
        "link add other0 type veth peer name other1",
        "link set other0 up",
        "link set other1 up",
        "link add other2 link eth0 type macvlan mode bridge",
        "link set other2 alias overlay-network",
        "address add 172.31.0.1/24 dev other0",
        "address add 172.31.9.1/32 dev eth0",
        "route add 10.0.0.0/8 via 10.176.162.129",
        "route add 172.31.5.0/24 via 172.31.0.2 proto 186",
        "route add 172.31.6.0/24 via 10.176.162.129 table 100",
        "route add blackhole 172.31.7.0/24 proto 116",
        "-6 route add 2001:db8:9::/48 dev other0",
        "rule add from 172.31.0.0/24 table 100 priority 1000",
        "rule add from 192.168.100.4 lookup 117 priority 11700",
        "rule add from 172.31.0.0/24 lookup 117 priority 11701 protocol 186",
    ):
        ip(*arguments.split())
    settle()


def settle() -> None:
    """Wait for duplicate address detection on new links and for their carrier."""
    for _ in range(200):
        if "tentative" not in ip("-6", "address") and "state UP" in ip("link", "show", "eth0"):
            return
        subprocess.run(["sleep", "0.05"], check=True)
    raise AssertionError("IPv6 addresses stay tentative, or eth0 has no carrier")


def kernel_state() -> list[str]:
    return [
        ip("-j", "-d", "link"),
        ip("-j", "-d", "address"),
        *(ip("-j", "-d", family, "route", "show", "table", "all") for family in ("-4", "-6")),
        ip("-j", "rule"),
    ]


async def bring_up(mode: str) -> None:
    how = LinkConfig(interface_selector("eth0", None), mode=mode, mac=stable_mac("n1", "tmp0"))  # type: ignore[arg-type]
    async with Kernel(MARK) as kernel:
        for _ in range(6):
            observed = await kernel.observe(LINKS)
            desired = desired_state(OBJECT, desired_link(how, observed, MARK), source=SourceTable(117, 11700, 8))
            plan = plan_kernel(desired, observed, MARK)
            for action in plan.actions:
                await kernel.apply(action)
    assert not plan.actions
    assert len(plan.placed) == 2


@pytest.mark.parametrize("mode", ["macvlan", "address"])
async def test_only_objects_we_manage_are_removed_and_listed(eth0: None, tmp_path: Path, mode: str) -> None:
    add_foreign_objects()
    before = kernel_state()
    await bring_up(mode)
    CheckpointFile(tmp_path, "n1").write(encode_checkpoint(OBJECT), current_moment())
    assert kernel_state() != before
    done = tear_down(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert f"delete {tmp_path}/n1.state" in lines
    assert "delete route 192.168.0.0/24 via 192.168.100.1" in lines
    assert "delete policy rule 11701 from 192.168.100.4/32 table 117" in lines
    assert "delete route 0.0.0.0/0 via 192.168.100.1 table 117" in lines
    assert ("delete link tmp0" if mode == "macvlan" else "delete address 192.168.100.4/24 on eth0") in lines
    assert kernel_state() == before
    assert files_in(tmp_path) == []
    again = tear_down(tmp_path)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert kernel_state() == before


async def test_unfinished_and_leftover_links_are_removed(eth0: None, tmp_path: Path) -> None:
    settle()
    before = kernel_state()
    await bring_up("macvlan")
    for arguments in (
        f"link add tmp0.1f2e3d group {MARK.group} link eth0 type macvlan mode bridge",
        "link add tmp9 link eth0 type macvlan mode bridge",
        "link set tmp9 alias overlay-net",
    ):
        ip(*arguments.split())
    assert tear_down(tmp_path).returncode == 0
    assert kernel_state() == before


async def test_failed_removal_is_reported_and_the_rest_is_removed(eth0: None, tmp_path: Path) -> None:
    assert sysctl("eth0", "promote_secondaries") == "0"
    await bring_up("address")
    ip("address", "add", "192.168.100.77/24", "dev", "eth0")
    done = tear_down(tmp_path)
    assert done.returncode == 1
    assert "the foreign 192.168.100.77/24" in done.stderr
    assert "Traceback" not in done.stderr
    assert "192.168.100.77/24" in ip("address", "show", "eth0")
    assert not ip("route", "show", "proto", "117")


def test_invalid_settings_exit_with_2(tmp_path: Path) -> None:
    done = tear_down(tmp_path, "--config=/nowhere/c.yaml")
    assert done.returncode == 2
    assert "config file /nowhere/c.yaml" in done.stderr
