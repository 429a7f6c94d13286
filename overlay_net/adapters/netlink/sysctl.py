"""Sysctls of one interface: files below ``/proc/sys/net`` (Documentation/networking/ip-sysctl.rst)."""

import os
from collections.abc import Iterable
from pathlib import Path

from overlay_net.model.errors import KernelError

KEYS = ("rp_filter", "arp_ignore", "arp_announce", "promote_secondaries", "ipv6.accept_ra", "ipv6.accept_dad")
"""Of ``net.ipv4.conf.<link>``, unless they say ``ipv6.``."""


class Sysctls:
    def __init__(self, base: Path) -> None:
        self._base = base

    def read(self, links: Iterable[str]) -> dict[tuple[str, str], str]:
        """(link, key) -> value, for the links that exist."""
        values = {}
        for link in links:
            for key in KEYS:
                try:
                    values[link, key] = _content(f"{self._base}/{_place(link, key)}")
                except OSError:
                    # The link is not there, or went away between two reads: its values are not known.
                    continue
        return values

    def write(self, link: str, key: str, value: str) -> None:
        """Raises KernelError. A kernel without IPv6 has nothing of it to be set."""
        family, _ = split_key(key)
        if family == "ipv6" and not (self._base / family).exists():
            return
        try:
            self._path(link, key).write_text(value, encoding="ascii")
        except OSError as error:
            raise KernelError(error.strerror or str(error), code=error.errno or 0) from None

    def _path(self, link: str, key: str) -> Path:
        return self._base / _place(link, key)


def _place(link: str, key: str) -> str:
    family, name = split_key(key)
    return f"{family}/conf/{link}/{name}"


def _content(path: str) -> str:
    # Read every second: through pathlib it takes several times as long.
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(number, 64).decode("ascii", "replace").strip()
    finally:
        os.close(number)


def split_key(key: str) -> tuple[str, str]:
    """("ipv4", "rp_filter") of ``rp_filter``, ("ipv6", "accept_ra") of ``ipv6.accept_ra``."""
    family, _, name = key.rpartition(".")
    return family or "ipv4", name
