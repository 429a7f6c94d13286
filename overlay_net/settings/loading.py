"""Loads the settings of a mode from the environment and one YAML file; the environment takes precedence.

Unknown names, missing files and invalid values raise ConfigurationError: no setting is silently ignored.
"""

import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from overlay_net.model.errors import ConfigurationError
from overlay_net.runtime.yaml_files import read_mapping
from overlay_net.settings.base import ModeSettings
from overlay_net.settings.names import CONFIG_VARIABLE, ENV_PREFIX
from overlay_net.settings.sections import Section

SECRETS = ("username", "password", "code")

_LEGACY_NAMES = {
    "phpIPAM": "phpipam",
    "appID": "app_id",
    "subnetMap": "subnet_map",
    "insecureSkipTLSVerify": "insecure_skip_tls_verify",
}

# Kubernetes sets these for each Service of the namespace, including one named "overlay-..." (docker-links variables).
_SERVICE_LINK = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?$")

SettingsT = TypeVar("SettingsT", bound=ModeSettings)


def load(settings: type[SettingsT], config: Path | None) -> SettingsT:
    """Load the settings of one mode.

    Raises ConfigurationError, whose one-line message names the setting, its value and the valid values.
    """
    environ = os.environ
    file = config or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    values = _rename_legacy(read_mapping(file, "config file") or {}) if file else {}
    _refuse_unknown_variables(settings, environ)
    _take_phpipam_variables(values, environ)
    if "leader_election" in settings.model_fields:
        _take_pod_variables(values, environ)
    try:
        return settings(**values)
    except ValidationError as error:
        raise ConfigurationError(_format(error, str(file or "settings"), environ)) from None


def _rename_legacy(values: dict[str, Any]) -> dict[str, Any]:
    """Accept the file of the earlier operator: ``phpIPAM: {url, appID, subnetMap, insecureSkipTLSVerify}``."""
    renamed = {_LEGACY_NAMES.get(name, name): value for name, value in values.items()}
    section = renamed.get("phpipam")
    if isinstance(section, dict):
        renamed["phpipam"] = {_LEGACY_NAMES.get(name, name): value for name, value in section.items()}
    return renamed


def _take_phpipam_variables(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Accept PHPIPAM_USERNAME, PHPIPAM_PASSWORD and PHPIPAM_CODE, as the earlier operator did."""
    if any(variable.upper().startswith(f"{ENV_PREFIX}PHPIPAM__") for variable in environ):
        # The environment may define the whole section.
        values.setdefault("phpipam", {})
    section = values.get("phpipam")
    if isinstance(section, dict):
        for name in SECRETS:
            if environ.get(f"PHPIPAM_{name.upper()}"):
                section[name] = environ[f"PHPIPAM_{name.upper()}"]


def _take_pod_variables(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    """Use POD_NAME and POD_NAMESPACE of the downward API as defaults."""
    if environ.get("POD_NAMESPACE"):
        values.setdefault("agent_lease_namespace", environ["POD_NAMESPACE"])
    section = values.setdefault("leader_election", {})
    if isinstance(section, dict):
        for name, variable in (("identity", "POD_NAME"), ("namespace", "POD_NAMESPACE")):
            if not section.get(name) and environ.get(variable):
                section[name] = environ[variable]


def _refuse_unknown_variables(settings: type[ModeSettings], environ: Mapping[str, str]) -> None:
    known = sorted(f"{ENV_PREFIX}{name.upper()}" for name in settings.model_fields)
    sections = {f"{ENV_PREFIX}{name.upper()}" for name, field in settings.model_fields.items() if _section(field)}
    for variable in environ:
        upper = variable.upper()
        if not upper.startswith(ENV_PREFIX) or upper == CONFIG_VARIABLE or _SERVICE_LINK.search(upper):
            continue
        name, nested, _ = upper.partition("__")
        if name not in known or (nested and name not in sections):
            raise ConfigurationError(f"environment {variable}: no such setting; valid names: {', '.join(known)}")


def _format(error: ValidationError, source: str, environ: Mapping[str, str]) -> str:
    return "; ".join(_format_problem(problem, source, environ) for problem in error.errors())


def _format_problem(problem: ErrorDetails, source: str, environ: Mapping[str, str]) -> str:
    path = [str(part) for part in problem["loc"]]
    variable = ENV_PREFIX + "__".join(path).upper()
    where = f"environment {variable}" if variable in environ else f"{source}: {'.'.join(path)}"
    if problem["type"] == "extra_forbidden":
        return f"{where}: no such setting"
    if problem["type"] == "missing":
        return f"{where}: missing; set it in the config file or as {variable}"
    message = problem["msg"].removeprefix("Value error, ")
    if _may_hold_secret(problem):
        return f"{where}: {message}"
    return f"{where}: invalid value {problem['input']!r}: {message}"


def _may_hold_secret(problem: ErrorDetails) -> bool:
    """Return whether to hide the value: a secret, a section or a value in its place, or a URL with a password."""
    value = problem["input"]
    where = str(problem["loc"][-1])
    section = isinstance(value, dict) or problem["type"].startswith("model_")
    return section or where in SECRETS or (where == "url" and "@" in str(value))


def describe(settings: type[ModeSettings], width: int | None = None) -> str:
    """Return the help text for the settings of a mode: name, default and description of each.

    Lines are at most ``width`` columns wide, if words allow that; None: descriptions are not wrapped.
    """

    def wrap(text: str, indent: str = "") -> list[str]:
        if width is None:
            return [indent + text]
        words = textwrap.TextWrapper(width, indent, indent, break_long_words=False, break_on_hyphens=False)
        return words.wrap(text)

    lines = wrap(f"settings (in the config file, or as {ENV_PREFIX}NAME; nested ones as {ENV_PREFIX}SECTION__NAME):")
    for name, field in _flatten(settings):
        lines += [f"  {name}", *wrap(f"{field.description} ({_default(field)})", " " * 6)]
    return "\n".join(lines)


def _flatten(settings: type[ModeSettings]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in settings.model_fields.items():
        section = _section(field)
        if section is None:
            yield name, field
        else:
            yield from ((f"{name}.{inner}", each) for inner, each in section.model_fields.items())


def _section(field: FieldInfo) -> type[Section] | None:
    """Return the section type of a field, optional or not; None for a plain setting."""
    candidates = (field.annotation, *get_args(field.annotation))
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, Section)), None)


def _default(field: FieldInfo) -> str:
    default = field.default
    if field.is_required():
        return "required"
    if isinstance(default, timedelta):
        return f"default {default.total_seconds():g}s"
    return f"default {default}" if default not in (None, "") else "no default"
