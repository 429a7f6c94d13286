"""The site of the documentation: it builds without a warning, and each of its links resolves."""

from pathlib import Path

import pytest

from lab.build.go_build import BuildFailed
from lab.site.build import ROOT, build
from lab.site.hooks import site_path
from lab.site.links import problems

PAGE = "<html><body><article><h2 id='there'>Title</h2>{}</article></body></html>"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    build(folder)
    return folder


def test_site_builds_without_a_warning_and_all_its_links_resolve(site: Path) -> None:
    assert problems(site) == []


def test_a_linked_file_outside_the_folder_of_the_docs_is_copied_into_the_site(site: Path) -> None:
    example = "charts/overlay-net/examples/in-cluster-pool.yaml"
    assert (site / "files" / example).read_text() == (ROOT / example).read_text()


def test_a_page_with_links_to_nothing_is_not_built(tmp_path: Path) -> None:
    links = ("gone.md", "#gone", "../gone.yaml", "/absolute.md")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Title\n\n" + "\n".join(f"[link]({link})" for link in links))
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"INHERIT: {ROOT / 'mkdocs.yml'}\nhooks: []\nnav: [index.md]\n")
    with pytest.raises(BuildFailed) as failed:
        build(tmp_path / "site", config)
    assert [link for link in links if f"'{link}'" not in str(failed.value)] == []


def test_a_bar_in_code_in_a_table_has_no_backslash(site: Path) -> None:
    assert "<code>-o, --output [json|yaml]</code>" in (site / "cli.html").read_text()


@pytest.mark.parametrize(
    ("page", "link", "path"),
    [
        ("objects.md", "operations.md", "operations.md"),
        ("adr/README.md", "../cli.md", "cli.md"),
        ("how-to/gitops.md", "../../charts/overlay-net/README.md", "reference/chart.md"),
        ("reference/chart.md", "../../docs/operations.md", "operations.md"),
        (
            "reference/chart.md",
            "examples/in-cluster-pool.yaml",
            "files/charts/overlay-net/examples/in-cluster-pool.yaml",
        ),
        ("contributing.md", "docs/adr/README.md", "adr/README.md"),
        ("operations.md", "../README.md", "start.md"),
    ],
)
def test_a_link_between_files_of_the_repository_becomes_a_path_in_the_site(page: str, link: str, path: str) -> None:
    assert site_path(page, link) == path


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<a href='gone.html'>x</a>", "gone.html: no such file"),
        ("<a href='other.html#gone'>x</a>", "other.html#gone: no such anchor"),
        ("<a href='#gone'>x</a>", "#gone: no such anchor"),
        ("<a href='../outside.txt'>x</a>", "../outside.txt: no such file"),
        ("<img src='gone.svg'>", "gone.svg: no such file"),
        ("<a href='http://example.com'>x</a>", "http://example.com: not https"),
        ("<a href='https://example'>x</a>", "https://example: no host name"),
        ("<a href='mailto:someone'>x</a>", "mailto:someone: no e-mail address"),
        ("<script src='https://example.com/x.js'></script>", "https://example.com/x.js: loaded from another host"),
        ("<link rel='stylesheet' href='//example.com/x.css'>", "//example.com/x.css: not https"),
    ],
)
def test_a_link_that_does_not_resolve_is_reported(text: str, problem: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "outside.txt").touch()
    (site / "index.html").write_text(PAGE.format(text))
    (site / "other.html").write_text(PAGE.format(""))
    assert problems(site) == [f"index.html: {problem}"]


def test_a_list_that_is_shown_as_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(PAGE.format("<p>Two:\n* one\n* two</p><pre>no\n* list</pre>"))
    assert problems(tmp_path) == ["index.html: a list is shown as text: Two: * one * two"]


def test_a_block_of_code_that_is_shown_as_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(PAGE.format("<p>```sh\nls\n```</p>"))
    assert problems(tmp_path) == ["index.html: a block of code is shown as text: ```sh ls ```"]


def test_links_that_resolve_are_not_reported(tmp_path: Path) -> None:
    links = (
        "#there",
        "folder/",
        "folder/index.html#there",
        "/folder/",
        "https://example.com/x",
        "mailto:a@example.com",
    )
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "index.html").write_text(PAGE.format("<a href='../index.html#there'>x</a>"))
    (tmp_path / "index.html").write_text(PAGE.format("".join(f"<a href='{link}'>x</a>" for link in links)))
    assert problems(tmp_path) == []
