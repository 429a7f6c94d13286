"""One probe of one gateway: how to send it, its timeout, and the message for a failure."""

from typing import Final, Protocol

from overlay_net.adapters.neighbours import Mac, is_running
from overlay_net.adapters.ping import connects, echo
from overlay_net.domain.kernel.gateway_health import Target
from overlay_net.model.desired_route import HealthCheck
from overlay_net.model.errors import KernelError
from overlay_net.model.net import IpAddress

TIMEOUT_SHARE: Final = 0.4
SHORTEST_TIMEOUT: Final = 0.1
LONGEST_TIMEOUT: Final = 2.0


class Resolve(Protocol):
    """Returns the MAC that answers for ``target`` on the link, or None. Raises KernelError if unknown."""

    async def __call__(self, link: str, target: IpAddress, source: IpAddress, timeout: float) -> Mac | None: ...


class GatewayProbe(Protocol):
    """Returns whether the gateway answered. Raises KernelError if this node could not send the probe."""

    async def __call__(self, target: Target, timeout: float) -> bool: ...


def gateway_probe(resolve: Resolve) -> GatewayProbe:
    """Make a probe by ARP (IPv6: neighbour solicitation), ICMP echo or TCP connect, according to the target's check."""

    async def probe(target: Target, timeout: float) -> bool:
        require_running(target.link)
        match target.check.kind:
            case "arp":
                answered = await resolve(target.link, target.address, target.source, timeout) is not None
            case "icmp":
                answered = await echo(target.address, target.source, target.link, timeout)
            case "tcp":
                answered = await connects(target.address, target.check.port, target.source, target.link, timeout)
            case "none":
                return True
        if not answered:
            # The link may have gone down in the meantime; a missing answer then proves nothing about the gateway.
            require_running(target.link)
        return answered

    return probe


def require_running(link: str) -> None:
    """Raises KernelError unless the link is up and has a carrier."""
    if not is_running(link):
        raise KernelError(f"{link} is down or has no carrier")


def probe_timeout(check: HealthCheck) -> float:
    """Seconds."""
    return min(max(check.interval * TIMEOUT_SHARE, SHORTEST_TIMEOUT), LONGEST_TIMEOUT)


def describe_failure(target: Target) -> str:
    match target.check.kind:
        case "tcp":
            return f"no TCP connection to port {target.check.port} on {target.link}"
        case "icmp":
            return f"no answer to ICMP echo on {target.link}"
        case _:
            return f"no answer to {'ARP' if target.address.version == 4 else 'neighbour solicitation'} on {target.link}"
