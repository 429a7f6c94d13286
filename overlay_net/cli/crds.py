"""Brings CustomResourceDefinitions from files into the cluster: helm installs those of a chart once and never again."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import yaml

from overlay_net.adapters.kube import KubeApi, connect_agent
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import ConfigurationError, NotFound, OverlayNetError, Unavailable
from overlay_net.model.names import CUSTOM_RESOURCE_DEFINITIONS
from overlay_net.model.parse import find_object, find_objects, parse_text

FIELD_MANAGER = "overlay-net-crds"
EVERY = 0.5


Bring = Callable[[KubeApi, str, JsonObject], Awaitable[str]]
"""One step for one definition: an empty text once it is done, or what is waited for."""


async def apply_crds(directory: Path, kubeconfig: Path | None, timeout: float, tell: Callable[[str], None]) -> str:
    """Apply each definition in ``directory`` and wait until it is served; an empty text, or what is still wrong.

    Server-side apply: a definition that is there keeps its objects, and what somebody else wrote into other fields.
    Raises ConfigurationError for a directory without definitions.
    """
    return await _each(directory, kubeconfig, timeout, _applied, lambda name: tell(f"{name} is up to date"))


async def remove_crds(directory: Path, kubeconfig: Path | None, timeout: float, tell: Callable[[str], None]) -> str:
    """Delete each definition of ``directory``, with all objects of its kind; else as `apply_crds`."""
    return await _each(directory, kubeconfig, timeout, _removed, lambda name: tell(f"{name} is gone"))


async def _each(
    directory: Path, kubeconfig: Path | None, timeout: float, bring: Bring, done: Callable[[str], None]
) -> str:
    definitions = read_crds(directory)
    trouble = "the API server does not answer"
    async with connect_agent(str(kubeconfig) if kubeconfig else None) as connection:
        api = KubeApi(connection)
        try:
            async with asyncio.timeout(timeout):
                for body in definitions:
                    name = parse_text(find_object(body, "metadata").get("name"))
                    while True:
                        waits_for = await bring(api, name, body)
                        if not waits_for:
                            break
                        trouble = waits_for
                        await asyncio.sleep(EVERY)
                    done(name)
        except TimeoutError:
            return f"not within {timeout:g} s: {trouble}"
        except OverlayNetError as error:
            return str(error)
    return ""


async def _applied(api: KubeApi, name: str, body: JsonObject) -> str:
    """An empty text, or what is waited for."""
    try:
        await api.apply(CUSTOM_RESOURCE_DEFINITIONS, name, body, field_manager=FIELD_MANAGER)
        answer = await api.get(CUSTOM_RESOURCE_DEFINITIONS, name)
    except Unavailable as error:
        return str(error)
    conditions = find_objects(find_object(answer, "status"), "conditions")
    if any(each.get("type") == "Established" and each.get("status") == "True" for each in conditions):
        return ""
    refused = [parse_text(each.get("message")) for each in conditions if each.get("status") == "False"]
    return f"{name} is not served yet" + "".join(f": {message}" for message in refused)


async def _removed(api: KubeApi, name: str, _: JsonObject) -> str:
    try:
        await api.delete(CUSTOM_RESOURCE_DEFINITIONS, name)
        answer = await api.get(CUSTOM_RESOURCE_DEFINITIONS, name)
    except NotFound:
        return ""
    except Unavailable as error:
        return str(error)
    conditions = find_objects(find_object(answer, "status"), "conditions")
    held = [parse_text(each.get("message")) for each in conditions if each.get("type") == "Terminating"]
    return f"{name} is not gone yet" + "".join(f": {message}" for message in held)


def read_crds(directory: Path) -> Sequence[JsonObject]:
    """Raises ConfigurationError: no file, no YAML, or something else than a definition."""
    files = sorted(directory.glob("*.yaml"))
    if not files:
        raise ConfigurationError(f"directory {directory}: no *.yaml file in it")
    found = []
    for file in files:
        try:
            body = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigurationError(f"{file}: {' '.join(str(error).split())}") from None
        if not isinstance(body, dict) or body.get("kind") != CUSTOM_RESOURCE_DEFINITIONS.kind:
            raise ConfigurationError(f"{file}: one CustomResourceDefinition is expected in it")
        found.append(body)
    return found
