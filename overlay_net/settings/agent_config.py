"""The validated settings of the agent as plain values, which it has without the library that validates them."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

from overlay_net.domain.kernel.desired import LinkConfig
from overlay_net.model.kernel import OwnershipMark


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Settings of the same names, unless described here."""

    node_name: str
    mark: OwnershipMark
    link: LinkConfig
    kubeconfig: Path | None
    bind: str
    """Listen address of the HTTP endpoints."""
    log_level: str
    log_format: Literal["text", "json"]
    duplicate_detection: bool
    announce_interval: timedelta
    resync_interval: timedelta
    proc_sys_net: Path
    boot_id_file: Path
    state_dir: Path | None
    checkpoint_max_age: timedelta
    """How long a checkpoint is valid after its last confirmation."""
    lease_namespace: str
