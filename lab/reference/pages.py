"""The generated pages, and the text that each must have."""

from collections.abc import Callable, Mapping
from pathlib import Path

from lab.reference import cli, crds, metrics, settings

PAGES: Mapping[Path, Callable[[], str]] = {each.FILE: each.reference for each in (cli, crds, metrics, settings)}
