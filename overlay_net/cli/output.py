"""How answers are shown: lines of aligned columns, coloured on a terminal, or JSON or YAML."""

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import yaml
from rich.console import Console
from rich.text import Text

from overlay_net.model.api import JsonObject

GAP = "  "
NAMED = 3
"""Maximum number of objects that a line names, if it does not name all."""
STYLES = {
    "healthy": "green",
    "ok": "green",
    "InPlace": "green",
    "problem": "red",
    "refuse": "red",
    "conflict": "red",
    "Refused": "red",
    "Conflict": "red",
    "Failed": "red",
    "warning": "yellow",
    "Pending": "yellow",
    "unknown": "yellow",
}
"""The style of a cell with this text."""
MIN_WRAP = 30
"""The fewest columns that are left for the last column before lines are no longer wrapped."""


class Answer(Protocol):
    """What a command has found."""

    @property
    def exit_code(self) -> int: ...
    def to_json(self) -> JsonObject: ...
    def lines(self, width: int | None) -> Iterable[Text]:
        """Return the text for people; ``width`` is that of the terminal, or None if there is none."""
        ...


def show(answer: Answer, output: str) -> None:
    """Write an answer to standard output; ``output`` is ``json``, ``yaml``, or empty for text."""
    console = Console(highlight=False, soft_wrap=True, emoji=False, markup=False)
    if output:
        console.out(encode(answer.to_json(), output), end="", highlight=False)
        return
    for line in answer.lines(console.width if console.is_terminal else None):
        console.print(line, soft_wrap=True)


def encode(content: JsonObject, output: str) -> str:
    """Return ``content`` as ``json`` or ``yaml``; several YAML documents in sequence stay apart."""
    if output == "json":
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    return "---\n" + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def columns(
    header: Sequence[str] | None, rows: Iterable[Sequence[str]], width: int | None, indent: str = ""
) -> Iterator[Text]:
    """Yield aligned lines. On a terminal the last column is wrapped; no cell is ever cut."""
    table = [*([tuple(header)] if header else []), *map(tuple, rows)]
    if not table:
        return
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]) - 1)]
    margin = len(indent) + sum(each + len(GAP) for each in widths)
    room = width - margin if width is not None and width - margin >= MIN_WRAP else None
    for number, row in enumerate(table):
        style = "bold" if header and number == 0 else ""
        line = Text(indent, style=style)
        for cell, size in zip(row, widths, strict=False):
            line.append(cell, STYLES.get(cell, "")).append(" " * (size - len(cell)) + GAP)
        parts = textwrap.wrap(row[-1], room, break_long_words=False, break_on_hyphens=False) if room else [row[-1]]
        line.append(("\n" + " " * margin).join(parts), STYLES.get(row[-1], ""))
        line.rstrip()
        yield line


def shorten(names: Sequence[str]) -> str:
    """``n1, n2, n3 and 9 more``."""
    if len(names) <= NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
