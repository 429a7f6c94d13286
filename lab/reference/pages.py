"""The generated pages, and the text that each must have."""

from collections.abc import Callable, Mapping
from pathlib import Path

from lab.reference import cli, conditions, crds, metrics, settings

MODULES = (cli, conditions, crds, metrics, settings)
PAGES: Mapping[Path, Callable[[], str]] = {each.FILE: each.reference for each in MODULES}
