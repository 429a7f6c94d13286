"""`python -m lab.words [FILE …]`: finds words that the product does not use; what they are is data, in lab/words.toml.

Prose is searched in strings, docstrings and comments of Python files and in all of any other text file; names are those
that Python files define. It ends with 1 if it found any.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LIST = Path(__file__).with_name("words.toml")

PYTHON_NAME = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


@dataclass(frozen=True, slots=True)
class Finding:
    path: str
    line: int
    found: str
    write: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.found!r}: write {self.write}"


@dataclass(frozen=True, slots=True)
class Phrase:
    pattern: re.Pattern[str]
    write: str


@dataclass(frozen=True, slots=True)
class NameRule:
    parts: frozenset[str]
    whole: frozenset[str]
    suffixes: tuple[str, ...]
    write: str

    def matches(self, name: str) -> bool:
        if name in self.whole or (self.suffixes and name.endswith(self.suffixes)):
            return True
        return any(part.lower() in self.parts for part in PYTHON_NAME.findall(name))


@dataclass(frozen=True, slots=True)
class Allowed:
    files: str
    text: str


@dataclass(frozen=True, slots=True)
class WordList:
    phrases: tuple[Phrase, ...]
    names: tuple[NameRule, ...]
    allowed: tuple[Allowed, ...]
    skipped: tuple[str, ...]
    """Globs of files that are not searched."""

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> "WordList":
        return cls(
            tuple(
                Phrase(re.compile(rf"(?<![\w-])(?:{each['find']})(?!\w)", re.IGNORECASE), each["write"])
                for each in raw.get("text", ())
            ),
            tuple(
                NameRule(
                    frozenset(each.get("find", ())),
                    frozenset(each.get("whole", ())),
                    tuple(each.get("suffix", ())),
                    each["write"],
                )
                for each in raw.get("name", ())
            ),
            tuple(Allowed(each["files"], each["text"]) for each in raw.get("allow", ())),
            tuple(raw.get("skip", ())),
        )


def search(path: str, content: str, words: WordList) -> Iterator[Finding]:
    """The findings of one file, in the order of its lines."""
    if any(fnmatch(path, pattern) for pattern in words.skipped):
        return
    allowed = [each.text for each in words.allowed if fnmatch(path, each.files)]
    is_python = path.endswith(".py")
    lines = _prose(content) if is_python else enumerate(content.split("\n"), 1)
    findings = [*_search_prose(path, lines, words, allowed)]
    if is_python:
        findings += _search_names(path, content, words)
    yield from sorted(findings, key=lambda finding: finding.line)


def _search_prose(
    path: str, lines: Iterable[tuple[int, str]], words: WordList, allowed: Sequence[str]
) -> Iterator[Finding]:
    for number, line in lines:
        for text in allowed:
            line = line.replace(text, "")
        for phrase in words.phrases:
            for match in phrase.pattern.finditer(line):
                yield Finding(path, number, match.group(), phrase.write)


def _prose(source: str) -> Iterator[tuple[int, str]]:
    """Line number and text of each line of a string or a comment."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
        elif tokenize.tok_name[token.type] in ("STRING", "FSTRING_MIDDLE"):
            # From Python 3.12 on, the parts of an f-string are tokens of their own.
            text = token.string
            if re.match(r"[rb]*f", text, re.IGNORECASE):
                # Between braces is code.
                text = re.sub(r"\{[^{}]*\}", "{}", text)
            yield from enumerate(text.split("\n"), token.start[0])


def _search_names(path: str, source: str, words: WordList) -> Iterator[Finding]:
    for line, name in _defined_names(ast.parse(source)):
        for rule in words.names:
            if rule.matches(name):
                yield Finding(path, line, name, rule.write)
                break


def _defined_names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """``arguments``: paths below ``root``, a git checkout; all files that git tracks without any."""
    words = WordList.parse(tomllib.loads(LIST.read_text()))
    listed = subprocess.run(["git", "ls-files", *arguments], cwd=root, capture_output=True, text=True, check=True)
    findings = [finding for path in listed.stdout.split() for finding in search(path, _read(root / path), words)]
    for finding in findings:
        print(finding)
    print(f"{len(findings)} words to replace" if findings else "no banned words")
    return 1 if findings else 0


def _read(file: Path) -> str:
    return file.read_text(errors="replace") if file.is_file() else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
