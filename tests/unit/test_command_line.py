"""The command line without a cluster: the extra ``cli``, help, completion, and errors of one line."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from overlay_net import __version__

WITHOUT_EXTRA = """
import sys
for name in ("click", "rich"):
    sys.modules[name] = None
from overlay_net.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
LOADED = """
import sys
from overlay_net.__main__ import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
import overlay_net.{mode}.run
print(sorted({{"click", "rich", "typer"}} & {{name.partition(".")[0] for name in sys.modules}}))
"""


def run(*arguments: str, code: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    program = ["-c", code] if code else ["-m", "overlay_net"]
    return subprocess.run(
        [sys.executable, *program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "COLUMNS": "80", **environment},
    )


@pytest.mark.parametrize("mode", ["agent", "controller"])
def test_a_process_loads_nothing_of_the_extra(mode: str) -> None:
    answer = run(mode, "--help", code=LOADED.format(mode=mode))
    assert (answer.stdout.splitlines()[-1], answer.returncode) == ("[]", 0), answer.stderr


@pytest.mark.parametrize("mode", ["agent", "controller", "crds", "node-state"])
def test_processes_and_jobs_start_without_the_extra(mode: str) -> None:
    answer = run(mode, "--help", code=WITHOUT_EXTRA)
    assert (answer.returncode, answer.stderr) == (0, "")


def test_without_the_extra_a_command_for_people_names_what_to_install() -> None:
    answer = run("status", code=WITHOUT_EXTRA)
    expected = "overlay-net status: no module click; install it: pip install 'overlay-net[cli]'\n"
    assert (answer.returncode, answer.stdout, answer.stderr) == (2, "", expected)
    assert run("--version", code=WITHOUT_EXTRA).stdout == f"overlay-net {__version__}\n"


@pytest.mark.parametrize("mode", ["agent", "controller"])
def test_the_help_of_settings_fits_the_terminal(mode: str) -> None:
    for width in (60, 100):
        lines = run(mode, "--help", COLUMNS=str(width)).stdout.splitlines()
        # A word longer than the line is not broken: someone may copy it.
        assert [line for line in lines if len(line) > width and len(line.split()) > 1] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stat",), "overlay-net stat: No such command 'stat'. Did you mean 'status'? (see overlay-net --help)"),
        (("routes",), "overlay-net routes: Missing argument 'NODE'. (see overlay-net routes --help)"),
        (("routes", ""), "overlay-net routes: Invalid value for 'NODE': '': must be the name of an object, such as"),
        (("doctor", "n1/status"), "overlay-net doctor: Invalid value for '[NODE]': 'n1/status': must be the name"),
        (("status", "-o", "xml"), "overlay-net status: Invalid value for '-o' / '--output': 'xml' is not one of"),
        (("status", "--wait=soon"), "overlay-net status: Invalid value for '--wait': 'soon': "),
        (("status", "--context=a", "--kubeconfig=/nowhere"), "overlay-net status: kubeconfig /nowhere: No such file"),
    ],
)
def test_an_error_of_usage_is_one_line(arguments: tuple[str, ...], message: str) -> None:
    answer = run(*arguments)
    (line,) = answer.stderr.splitlines()
    assert (answer.returncode, answer.stdout, line[: len(message)]) == (2, "", message)


def test_every_command_is_listed_and_completed() -> None:
    listed = {line.split()[0] for line in run("--help").stdout.partition("Commands:")[2].splitlines() if line.strip()}
    assert {"agent", "controller", "crds", "status", "routes", "plan", "doctor", "sysdump", "node-state"} <= listed
    words: Mapping[str, str] = {"COMP_WORDS": "overlay-net st", "COMP_CWORD": "1"}
    completed = run(_OVERLAY_NET_COMPLETE="bash_complete", **words)
    assert "plain,status" in completed.stdout.splitlines()
    script = run("completion", "bash").stdout
    assert "_OVERLAY_NET_COMPLETE=bash_complete" in script


def test_an_answer_that_cannot_be_written_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "overlay_net", "completion", "bash"]
        answer = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (answer.returncode, answer.stderr) == (
        1,
        "overlay-net completion: cannot write the answer: No space left on device\n",
    )
