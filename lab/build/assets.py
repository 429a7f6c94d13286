"""Programs written in Go, such as those of Kubernetes: found, or built from the modules in lab/build/go.

Searched in this order: the directory KUBEBUILDER_ASSETS, PATH (if the version matches), the cache; else built into the
cache. `python -m lab.build.assets [NAME …]` prints the path of each program, by default of those that most tests need.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from lab.build.go_build import BuildFailed, Progress, build, cache_directory, print_progress, read_output

MODULES = Path(__file__).parent / "go"


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
    """Directory below lab/build/go, whose go.mod pins the version."""
    require: str
    """The module that determines the version."""
    package: str
    version_arguments: tuple[str, ...] = ("--version",)
    tags: str = ""

    @property
    def version(self) -> str:
        text = (MODULES / self.module / "go.mod").read_text()
        found = re.search(rf"^(?:require )?\s*{re.escape(self.require)} (v\S+)", text, re.MULTILINE)
        if found is None:
            raise LookupError(f"lab/build/go/{self.module}/go.mod requires no {self.require}")
        return found[1]

    @property
    def ldflags(self) -> str:
        """Version stamps: without them a server reports v0.0.0, and helm rejects every chart as too new."""
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
        elif self.module == "containerd":
            stamps = {f"{self.require}/version.Version": self.version}
        return " ".join(("-s -w", *(f"-X {name}={value}" for name, value in stamps.items())))


# What helm assumes if it has no cluster to query.
KUBERNETES_RELEASE = ("1", "36")
KUBERNETES = "k8s.io/kubernetes"
CONTAINERD = "github.com/containerd/containerd/v2"
# Snapshotters that a node with one file system does not need.
CONTAINERD_TAGS = "no_btrfs,no_devmapper,no_zfs"
PROMETHEUS = "github.com/prometheus/prometheus"
KUBECONFORM = "github.com/yannh/kubeconform"
ACTIONLINT = "github.com/rhysd/actionlint"


def _kubernetes(program: str, *version_arguments: str) -> Recipe:
    return Recipe(
        program, "kubernetes", KUBERNETES, f"k8s.io/kubernetes/cmd/{program}", version_arguments or ("--version",)
    )


def _containerd(program: str) -> Recipe:
    return Recipe(program, "containerd", CONTAINERD, f"{CONTAINERD}/cmd/{program}", ("-v",), CONTAINERD_TAGS)


# Programs of Kubernetes share most packages: the first one takes minutes to build, the others seconds.
RECIPES = (
    Recipe("etcd", "etcd", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3"),
    _kubernetes("kube-apiserver"),
    _kubernetes("kubectl", "version", "--client"),
    Recipe("helm", "helm", "helm.sh/helm/v3", "helm.sh/helm/v3/cmd/helm", ("version", "--short")),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kubelet"),
    _containerd("containerd"),
    _containerd("containerd-shim-runc-v2"),
    _containerd("ctr"),
    Recipe("kubeconform", "kubeconform", KUBECONFORM, f"{KUBECONFORM}/cmd/kubeconform", ("-v",)),
    Recipe("actionlint", "actionlint", ACTIONLINT, f"{ACTIONLINT}/cmd/actionlint", ("-version",)),
    Recipe("promtool", "prometheus", PROMETHEUS, f"{PROMETHEUS}/cmd/promtool"),
)


def find_assets(progress: Progress = lambda text: None) -> Assets:
    """The paths of the programs of an API server; builds what is missing. Raises BuildFailed."""
    names = [field.name.replace("_", "-") for field in fields(Assets)]
    return Assets(*find_programs(names, progress).values())


def find_programs(names: Iterable[str], progress: Progress = lambda text: None) -> dict[str, Path]:
    """The path of each program, in order; builds what is missing. Raises BuildFailed, KeyError (unknown name)."""
    recipes = {recipe.program: recipe for recipe in RECIPES}
    return {name: find(recipes[name], progress) for name in names}


def find(recipe: Recipe, progress: Progress) -> Path:
    given = os.environ.get("KUBEBUILDER_ASSETS")
    if given and (Path(given) / recipe.program).exists():
        return Path(given) / recipe.program
    on_path = shutil.which(recipe.program)
    if on_path is not None and _has_version(Path(on_path), recipe):
        return Path(on_path)
    target = cache_directory() / "bin" / f"{recipe.module}-{recipe.version}" / recipe.program
    if not target.exists():
        options = ("-trimpath", "-tags", recipe.tags, "-ldflags", recipe.ldflags)
        build(MODULES / recipe.module, recipe.package, options, target, recipe.version, progress)
    return target


def _has_version(program: Path, recipe: Recipe) -> bool:
    """Whether the program reports the pinned major and minor version."""
    output = read_output([str(program), *recipe.version_arguments])
    found = re.search(r"(\d+)\.(\d+)\.\d+", output)
    return found is not None and list(found.groups()) == recipe.version.removeprefix("v").split(".")[:2]


def main(names: Sequence[str]) -> int:
    known = [recipe.program for recipe in RECIPES]
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"lab: unknown program {', '.join(unknown)}; known are {', '.join(known)}", file=sys.stderr)
        return 2
    chosen = names or [field.name.replace("_", "-") for field in fields(Assets)]
    try:
        found = find_programs(chosen, print_progress)
    except BuildFailed as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    for name, path in found.items():
        print(f"{name:<23} {path}")
    return 0


__all__ = ["Assets", "BuildFailed", "Progress", "cache_directory", "find_assets", "find_programs"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
