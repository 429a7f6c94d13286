"""Tables of the command line and of the demo in terminals of any width: every word stays whole."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from lab.demo import ConsoleReporter
from overlay_net.cli.output import columns

WORDS = st.text("abcdef0123456789:./%-", min_size=1, max_size=45)
CELLS = st.lists(WORDS, max_size=8).map(" ".join)
TABLES = st.integers(1, 8).flatmap(
    lambda size: st.lists(st.lists(CELLS, min_size=size, max_size=size), min_size=1, max_size=4)
)
NODE = "fd12:3456:789a:bcde:f012:3456:789a:bcde"
ADDRESS = "2001:db8:1234:5678:9abc:def0:1234:5678"
ROUTE = f"2001:db8:aaaa:bbbb:cccc:dddd:eeee:0/112 via {ADDRESS} dev tmp0 proto 117 src {ADDRESS} metric 1024"


@settings(deadline=None)
@given(TABLES, st.integers(50, 200))
def test_no_word_of_a_table_is_cut_and_no_line_is_wider_than_the_terminal(table: list[list[str]], width: int) -> None:
    header, *rows = table
    printed = [line.plain for line in columns(header, rows, width)]
    for row, text in zip(table, printed, strict=True):
        assert sorted(text.split()) == sorted(word for cell in row for word in cell.split())
        assert all(len(line) <= width for line in text.splitlines())


def test_a_row_that_fits_is_one_line() -> None:
    printed = [line.plain for line in columns(("NAME", "AGE"), [("a", "1s"), ("node-with-name", "2s")], 80)]
    assert printed == ["NAME            AGE", "a               1s", "node-with-name  2s"]


def test_a_message_is_wrapped_beside_the_other_columns() -> None:
    message = "no address is free in pool onprem: add a range or delete nodes that are not used any more"
    (text,) = columns(None, [("problem", "node-1", message)], 60)
    first, *others = text.plain.splitlines()
    assert first.startswith("problem  node-1  no address")
    assert others and all(line.startswith(" " * 17) and line[17] != " " for line in others)


def test_columns_that_do_not_fit_continue_on_the_next_line() -> None:
    printed = "\n".join(line.plain for line in columns(("NODE", "ADDRESS", "AGE"), [(NODE, ADDRESS, "4s")], 80))
    assert printed.splitlines() == [
        "NODE                                     ADDRESS",
        "    AGE",
        f"{NODE}  {ADDRESS}",
        "    4s",
    ]


@pytest.mark.parametrize("terminal", [True, False])
def test_the_demo_fits_80_columns_and_shows_whole_addresses(terminal: bool) -> None:
    captured = io.StringIO()
    width = 80 if terminal else 300
    reporter = ConsoleReporter(Console(file=captured, width=width, force_terminal=terminal, color_system=None))
    reporter.step("Start three nodes with containerd and kubelets on a VLAN, a gateway appliance and a host behind it")
    reporter.fact(f"traffic from {NODE} leaves through {ADDRESS} and reaches the on-premise host")
    reporter.table("kubectl get nodes", ("NODE", "OVERLAY IP", "SOURCE", "ROUTE"), [(NODE, ADDRESS, ADDRESS, ROUTE)])
    reporter.end("Every step succeeded", success=True)
    printed = captured.getvalue()
    assert max(map(len, printed.splitlines())) <= 80
    assert printed.split().count(ADDRESS) == 1 + 2 + 2
    assert printed.split().count(NODE) == 2
