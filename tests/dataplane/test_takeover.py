"""The earlier operator's node is taken over while traffic flows, and handed back: no packet is lost."""

import subprocess
from ipaddress import ip_interface

from lab.net.traffic import Stream
from overlay_net.adapters.netlink import Kernel
from overlay_net.model.names import FINALIZER
from tests.dataplane.conftest import MARK
from tests.dataplane.edge import ON_PREMISE, Edge, edge, netns, require
from tests.docs.blocks import find_command
from tests.fakes.earlier_operator import GATEWAY, OVERLAY, Installation, entry
from tests.fakes.netns import ip
from tests.unit.factories import raw_static_route

__all__ = ["edge", "netns"]

GUIDE = "docs/how-to/migrate.md"
SUBNETS = ("192.168.0.0/24", "172.20.0.0/16", "172.21.0.0/16")


class Here:
    """This test's network namespace."""

    name = "here"

    def popen(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


def shell(script: str) -> None:
    subprocess.run(["sh", "-ec", script], check=True)


def stream_to(edge: Edge) -> Stream:
    # The gateway is the on-premise host as well: it answers from that address.
    edge.gateway.ip("route", "replace", "192.168.100.0/24", "dev", "inner", "src", ON_PREMISE)
    return Stream(Here(), ON_PREMISE, rate=1000)


def leave_as_the_earlier_operator() -> None:
    """Its link, address and routes: a macvlan without alias, and routes of protocol boot without a source."""
    ip("link", "add", "tmp0", "link", "eth0", "type", "macvlan", "mode", "bridge")
    ip("address", "add", OVERLAY, "dev", "tmp0")
    ip("link", "set", "tmp0", "up")
    for subnet in SUBNETS:
        ip("route", "add", subnet, "via", GATEWAY, "dev", "tmp0")


def routes(protocol: str) -> set[str]:
    """The subnets routed over the overlay link."""
    return {line.split()[0] for line in ip("route", "show", "dev", "tmp0", "proto", protocol).splitlines()}


async def test_a_node_with_traffic_is_taken_over_and_handed_back_without_a_lost_packet(edge: Edge) -> None:
    require("macvlan")
    leave_as_the_earlier_operator()
    by_hand = "172.31.0.0/16"
    ip("route", "add", by_hand, "via", GATEWAY, "dev", "tmp0")
    index = ip("link", "show", "tmp0").split(":")[0]
    stream = stream_to(edge)
    raw = [
        raw_static_route(f"r{number}", subnet, status={"nodeStatus": [entry()]})
        for number, subnet in enumerate(SUBNETS)
    ]
    raw[1]["metadata"]["finalizers"] = [FINALIZER]
    async with Kernel(MARK) as kernel:
        installation = await Installation.start(kernel, *raw)
        await installation.settle()
        assert await installation.is_taken_over()
        assert routes("117") == set(SUBNETS)
        assert routes("boot") == {by_hand}, "nothing proves whose this is"
        await installation.change("r2", gateway="192.168.100.254")
        await installation.cluster.remove_route("r1")
        await installation.settle()
        assert routes("117") == {SUBNETS[0], SUBNETS[2]}
        assert "via 192.168.100.254" in ip("route", "show", SUBNETS[2])
    # The way back.
    shell(find_command(GUIDE, "ip -oneline route show proto 117"))
    shell(find_command(GUIDE, "ip link set dev tmp0"))
    lost = stream.stop()
    assert lost.sent
    assert lost.lost == 0
    assert routes("117") == set()
    assert routes("boot") == {SUBNETS[0], SUBNETS[2], by_hand}
    assert ip("link", "show", "tmp0").split(":")[0] == index, "the link was never replaced"
    assert str(ip_interface(OVERLAY)) in ip("address", "show", "tmp0")


async def test_the_command_in_the_message_hands_a_route_of_an_unknown_owner_over(edge: Edge) -> None:
    require("macvlan")
    leave_as_the_earlier_operator()
    stream = stream_to(edge)
    async with Kernel(MARK) as kernel:
        installation = await Installation.start(kernel, raw_static_route("r0", SUBNETS[0]))
        await installation.settle()
        (failure,) = installation.reports[-1].failures
        assert failure.reason == "ForeignRoute"
        assert routes("boot") == set(SUBNETS)
        shell(failure.message.partition("run: ")[2])
        await installation.settle()
        assert not installation.reports[-1].failures
        assert f"src {ip_interface(OVERLAY).ip}" in ip("route", "show", SUBNETS[0], "proto", "117")
        # All routes of one gateway at once. Those of no StaticRoute are removed then.
        before = ip("route", "show", SUBNETS[1])
        shell(find_command(GUIDE, "ip route show table main proto boot"))
        assert ip("route", "show", SUBNETS[1]) == before.replace("dev tmp0", "dev tmp0 proto 117")
        await installation.settle()
    lost = stream.stop()
    assert lost.sent
    assert lost.lost == 0
    assert routes("boot") == set()
    assert routes("117") == {SUBNETS[0]}
