"""Reads the settings of the controllers from the cluster: the file of the chart, and variables of the Deployment."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from overlay_net.adapters.kube import KubeApi
from overlay_net.cli.release import Release, find_release
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import ConfigurationError, NotFound, NotPublished, OverlayNetError
from overlay_net.model.names import CONFIG_MAPS
from overlay_net.model.parse import find_name, find_object, find_objects, parse_text
from overlay_net.settings.controller import ControllerSettings
from overlay_net.settings.names import ENV_PREFIX

USED: Final = (
    "allow_default_route",
    "allow_link_local_routes",
    "node_selector",
    "overlay_addresses",
    "pod_subnets",
    "protected_subnets",
    "service_subnets",
)
"""The settings that the commands for people decide by, besides whether there is an election of leaders."""


class GivenSettings(ControllerSettings):
    """Settings of the controllers, without those in the environment of this process."""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: object, **__: object
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class KnownSettings:
    settings: ControllerSettings = field(default_factory=lambda: _make({}))
    phpipam_url: str = ""
    """Empty: phpIPAM is not used."""
    notes: tuple[str, ...] = ()
    """Settings that are not known, one sentence for each reason."""


def _make(given: dict[str, Any]) -> ControllerSettings:
    return GivenSettings(**given)


async def read_or_default(api: KubeApi, namespace: str) -> KnownSettings:
    """Read the settings of the release in ``namespace``; with a note, the defaults if they cannot be read."""
    try:
        return await read_settings(api, await find_release(api, namespace))
    except OverlayNetError as error:
        note = f"the settings of the controllers are unknown, and the defaults are used: {error}"
        return KnownSettings(notes=(note,))


async def read_settings(api: KubeApi, release: Release) -> KnownSettings:
    """Raises OverlayNetError if they cannot be read or are of another version."""
    content = await _read_file(api, release)
    variables = list(_find_variables(release.controller or {}))
    _set_variables(
        content, {parse_text(each.get("name")): parse_text(each["value"]) for each in variables if "value" in each}
    )
    given: dict[str, Any] = {name: content[name] for name in USED if name in content}
    election = find_object(content, "leader_election")
    if "enabled" in election:
        given["leader_election"] = {"enabled": election["enabled"]}
    try:
        settings = _make(given)
    except ValidationError:
        raise ConfigurationError("they are of another version") from None
    unknown = [parse_text(each.get("name")) for each in variables if "valueFrom" in each]
    where = f"of Deployment {find_name(release.controller or {})}"
    notes = [f"the setting of variable {name} {where} is unknown: it is read from another object" for name in unknown]
    return KnownSettings(settings, _find_phpipam(content), tuple(notes))


def _find_phpipam(content: JsonObject) -> str:
    sections = (find_object(content, name) for name in ("phpipam", "phpIPAM"))
    return next((url for each in sections if (url := parse_text(each.get("url")))), "")


async def _read_file(api: KubeApi, release: Release) -> JsonObject:
    pod = find_object(release.controller or {}, "spec", "template", "spec")
    names = (parse_text(find_object(each, "configMap").get("name")) for each in find_objects(pod, "volumes"))
    for name in filter(None, names):
        try:
            found = await api.get(CONFIG_MAPS, name, namespace=release.namespace)
        except NotFound:
            continue
        text = find_object(found, "data").get("config.yaml")
        if isinstance(text, str):
            return _parse(name, text)
    raise NotPublished(f"no ConfigMap with the settings of the controllers in namespace {release.namespace}")


def _parse(name: str, text: str) -> JsonObject:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"ConfigMap {name}: {' '.join(str(error).split())}") from None
    return content if isinstance(content, dict) else {}


def _find_variables(controller: JsonObject) -> Iterator[JsonObject]:
    """Yield the variables of a Deployment that are settings."""
    pod = find_object(controller, "spec", "template", "spec")
    for container in find_objects(pod, "containers"):
        for each in find_objects(container, "env"):
            if parse_text(each.get("name")).upper().startswith(ENV_PREFIX):
                yield each


def _set_variables(content: JsonObject, variables: Mapping[str, str]) -> None:
    """Set settings as the controllers do: ``__`` separates a section from its setting, and lists are in JSON."""
    for name, value in variables.items():
        section = content
        *path, last = name.upper().removeprefix(ENV_PREFIX).lower().split("__")
        for key in path:
            if not isinstance(section.get(key), dict):
                section[key] = {}
            section = section[key]
        section[last] = _decode(value)


def _decode(value: str) -> Any:
    try:
        return json.loads(value) if value.startswith(("[", "{")) else value
    except ValueError:
        return value
