"""What a reader of a page types, in order: the commands of its fenced blocks, and the files to save.

A block ``sh`` has commands; a block ``console`` has commands after ``$ ``, each followed by what it prints; a block
``yaml title="NAME"`` is a file to save as NAME. Code in the text is a command if it is a whole one that reads, such as
`kubectl get noip`, and not the name of one, such as `kubectl get`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FENCE = re.compile(r'^(?P<indent> *)```(?P<language>\w*)(?: +title="(?P<title>[^"]+)")?$')
TEXT = re.compile(
    r"""`(?P<command>
        (?: kubectl\s+((-n|--namespace)\s+\S+\s+)?(get|describe|explain|logs)\s
          | (kubectl\s+)?overlay-net\s+(status|routes|plan|doctor)\s
          | ip\s+(route|link|address|rule)\s+(show|get)\s
        )[^`]*)`""",
    re.VERBOSE,
)
HISTORY = ("CHANGELOG.md", "docs/adr/")
"""Pages whose text is about commands of other versions."""
HERE_DOCUMENT = re.compile(r"<<-?\s*'?(\w+)'?")


@dataclass(frozen=True, slots=True)
class Block:
    page: str
    line: int
    language: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class SavedFile:
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    page: str
    line: int
    text: str
    output: str | None
    """What the page shows; None if it shows nothing."""

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def find_pages() -> list[str]:
    """All pages, as paths relative to the repository."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("charts/*/README.md")]
    return sorted(page.relative_to(ROOT).as_posix() for page in found)


def read_blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page; of its text, each command as a block ``sh``."""
    lines = (ROOT / page).read_text().splitlines()
    number = 0
    while number < len(lines):
        opened = FENCE.match(lines[number])
        if opened is None:
            first = number
            while number < len(lines) and not FENCE.match(lines[number]):
                number += 1
            yield from _read_text(page, first + 1, lines[first:number])
            continue
        number += 1
        indent, first = opened["indent"], number
        while lines[number] != f"{indent}```":
            number += 1
        content = "\n".join(line.removeprefix(indent) for line in lines[first:number])
        yield Block(page, first + 1, opened["language"], opened["title"] or "", content)
        number += 1


def _read_text(page: str, line: int, lines: list[str]) -> Iterator[Block]:
    """The commands in text that begins at this line; a bar of a command in a table is escaped."""
    text = "\n".join(lines)
    for found in TEXT.finditer("" if page.startswith(HISTORY) else text):
        command = " ".join(found["command"].replace("\\|", "|").split())
        yield Block(page, line + text.count("\n", 0, found.start()), "sh", "", command)


def read_steps(page: str) -> Iterator[SavedFile | Command]:
    for block in read_blocks(page):
        if block.title:
            yield SavedFile(block.title, f"{block.text}\n")
        elif block.language == "sh":
            yield from _split_script(block)
        elif block.language == "console":
            yield from _split_session(block)


def read_commands(page: str) -> list[Command]:
    return [step for step in read_steps(page) if isinstance(step, Command)]


def find_command(page: str, beginning: str) -> str:
    """The only command of a page that begins so and has several lines, or the only one at all."""
    found = [each.text for each in read_commands(page) if each.text.startswith(beginning)]
    (command,) = [text for text in found if "\n" in text] or found
    return command


def _split_script(block: Block) -> Iterator[Command]:
    """The commands of a script: a line, with its continuation, its here-document, or its indented body."""
    lines = block.text.splitlines()
    number = 0
    while number < len(lines):
        first = number
        number = _end_of_command(lines, number)
        text = "\n".join(lines[first:number])
        if text.strip() and not text.startswith("#"):
            yield Command(block.page, block.line + first, text, None)


def _end_of_command(lines: list[str], number: int) -> int:
    document = HERE_DOCUMENT.search(lines[number])
    if document:
        return lines.index(document[1], number) + 1
    while number + 1 < len(lines) and _continues(lines[number], lines[number + 1]):
        number += 1
    return number + 1


def _continues(line: str, following: str) -> bool:
    return line.endswith("\\") or following.startswith(" ") or following in ("done", "fi")


def _split_session(block: Block) -> Iterator[Command]:
    """The commands of a terminal session with their output; ``> `` continues a command."""
    typed, printed, began = list[str](), list[str](), 0
    for number, line in enumerate([*block.text.splitlines(), "$ "]):
        if line.startswith("$ "):
            if typed:
                yield Command(block.page, block.line + began, "\n".join(typed), "\n".join(printed))
            typed, printed, began = [line[2:]], [], number
        elif line.startswith("> ") and not printed:
            typed.append(line[2:])
        else:
            printed.append(line)
