"""The demo's command line, and what remains after it is interrupted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.net.private import is_private

PROGRAMS = ("kube-apiserver --", "etcd --", "-m overlay_net", "lab.net.traffic", "lab.phpipam --")


@pytest.mark.parametrize(
    ("arguments", "moment", "number", "code"),
    [
        (["--processes"], "Register 3 nodes", signal.SIGINT, 130),
        (["--ipam=phpipam"], "Register 3 nodes", signal.SIGTERM, 143),
        (["--ipam=phpipam", "--keep"], "The lab keeps running", signal.SIGTERM, 0),
    ],
)
def test_an_interrupted_demo_leaves_nothing_behind(
    tmp_path: Path, arguments: list[str], moment: str, number: signal.Signals, code: int
) -> None:
    interrupt_demo(tmp_path, arguments, moment, number, code)


def interrupt_demo(tmp_path: Path, arguments: list[str], moment: str, number: signal.Signals, code: int) -> None:
    """Send a signal to the demo once it prints ``moment``; no file, link or process of it may remain."""
    if not is_private():
        pytest.skip("needs private network namespaces: run `python -m lab.net.private python -m pytest`")
    command = [sys.executable, "-m", "lab.demo", *arguments]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    before = _programs()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as demo:
        assert demo.stdout is not None
        printed = list[str]()
        for line in demo.stdout:
            printed.append(line)
            # If the signal interrupts the write, the line is written twice.
            if moment in line and moment not in "".join(printed[:-1]):
                demo.send_signal(number)
        assert demo.wait(60) == code, "".join(printed)
    assert list(tmp_path.iterdir()) == []
    assert "vlan0" not in subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout
    assert _programs() - before == set()


def _programs() -> set[str]:
    """The lab's programs that run in this PID namespace."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().decode().replace("\0", " ")
        except (OSError, UnicodeDecodeError):
            continue
        if any(name in command for name in PROGRAMS):
            found.add(f"{entry.name} {command}")
    return found


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--keeep"], "unrecognized arguments"),
        (["--help"], "--keep"),
        (["--help"], "--ipam {cluster,phpipam}"),
        (["--ipam=infoblox"], "invalid choice: 'infoblox'"),
    ],
)
def test_the_command_line(arguments: list[str], part: str) -> None:
    ended = subprocess.run([sys.executable, "-m", "lab.demo", *arguments], capture_output=True, text=True, check=False)
    assert part in ended.stdout + ended.stderr
