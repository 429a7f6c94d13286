"""Checks a built site without a network: pages, files and anchors inside it exist, other addresses have a valid form.

The reader's browser gets nothing from other hosts: scripts, styles and images are part of the site. What a page means
as a list is shown as text if it lacks what only mkdocs needs: an empty line before it, or four spaces before what
belongs to an item; and a block of code, if a line of it has fewer spaces than its first one.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}(?::\d+)?", re.IGNORECASE)
ITEM = re.compile(r"\n *(?:[*+-]|\d+\.) ")
VERBATIM = ("pre", "code", "script", "style")
"""What is in these is shown as it is."""
FENCE = "```"
REFERENCES = {"a": "href", "img": "src", "link": "href", "script": "src", "source": "src", "iframe": "src"}


class Document(HTMLParser):
    """The anchors and the references of one page, and its lists and blocks of code that are shown as text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.references: list[tuple[str, str]] = []
        """Tag and address."""
        self.shown_as_text: list[str] = []
        self._inside = dict.fromkeys(("article", *VERBATIM), 0)
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in self._inside:
            self._inside[tag] += 1
        self.anchors |= {name for key in ("id", "name") if (name := given.get(key))}
        address = given.get(REFERENCES.get(tag, ""))
        if address is not None:
            self.references.append((tag, address))

    def handle_endtag(self, tag: str) -> None:
        if tag in self._inside:
            self._inside[tag] -= 1

    def handle_data(self, data: str) -> None:
        if not self._inside["article"]:
            return
        text = " ".join(data.split())
        if FENCE in data:
            self.shown_as_text.append(f"a block of code is shown as text: {text[:80]}")
        elif not any(self._inside[tag] for tag in VERBATIM) and ITEM.search(data):
            self.shown_as_text.append(f"a list is shown as text: {text[:80]}")


def problems(site: Path) -> list[str]:
    """One line for each: page, what is in it, and what is wrong."""
    site = site.resolve()
    documents = {path: Document(path.read_text()) for path in sorted(site.rglob("*.html"))}
    return [
        f"{path.relative_to(site)}: {found}"
        for path, document in documents.items()
        for found in (*_unresolved(document, path, site, documents), *document.shown_as_text)
    ]


def _unresolved(document: Document, page: Path, site: Path, documents: dict[Path, Document]) -> Iterator[str]:
    for tag, address in document.references:
        if problem := _problem(tag, address, page, site, documents):
            yield f"{address}: {problem}"


def _problem(tag: str, address: str, page: Path, site: Path, documents: dict[Path, Document]) -> str | None:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return _problem_elsewhere(tag, parts)
    path = unquote(parts.path)
    start = site if path.startswith("/") else page.parent
    target = (start / path.lstrip("/")).resolve() if path else page
    if target.is_dir():
        target /= "index.html"
    if not target.is_relative_to(site) or not target.is_file():
        return "no such file"
    if parts.fragment and target in documents and unquote(parts.fragment) not in documents[target].anchors:
        return "no such anchor"
    return None


def _problem_elsewhere(tag: str, parts: SplitResult) -> str | None:
    if parts.scheme == "mailto":
        return None if re.fullmatch(r"[^@\s]+@" + HOST.pattern, parts.path, re.IGNORECASE) else "no e-mail address"
    if parts.scheme != "https":
        return "not https"
    if not HOST.fullmatch(parts.netloc):
        return "no host name"
    return None if tag == "a" else "loaded from another host"
