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
from math import ceil
from pathlib import Path

from lab.build.go_build import BuildFailed, Progress, build, cache_directory, print_progress, read_output

MODULES = Path(__file__).parent / "go"
CLUSTER = "cluster"
# Snapshotters that a node with one file system does not need, and a page of traces that no one opens.
TAGS = "no_btrfs,no_devmapper,no_zfs,grpcnotrace"
# Of all programs of a cluster.
CPU_SECONDS = 540


@dataclass(frozen=True, slots=True)
class Assets:
    kube_apiserver: Path
    etcd: Path
    kubectl: Path
    helm: Path


ASSETS = tuple(field.name.replace("_", "-") for field in fields(Assets))


@dataclass(frozen=True, slots=True)
class Project:
    name: str
    require: str
    """The Go module that determines the version."""
    module: str = CLUSTER
    """Directory below lab/build/go, whose go.mod pins the version."""

    @property
    def version(self) -> str:
        text = (MODULES / self.module / "go.mod").read_text()
        found = re.search(rf"^(?:require )?\s*{re.escape(self.require)} (v\S+)", text, re.MULTILINE)
        if found is None:
            raise LookupError(f"lab/build/go/{self.module}/go.mod requires no {self.require}")
        return found[1]


@dataclass(frozen=True, slots=True)
class Recipe:
    program: str
    project: Project
    package: str
    version_arguments: tuple[str, ...] = ("--version",)

    @property
    def target(self) -> Path:
        return cache_directory() / "bin" / f"{self.project.name}-{self.project.version}" / self.program


KUBERNETES = Project("kubernetes", "k8s.io/kubernetes")
ETCD = Project("etcd", "go.etcd.io/etcd/server/v3")
HELM = Project("helm", "helm.sh/helm/v3")
CONTAINERD = Project("containerd", "github.com/containerd/containerd/v2")
KUBECONFORM = Project("kubeconform", "github.com/yannh/kubeconform", "kubeconform")
DASHBOARD = Project("dashboard", "github.com/grafana/grafana-foundation-sdk/go", "dashboard")
GITOPS = Project("gitops", "github.com/fluxcd/helm-controller/api", "gitops")
ACTIONLINT = Project("actionlint", "github.com/rhysd/actionlint", "actionlint")
PROMETHEUS = Project("prometheus", "github.com/prometheus/prometheus", "prometheus")


def _command(project: Project, program: str, *version_arguments: str) -> Recipe:
    return Recipe(program, project, f"{project.require}/cmd/{program}", version_arguments or ("--version",))


RECIPES = {
    recipe.program: recipe
    for recipe in (
        Recipe("etcd", ETCD, ETCD.require),
        _command(KUBERNETES, "kube-apiserver"),
        _command(KUBERNETES, "kubectl", "version", "--client"),
        _command(HELM, "helm", "version", "--short"),
        _command(KUBERNETES, "kube-controller-manager"),
        _command(KUBERNETES, "kube-scheduler"),
        _command(KUBERNETES, "kubelet"),
        _command(CONTAINERD, "containerd", "-v"),
        _command(CONTAINERD, "containerd-shim-runc-v2", "-v"),
        _command(CONTAINERD, "ctr", "-v"),
        _command(KUBECONFORM, "kubeconform", "-v"),
        _command(ACTIONLINT, "actionlint", "-version"),
        Recipe("check-dashboard", DASHBOARD, "overlay-net/lab/dashboard"),
        Recipe("check-gitops", GITOPS, "overlay-net/lab/gitops"),
        _command(PROMETHEUS, "promtool"),
    )
}


def find_assets(progress: Progress = lambda text: None) -> Assets:
    """The paths of the programs of an API server; builds what is missing. Raises BuildFailed."""
    return Assets(*find_programs(ASSETS, progress).values())


def find_programs(names: Iterable[str], progress: Progress = lambda text: None) -> dict[str, Path]:
    """The path of each program, in order; builds what is missing. Raises BuildFailed, KeyError (unknown name)."""
    recipes = [RECIPES[name] for name in names]
    found = {recipe.program: _find(recipe) for recipe in recipes}
    missing = [recipe for recipe in recipes if not found[recipe.program].exists()]
    if missing:
        _announce(missing, progress)
    for module in dict.fromkeys(recipe.project.module for recipe in missing):
        targets = {recipe.package: recipe.target for recipe in missing if recipe.project.module == module}
        build(MODULES / module, targets, ("-tags", TAGS, "-ldflags", _ldflags()), progress)
    return found


def _announce(missing: Sequence[Recipe], progress: Progress) -> None:
    """Report what is built, and about how long it takes, if that is minutes."""
    cores = len(os.sched_getaffinity(0))
    seconds = CPU_SECONDS if "kube-apiserver" in {recipe.program for recipe in missing} else 0
    minutes = f", in about {ceil(seconds / cores / 60)} minutes on {cores} cores" if seconds else ""
    progress(f"building from source{minutes}, for {cache_directory()}:")
    for project in dict.fromkeys(recipe.project for recipe in missing):
        programs = [recipe.program for recipe in missing if recipe.project == project]
        progress(f"  {project.name} {project.version}: {', '.join(programs)}")


def _find(recipe: Recipe) -> Path:
    """The path of a program, or where it is to be built."""
    given = os.environ.get("KUBEBUILDER_ASSETS")
    if given and (Path(given) / recipe.program).exists():
        return Path(given) / recipe.program
    on_path = shutil.which(recipe.program)
    if on_path is not None and _has_version(Path(on_path), recipe):
        return Path(on_path)
    return recipe.target


def _ldflags() -> str:
    """Version stamps: without them a server reports v0.0.0, and helm rejects every chart as too new.

    The linker ignores those of packages that a program does not have.
    """
    major, minor = KUBERNETES.version.removeprefix("v").split(".")[:2]
    base, helm = "k8s.io/component-base/version", HELM.require
    stamps = {
        f"{base}.gitVersion": KUBERNETES.version,
        f"{base}.gitMajor": major,
        f"{base}.gitMinor": minor,
        f"{CONTAINERD.require}/version.Version": CONTAINERD.version,
        f"{helm}/internal/version.version": HELM.version,
        # What helm assumes if it has no cluster to query.
        **{f"{helm}/pkg/{package}.k8sVersionMajor": major for package in ("chartutil", "lint/rules")},
        **{f"{helm}/pkg/{package}.k8sVersionMinor": minor for package in ("chartutil", "lint/rules")},
    }
    return " ".join(("-s -w", *(f"-X {name}={value}" for name, value in stamps.items())))


def _has_version(program: Path, recipe: Recipe) -> bool:
    """Whether the program reports the pinned major and minor version."""
    output = read_output([str(program), *recipe.version_arguments])
    found = re.search(r"(\d+)\.(\d+)\.\d+", output)
    return found is not None and list(found.groups()) == recipe.project.version.removeprefix("v").split(".")[:2]


def main(names: Sequence[str]) -> int:
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        print(f"lab: unknown program {', '.join(unknown)}; known are {', '.join(RECIPES)}", file=sys.stderr)
        return 2
    try:
        found = find_programs(names or ASSETS, print_progress)
    except BuildFailed as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    for name, path in found.items():
        print(f"{name:<23} {path}")
    return 0


__all__ = ["ASSETS", "Assets", "BuildFailed", "Progress", "cache_directory", "find_assets", "find_programs"]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
