"""docs/reference/conditions.md, from conditions.yaml beside this file, whose reasons a test compares with the code."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lab.reference.markdown import code, table

FILE = Path(__file__).parent.parent.parent / "docs" / "reference" / "conditions.md"
SOURCE = Path(__file__).parent / "conditions.yaml"

HEAD = """# Conditions and reasons

Written by `python -m lab.reference` from `lab/reference/conditions.yaml`; a test compares the reasons with the code.

`kubectl describe noip NODE`, `kubectl describe sroute NAME` and `kubectl describe opool NAME` show the conditions of an
object; `overlay-net status` and `overlay-net doctor` show those that need attention in the whole cluster. A message
stays the same while its cause does. Events have the same reasons: [operations.md](../operations.md#events).
"""

ROUTES = """
## Routes of a node

`status.routes[].state` of a NodeOverlayIp is why a route is not in place on that node, or not used.

"""


def reference() -> str:
    """The whole text of the file."""
    kinds = _read()
    routes = kinds.pop("routes")
    sections = (f"\n## {kind}\n{''.join(_conditions(kind, conditions))}" for kind, conditions in kinds.items())
    rows = ((code(reason), text) for reason, text in routes.items())
    return HEAD + "".join(sections) + ROUTES + table(("reason", "meaning, and what to do"), rows)


def _conditions(kind: str, conditions: dict[str, Any]) -> Iterator[str]:
    for name, condition in conditions.items():
        absent = " It is absent if nothing is wrong." if condition.get("absent") else ""
        rows = (
            (status, code(reason), text)
            for key, text in condition["reasons"].items()
            for status, _, reason in [key.partition("/")]
        )
        yield f"\n### {kind}: {name}\n\n{condition['about']} Written by the {condition['by']}.{absent}\n\n"
        yield table(("status", "reason", "meaning, and what to do"), rows)


def condition_reasons() -> frozenset[tuple[str, str, str]]:
    """Type, status and reason of each condition."""
    kinds = _read()
    kinds.pop("routes")
    types = (item for conditions in kinds.values() for item in conditions.items())
    return frozenset((name, *key.split("/")) for name, condition in types for key in condition["reasons"])


def route_reasons() -> frozenset[str]:
    return frozenset(_read()["routes"])


def _read() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(SOURCE.read_text())
    return found
