"""The packages of a release are built as its workflow builds them; the workflows pass actionlint."""

import subprocess
import tarfile
import zipfile
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.build.assets import Assets, find_programs
from lab.manifests import parse_manifests
from lab.release.changelog import KINDS
from lab.release.links import LINK, Links
from lab.release.packages import ROOT, Publisher, build
from lab.release.versions import read_version

VERSION = read_version(ROOT)
HOME = "https://git.example.com/team/overlay-net"
IMAGE = "registry.example.com/team/overlay-net"

# https://artifacthub.io/docs/topics/annotations/helm
CATEGORIES = (
    "ai-machine-learning", "database", "integration-delivery", "monitoring-logging", "networking", "security",
    "storage", "streaming-messaging", "skip-prediction",
)  # fmt: skip
CAPABILITIES = ("Basic Install", "Seamless Upgrades", "Full Lifecycle", "Deep Insights", "Auto Pilot")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, assets: Assets) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    built = build(folder, Publisher(Links(HOME, VERSION), IMAGE))
    names = (f"overlay-net-{VERSION}.tgz", f"overlay_net-{VERSION}-py3-none-any.whl", f"overlay_net-{VERSION}.tar.gz")
    assert [path.name for path in built] == [*names]
    return folder


@pytest.fixture(scope="module")
def metadata(packages: Path) -> Message:
    """Of the wheel; that of the sdist is the same."""
    with zipfile.ZipFile(packages / f"overlay_net-{VERSION}-py3-none-any.whl") as wheel:
        of_wheel = wheel.read(f"overlay_net-{VERSION}.dist-info/METADATA").decode()
    with tarfile.open(packages / f"overlay_net-{VERSION}.tar.gz") as sdist:
        file = sdist.extractfile(f"overlay_net-{VERSION}/PKG-INFO")
        assert file is not None
        assert file.read().decode() == of_wheel
    return message_from_string(of_wheel)


@pytest.fixture(scope="module")
def chart(packages: Path) -> dict[str, Any]:
    """Chart.yaml of the package."""
    with tarfile.open(packages / f"overlay-net-{VERSION}.tgz") as archive:
        file = archive.extractfile("overlay-net/Chart.yaml")
        assert file is not None
        loaded: dict[str, Any] = yaml.safe_load(file)
    return loaded


def test_python_packages_have_what_their_index_shows(metadata: Message) -> None:
    for field in ("Summary", "Author", "Keywords", "License-Expression", "Requires-Python", "Classifier"):
        assert metadata[field], field
    urls = dict(each.split(", ") for each in metadata.get_all("Project-URL", ()))
    assert {"Documentation", "Source", "Issues", "Changelog"} <= {*urls}
    assert [url for url in urls.values() if not url.startswith(HOME)] == []


def test_the_readme_of_python_packages_has_only_absolute_links(metadata: Message) -> None:
    text = str(metadata.get_payload())
    assert f"]({HOME}/blob/v{VERSION}/CHANGELOG.md)" in text
    assert LINK.findall(text) == []


def test_the_wheel_has_the_product_alone(packages: Path) -> None:
    with zipfile.ZipFile(packages / f"overlay_net-{VERSION}-py3-none-any.whl") as wheel:
        names = wheel.namelist()
        commands = wheel.read(f"overlay_net-{VERSION}.dist-info/entry_points.txt").decode()
    assert {name.partition("/")[0] for name in names} == {"overlay_net", f"overlay_net-{VERSION}.dist-info"}
    assert "overlay_net/py.typed" in names
    assert "kubectl-overlay_net = " in commands


def test_the_packaged_chart_needs_no_image_because_it_has_that_of_its_publisher(packages: Path, assets: Assets) -> None:
    command = [str(assets.helm), "template", str(packages / f"overlay-net-{VERSION}.tgz"), "--kube-version=1.36.0"]
    rendered = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    pods = [each for each in parse_manifests(rendered) if each["kind"] in ("DaemonSet", "Deployment")]
    images = [container["image"] for pod in pods for container in pod["spec"]["template"]["spec"]["containers"]]
    assert images == [f"{IMAGE}:{VERSION}"] * 2


def test_the_packaged_chart_leads_to_its_publisher(packages: Path, chart: dict[str, Any]) -> None:
    assert chart["home"] == HOME
    with tarfile.open(packages / f"overlay-net-{VERSION}.tgz") as archive:
        file = archive.extractfile("overlay-net/README.md")
        assert file is not None
        readme = file.read().decode()
    assert LINK.findall(readme) == []
    assert f'| `image.repository` | `"{IMAGE}"` |' in readme


@pytest.fixture(scope="module")
def annotations(chart: dict[str, Any]) -> dict[str, str]:
    found = {name.removeprefix("artifacthub.io/"): value for name, value in chart["annotations"].items()}
    assert all(isinstance(value, str) for value in found.values())
    return found


def test_the_chart_has_what_artifact_hub_shows(chart: dict[str, Any], annotations: dict[str, str]) -> None:
    for field in ("description", "keywords", "home", "sources", "icon", "maintainers", "kubeVersion"):
        assert chart[field], field
    assert annotations["category"] in CATEGORIES
    assert annotations["operatorCapabilities"] in CAPABILITIES
    assert annotations["license"] == "Apache-2.0"
    assert annotations["operator"] == "true"


def test_images_and_links_for_artifact_hub_are_those_of_the_publisher(annotations: dict[str, str]) -> None:
    assert [each["image"] for each in yaml.safe_load(annotations["images"])] == [f"{IMAGE}:{VERSION}"]
    links = yaml.safe_load(annotations["links"])
    assert links
    assert [link for link in links if not link["name"] or not link["url"].startswith(HOME)] == []


def test_changes_for_artifact_hub_have_a_kind_that_it_knows(annotations: dict[str, str]) -> None:
    changes = yaml.safe_load(annotations["changes"])
    assert changes
    assert [each for each in changes if each["kind"].capitalize() not in KINDS or not each["description"]] == []


def test_every_kind_of_object_is_listed_for_artifact_hub(annotations: dict[str, str]) -> None:
    listed = yaml.safe_load(annotations["crds"])
    files = (ROOT / "charts" / "overlay-net" / "crds").glob("*.yaml")
    definitions = [yaml.safe_load(file.read_text()) for file in files]
    assert {each["kind"] for each in listed} == {each["spec"]["names"]["kind"] for each in definitions}
    assert {each["name"] for each in listed} == {each["metadata"]["name"] for each in definitions}
    for each in listed:
        assert {*each} == {"kind", "version", "name", "displayName", "description"}
    examples = yaml.safe_load(annotations["crdsExamples"])
    assert {each["kind"] for each in examples} <= {each["kind"] for each in listed}


def test_workflows_pass_actionlint() -> None:
    (actionlint,) = find_programs(["actionlint"]).values()
    # Shell scripts are checked by another program, which few machines have.
    command = [str(actionlint), "-shellcheck=", *map(str, (ROOT / ".github" / "workflows").glob("*.yml"))]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
