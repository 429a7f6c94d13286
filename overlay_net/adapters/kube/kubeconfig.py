"""Reads kubeconfig files: finds cluster and user of a context, and names what is malformed in one line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from overlay_net.model.api import JsonObject
from overlay_net.model.errors import ConfigurationError
from overlay_net.model.parse import parse_text
from overlay_net.runtime.yaml_files import read_mapping

_SECTIONS = {"contexts": "context", "clusters": "cluster", "users": "user"}


@dataclass(frozen=True, slots=True)
class Kubeconfig:
    """The entries of one context; ``server`` is a URL without a trailing slash."""

    server: str
    cluster: JsonObject
    user: JsonObject


def read_kubeconfig(paths: Sequence[Path], context: str = "") -> Kubeconfig:
    """Read one or several files; as in kubectl, the first of several entries with one name counts.

    ``context``: the name of one; empty: the current one. Raises ConfigurationError.
    """
    where = f"kubeconfig {':'.join(map(str, paths))}"
    entries: dict[str, dict[str, JsonObject]] = {section: {} for section in _SECTIONS}
    current = context
    for path in paths:
        content = read_mapping(path, "kubeconfig")
        if content is None:
            raise ConfigurationError(f"kubeconfig {path}: the file is empty")
        current = current or parse_text(content.get("current-context"))
        for section in _SECTIONS:
            for name, entry in _read_section(content, section, path):
                entries[section].setdefault(name, entry)
    if not current:
        raise ConfigurationError(f"{where}: current-context is not set")
    chosen = _find(entries, "contexts", current, where)
    name = parse_text(chosen.get("cluster"))
    cluster = _find(entries, "clusters", name, where)
    user = _find(entries, "users", parse_text(chosen.get("user")), where)
    return Kubeconfig(_parse_server(cluster, f"{where}: server of cluster {name!r}"), cluster, user)


def _read_section(content: JsonObject, section: str, path: Path) -> Sequence[tuple[str, JsonObject]]:
    """Return names and entries of one list, such as ``clusters``."""
    key, items = _SECTIONS[section], content.get(section) or []
    where = f"kubeconfig {path}: {section}"
    if not isinstance(items, list):
        raise ConfigurationError(f"{where} must be a list, not {type(items).__name__}")
    found = []
    for item in items:
        name = parse_text(item.get("name")) if isinstance(item, dict) else ""
        entry = item.get(key) if name else None
        if not isinstance(entry, dict):
            raise ConfigurationError(f"{where}: each entry must have a name and a mapping {key!r}")
        found.append((name, entry))
    return found


def _find(entries: dict[str, dict[str, JsonObject]], section: str, name: str, where: str) -> JsonObject:
    found = entries[section].get(name)
    if found is None:
        raise ConfigurationError(f"{where}: no {name!r} in {section}")
    return found


def _parse_server(cluster: JsonObject, what: str) -> str:
    server = parse_text(cluster.get("server"))
    try:
        parts = urlsplit(server)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        # The port is out of range, or a bracket is missing.
        valid = False
    if not valid:
        raise ConfigurationError(f"{what} must be a URL such as https://10.0.0.1:6443, not {server!r}")
    return server.rstrip("/")
