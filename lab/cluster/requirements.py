"""Whether this machine can run a cluster of real kubelets."""

import os
import subprocess
import uuid

from lab.cluster.cgroups import Cgroups, CgroupsUnavailable
from lab.net.private import MissingRequirement, check

OVERLAY_PROBE = """
mount -t tmpfs tmpfs /run && cd /run && mkdir lower upper work all &&
mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay all
"""


def missing_requirement() -> str:
    """The first missing requirement, in one line; an empty text if a cluster can run on this machine."""
    if os.geteuid() != 0:
        return "kubelets need root: containers use control groups and mounts of the machine"
    try:
        check()
    except MissingRequirement as error:
        return str(error)
    groups = Cgroups(f"overlay-net-probe-{uuid.uuid4().hex[:8]}")
    try:
        groups.make("node")
    except CgroupsUnavailable as error:
        return f"kubelets need control groups: {error}"
    finally:
        groups.remove()
    probe = subprocess.run(
        ["unshare", "--mount", "sh", "-c", OVERLAY_PROBE], capture_output=True, text=True, check=False
    )
    if probe.returncode:
        return f"containers need overlay mounts: {' '.join(probe.stderr.split())}"
    return ""
