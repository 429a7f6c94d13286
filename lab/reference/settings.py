"""docs/reference/settings.md, from the settings of controller and agent."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from pydantic import TypeAdapter

from lab.reference.markdown import code, table
from lab.reference.schema import Schema, describe
from overlay_net.settings.agent import AgentSettings
from overlay_net.settings.base import ModeSettings
from overlay_net.settings.controller import ControllerSettings

FILE = Path(__file__).parent.parent.parent / "docs" / "reference" / "settings.md"

HEAD = """# Settings

Written by `python -m lab.reference` from `overlay_net/settings`; a test holds it to that. The same settings are listed
by `overlay-net controller --help` and `overlay-net agent --help`.

With the chart, set them as `controller.settings.NAME` and `agent.settings.NAME`, and those of `phpipam` as in its
[values](../../charts/overlay-net/README.md#values). Without it, they are in the YAML file of `--config` or
`OVERLAY_CONFIG`, or in the environment as `OVERLAY_NAME`, for example `OVERLAY_LOG__LEVEL=debug` for `log.level`; the
environment takes precedence.
What happens with an invalid one: [operations.md](../operations.md#settings).

A duration is a number with a unit, such as `250ms`, `30s`, `10m` or `1h30m`.
"""


DURATION = TypeAdapter(timedelta)


def reference() -> str:
    """The whole text of the file."""
    modes = (("Controller", ControllerSettings), ("Agent", AgentSettings))
    header = ("setting", "type", "default", "meaning")
    return HEAD + "".join(f"\n## {title}\n\n{table(header, _rows(settings))}" for title, settings in modes)


def _rows(settings: type[ModeSettings]) -> Iterator[tuple[str, str, str, str]]:
    schema = settings.model_json_schema()
    for name, field, is_required in _flatten(schema, schema["$defs"]):
        default = "required" if is_required else code(_default(field))
        yield code(name), describe(field), default, field["description"]


def _flatten(schema: Schema, sections: Schema, prefix: str = "") -> Iterator[tuple[str, Schema, bool]]:
    """Each setting with its path and whether it is required."""
    for name, field in schema["properties"].items():
        # A value that may be missing is one of two.
        field |= field.pop("anyOf", [{}])[0]
        if section := field.get("$ref"):
            yield from _flatten(sections[section.rpartition("/")[2]], sections, f"{name}.")
        else:
            yield f"{prefix}{name}", field, name in schema.get("required", ())


def _default(field: Schema) -> str:
    default = field.get("default")
    if default is None or default == "":
        return ""
    if field.get("format") == "duration":
        return format_duration(DURATION.validate_python(default))
    return json.dumps(default).strip('"')


def format_duration(value: timedelta) -> str:
    """A duration as users write it, such as 1h30m."""
    seconds = value.total_seconds()
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    parts = []
    for unit, length in units:
        count, seconds = divmod(seconds, length)
        parts += [f"{count:g}{unit}"] * bool(count)
    return "".join(parts) or "0s"
