"""docs/reference/crds.md, from the CustomResourceDefinitions of the chart."""

from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from lab.reference.markdown import code, table
from lab.reference.schema import RULES, Schema, describe, name_type

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "docs" / "reference" / "crds.md"
DEFINITIONS = ROOT / "charts" / "overlay-net" / "crds"
ORDER = ("StaticRoute", "OverlayPool", "NodeOverlayIp", "OverlayRouteSlice", "OverlayAddress")
"""Kinds that users write come first."""

HEAD = """# Custom resources

Written by `python -m lab.reference` from the CustomResourceDefinitions of the chart; a test holds it to that. The same
descriptions are in `kubectl explain`, such as `kubectl explain staticroute.spec`. How the kinds work together:
[objects.md](../objects.md). The conditions of each kind: [conditions.md](conditions.md).
"""


def reference() -> str:
    """The whole text of the file."""
    definitions = [yaml.safe_load(path.read_text()) for path in DEFINITIONS.glob("*.yaml")]
    by_kind = {each["spec"]["names"]["kind"]: each["spec"] for each in definitions}
    return HEAD + "".join(_section(by_kind[kind]) for kind in sorted(by_kind, key=ORDER.index))


def _section(spec: Schema) -> str:
    (version,) = spec["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    names = spec["names"]
    short = ", ".join(map(code, names.get("shortNames", ())))
    about = f"`{spec['group']}/{version['name']}`, {spec['scope'].lower()}-scoped, short name {short}"
    return f"\n## {names['kind']}\n\n{schema['description']}\n\n{about}.\n" + "".join(_parts(names["kind"], schema))


def _parts(kind: str, schema: Schema) -> Iterator[str]:
    for part in ("spec", "status"):
        if part in schema["properties"]:
            field = schema["properties"][part]
            yield f"\n### {part} of {kind}\n\n{field['description']}\n\n"
            rules = [f"* {each['message']}" for each in field.get(RULES, ())]
            if rules:
                yield "The API server rejects other objects with one of these messages:\n\n" + "\n".join(rules) + "\n\n"
            yield table(("field", "type", "meaning"), _rows(field, describe if part == "spec" else name_type))


def _rows(schema: Schema, describe: Callable[[Schema], str], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """``describe`` gives the type of a field; no one writes a status, so what would be valid there is left out."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield code(path), "required; " * (name in required) + describe(field), field.get("description", "")
        if path not in ("conditions", "retained"):
            # Every kind has the same conditions, and what is retained is of the form of staticRoutes.
            yield from _rows(field.get("items", field), describe, f"{path}[]." if "items" in field else f"{path}.")
