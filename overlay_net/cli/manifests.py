"""Reads the StaticRoutes in files, and has the API server validate them without storing them."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from overlay_net.adapters.kube import KubeApi
from overlay_net.cli.cluster import missing_kind
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import ConfigurationError, NotFound, Refused
from overlay_net.model.names import STATIC_ROUTES
from overlay_net.model.parse import find_name, find_object, find_objects, parse_text
from overlay_net.model.static_route import StaticRoute


def read_manifests(files: Iterable[Path]) -> list[JsonObject]:
    """Return the StaticRoutes in YAML or JSON files; ``-`` is standard input, and other kinds are skipped.

    Raises ConfigurationError for a file that cannot be read, one without any StaticRoute, and two of one name.
    """
    found: dict[str, JsonObject] = {}
    for file in files:
        routes = [each for each in _flatten(_parse(file)) if each.get("kind") == STATIC_ROUTES.kind]
        if not routes:
            raise ConfigurationError(f"{file}: no StaticRoute in it")
        for route in routes:
            name = _check(file, route)
            if name in found:
                raise ConfigurationError(f"{file}: StaticRoute {name} is specified twice")
            found[name] = route
    return list(found.values())


def _parse(file: Path) -> list[Any]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        return list(yaml.safe_load_all(text))
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{file}: invalid YAML: {' '.join(str(error).split())}") from None


def _flatten(documents: Iterable[Any]) -> Iterator[JsonObject]:
    for each in documents:
        if isinstance(each, dict):
            yield from find_objects(each, "items") if each.get("kind") == "List" else (each,)


def _check(file: Path, route: JsonObject) -> str:
    """Return the name of a StaticRoute. Raises ConfigurationError."""
    name = find_name(route)
    if not name:
        raise ConfigurationError(f"{file}: a StaticRoute without metadata.name")
    version = route.get("apiVersion")
    if version != STATIC_ROUTES.api_version:
        raise ConfigurationError(
            f"{file}: apiVersion of StaticRoute {name} must be {STATIC_ROUTES.api_version}, not {version!r}"
        )
    return name


@dataclass(frozen=True, slots=True)
class Validated:
    """One StaticRoute as the API server would store it, or why it would not."""

    name: str
    route: StaticRoute | None
    refusal: str = ""


async def validate(api: KubeApi, manifest: JsonObject) -> Validated:
    """Send the StaticRoute to the API server, which validates it and stores nothing."""
    metadata = find_object(manifest, "metadata")
    name = parse_text(metadata.get("name"))
    try:
        present = await api.get(STATIC_ROUTES, name)
    except NotFound:
        present = None
    try:
        if present is None:
            body = STATIC_ROUTES.manifest(name, labels=find_object(metadata, "labels"), spec=manifest.get("spec"))
            stored = await api.create(STATIC_ROUTES, body, dry_run=True)
        else:
            labels = find_object(present, "metadata", "labels") | find_object(metadata, "labels")
            body = present | {"spec": manifest.get("spec"), "metadata": present["metadata"] | {"labels": labels}}
            stored = await api.update(STATIC_ROUTES, name, body, dry_run=True)
    except NotFound:
        if present is not None:
            # It was deleted meanwhile.
            raise
        raise missing_kind(STATIC_ROUTES) from None
    except Refused as error:
        return Validated(name, None, " ".join(error.message.split()))
    return Validated(name, StaticRoute.parse(stored))
