"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are Markdown; ends with a line break."""
    lines = [f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in (header, *rows)]
    lines.insert(1, f"|{'---|' * len(header)}\n")
    return "".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    return f"`{text}`" if text else ""
