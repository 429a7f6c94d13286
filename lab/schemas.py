"""JSON schemas of all kinds that an API server serves, made from its OpenAPI document for kubeconform."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.cluster.api_server import ApiServer

LOCATION = "{{.Group}}_{{.ResourceAPIVersion}}_{{.ResourceKind}}.json"
"""Pattern of the schemas' file names, in kubeconform's syntax."""
PREFIX = "#/definitions/"


def write_schemas(api_server: ApiServer, folder: Path) -> str:
    """Write a schema for each kind, including CRDs, that rejects unknown fields; the pattern of the file names."""
    raw: dict[str, Any] = json.loads(api_server.kubectl("get", "--raw=/openapi/v2"))["definitions"]
    definitions = {name: _strict(definition) for name, definition in raw.items()}
    for name, definition in raw.items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            # The core group has no name: kubeconform uses the version instead.
            group, version = kind["group"] or kind["version"], kind["version"]
            file = folder / f"{group}_{version}_{kind['kind'].lower()}.json"
            schema = {"$ref": f"{PREFIX}{name}", "definitions": _needed(name, definitions)}
            file.write_text(json.dumps(schema))
    return str(folder / LOCATION)


def _needed(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """The definition and everything that it refers to: kubeconform does not follow references to other files."""
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
    # Formats of OpenAPI are not those of JSON schema, and a "quantity" is a number or a string.
    result = {key: _strict(value) for key, value in schema.items() if key != "format"}
    if "properties" in result and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", False)
    return result
