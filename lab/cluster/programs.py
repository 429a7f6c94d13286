"""The programs of a cluster: those of Kubernetes and containerd are built, the others come from Debian packages."""

from dataclasses import dataclass, fields
from pathlib import Path

from lab.build.assets import ASSETS, MODULES, Assets, find_programs
from lab.build.debian import program, unpack
from lab.build.go_build import Progress, build, cache_directory, print_progress

PAUSE_VERSION = "v1"
PACKAGES = ("runc", "containernetworking-plugins")
BUILT = ("kube-controller-manager", "kube-scheduler", "kubelet", "containerd", "containerd-shim-runc-v2", "ctr")


@dataclass(frozen=True, slots=True)
class Programs:
    kube_controller_manager: Path
    kube_scheduler: Path
    kubelet: Path
    containerd: Path
    containerd_shim_runc_v2: Path
    ctr: Path
    pause: Path
    runc: Path
    packages: Path
    """The folder with the unpacked packages."""
    assets: Assets

    @property
    def cni_plugins(self) -> Path:
        return self.packages / "usr" / "lib" / "cni"


def find_cluster_programs(progress: Progress = lambda text: None) -> Programs:
    """Build and fetch what is missing. Raises BuildFailed, PackageUnavailable."""
    built = build_programs(progress)
    packages = fetch_packages(progress)
    assets = Assets(**{name.replace("-", "_"): built.pop(name) for name in ASSETS})
    paths = {name.replace("-", "_"): path for name, path in built.items()}
    return Programs(**paths, runc=program(packages, "runc"), packages=packages, assets=assets)


def build_programs(progress: Progress) -> dict[str, Path]:
    """The programs that are written in Go; builds what is missing. Raises BuildFailed."""
    pause = cache_directory() / "bin" / f"pause-{PAUSE_VERSION}" / "pause"
    found = find_programs((*ASSETS, *BUILT), progress)
    build(MODULES / "pause", {"overlay-net/lab/pause": pause}, ("-ldflags=-s -w",), progress)
    return {**found, "pause": pause}


def fetch_packages(progress: Progress) -> Path:
    """The folder with the unpacked packages. Raises PackageUnavailable."""
    return unpack(PACKAGES, progress)


if __name__ == "__main__":
    for each in fields(found := find_cluster_programs(print_progress)):
        print(f"{each.name:<23} {getattr(found, each.name)}")
