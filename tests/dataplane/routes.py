"""Routes for tests: any that the encoder supports, and those that `ip` shows."""

import json
from collections.abc import Sequence
from ipaddress import IPv4Network, ip_address, ip_network
from typing import Any

from hypothesis import strategies as st

from overlay_net.model.net import IpNetwork
from overlay_net.model.route import NextHop, Route, RouteKind
from tests.fakes.netns import ip

ON_LINK = {4: ("10.176.162.129", "10.176.162.130", "10.176.162.131"), 6: ("fd00:7::1", "fd00:7::3", "fd00:7::4")}
OFF_LINK = {4: ("10.99.0.1", "10.99.0.2"), 6: ("fd00:9::1", "fd00:9::2")}
SOURCE = {4: ip_address("10.176.162.151"), 6: ip_address("fd00:7::2")}
KINDS: dict[str, RouteKind] = {"1": "unicast", "6": "blackhole", "7": "unreachable", "8": "prohibit"}


def prepare() -> None:
    """Add an IPv6 subnet to the IPv4 one of the fixture eth0."""
    ip("address", "add", "fd00:7::2/64", "dev", "eth0", "nodad")


def index(name: str) -> int:
    return int(json.loads(ip("-j", "link", "show", name))[0]["ifindex"])


def numbered(number: int, gateway: str, link: int, **more: Any) -> Route:
    """One of 65,536 routes: 11.x.y.0/24."""
    subnet = IPv4Network((int(ip_address("11.0.0.0")) + number * 256, 24))
    return Route(subnet, (NextHop(ip_address(gateway), link),), more.pop("protocol", 117), **more)


@st.composite
def routes(draw: st.DrawFn, link: int, versions: tuple[int, ...] = (4, 6)) -> Route:
    """Routes that the kernel accepts over a link with the subnets of ``prepare``; next hops are in Route's order."""
    version = draw(st.sampled_from(versions))
    kind: RouteKind = draw(st.sampled_from(("unicast", "unicast", "blackhole", "unreachable", "prohibit")))
    metric = draw(st.sampled_from((0, 1, 77, 2**32 - 1) if version == 4 else (1, 77, 1024, 2**32 - 1)))
    table = draw(st.sampled_from((254, 254, 1, 252, 253, 256, 1000, 2**32 - 1)))
    subnet = draw(_subnets(version))
    if kind != "unicast":
        return Route(subnet, (), 117, metric, None, table, kind)
    hops = draw(_hops(version, link))
    source = draw(st.sampled_from((None, SOURCE[version])))
    mtu, advmss = draw(st.sampled_from((0, 1280, 65520))), draw(st.sampled_from((0, 1220, 65495)))
    return Route(subnet, hops, 117, metric, source, table, kind, mtu, advmss)


@st.composite
def _subnets(draw: st.DrawFn, version: int) -> IpNetwork:
    bits = 32 if version == 4 else 128
    # In 11.0.0.0/8 or fd11::/16, apart from the subnets of the link; or a default route.
    prefix = draw(st.sampled_from((0, 8, 9, 24, 31, 32) if version == 4 else (0, 16, 17, 64, 127, 128)))
    if prefix == 0:
        return ip_network("0.0.0.0/0" if version == 4 else "::/0")
    base = ip_network("11.0.0.0/8" if version == 4 else "fd11::/16")
    rest = draw(st.integers(0, 2 ** (prefix - base.prefixlen) - 1)) << (bits - prefix)
    return ip_network((int(base.network_address) + rest, prefix))


@st.composite
def _hops(draw: st.DrawFn, version: int, link: int) -> tuple[NextHop, ...]:
    count = draw(st.sampled_from((1, 1, 2, 3)))
    if count == 1 and draw(st.booleans()):
        choices = (None,) if version == 6 else (None, ON_LINK[6][0])
        gateway = draw(st.sampled_from(choices))
        return (NextHop(ip_address(gateway) if gateway else None, link),)
    off_link = OFF_LINK[version]
    chosen = draw(st.lists(st.sampled_from(ON_LINK[version] + off_link), min_size=count, max_size=count, unique=True))
    weights = draw(st.lists(st.integers(1, 256), min_size=count, max_size=count))
    hops = [
        NextHop(ip_address(gateway), link, weight if count > 1 else 1, gateway in off_link)
        for gateway, weight in zip(chosen, weights, strict=True)
    ]
    return tuple(sorted(hops, key=lambda hop: int(hop.gateway or 0)))


def flush(protocol: int = 117) -> None:
    for family in ("-4", "-6"):
        ip(family, "route", "flush", "table", "all", "proto", str(protocol))


def unique(many: Sequence[Route]) -> list[Route]:
    """One route of each key."""
    return list({route.key: route for route in many}.values())


def shown(protocol: int = 117) -> set[Route]:
    """The routes of all tables as `ip` shows them."""
    links = {each["ifname"]: each["ifindex"] for each in json.loads(ip("-j", "link"))}
    return {
        _route(entry, version, links)
        for version in (4, 6)
        for entry in json.loads(ip(f"-{version}", "-j", "-d", "-N", "route", "show", "table", "all"))
        if entry["protocol"] == str(protocol)
    }


def _route(entry: dict[str, Any], version: int, links: dict[str, int]) -> Route:
    default = "0.0.0.0/0" if version == 4 else "::/0"
    kind = KINDS.get(entry["type"])
    hops = [
        NextHop(
            ip_address(text) if (text := hop.get("gateway") or hop.get("via", {}).get("host")) else None,
            links[hop["dev"]],
            hop.get("weight", 1),
            "onlink" in hop["flags"],
        )
        for hop in (entry.get("nexthops", [entry]) if kind == "unicast" else [])
    ]
    metrics = entry.get("metrics", [{}])[0]
    return Route(
        ip_network(default if entry["dst"] == "default" else entry["dst"]),
        tuple(sorted(hops, key=lambda hop: int(hop.gateway or 0))),
        int(entry["protocol"]),
        entry.get("metric", 0),
        ip_address(entry["prefsrc"]) if "prefsrc" in entry else None,
        int(entry.get("table", 254)),
        kind,
        metrics.get("mtu", 0),
        metrics.get("advmss", 0),
    )
