"""Programs that build images: an installed buildah, podman or docker, else a buildah from Debian packages.

The latter needs root. It uses no setting, service or store of the machine: its files are in the cache.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.build.debian import environment, program, unpack
from lab.build.go_build import BuildFailed, Progress, cache_directory, watch

SUITE = "bookworm"
BASE = f"localhost/overlay-net-base:{SUITE}"
BASE_PACKAGES = ("ca-certificates", "python3", "python3-venv")
# Files that a base image does not need.
UNUSED = ("./dev/*", "./var/cache/apt/*", "./var/lib/apt/lists/*")
# buildah re-executes itself with an empty environment: its libraries must be in the loader's default path.
WITH_LIBRARIES = 'mount -t overlay -o "lowerdir=$1/usr/lib:/usr/lib" overlay /usr/lib && shift && exec "$@"'
POLICY = {"default": [{"type": "insecureAcceptAnything"}]}


@dataclass(frozen=True, slots=True)
class Engine:
    name: str
    command: tuple[str, ...]
    build_options: tuple[str, ...] = ()
    push_options: tuple[str, ...] = ()

    def has(self, image: str) -> bool:
        return _succeeds([*self.command, "inspect", *(["--type=image"] if self.name == "buildah" else []), image])

    def pull(self, image: str) -> bool:
        return _succeeds([*self.command, "pull", image])

    def build(self, context: Path, tag: str, options: Sequence[str], progress: Progress) -> None:
        """Raises BuildFailed."""
        words = ("build", *self.build_options, *options, f"--tag={tag}", ".")
        watch([*self.command, *words], context, os.environ, f"building image {tag}", progress)

    def save(self, tag: str, archive: Path, progress: Progress) -> None:
        """Write an archive for `ctr images import`. Raises BuildFailed."""
        words: tuple[str, ...] = ("save", f"--output={archive}", tag)
        if self.name == "buildah":
            words = ("push", *self.push_options, tag, f"oci-archive:{archive}:{tag}")
        elif self.name == "podman":
            words = ("save", "--format=oci-archive", f"--output={archive}", tag)
        watch([*self.command, *words], archive.parent, os.environ, f"writing the archive of {tag}", progress)


def find_engine(progress: Progress) -> Engine:
    """Raises PackageUnavailable."""
    for name, probe in (("buildah", "info"), ("podman", "info"), ("docker", "info")):
        if shutil.which(name) and _succeeds([name, probe]):
            return Engine(name, (name,), ("--layers",) if name == "buildah" else ())
    return _unpacked_buildah(progress)


def _unpacked_buildah(progress: Progress) -> Engine:
    root = unpack(("buildah",), progress)
    home = cache_directory() / "buildah"
    home.mkdir(parents=True, exist_ok=True)
    policy, registries = home / "policy.json", home / "registries.conf"
    policy.write_text(json.dumps(POLICY))
    registries.write_text("")
    command = (
        *("unshare", "--mount", "sh", "-c", WITH_LIBRARIES, "sh", str(root)),
        *("env", f"CONTAINERS_REGISTRIES_CONF={registries}", "CONTAINERS_CONF=/dev/null"),
        *(str(program(root, "buildah")), f"--root={home / 'images'}", f"--runroot={home / 'run'}"),
        "--storage-driver=overlay",
    )
    # Other kinds of isolation create bridges and packet filters on the machine.
    options = ("--layers", "--isolation=chroot", "--pull-never", f"--signature-policy={policy}")
    return Engine("buildah", command, options, (f"--signature-policy={policy}",))


def make_base(engine: Engine, progress: Progress) -> str:
    """Make a base image from Debian packages, without a registry. Raises PackageUnavailable, BuildFailed."""
    if engine.has(BASE):
        return BASE
    if os.geteuid() != 0:
        raise BuildFailed(f"no base image can be pulled, and only root can build {BASE}")
    tools = unpack(("debootstrap", "debian-archive-keyring"), progress)
    with tempfile.TemporaryDirectory() as folder:
        tree, context = Path(folder) / "tree", Path(folder) / "context"
        context.mkdir()
        watch(
            [
                *(str(program(tools, "debootstrap")), "--variant=minbase", f"--include={','.join(BASE_PACKAGES)}"),
                *(f"--keyring={tools}/usr/share/keyrings/debian-archive-keyring.gpg", SUITE, str(tree)),
            ],
            Path(folder),
            {**environment(tools), "DEBOOTSTRAP_DIR": f"{tools}/usr/share/debootstrap"},
            f"building a Debian {SUITE}",
            progress,
        )
        excluded = [f"--exclude={each}" for each in UNUSED]
        subprocess.run(["tar", f"--directory={tree}", *excluded, "-cf", str(context / "tree.tar"), "."], check=True)
        (context / "Containerfile").write_text("FROM scratch\nADD tree.tar /\n")
        engine.build(context, BASE, ("--file=Containerfile",), progress)
    return BASE


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode == 0
