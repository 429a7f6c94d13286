"""How answers are shown: lines of aligned columns, coloured on a terminal, or JSON or YAML."""

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import yaml
from rich.console import Console
from rich.text import Text

from overlay_net.model.api import JsonObject
from overlay_net.model.wording import name_some

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
"""The least room in which the last column is wrapped beside the others, instead of below them."""
CONTINUATION = " " * 4
"""Indentation of the second and further lines of a row."""


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
    """Yield one text per row: aligned columns, on several lines where ``width`` is too small for one.

    Cells are wrapped between words only, so that no address is ever cut or broken.
    """
    table = [*([tuple(header)] if header else []), *map(tuple, rows)]
    if not table:
        return
    lines = [tuple(range(len(table[0])))] if width is None else _arrange(table, width - len(indent))
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    for number, row in enumerate(table):
        parts = [
            _line(row, chosen, widths, indent + (CONTINUATION if position else ""), width)
            for position, chosen in enumerate(lines)
        ]
        text = Text("\n").join(part for part in parts if part.plain)
        text.style = "bold" if header and number == 0 else ""
        yield text


def _arrange(table: Sequence[Sequence[str]], room: int) -> list[tuple[int, ...]]:
    """Return which columns are side by side on each of a row's lines; the last one of a line may be wrapped."""
    *leading, last = zip(*table, strict=True)
    needed = [max(map(len, cells)) for cells in leading]
    longest_word = max((len(word) for cell in last for word in cell.split()), default=0)
    needed.append(min(max(map(len, last)), max(longest_word, MIN_WRAP)))
    lines, used = [list[int]()], 0
    for column, size in enumerate(needed):
        if lines[-1] and used + size > room:
            lines.append([])
            used = len(CONTINUATION)
        used += size + len(GAP)
        lines[-1].append(column)
    return [tuple(each) for each in lines]


def _line(row: Sequence[str], chosen: Sequence[int], widths: Sequence[int], margin: str, width: int | None) -> Text:
    """Return these columns of a row, with the last one wrapped to the rest of ``width``."""
    *leading, last = chosen
    line = Text(margin)
    for column in leading:
        cell = row[column]
        line.append(cell, STYLES.get(cell, "")).append(" " * (widths[column] - len(cell)) + GAP)
    indent = len(line)
    cell, parts = row[last], [row[last]]
    if width is not None:
        parts = textwrap.wrap(cell, max(width - indent, 1), break_long_words=False, break_on_hyphens=False)
    line.append(("\n" + " " * indent).join(parts), STYLES.get(cell, ""))
    line.rstrip()
    return line


def shorten(names: Sequence[str]) -> str:
    return name_some(names, NAMED)
