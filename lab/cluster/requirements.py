"""What a machine must be able to do for a cluster of real kubelets."""

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
    """The first thing that this machine lacks, in one line; nothing if a cluster can run here."""
    if os.geteuid() != 0:
        return "kubelets need root: their containers have control groups and file systems of the machine"
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
    tried = subprocess.run(
        ["unshare", "--mount", "sh", "-c", OVERLAY_PROBE], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        return f"containers need overlay mounts: {' '.join(tried.stderr.split())}"
    return ""
