"""Sysctls that the overlay link holds, and those of its parent that keep the overlay address on the link.

A new link starts with the values of ``default``, whatever its parent has. Whether the overlay link forwards is
therefore taken over from the parent, on every observation.
"""

from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Final

from overlay_net.model.kernel import Desired, Link, Observed
from overlay_net.model.kernel_actions import SetSysctl
from overlay_net.model.route import RTPROT_RA

LINK_SYSCTLS: Final[Mapping[str, str]] = {
    # Loose: an on-premise host may open a connection from a subnet that none of our routes covers. The kernel uses the
    # maximum of "all" and the link, so a strict "all" cannot override this (ip-sysctl.rst, rp_filter).
    "rp_filter": "2",
    # Answer ARP only for addresses of this link, and announce only these (ip-sysctl.rst, arp_ignore, arp_announce).
    "arp_ignore": "1",
    "arp_announce": "2",
    # Nor for what this node could forward: with forwarding, it would answer for every address of its other networks.
    "proxy_arp": "0",
    # Otherwise the kernel deletes the secondary addresses of a subnet together with the primary one.
    "promote_secondaries": "1",
    # StaticRoutes alone decide the gateway of a subnet, here and on other hosts of the overlay subnet.
    "accept_redirects": "0",
    "send_redirects": "0",
    "ipv6.accept_redirects": "0",
    # A router of the private network must not configure addresses and a default route on the overlay link
    # (ip-sysctl.rst, accept_ra); duplicate address detection precedes the use of an address (accept_dad, RFC 4862).
    "ipv6.accept_ra": "0",
    "ipv6.accept_dad": "1",
}

IPV6_FORWARDING: Final = "ipv6.forwarding"

PARENT_SYSCTLS: Final = (
    "forwarding",
    # Whether this node is a router for IPv6 neighbours. Whether it forwards is decided by "all", or since Linux 6.17
    # also by force_forwarding of the link (ip6_forward in net/ipv6/ip6_output.c).
    IPV6_FORWARDING,
    "ipv6.force_forwarding",
)
"""Sysctls of the overlay link whose value is that of its parent."""

IPV6_SYSCTLS: Final[Mapping[str, str]] = {"ipv6.disable_ipv6": "0"}
"""Sysctls of a link with an IPv6 address; otherwise the node decides whether its links have IPv6."""

PROTECTING_SYSCTLS: Final = ("arp_ignore", "arp_announce")
"""Sysctls of the parent that are raised from 0 to 1. Otherwise it answers ARP for the overlay address with its own MAC,
or sends ARP requests from it, and neighbours learn the wrong MAC. IPv6 has no counterpart: a link solicits from, and
advertises, its own addresses only.
"""

DEFAULT_ROUTE: Final = ip_network("::/0")


def plan_link_sysctls(
    name: str, parent: Link, desired: Desired, observed: Observed, *, new: bool = False
) -> Iterator[SetSysctl]:
    """Plan the sysctls of the link: all for a new one, else those with another value, as far as the kernel has them."""
    for key, value in _desired_sysctls(parent, desired, observed).items():
        current = None if new else observed.sysctls.get((name, key), value)
        if current != value and not (key == IPV6_FORWARDING and _deletes_default_route(value, observed)):
            yield SetSysctl(name, key, value)


def plan_parent_sysctls(parent: Link, observed: Observed) -> tuple[SetSysctl, ...]:
    """Plan the sysctls of the parent; values above 0 are left as they are."""
    return tuple(
        SetSysctl(parent.name, key, "1")
        for key in PROTECTING_SYSCTLS
        if observed.sysctls.get((parent.name, key)) == "0"
    )


def _desired_sysctls(parent: Link, desired: Desired, observed: Observed) -> dict[str, str]:
    inherited = ((key, observed.sysctls.get((parent.name, key))) for key in PARENT_SYSCTLS)
    ipv6 = desired.address is not None and desired.address.version == 6
    return {
        **LINK_SYSCTLS,
        **{key: value for key, value in inherited if value is not None},
        **(IPV6_SYSCTLS if ipv6 else {}),
    }


def _deletes_default_route(forwarding: str, observed: Observed) -> bool:
    """Return whether this value of IPV6_FORWARDING makes the kernel delete a default route of another link.

    With any value but 0 it deletes those that router advertisements have set (addrconf_fixup_forwarding). The value
    does not decide what is forwarded, so it can wait.
    """
    return forwarding != "0" and any(
        route.info.protocol == RTPROT_RA and route.subnet == DEFAULT_ROUTE for route in observed.routes
    )
