"""Reads and writes the sysctls of an interface, files below ``/proc/sys/net`` (networking/ip-sysctl.rst)."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from overlay_net.model.errors import KernelError

KEYS = (
    "rp_filter",
    "arp_ignore",
    "arp_announce",
    "proxy_arp",
    "promote_secondaries",
    "forwarding",
    "accept_redirects",
    "send_redirects",
    "ipv6.accept_ra",
    "ipv6.accept_dad",
    "ipv6.accept_redirects",
    "ipv6.disable_ipv6",
    "ipv6.forwarding",
    "ipv6.force_forwarding",
)
"""Keys below ``net.ipv4.conf.<link>``; those with ``ipv6.`` are below ``net.ipv6.conf.<link>``."""

ALL = (("all", "rp_filter"),)
"""Values that apply to every link besides its own."""


class Sysctls:
    def __init__(self, base: Path) -> None:
        self._base = base

    def read(self, links: Iterable[str]) -> dict[tuple[str, str], str]:
        """Return the values by (link, key), for the links that exist, and those of ``ALL``."""
        values: dict[tuple[str, str], str] = {}
        for link in links:
            for family, keys in _KEYS_BY_FAMILY.items():
                self._read_keys(family, link, keys, values)
        for link, key in ALL:
            self._read_keys(split_key(key)[0], link, {key: split_key(key)[1]}, values)
        return values

    def _read_keys(self, family: str, link: str, names: Mapping[str, str], values: dict[tuple[str, str], str]) -> None:
        try:
            # The kernel looks up each part of a path below /proc/sys each time, which takes as long as all the rest.
            directory = os.open(f"{self._base}/{family}/conf/{link}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            # The link does not exist, or the kernel has no IPv6.
            return
        try:
            for key, name in names.items():
                try:
                    values[link, key] = _read_file(name, directory)
                except OSError:
                    # The link was deleted in the meantime, or the kernel lacks the key.
                    continue
        finally:
            os.close(directory)

    def write(self, link: str, key: str, value: str) -> None:
        """Write a value. Raises KernelError. IPv6 sysctls are skipped on a kernel without IPv6."""
        family, _ = split_key(key)
        if family == "ipv6" and not (self._base / family).exists():
            return
        try:
            (self._base / _path_below_base(link, key)).write_text(value, encoding="ascii")
        except OSError as error:
            raise KernelError(error.strerror or str(error), code=error.errno or 0) from None


def _path_below_base(link: str, key: str) -> str:
    family, name = split_key(key)
    return f"{family}/conf/{link}/{name}"


def _read_file(name: str, directory: int) -> str:
    # Called for every sysctl each second, so pathlib would be too slow.
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(descriptor, 64).decode("ascii", "replace").strip()
    finally:
        os.close(descriptor)


def split_key(key: str) -> tuple[str, str]:
    """``rp_filter`` -> ("ipv4", "rp_filter"), ``ipv6.accept_ra`` -> ("ipv6", "accept_ra")."""
    family, _, name = key.rpartition(".")
    return family or "ipv4", name


_KEYS_BY_FAMILY = {
    family: {key: split_key(key)[1] for key in KEYS if split_key(key)[0] == family} for family in ("ipv4", "ipv6")
}
"""The names of the files of a link, by family and key."""
