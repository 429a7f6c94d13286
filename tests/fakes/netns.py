"""A network namespace for one test: the test's thread and every program it starts are in it."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000


def ip(*arguments: str) -> str:
    """The output of `ip …` in this test's namespace."""
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout


def try_ip(*arguments: str) -> str:
    """Why the kernel refused, or an empty string."""
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False).stderr


# os.unshare and os.setns came with Python 3.12.
libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def at_home() -> Iterator[None]:
    """Return to the present namespace in the end."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        yield
    finally:
        assert libc.setns(home, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        os.close(home)


@contextmanager
def private_netns() -> Iterator[None]:
    """Skips where this process is not allowed to create a namespace."""
    with at_home():
        if libc.unshare(CLONE_NEWNET) != 0:
            pytest.skip(f"needs CAP_SYS_ADMIN for a network namespace: {os.strerror(ctypes.get_errno())}")
        ip("link", "set", "lo", "up")
        yield


@contextmanager
def enter_netns(pid: int) -> Iterator[None]:
    """The network namespace of a process, for this thread."""
    with at_home():
        target = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            assert libc.setns(target, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        finally:
            os.close(target)
        yield


@pytest.fixture
def netns() -> Iterator[None]:
    with private_netns():
        yield


@pytest.fixture
def eth0(netns: None) -> None:
    """The private interface of a node: eth0 with 10.176.162.151/26; its peer is in the same namespace."""
    refused = try_ip("link", "add", "eth0", "type", "veth", "peer", "name", "peer0")
    if refused:
        pytest.skip(f"the kernel has no veth links: {refused.strip()}")
    if try_ip("link", "add", "probe0", "link", "eth0", "type", "macvlan", "mode", "bridge"):
        pytest.skip("the kernel has no macvlan links")
    ip("link", "delete", "probe0")
    ip("address", "add", "10.176.162.151/26", "dev", "eth0")
    for link in ("eth0", "peer0"):
        # No link-local address: the kernel would add it and its route at an unpredictable moment.
        ip("link", "set", link, "addrgenmode", "none")
        ip("link", "set", link, "up")


def sysctl(link: str, key: str) -> str:
    return Path(f"/proc/sys/net/ipv4/conf/{link}/{key}").read_text().strip()
