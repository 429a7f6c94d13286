"""`overlay-net crds`: applies or deletes CustomResourceDefinitions, which helm installs but never updates."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import yaml

from overlay_net.adapters.kube import KubeApi, connect_agent
from overlay_net.model.api import JsonObject
from overlay_net.model.errors import ConfigurationError, NotFound, OverlayNetError, Unavailable
from overlay_net.model.names import CUSTOM_RESOURCE_DEFINITIONS
from overlay_net.model.parse import find_name, find_object, find_objects, parse_text
from overlay_net.runtime.cluster_lock import find_other_release

FIELD_MANAGER = "overlay-net-crds"
INTERVAL = 0.5

Step = Callable[[KubeApi, str, JsonObject], Awaitable[str]]
"""Processes one definition, given its name and body; returns what is missing, or an empty string once complete."""


async def apply_crds(directory: Path, kubeconfig: Path | None, timeout: float, write: Callable[[str], None]) -> str:
    """Apply each definition in ``directory`` and wait until it is served. Returns an error, or an empty string.

    Server-side apply keeps the objects of an existing definition, and the fields of other field managers. Raises
    ConfigurationError for a directory without definitions.
    """
    return await _run(directory, kubeconfig, timeout, _apply, lambda name: write(f"{name} is up to date"))


async def remove_crds(
    directory: Path, kubeconfig: Path | None, timeout: float, write: Callable[[str], None], release: str
) -> str:
    """Delete each definition of ``directory`` with all objects of its kind; otherwise as `apply_crds`.

    If ``release`` is not empty, nothing is deleted while another release manages the cluster.
    """
    if release:
        try:
            other = await _other_release(kubeconfig, release, timeout)
        except OverlayNetError as error:
            return str(error)
        if other:
            write(f"release {other} manages this cluster; the CustomResourceDefinitions are kept")
            return ""
    return await _run(directory, kubeconfig, timeout, _remove, lambda name: write(f"{name} is deleted"))


async def _other_release(kubeconfig: Path | None, release: str, timeout: float) -> str:
    async with connect_agent(kubeconfig) as connection:
        return await find_other_release(KubeApi(connection, timeout=timeout), release)


async def _run(
    directory: Path, kubeconfig: Path | None, timeout: float, step: Step, done: Callable[[str], None]
) -> str:
    definitions = read_crds(directory)
    missing = "the API server does not answer"
    async with connect_agent(kubeconfig) as connection:
        api = KubeApi(connection)
        try:
            async with asyncio.timeout(timeout):
                for body in definitions:
                    name = find_name(body)
                    while found := await step(api, name, body):
                        missing = found
                        await asyncio.sleep(INTERVAL)
                    done(name)
        except TimeoutError:
            return f"timed out after {timeout:g} s: {missing}"
        except OverlayNetError as error:
            return str(error)
    return ""


async def _apply(api: KubeApi, name: str, body: JsonObject) -> str:
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


async def _remove(api: KubeApi, name: str, _: JsonObject) -> str:
    try:
        await api.delete(CUSTOM_RESOURCE_DEFINITIONS, name)
        answer = await api.get(CUSTOM_RESOURCE_DEFINITIONS, name)
    except NotFound:
        return ""
    except Unavailable as error:
        return str(error)
    conditions = find_objects(find_object(answer, "status"), "conditions")
    held = [parse_text(each.get("message")) for each in conditions if each.get("type") == "Terminating"]
    return f"{name} is not deleted yet" + "".join(f": {message}" for message in held)


def read_crds(directory: Path) -> Sequence[JsonObject]:
    """Read the definitions. Raises ConfigurationError for a missing file, invalid YAML, or another kind of object."""
    files = sorted(directory.glob("*.yaml"))
    if not files:
        raise ConfigurationError(f"directory {directory}: no *.yaml file in it")
    definitions = []
    for file in files:
        try:
            body = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigurationError(f"{file}: {' '.join(str(error).split())}") from None
        if not isinstance(body, dict) or body.get("kind") != CUSTOM_RESOURCE_DEFINITIONS.kind:
            raise ConfigurationError(f"{file}: not a CustomResourceDefinition")
        # Those of apiextensions.k8s.io/v1beta1 have true by default. It is not in the files, because the API server
        # does not return false, so tools that compare both would report a difference.
        definitions.append({**body, "spec": {**find_object(body, "spec"), "preserveUnknownFields": False}})
    return definitions
