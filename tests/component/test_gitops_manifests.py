"""What docs/how-to/gitops.md shows for Flux and Argo CD, with what these publish: types, and the interpreter of Lua."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.build.assets import find_programs
from lab.processes import CommandFailed, run
from overlay_net.model.api import JsonObject
from overlay_net.model.names import OVERLAY_POOLS, STATIC_ROUTES
from tests.docs.blocks import read_blocks

OBJECTS: list[dict[str, Any]] = [
    each
    for block in read_blocks("docs/how-to/gitops.md")
    if block.language == "yaml"
    for each in yaml.safe_load_all(block.text)
]
FLUX = {each["kind"]: each for each in OBJECTS if "fluxcd.io" in each.get("apiVersion", "")}
HEALTH = next(each["data"] for each in OBJECTS if "data" in each)
KEY = "resource.customizations.health.iks.ibm.com_StaticRoute"


@pytest.fixture(scope="module")
def check() -> Callable[..., str]:
    (program,) = find_programs(["check-gitops"]).values()
    return lambda content, *arguments: run([str(program), *arguments], stdin=json.dumps(content))


@pytest.mark.parametrize("kind", ["GitRepository", "HelmRelease"])
def test_objects_have_only_fields_of_flux(check: Callable[..., str], kind: str) -> None:
    check(FLUX[kind], "flux")


@pytest.mark.parametrize(
    ("kind", "changed", "named"),
    [
        ("GitRepository", {"interval": "10m", "urls": []}, "urls"),
        ("HelmRelease", {"upgrades": {}}, "upgrades"),
        ("HelmRelease", {"upgrade": {"crds": "Replace"}}, "Replace"),
    ],
)
def test_what_flux_does_not_know_is_named(
    check: Callable[..., str], kind: str, changed: JsonObject, named: str
) -> None:
    with pytest.raises(CommandFailed, match=named):
        check({**FLUX[kind], "spec": FLUX[kind]["spec"] | changed}, "flux")


def test_the_release_of_flux_is_of_the_repository_beside_it() -> None:
    source = FLUX["HelmRelease"]["spec"]["chart"]["spec"]["sourceRef"]
    repository = FLUX["GitRepository"]
    assert source == {"kind": repository["kind"], **repository["metadata"]}


def condition(kind: str, status: str) -> JsonObject:
    return {"type": kind, "status": status, "message": f"{kind} is {status}"}


@pytest.mark.parametrize(
    ("status", "health"),
    [
        (None, "Progressing: not reconciled yet"),
        ({"observedGeneration": 1, "conditions": [condition("Ready", "True")]}, "Progressing: not reconciled yet"),
        ({"observedGeneration": 2}, "Progressing: not reconciled yet"),
        ({"observedGeneration": 2, "conditions": [condition("Ready", "Unknown")]}, "Progressing: Ready is Unknown"),
        (
            {"observedGeneration": 2, "conditions": [condition("Accepted", "True"), condition("Ready", "False")]},
            "Degraded: Ready is False",
        ),
        (
            {"observedGeneration": 2, "conditions": [condition("Ready", "True"), condition("Programmed", "False")]},
            "Healthy: Ready is True",
        ),
    ],
)
@pytest.mark.parametrize("resource", [STATIC_ROUTES, OVERLAY_POOLS], ids=lambda resource: resource.kind)
def test_argo_cd_shows_the_health_of_an_object(
    check: Callable[..., str], tmp_path: Path, resource: Any, status: JsonObject | None, health: str
) -> None:
    script = tmp_path / "health.lua"
    script.write_text(HEALTH[KEY])
    given = {} if status is None else {"status": status}
    manifest = resource.manifest("onprem", **given)
    manifest["metadata"]["generation"] = 2
    assert check(manifest, "health", str(script)) == f"{health}\n"


def test_the_key_of_the_health_check_is_that_of_the_kind() -> None:
    assert list(HEALTH) == [f"resource.customizations.health.{STATIC_ROUTES.group}_{STATIC_ROUTES.kind}"]
