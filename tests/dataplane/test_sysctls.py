"""Sysctls of the overlay link and its parent: changed by another process, and other than the defaults of the node."""

import asyncio
import socket
import struct
from pathlib import Path

import pytest

from overlay_net.adapters.netlink import Kernel, Monitor
from overlay_net.adapters.netlink.sysctl import split_key
from overlay_net.agent.sysctl_watch import watch_sysctls
from overlay_net.domain.kernel.plan import plan_kernel
from overlay_net.model.kernel_actions import SetSysctl
from tests.dataplane.conftest import LINKS, MARK
from tests.dataplane.desired import converge, desired
from tests.fakes.netns import ip
from tests.fakes.until import until


def file(key: str, link: str) -> Path:
    family, name = split_key(key)
    return Path(f"/proc/sys/net/{family}/conf/{link}/{name}")


def write(key: str, value: str, link: str = "tmp0") -> None:
    file(key, link).write_text(value)


def read(key: str, link: str = "tmp0") -> str:
    return file(key, link).read_text().strip()


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
        ("proxy_arp", "1"),
        ("accept_redirects", "1"),
        ("send_redirects", "1"),
        ("ipv6.accept_ra", "1"),
        ("ipv6.accept_dad", "0"),
        ("ipv6.accept_redirects", "1"),
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


FORWARDING = ("forwarding", "ipv6.forwarding", "ipv6.force_forwarding")


@pytest.mark.parametrize("key", FORWARDING)
@pytest.mark.parametrize("parent", ["0", "1"])
async def test_new_link_forwards_if_its_parent_does_whatever_the_default(kernel: Kernel, key: str, parent: str) -> None:
    skip_without(key)
    # "all" first: it sets the others.
    for link, value in (("all", "0"), ("default", str(1 - int(parent))), ("eth0", parent)):
        write(key, value, link)
    await converge(kernel, desired())
    assert read(key) == parent
    assert (read(key, "eth0"), read(key, "default")) == (parent, str(1 - int(parent))), "only the link is changed"


@pytest.mark.parametrize("key", FORWARDING)
async def test_link_follows_a_later_change_of_its_parent(kernel: Kernel, key: str) -> None:
    skip_without(key)
    write(key, "0", "eth0")
    await converge(kernel, desired())
    for value in ("1", "0"):
        write(key, value, "eth0")
        assert kernel.sysctls_changed(), "so the agent is woken"
        await converge(kernel, desired())
        assert read(key) == value


@pytest.mark.parametrize(("key", "link"), [("forwarding", "eth0"), ("ipv6.forwarding", "eth0"), ("forwarding", "tmp0")])
async def test_changed_forwarding_wakes_the_agent_by_a_notification(kernel: Kernel, key: str, link: str) -> None:
    skip_without(key)
    write(key, "0", "eth0")
    await converge(kernel, desired())
    woken = asyncio.Event()
    monitor = asyncio.create_task(Monitor(MARK.protocol, woken.set).run())
    async with asyncio.timeout(10):
        await woken.wait()
        woken.clear()
        write(key, "1", link)
        await woken.wait()
    monitor.cancel()


async def test_parent_is_kept_from_using_the_overlay_address_in_arp(kernel: Kernel) -> None:
    for key in ("arp_ignore", "arp_announce"):
        write(key, "0", "eth0")
    await converge(kernel, desired())
    assert (read("arp_ignore", "eth0"), read("arp_announce", "eth0")) == ("1", "1")
    for key in ("arp_ignore", "arp_announce"):
        write(key, "2", "eth0")
    await converge(kernel, desired())
    assert (read("arp_ignore", "eth0"), read("arp_announce", "eth0")) == ("2", "2")


async def test_ipv6_address_is_set_although_ipv6_is_disabled_by_default(kernel: Kernel) -> None:
    skip_without("ipv6.disable_ipv6")
    write("ipv6.disable_ipv6", "1", "default")
    await converge(kernel, desired())
    assert read("ipv6.disable_ipv6") == "1", "not needed"
    for action in plan_kernel(desired(address="fd00:7::4/64"), await kernel.observe(LINKS), MARK).actions:
        await kernel.apply(action)
    assert "fd00:7::4/64" in ip("address", "show", "tmp0")


async def test_default_route_of_a_router_advertisement_survives_ipv6_forwarding_of_the_link(kernel: Kernel) -> None:
    """The kernel deletes such routes of every interface when any interface becomes a router."""
    skip_without("ipv6.forwarding")
    ip("link", "add", "eth1", "type", "veth", "peer", "name", "router1")
    for link in ("eth0", "default"):
        write("ipv6.forwarding", "1" if link == "eth0" else "0", link)
    write("ipv6.accept_ra", "1", "eth1")
    for link in ("eth1", "router1"):
        ip("link", "set", link, "up")
    await until(lambda: "tentative" not in ip("-6", "address", "show", "router1", "scope", "link"), "router1 is ready")
    await until(lambda: advertise("router1") and "proto ra" in ip("-6", "route", "show", "default"), "there is a route")
    await converge(kernel, desired())
    assert "proto ra" in ip("-6", "route", "show", "default")
    assert read("ipv6.forwarding") == "0"
    write("ipv6.forwarding", "1")
    assert "proto ra" not in ip("-6", "route", "show", "default"), "the kernel's behaviour behind this"
    write("ipv6.forwarding", "0")
    await converge(kernel, desired())
    assert read("ipv6.forwarding") == "1", "there is nothing to lose any more"


def advertise(link: str) -> bool:
    """Send a router advertisement with a lifetime of half an hour (RFC 4861 4.2); False if the link is not ready."""
    message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as router:
        router.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
        router.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        try:
            router.sendto(message, ("ff02::1", 0, 0, socket.if_nametoindex(link)))
        except OSError:
            return False
    return True


def skip_without(key: str) -> None:
    if not file(key, "eth0").exists():
        pytest.skip(f"the kernel has no sysctl {key}")
