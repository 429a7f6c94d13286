"""The table of values in the chart's README and the descriptions in its schema, from values.yaml and its comments."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from lab.product import CHART
from lab.reference.markdown import code, table
from overlay_net.settings.agent import AgentSettings
from overlay_net.settings.controller import ControllerSettings
from overlay_net.settings.sections import PhpIpamSettings

README = CHART / "README.md"
SCHEMA = CHART / "values.schema.json"
BEGIN = "<!-- The table below is made from values.yaml: python -m lab.reference -->"


@dataclass(frozen=True, slots=True)
class Value:
    path: str
    default: Any
    comment: str


def values(chart: Path = CHART) -> list[Value]:
    """Every value that users may set, in the order of the file, with the comment above it or above its section."""
    text = (chart / "values.yaml").read_text()
    comments = dict(_comments(yaml.compose(text), text.splitlines()))
    described = _described()
    return [
        Value(each.path, each.default, each.comment or described.get(each.path, ""))
        for each in _leaves(yaml.safe_load(text), "", comments)
    ]


def _comments(node: Any, lines: list[str], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.value:
        path = f"{prefix}{key.value}"
        yield path, _above(lines, key.start_mark.line)
        if isinstance(value, yaml.MappingNode) and value.start_mark.line != key.start_mark.line:
            yield from _comments(value, lines, f"{path}.")


def _above(lines: list[str], line: int) -> str:
    """The comment that ends just above a line, without its examples, which are indented."""
    found: list[str] = []
    while line > 0 and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        found.insert(0, lines[line].lstrip().removeprefix("#"))
    return " ".join(each.strip() for each in found if not each.startswith("   ") and each.strip())


def _described() -> dict[str, str]:
    """The descriptions of the product's settings, by the path of the value."""
    sections: tuple[tuple[str, type[BaseModel]], ...] = (
        ("controller.settings", ControllerSettings),
        ("agent.settings", AgentSettings),
        *((section, PhpIpamSettings) for section in ("phpIPAM", "phpIPAM.settings", "phpIPAM.credentials")),
    )
    found = {path: text for section, settings in sections for path, text in _descriptions(section, settings)}
    return found | {"phpIPAM.insecureSkipTLSVerify": found["phpIPAM.insecure_skip_tls_verify"]}


def _descriptions(section: str, settings: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, field in settings.model_fields.items():
        path = f"{section}.{name}"
        yield path, field.description or ""
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _descriptions(path, field.annotation)


def _leaves(section: dict[str, Any], prefix: str, comments: dict[str, str], above: str = "") -> Iterator[Value]:
    for key, value in section.items():
        path = f"{prefix}{key}"
        comment = comments.get(path) or above
        if isinstance(value, dict) and any(comments.get(f"{path}.{each}") for each in value):
            # The comment of a section belongs to its first value.
            yield from _leaves(value, f"{path}.", comments, comments.get(path, ""))
        else:
            yield Value(path, value, comment)
        above = ""


def values_table(chart: Path = CHART) -> str:
    rows = ((code(value.path), code(json.dumps(value.default)), value.comment) for value in values(chart))
    return table(("value", "default", "meaning"), rows)


def page(present: str) -> str:
    """The README with a current table; ``present`` is the existing README."""
    head, _, _ = present.partition(BEGIN)
    return f"{head.rstrip()}\n\n{BEGIN}\n\n{values_table()}"


def described_schema(present: str) -> str:
    """The schema with current descriptions of all values and settings; ``present`` is the existing schema."""
    schema = json.loads(present)
    texts = _described() | {value.path: value.comment for value in values()}
    for path, node in schema_values(schema):
        if text := texts.get(path):
            node["description"] = text
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def schema_values(schema: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every value of the schema with its path, without the fields of Kubernetes types, which are definitions."""
    for key, node in schema.get("properties", {}).items():
        yield f"{prefix}{key}", node
        yield from schema_values(node, f"{prefix}{key}.")
