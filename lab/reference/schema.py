"""JSON Schema in words: the type of a value, and which values are valid."""

from collections.abc import Iterator
from typing import Any

from lab.reference.markdown import code

RULES = "x-kubernetes-validations"
FORMATS = {"date-time": "time", "cidr": "subnet", "duration": "duration", "path": "path", "password": "secret"}
FORMATS |= {"ipv4": "address", "ipv6": "address", "ipv4network": "subnet", "ipv6network": "subnet"}

Schema = dict[str, Any]


def describe(field: Schema) -> str:
    """The type of a value, and what else makes it valid."""
    return "; ".join([*([] if "enum" in field else [name_type(field)]), *_limits(field)])


def name_type(field: Schema, plural: str = "") -> str:
    if "items" in field:
        return f"list{plural} of {name_type(field['items'], 's')}"
    if field.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if "additionalProperties" in field:
        return f"map{plural} of {name_type(field['additionalProperties'], 's')}"
    return FORMATS.get(field.get("format", ""), str(field["type"])) + plural


def _limits(field: Schema) -> Iterator[str]:
    """What is valid of its type; the length of a text only if no rule checks the text itself."""
    messages = [each["message"] for rules in (field, field.get("items", {})) for each in rules.get(RULES, ())]
    bounds = [
        ("minimum", "maximum", ""),
        ("minItems", "maxItems", " items"),
        ("minProperties", "maxProperties", " entries"),
    ]
    if not messages:
        bounds.append(("minLength", "maxLength", " characters"))
    if "enum" in field:
        yield ", ".join(map(code, field["enum"]))
    yield from (text for low, high, unit in bounds if (text := _range(field.get(low), field.get(high), unit)))
    if "pattern" in field:
        yield f"matches {code(field['pattern'])}"
    if keys := field.get("x-kubernetes-list-map-keys"):
        yield f"unique by {', '.join(map(code, keys))}"
    if field.get("x-kubernetes-list-type") == "set":
        yield "no duplicates"
    if messages:
        yield "rejected: " + ", ".join(f"“{each}”" for each in messages)


def _range(low: int | None, high: int | None, unit: str) -> str:
    if low is not None and high is not None:
        return f"{low} to {high}{unit}"
    if high is not None:
        return f"at most {high}{unit}"
    return f"at least {low}{unit if low != 1 else unit.removesuffix('s')}" if low else ""
