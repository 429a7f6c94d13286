"""A hook of mkdocs: a link to a file outside docs/ goes to a copy of that file in the site.

So the same link resolves on the repository's web page and in the site, wherever that is served.
"""

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent
PAGES = {
    "README.md": "start.md",
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "charts/overlay-net/README.md": "reference/chart.md",
}
"""Pages outside docs/, and where they are in the site."""

SOURCES = {page: source for source, page in PAGES.items()}
CODE = re.compile(r"(^ *```.*?^ *```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
TABLE_ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
LINK = re.compile(r"(?<=\]\()(?![\w+]+:|[#/])([^)\s#]+)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for page, source in SOURCES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    own = page.file.src_uri

    def rewrite(link: re.Match[str]) -> str:
        target = site_path(own, link[1])
        source = target.removeprefix("files/")
        if source != target:
            if not (ROOT / source).is_file():
                # mkdocs reports it as it is in the page.
                return link[1]
            if files.get_file_from_path(target) is None:
                files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
        return relpath(target, dirname(own))

    # Text and code alternate.
    parts = (part if number % 2 else LINK.sub(rewrite, part) for number, part in enumerate(CODE.split(markdown)))
    return TABLE_ROW.sub(_unescape_bars, "".join(parts))


def _unescape_bars(row: re.Match[str]) -> str:
    """Only the repository's web page needs a backslash before a bar in code, and the site would show it."""
    return re.sub(r"`[^`\n]+`", lambda code: code[0].replace(r"\|", "|"), row[0])


def site_path(page: str, link: str) -> str:
    """The path in the site of what a page links to by a path in the repository; both without an anchor."""
    source = SOURCES.get(page, f"docs/{page}")
    target = normpath(join(dirname(source), link))
    if target in PAGES:
        return PAGES[target]
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return f"files/{target}"
