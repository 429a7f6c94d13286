"""JSON schemas of everything that an API server serves, from its own OpenAPI document, as kubeconform reads them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.cluster.api_server import ApiServer

LOCATION = "{{.Group}}_{{.ResourceAPIVersion}}_{{.ResourceKind}}.json"
"""Name of a schema's file, in kubeconform's words."""
PREFIX = "#/definitions/"


def write_schemas(api_server: ApiServer, folder: Path) -> str:
    """One file for each kind, CRDs included, with unknown fields refused; the pattern of their names."""
    raw: dict[str, Any] = json.loads(api_server.kubectl("get", "--raw=/openapi/v2"))["definitions"]
    definitions = {name: _strict(definition) for name, definition in raw.items()}
    for name, definition in raw.items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            # Core has no group: there kubeconform puts the version into its place.
            group, version = kind["group"] or kind["version"], kind["version"]
            file = folder / f"{group}_{version}_{kind['kind'].lower()}.json"
            schema = {"$ref": f"{PREFIX}{name}", "definitions": _needed(name, definitions)}
            file.write_text(json.dumps(schema))
    return str(folder / LOCATION)


def _needed(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """The definition and all that it refers to, as kubeconform follows no reference to another file."""
    found: dict[str, Any] = {}
    left = [name]
    while left:
        name = left.pop()
        if name not in found:
            found[name] = definitions[name]
            left += [each.removeprefix(PREFIX) for each in _references(found[name])]
    return found


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for each in schema.values():
            yield from _references(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from _references(each)


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    # OpenAPI's formats are no JSON schema's, and "quantity" is a number or a text.
    result = {key: _strict(value) for key, value in schema.items() if key != "format"}
    if "properties" in result and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    return result
