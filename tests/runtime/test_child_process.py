"""What a function in a child process returns or raises arrives; what it imports does not stay."""

import subprocess
import sys

import pytest

PRELUDE = """
import os, signal, sys
from ipaddress import ip_network
from overlay_net.model.errors import ConfigurationError, NotFound
from overlay_net.runtime.child_process import ChildFailed, ChildProcess

def fails(error):
    raise error
"""


def run(program: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", PRELUDE + program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_result_is_the_value_that_the_function_returned() -> None:
    value = "{'subnet': ip_network('10.0.0.0/8'), 'text': 'x' * 1_000_000}"
    assert run(f"print(ChildProcess(lambda: {value}).result() == {value})").stdout == "True\n"


def test_what_the_function_imports_is_not_imported_here() -> None:
    lines = (
        "child = ChildProcess(lambda: __import__('colorsys').__name__)",
        "print(child.result(), 'colorsys' in sys.modules)",
    )
    done = run("\n".join(lines))
    assert done.stdout == "colorsys False\n"


def test_an_error_of_the_product_is_raised_as_it_was() -> None:
    done = run(
        "try: ChildProcess(lambda: fails(NotFound('no such object').during('get x'))).result()\n"
        "except NotFound as error: print(error, error.message, sep='|')"
    )
    assert (done.stdout, done.stderr) == ("get x: no such object|no such object\n", "")


@pytest.mark.parametrize(
    ("function", "outcome", "reason"),
    [
        ("fails(ZeroDivisionError('by zero'))", "exited with code 1", "ZeroDivisionError: by zero"),
        ("sys", "exited with code 1", "cannot pickle 'module' object"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL", ""),
    ],
)
def test_a_child_process_without_a_result_is_reported(function: str, outcome: str, reason: str) -> None:
    done = run(f"try: ChildProcess(lambda: {function}).result()\nexcept ChildFailed as error: print(error)")
    assert done.stdout == f"{outcome}\n"
    assert reason in done.stderr and bool(done.stderr) == bool(reason)
