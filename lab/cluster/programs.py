"""The programs of a cluster: those of Kubernetes and containerd are built, the others come from Debian packages."""

from dataclasses import dataclass, fields
from pathlib import Path

from lab.build.assets import MODULES, Assets, find_assets, find_programs
from lab.build.debian import program, unpack
from lab.build.go_build import Progress, build, cache_directory, print_progress

PAUSE_VERSION = "v1"
PACKAGES = ("runc", "containernetworking-plugins")


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
    assets = find_assets(progress)
    names = ("kube-controller-manager", "kube-scheduler", "kubelet", "containerd", "containerd-shim-runc-v2", "ctr")
    found = find_programs(names, progress)
    pause = cache_directory() / "bin" / f"pause-{PAUSE_VERSION}" / "pause"
    if not pause.exists():
        build(MODULES / "pause", ".", ("-trimpath", "-ldflags=-s -w"), pause, PAUSE_VERSION, progress)
    packages = unpack(PACKAGES, progress)
    paths = {name.replace("-", "_"): path for name, path in found.items()}
    return Programs(**paths, pause=pause, runc=program(packages, "runc"), packages=packages, assets=assets)


if __name__ == "__main__":
    for each in fields(found := find_cluster_programs(print_progress)):
        print(f"{each.name:<23} {getattr(found, each.name)}")
