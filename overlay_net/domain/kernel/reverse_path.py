"""Warns that a strict reverse path filter drops packets to the private addresses of this node.

With ``rp_filter=1`` an interface accepts a packet only if the route back to its source is over the same interface
(RFC 3704, ip-sysctl.rst). A StaticRoute over the overlay link changes that route for all hosts of its subnet.
"""

from collections.abc import Mapping

from overlay_net.domain.kernel.ownership import owns_policy_rule
from overlay_net.domain.kernel.private_routing import private_addresses
from overlay_net.model.conditions import PRIVATE_ADDRESS_REACHABLE, Condition
from overlay_net.model.kernel import Desired, Observed, OwnershipMark
from overlay_net.model.kernel_actions import KernelPlan
from overlay_net.model.net import IpNetwork
from overlay_net.model.route import MAIN_TABLE

STRICT = 1


def private_address_condition(
    desired: Desired, observed: Observed, plan: KernelPlan, mark: OwnershipMark
) -> tuple[Condition, ...]:
    """PrivateAddressReachable, which exists only while packets from the subnet of a StaticRoute are dropped."""
    link = desired.link
    parent = observed.find_link(link.parent) if link is not None else None
    if link is None or parent is None or link.kind == "address" or effective(observed.sysctls, parent.name) != STRICT:
        return ()
    subnet = _first_subnet(plan, link.name)
    if subnet is None:
        return ()
    ruled = {rule.source.network_address for rule in observed.rules if owns_policy_rule(rule, mark) and rule.source}
    dropped = [each for each in private_addresses(observed, mark, parent) if each.version == 4 and each not in ruled]
    if not dropped:
        return ()
    sysctl = f"net.ipv4.conf.{parent.name}.rp_filter"
    setting = "agent.settings.private_source_routing to true"
    fix = f"set {setting}, or {sysctl} to 2" if desired.private is None else f"see Configured, or set {sysctl} to 2"
    message = (
        f"{parent.name} has a strict rp_filter and drops packets from {subnet} to {min(dropped)}, because StaticRoutes "
        f"lead back over {link.name}; {fix}"
    )
    return (Condition(PRIVATE_ADDRESS_REACHABLE, False, "StrictReversePathFilter", message),)


def effective(sysctls: Mapping[tuple[str, str], str], link: str) -> int:
    """Return the value that the kernel uses: the maximum of that for all links and that of the link; 0: not known."""
    values = (sysctls.get((each, "rp_filter"), "0") for each in ("all", link))
    return max(int(value) if value.isdigit() else 0 for value in values)


def _first_subnet(plan: KernelPlan, link: str) -> IpNetwork | None:
    """Return the first IPv4 subnet that is routed over the link; the kernel has no such filter for IPv6."""
    return next(
        (
            route.subnet
            for route, device in plan.placed
            if device == link and route.version == 4 and route.spec.table == MAIN_TABLE
        ),
        None,
    )
