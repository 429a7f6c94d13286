"""Probes of a target along the kernel's routes."""

from collections.abc import AsyncIterator
from ipaddress import ip_address

import pytest

from lab.net.namespaces import Namespace
from overlay_net.agent.route_probes import probe_target
from overlay_net.model.route_probe import Probe
from tests.dataplane.neighbours import Lan, lan
from tests.dataplane.test_gateway_health import PORT, serving
from tests.fakes.netns import ip
from tests.fakes.until import until

__all__ = ["lan"]

OURS = {4: ip_address("192.168.100.4"), 6: ip_address("fd00:7::4")}


@pytest.fixture
async def gateway(lan: Lan) -> AsyncIterator[Namespace]:
    """Reachable at 192.168.100.1 and fd00:7::1; it also has 10.5.0.9, behind a route."""
    ip("address", "add", "192.168.100.4/24", "dev", "tmp0")
    ip("address", "add", "fd00:7::4/64", "dev", "tmp0", "nodad")
    machine = lan.machine("gateway", "192.168.100.1/24", "fd00:7::1/64", "10.5.0.9/32")
    ip("route", "add", "10.5.0.0/16", "via", "192.168.100.1")
    await until(lambda: "LOWER_UP" in ip("link", "show", "tmp0"), "tmp0 has a carrier")
    yield machine


@pytest.mark.parametrize("target", ["10.5.0.9", "fd00:7::1"])
@pytest.mark.parametrize("version", [None, 4, 6])
async def test_icmp_probe_is_answered(gateway: Namespace, target: str, version: int | None) -> None:
    source = OURS[version] if version else None
    assert await probe_target(Probe(ip_address(target), timeout=5), source) == ""


async def test_tcp_probe_is_answered_only_while_a_server_listens(gateway: Namespace) -> None:
    probe = Probe(ip_address("192.168.100.1"), PORT, timeout=1)
    assert await probe_target(probe, OURS[4]) == f"tcp 192.168.100.1:{PORT} did not answer within 1 s"
    with serving(gateway):
        assert await probe_target(Probe(ip_address("192.168.100.1"), PORT, timeout=5), OURS[4]) == ""


async def test_failed_probe_reports_the_kernels_error(gateway: Namespace) -> None:
    message = await probe_target(Probe(ip_address("10.6.0.9"), timeout=1), OURS[4])
    assert message.startswith("icmp 10.6.0.9 did not answer within 1 s (")
    assert "unreachable" in message
    ip("route", "replace", "blackhole", "10.5.0.0/16")
    assert "did not answer" in await probe_target(Probe(ip_address("10.5.0.9"), timeout=1), OURS[4])
