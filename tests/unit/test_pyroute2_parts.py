"""pyroute2 is imported in part, and the rest of it is there when it is used."""

import subprocess
import sys

import pytest

PARTS = "from overlay_net.adapters.netlink import pyroute2_parts as parts"


def run(*lines: str) -> str:
    """What a new interpreter prints."""
    command = [sys.executable, "-c", "\n".join(["import sys", *lines])]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_rest_of_the_library_is_not_imported() -> None:
    rest = run(
        PARTS, "print(*(each for each in ('ndb', 'nftables', 'plan9', 'iwutil') if f'pyroute2.{each}' in sys.modules))"
    )
    assert rest == ""


@pytest.mark.parametrize("statement", ["from pyroute2 import NDB", "import pyroute2; pyroute2.NDB"])
def test_a_name_of_the_whole_library_is_there_when_it_is_used(statement: str) -> None:
    assert run(PARTS, statement, "print(sys.modules['pyroute2'].NDB.__name__)") == "NDB"


def test_a_module_of_the_library_is_imported_alone() -> None:
    lines = ("from pyroute2 import protocols, netns", "import pyroute2.netlink.rtnl.ndmsg", "print(protocols.__name__)")
    assert run(PARTS, *lines, "assert 'pyroute2.ndb' not in sys.modules") == "pyroute2.protocols"


@pytest.mark.parametrize("order", [(PARTS, "import pyroute2"), ("import pyroute2", PARTS)])
def test_parts_are_those_of_the_whole_library(order: tuple[str, str]) -> None:
    same = "all(getattr(parts, name) is getattr(pyroute2, name) for name in parts.__all__ if hasattr(pyroute2, name))"
    assert run(*order, f"print({same})") == "True"


def test_an_unknown_name_is_an_import_error() -> None:
    lines = ("try: from pyroute2 import Absent", "except ImportError as error: print(error)")
    assert run(PARTS, *lines).startswith("cannot import name 'Absent' from 'pyroute2'")
