"""A starting agent reads its settings in a child process: what its user and its supervisor notice of that."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

COMMAND = (sys.executable, "-m", "overlay_net", "agent")


@pytest.fixture
def reading(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """An agent whose settings are in a file that cannot be read to its end yet."""
    config = tmp_path / "config.yaml"
    os.mkfifo(config)
    with subprocess.Popen([*COMMAND, f"--config={config}"], stderr=subprocess.PIPE, text=True) as agent:
        writer = os.open(config, os.O_WRONLY)
        try:
            yield agent
        finally:
            os.close(writer)
            agent.kill()


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_agent_reports_that_the_process_that_reads_its_settings_was_killed(reading: "subprocess.Popen[str]") -> None:
    (child,) = children(reading.pid)
    os.kill(child, signal.SIGKILL)
    _, errors = reading.communicate(timeout=60)
    assert errors == "overlay-net agent: the process that reads the settings was killed by SIGKILL\n"
    assert reading.returncode == 1


def test_agent_that_is_terminated_while_it_reads_its_settings_ends(reading: "subprocess.Popen[str]") -> None:
    reading.terminate()
    assert reading.wait(timeout=60) == -signal.SIGTERM


def test_agent_that_is_interrupted_while_it_reads_its_settings_reports_it_once(
    reading: "subprocess.Popen[str]",
) -> None:
    (child,) = children(reading.pid)
    for pid in (child, reading.pid):
        os.kill(pid, signal.SIGINT)
    _, errors = reading.communicate(timeout=60)
    assert errors.count("Traceback") == 1
