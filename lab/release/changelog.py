"""CHANGELOG.md as sections, release notes, and the changes that Artifact Hub shows."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent.parent.parent / "CHANGELOG.md"
UNRELEASED = "Unreleased"
SECTION = re.compile(r"^## \[([^\]]+)\](?: - (\d{4}-\d\d-\d\d))?\n", re.MULTILINE)
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
"""Of Keep a Changelog; in lower case those of the annotation artifacthub.io/changes."""


@dataclass(frozen=True, slots=True)
class Section:
    version: str
    date: str
    """Empty: not released."""
    text: str

    def changes(self) -> Iterator[tuple[str, str]]:
        """Kind and text of each entry under a heading of KINDS, without Markdown that only a page can show."""
        for heading, body in re.findall(r"^### (\w+)[^\n]*\n(.*?)(?=^### |\Z)", self.text, re.MULTILINE | re.DOTALL):
            if heading in KINDS:
                for entry in re.findall(r"^- (.*?)(?=^- |^$|\Z)", body, re.MULTILINE | re.DOTALL):
                    yield heading.lower(), " ".join(re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", entry).split())


def sections(text: str) -> list[Section]:
    """All sections, newest first."""
    parts = SECTION.split(text)[1:]
    return [
        Section(version, date or "", body.strip())
        for version, date, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    ]


def find_section(version: str, text: str) -> Section:
    """Raises LookupError: there is no section of this version."""
    for section in sections(text):
        if section.version == version:
            return section
    raise LookupError(f"CHANGELOG.md has no section {version}")
