"""Two agents in one network namespace: the second one changes nothing until the first one has ended."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from overlay_net.adapters.checkpoint_file import CheckpointFile, current_moment
from overlay_net.domain.kernel.checkpoint import encode_checkpoint
from tests.dataplane.edge import USUAL
from tests.fakes.netns import eth0, ip, netns

__all__ = ["eth0", "netns"]

AGENT = [sys.executable, "-m", "overlay_net", "agent"]
WAITS = "another agent manages this node; waiting until it ends"


class Agents:
    """Agents that restore a checkpoint, because their API server does not answer."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, **settings: str) -> subprocess.Popen[bytes]:
        state = self._directory / name
        state.mkdir()
        CheckpointFile(state, "n1").write(encode_checkpoint(USUAL), current_moment())
        config = {"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}], "current-context": "x"}
        config |= {"contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}]}
        config |= {"users": [{"name": "u", "user": {"token": "t"}}]}
        kubeconfig = state / "kubeconfig"
        kubeconfig.write_text(json.dumps(config))
        environment = {
            "PATH": "/usr/bin:/bin",
            "OVERLAY_NODE_NAME": "n1",
            "OVERLAY_STATE_DIR": str(state),
            "OVERLAY_KUBECONFIG": str(kubeconfig),
            "OVERLAY_DUPLICATE_DETECTION": "false",
            "OVERLAY_LOG__FORMAT": "json",
            **settings,
        }
        return self._run(name, environment)

    def _run(self, name: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with self.log(name).open("wb") as log:
            process = subprocess.Popen(AGENT, stdout=log, stderr=log, env=environment)
        self._started.append(process)
        return process

    def log(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    def messages(self, name: str) -> list[str]:
        lines = self.log(name).read_text().splitlines()
        return [str(json.loads(line).get("message", "")) for line in lines if line.startswith("{")]

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()


@pytest.fixture
def agents(eth0: None, tmp_path: Path) -> Iterator[Agents]:
    started = Agents(tmp_path)
    yield started
    started.close()


def tear_down(state: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "OVERLAY_NODE_NAME": "n1", "OVERLAY_STATE_DIR": str(state)}
    return subprocess.run([*AGENT, "--teardown"], capture_output=True, text=True, env=environment, check=False)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


def shown(link: str) -> Any:
    """The link with its addresses, or None."""
    found = [each for each in json.loads(ip("-j", "address")) if each["ifname"] == link]
    return found[0] if found else None


def has_address(link: str) -> bool:
    found = shown(link)
    return found is not None and any(each["local"] == "192.168.100.4" for each in found["addr_info"])


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["ends", "crashes"])
async def test_agent_with_other_settings_waits_for_the_first_one(agents: Agents, end: signal.Signals) -> None:
    first = agents.start("first", OVERLAY_HTTP__BIND="127.0.0.1:18081")
    await until(lambda: has_address("tmp0"))
    index = shown("tmp0")["ifindex"]
    agents.start("second", OVERLAY_HTTP__BIND="127.0.0.1:18082", OVERLAY_LINK="tmp7")
    agents.start("third", OVERLAY_HTTP__BIND="127.0.0.1:18083")
    await until(lambda: WAITS in agents.messages("second") and WAITS in agents.messages("third"))
    # Each repairs the kernel within a millisecond if it manages it.
    ip("address", "delete", "192.168.100.4/24", "dev", "tmp0")
    await until(lambda: has_address("tmp0"))
    assert (shown("tmp0")["ifindex"], shown("tmp7")) == (index, None)
    assert agents.messages("second").count(WAITS) == 1
    first.send_signal(end)
    first.wait()
    # One of the waiting agents is next, and then the other.
    ended = "the other agent has ended"
    await until(lambda: ended in agents.messages("second") or ended in agents.messages("third"))
    link = "tmp7" if ended in agents.messages("second") else "tmp0"
    await until(lambda: has_address(link))
    await until(lambda: len([each for each in ("tmp0", "tmp7") if shown(each)]) == 1)


async def test_link_stays_when_an_agent_with_the_same_settings_takes_over(agents: Agents) -> None:
    first = agents.start("first", OVERLAY_HTTP__BIND="127.0.0.1:18081")
    await until(lambda: has_address("tmp0"))
    before = shown("tmp0")
    agents.start("second", OVERLAY_HTTP__BIND="127.0.0.1:18081")
    await until(lambda: WAITS in agents.messages("second"))
    first.terminate()
    first.wait()
    await until(lambda: "metrics are served" in agents.messages("second"))
    ip("address", "delete", "192.168.100.4/24", "dev", "tmp0")
    await until(lambda: has_address("tmp0"))
    assert shown("tmp0")["ifindex"] == before["ifindex"]


async def test_teardown_beside_a_running_agent_removes_nothing(agents: Agents, tmp_path: Path) -> None:
    first = agents.start("first", OVERLAY_HTTP__BIND="127.0.0.1:18081")
    await until(lambda: has_address("tmp0"))
    done = tear_down(tmp_path / "first")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"an agent is running on this node (process {first.pid})" in done.stderr
    assert has_address("tmp0")
    assert (tmp_path / "first" / "n1.state").exists()
    first.terminate()
    first.wait()
    done = tear_down(tmp_path / "first")
    assert (done.returncode, done.stderr) == (0, "")
    assert shown("tmp0") is None


@pytest.mark.parametrize("listens", [True, False])
async def test_name_that_another_user_took_does_not_stop_the_agent(agents: Agents, *, listens: bool) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as taken:
        taken.bind("\0overlay-net/agent")
        if listens and (os.geteuid() != 0 or not _other_user_listens(taken)):
            pytest.skip("needs another user id")
        agents.start("first", OVERLAY_HTTP__BIND="127.0.0.1:18081")
        await until(lambda: has_address("tmp0"))
    assert "another process has the name of the lock; ignoring it" in agents.messages("first")


def _other_user_listens(taken: socket.socket) -> bool:
    """Listen as another user: the kernel stores the user at that moment. Returns False where there is no other one."""
    try:
        os.seteuid(1)
    except OSError:
        return False
    try:
        taken.listen()
    finally:
        os.seteuid(0)
    return True
