"""Sysctls of the overlay link that another process changes without a notification."""

import asyncio
from pathlib import Path

import pytest

from overlay_net.adapters.netlink import Kernel
from overlay_net.adapters.netlink.sysctl import split_key
from overlay_net.agent.sysctl_watch import watch_sysctls
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.model.kernel_actions import SetSysctl
from tests.dataplane.conftest import LINKS, MARK
from tests.dataplane.desired import converge, desired
from tests.fakes.netns import ip


def write(key: str, value: str) -> None:
    family, name = split_key(key)
    Path(f"/proc/sys/net/{family}/conf/tmp0/{name}").write_text(value)


async def set_and_repair(kernel: Kernel, key: str, value: str) -> None:
    """Change a sysctl of tmp0: the watch wakes, the change is repaired, and the watch reports no more changes."""
    woken = asyncio.Event()
    task = asyncio.create_task(watch_sysctls(kernel.sysctls_changed, woken.set, every=0.01))
    write(key, value)
    async with asyncio.timeout(10):
        await woken.wait()
    task.cancel()
    assert [type(each) for each in plan_kernel(desired(), await kernel.observe(LINKS), MARK).actions] == [SetSysctl]
    await converge(kernel, desired())
    assert not kernel.sysctls_changed()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rp_filter", "1"),
        ("arp_ignore", "0"),
        ("arp_announce", "0"),
        ("promote_secondaries", "0"),
        ("ipv6.accept_ra", "1"),
        ("ipv6.accept_dad", "0"),
    ],
)
async def test_changed_sysctl_is_noticed_and_repaired(kernel: Kernel, key: str, value: str) -> None:
    await converge(kernel, desired())
    assert not kernel.sysctls_changed()
    await set_and_repair(kernel, key, value)


async def test_changed_sysctl_is_reported_once_per_observation(kernel: Kernel) -> None:
    await converge(kernel, desired())
    write("arp_ignore", "0")
    assert kernel.sysctls_changed()
    await kernel.observe(LINKS)
    assert not kernel.sysctls_changed()
    ip("link", "delete", "tmp0")
    assert kernel.sysctls_changed(), "a deleted link has no sysctls"
