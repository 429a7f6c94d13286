"""From the environment and one YAML file to the settings of a mode, or to one line that says what is wrong.

The environment wins over the file. A name that means nothing, a file that is not there and an impossible value all end
as one ConfigurationError each: nothing that an operator wrote is silently ignored.
"""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import (
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from overlay_net.model.errors import ConfigurationError
from overlay_net.settings.modes import ENV_PREFIX, _Settings
from overlay_net.settings.sections import Section

CONFIG_VARIABLE = "OVERLAY_CONFIG"
SECRETS = ("username", "password", "code")

_EARLIER_NAMES = {
    "phpIPAM": "phpipam",
    "appID": "app_id",
    "subnetMap": "subnet_map",
    "insecureSkipTLSVerify": "insecure_skip_tls_verify",
}

# Kubernetes adds these for each Service of the namespace, one named "overlay-..." included (docker-links variables).
_SERVICE_LINK = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?$")

SettingsT = TypeVar("SettingsT", bound=_Settings)


def load(settings: type[SettingsT], config: Path | None) -> SettingsT:
    """The settings of one mode.

    Raises ConfigurationError, one line: which setting, which value, what is allowed.
    """
    environ = os.environ
    named = config or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    values = _todays_names(_read(named)) if named else {}
    _refuse_unknown_variables(settings, environ)
    _take_phpipam_variables(values, environ)
    if "leader_election" in settings.model_fields:
        _take_pod_variables(values, environ)
    try:
        return settings(**values)
    except ValidationError as error:
        raise ConfigurationError(_one_line(error, str(named or "settings"), environ)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"config file {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"config file {path}: not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigurationError(f"config file {path}: must be a mapping of settings, not {type(content).__name__}")
    return content


def _todays_names(values: dict[str, Any]) -> dict[str, Any]:
    """The earlier operator's file, ``phpIPAM: {url, appID, subnetMap, insecureSkipTLSVerify}``, is read as it is."""
    renamed = {_EARLIER_NAMES.get(name, name): value for name, value in values.items()}
    section = renamed.get("phpipam")
    if isinstance(section, dict):
        renamed["phpipam"] = {_EARLIER_NAMES.get(name, name): value for name, value in section.items()}
    return renamed


def _take_phpipam_variables(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    """PHPIPAM_USERNAME and PHPIPAM_PASSWORD, as the secret of the earlier operator was mounted."""
    if any(variable.upper().startswith(f"{ENV_PREFIX}PHPIPAM__") for variable in environ):
        # The whole section may stand in the environment.
        values.setdefault("phpipam", {})
    section = values.get("phpipam")
    if isinstance(section, dict):
        for name in SECRETS:
            if environ.get(f"PHPIPAM_{name.upper()}"):
                section[name] = environ[f"PHPIPAM_{name.upper()}"]


def _take_pod_variables(values: dict[str, Any], environ: Mapping[str, str]) -> None:
    """POD_NAME and POD_NAMESPACE, as the downward API gives them, where nothing else is said."""
    section = values.setdefault("leader_election", {})
    if isinstance(section, dict):
        for name, variable in (("identity", "POD_NAME"), ("namespace", "POD_NAMESPACE")):
            if not section.get(name) and environ.get(variable):
                section[name] = environ[variable]


def _refuse_unknown_variables(settings: type[_Settings], environ: Mapping[str, str]) -> None:
    known = sorted(f"{ENV_PREFIX}{name.upper()}" for name in settings.model_fields)
    sections = {f"{ENV_PREFIX}{name.upper()}" for name, field in settings.model_fields.items() if _section(field)}
    for variable in environ:
        upper = variable.upper()
        if not upper.startswith(ENV_PREFIX) or upper == CONFIG_VARIABLE or _SERVICE_LINK.search(upper):
            continue
        name, nested, _ = upper.partition("__")
        if name not in known or (nested and name not in sections):
            raise ConfigurationError(f"environment {variable}: no such setting; known are {', '.join(known)}")


def _one_line(error: ValidationError, source: str, environ: Mapping[str, str]) -> str:
    lines = []
    for problem in error.errors():
        path = [str(part) for part in problem["loc"]]
        variable = ENV_PREFIX + "__".join(path).upper()
        where = f"environment {variable}" if variable in environ else f"{source}: {'.'.join(path)}"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{where}: no such setting")
        elif problem["type"] == "missing":
            lines.append(f"{where}: missing; set it in the config file or as {variable}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            shown = "" if _may_hold_secret(problem) else f"{problem['input']!r} "
            lines.append(f"{where}: {shown}is not allowed: {message}" if shown else f"{where}: {message}")
    return "; ".join(lines)


def _may_hold_secret(problem: ErrorDetails) -> bool:
    """Whether the value is not to be shown: a secret, a section or what stands in its place, a URL with a password."""
    value = problem["input"]
    where = str(problem["loc"][-1])
    section = isinstance(value, dict) or problem["type"].startswith("model_")
    return section or where in SECRETS or (where == "url" and "@" in str(value))


def describe(settings: type[_Settings]) -> str:
    """The settings of a mode as help text: name, default, meaning, and the variable that sets each."""
    lines = [f"settings (in the file, or as {ENV_PREFIX}NAME; nested ones as {ENV_PREFIX}SECTION__NAME):"]
    for name, field in settings.model_fields.items():
        section = _section(field)
        if section is not None:
            lines += [_entry(f"{name}.{inner}", each) for inner, each in section.model_fields.items()]
        else:
            lines.append(_entry(name, field))
    return "\n".join(lines)


def _section(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds, be it optional."""
    candidates = (field.annotation, *get_args(field.annotation))
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, Section)), None)


def _entry(name: str, field: FieldInfo) -> str:
    default = field.default
    if field.is_required():
        shown = "required"
    elif isinstance(default, timedelta):
        shown = f"default {default.total_seconds():g}s"
    else:
        shown = f"default {default}" if default not in (None, "") else "no default"
    return f"  {name:<18} {field.description} ({shown})"
