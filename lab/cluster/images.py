"""The image of the pause container: one static program in one layer."""

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

PAUSE_IMAGE = "localhost/pause:lab"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
OCI = "application/vnd.oci.image"


def write_pause_image(program: Path, target: Path) -> None:
    """An OCI archive with ``program`` as `/pause`, named PAUSE_IMAGE."""
    layer = _tar({"pause": program.read_bytes()}, mode=0o755)
    config = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    blobs = {_digest(layer): layer}

    def add(media_type: str, content: Any) -> dict[str, Any]:
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        blobs[_digest(text)] = text
        return {"mediaType": f"{OCI}.{media_type}", "digest": _digest(text), "size": len(text)}

    manifest = add(
        "manifest.v1+json",
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": add("config.v1+json", config),
            "layers": [add("layer.v1.tar", layer)],
        },
    )
    names = {"io.containerd.image.name": PAUSE_IMAGE, "org.opencontainers.image.ref.name": PAUSE_IMAGE}
    index = {"schemaVersion": 2, "manifests": [{**manifest, "annotations": names}]}
    files = {f"blobs/{digest.replace(':', '/')}": content for digest, content in blobs.items()}
    files |= {"index.json": json.dumps(index).encode(), "oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}
    target.write_bytes(_tar(files))


def _tar(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
