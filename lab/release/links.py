"""The URLs of a release. The repository has no home of its own: its publisher names it in the environment.

PROJECT_URL is the web page of the repository, and DOCS_URL that of the documentation; without PROJECT_URL packages have
no URLs and relative links.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from posixpath import dirname, join, normpath, splitext

IMAGES = (".png", ".svg")
FENCE = re.compile(r"(^ *```.*?^ *```)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?![a-z+]+:|#)([^)\s#]+)((?:#[^)\s]*)?)\)")


@dataclass(frozen=True, slots=True)
class Links:
    home: str
    """Without a slash at its end."""
    version: str
    documentation: str = ""

    @classmethod
    def read(cls, version: str, environment: Mapping[str, str] = os.environ) -> "Links | None":
        home = environment.get("PROJECT_URL", "").rstrip("/")
        return cls(home, version, environment.get("DOCS_URL", "")) if home else None

    def page(self, path: str) -> str:
        """The page of a file or folder of this version, or an image itself."""
        kind = "raw" if splitext(path)[1] in IMAGES else "blob"
        return f"{self.home}/{kind}/v{self.version}/{path}"

    def of_project(self) -> dict[str, str]:
        """Well-known labels of Python packages; Artifact Hub shows the same ones."""
        return {
            "Homepage": self.home,
            "Documentation": self.documentation or self.page("docs"),
            "Source": self.home,
            "Issues": f"{self.home}/issues",
            "Changelog": self.page("CHANGELOG.md"),
        }

    def make_absolute(self, markdown: str, source: str) -> str:
        """A page of the repository at the path ``source``, for readers elsewhere."""

        def rewrite(link: re.Match[str]) -> str:
            return f"]({self.page(normpath(join(dirname(source), link[1])))}{link[2]})"

        parts = FENCE.split(markdown)
        return "".join(each if each.lstrip().startswith("```") else LINK.sub(rewrite, each) for each in parts)
