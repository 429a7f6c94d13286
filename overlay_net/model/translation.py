"""Source translations of the kernel's connection tracking (SNAT and masquerading)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from overlay_net.model.net import IpAddress


@dataclass(frozen=True, slots=True)
class Translation:
    """A flow whose packets get another source address when they leave this node."""

    destination: IpAddress
    source: IpAddress
    """The address that the destination sees, and answers to."""
    protocol: int
    """IPPROTO_*."""
    key: bytes
    """Identifies the flow in a request to the kernel."""


SelectTranslations: TypeAlias = Callable[[Iterable[Translation]], Sequence[Translation]]
"""Returns those that are needed."""
