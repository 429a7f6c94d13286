"""The product's image, built from the Containerfile: `python -m lab.build.image [OPTION OF THE BUILD …]`.

The base image of the Containerfile is pulled; if that fails, debootstrap creates another. The result is an archive in
the cache, rebuilt when one of its sources has changed.
"""

import fcntl
import hashlib
import os
import re
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.build.debian import PackageUnavailable
from lab.build.engines import find_engine, make_base
from lab.build.go_build import BuildFailed, Progress, cache_directory, print_progress
from lab.net.private import is_private
from overlay_net import __version__

ROOT = Path(__file__).parent.parent.parent
SOURCES = ("Containerfile", "LICENSE", "README.md", "constraints.txt", "image", "overlay_net", "pyproject.toml")
REPOSITORY = "localhost/overlay-net"
MEBIBYTE = 2**20
# Path in the build of the certificates that the machine's pip trusts.
CERTIFICATES = "/run/pip-certificates.crt"


@dataclass(frozen=True, slots=True)
class Image:
    archive: Path
    """For `ctr images import`, `podman load` and `docker load`."""
    repository: str
    tag: str

    def uncompressed_size(self) -> int:
        """Bytes of all files in all layers."""
        with tarfile.open(self.archive) as archive, tempfile.TemporaryDirectory() as folder:
            archive.extractall(folder, filter="data")
            files = [each for each in Path(folder).rglob("*") if each.is_file()]
            return sum(map(_content_size, filter(tarfile.is_tarfile, files)))


def _content_size(layer: Path) -> int:
    with tarfile.open(layer) as files:
        return sum(entry.size for entry in files)


def find_image(progress: Progress = lambda text: None, options: Sequence[str] = ()) -> Image:
    """Build the image unless there is one of the current sources. Raises BuildFailed, PackageUnavailable."""
    tag = _key(options)
    archive = cache_directory() / "images" / f"overlay-net-{tag}.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with (archive.parent / ".lock").open("w") as lock:
        # Concurrent runs build once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            if is_private():
                raise BuildFailed("no network to build the image: run `python -m lab.build.image` first")
            _build(f"{REPOSITORY}:{tag}", archive, options, progress)
    return Image(archive, REPOSITORY, tag)


def _key(options: Sequence[str]) -> str:
    content = hashlib.sha256("\n".join(options).encode())
    for file in _sources():
        content.update(f"\n{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return content.hexdigest()[:12]


def _sources() -> Iterator[Path]:
    for source in map(ROOT.joinpath, SOURCES):
        files = [source] if source.is_file() else sorted(source.rglob("*"))
        yield from (each for each in files if each.is_file() and "__pycache__" not in each.parts)


def _build(tag: str, archive: Path, options: Sequence[str], progress: Progress) -> None:
    engine = find_engine(progress)
    base = re.search(r"^ARG BASE=(\S+)$", (ROOT / "Containerfile").read_text(), re.MULTILINE)
    assert base is not None
    arguments = [f"--build-arg=VERSION={__version__}"]
    if "--pull-never" in engine.build_options or not engine.pull(base[1]):
        progress(f"cannot pull {base[1]}, building a Debian base image")
        arguments.append(f"--build-arg=BASE={make_base(engine, progress)}")
    if index := os.environ.get("PIP_INDEX_URL"):
        arguments.append(f"--build-arg=PIP_INDEX_URL={index}")
    certificates = os.environ.get("PIP_CERT")
    if certificates and engine.name != "docker":
        arguments += [f"--volume={certificates}:{CERTIFICATES}:ro", f"--build-arg=PIP_CERT={CERTIFICATES}"]
    engine.build(ROOT, tag, (*arguments, "--file=Containerfile", *options), progress)
    built = archive.with_suffix(".new")
    built.unlink(missing_ok=True)
    engine.save(tag, built, progress)
    built.rename(archive)


def main(options: Sequence[str]) -> int:
    try:
        image = find_image(print_progress, options)
    except (BuildFailed, PackageUnavailable) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    size, archive = image.uncompressed_size() / MEBIBYTE, image.archive.stat().st_size / MEBIBYTE
    print(f"{image.repository}:{image.tag}  {size:.0f} MiB, archive {archive:.0f} MiB: {image.archive}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
