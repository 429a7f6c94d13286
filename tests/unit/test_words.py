"""The search for words that the product does not use."""

import subprocess
import tomllib
from pathlib import Path

import pytest

from lab.words import LIST, WordList, main, search

WORDS = WordList.parse(tomllib.loads(LIST.read_text()))


def found(path: str, content: str) -> list[str]:
    return [f"{each.line} {each.found}" for each in search(path, content, WORDS)]


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ('"""The kernel as it was wished."""', "1 wished"),
        ("# Whoever comes first", "1 Whoever"),
        ('log.info("ok")\nraise Error(f"{name} is in use by somebody else")', "2 somebody else"),
        ("def wished_routes(): ...", "1 wished_routes"),
        ("class LifeRules: ...", "1 LifeRules"),
        ("def address_of(text): ...", "1 address_of"),
        ("def plan(*, wanted=None): ...", "1 wanted"),
        ("for told in generations: ...", "1 told"),
        ("self._recall = recall", "1 _recall"),
    ],
)
def test_a_banned_word_is_found_in_strings_comments_and_names_of_python(source: str, finding: str) -> None:
    assert finding in found("overlay_net/example.py", source)


@pytest.mark.parametrize(
    "path", ["README.md", "charts/overlay-net/values.yaml", "charts/overlay-net/templates/NOTES.txt"]
)
def test_a_banned_word_is_found_in_docs_and_the_chart(path: str) -> None:
    assert found(path, "first line\nNobody has looked at it yet") == ["2 looked", "2 Nobody"]


@pytest.mark.parametrize(
    "source",
    [
        '"""Look up the pool; it looks like a subnet."""',
        'print(f"{told} nodes")',
        "wanted.add(name)",
        '"""Of a total of five, the leading zero counts."""',
    ],
)
def test_other_meanings_and_code_within_strings_are_not_found(source: str) -> None:
    assert found("overlay_net/example.py", source) == []


def test_a_phrase_of_another_system_is_allowed_where_the_list_names_it() -> None:
    words = WordList.parse(
        {"text": [{"find": "told", "write": "x"}], "allow": [{"files": "lab/phpipam/*", "text": "Been told so"}]}
    )
    assert list(search("lab/phpipam/wire.py", '"Been told so"', words)) == []
    assert list(search("lab/demo.py", '"Been told so"', words)) != []


def test_the_command_names_file_line_and_replacement_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "README.md").write_text("# Title\nan address that nobody has\n")
    subprocess.run(["git", "add", "README.md"], cwd=tmp_path, check=True)
    assert main([], tmp_path) == 1
    assert "README.md:2: 'nobody': write no one, or name it" in capsys.readouterr().out
    (tmp_path / "README.md").write_text("an unused address\n")
    assert main([], tmp_path) == 0
