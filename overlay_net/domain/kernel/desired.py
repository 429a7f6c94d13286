"""NodeOverlayIp and this node's settings -> what its kernel must have."""

from dataclasses import dataclass, replace
from hashlib import sha256

from overlay_net.domain.kernel.parent_interface import InterfaceSelector, choose_parent, why_missing
from overlay_net.model.kernel import Desired, DesiredLink, LinkMode, MacvlanMode, Observed, OwnershipMark
from overlay_net.model.net import IpNetwork
from overlay_net.model.overlay import NodeOverlay
from overlay_net.model.policy_rule import SourceRouting, SourceTable


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """How this node carries its overlay address."""

    parent: InterfaceSelector
    name: str = "tmp0"
    mode: LinkMode = "macvlan"
    macvlan_mode: MacvlanMode = "bridge"
    mac: str = ""
    fallback: IpNetwork | None = None
    """Without a link: routes without a gateway take the one that the node uses for this subnet."""
    source: SourceTable | None = None
    """None: traffic from the overlay address goes wherever the main table says."""


def link_config_for(overlay: NodeOverlay | None, rules: LinkConfig) -> LinkConfig:
    """The rules of this node as its object has them: without a link where it says that there are routes only."""
    return replace(rules, mode="none") if overlay is not None and overlay.routes_only else rules


def stable_mac(node: str, link: str) -> str:
    """The MAC of a node's macvlan: a link that is made anew keeps its own, and so do the neighbours' caches.

    Of the first byte's two lowest bits, "locally administered" is set and "group" is not (IEEE 802, 8.2.2).
    """
    digest = sha256(f"{node}/{link}".encode()).digest()[:6]
    return bytes([digest[0] & 0xFC | 0x02, *digest[1:]]).hex(":")


def desired_link(rules: LinkConfig, observed: Observed, mark: OwnershipMark) -> DesiredLink:
    """Where the overlay address belongs, on the interface that is there now."""
    parent = choose_parent(rules.parent, observed, mark, rules.name) or ""
    missing = "" if parent else why_missing(rules.parent)
    match rules.mode:
        case "address":
            return DesiredLink(parent, parent, "address", missing=missing)
        case "none":
            return DesiredLink("", parent, "none", missing=missing)
        case "ipvlan":
            return DesiredLink(rules.name, parent, "ipvlan", missing=missing)
        case _:
            return DesiredLink(rules.name, parent, "macvlan", rules.macvlan_mode, rules.mac, missing)


def desired_state(
    overlay: NodeOverlay | None,
    link: DesiredLink,
    fallback: IpNetwork | None = None,
    source: SourceTable | None = None,
) -> Desired:
    """All that the kernel must have; nothing once the object is confirmed gone or is being deleted.

    An object that shows no address for a moment says nothing about the address that this node reported as its own:
    it is kept. The address goes only with the object.
    """
    if overlay is None or overlay.deleting:
        return Desired()
    if link.kind == "none":
        return Desired(routes=overlay.routes, interface=link.parent, fallback=fallback)
    address = overlay.assignment.address or overlay.report.configured
    return Desired(
        link=link if address is not None else None,
        address=address,
        routes=overlay.routes,
        interface=link.parent,
        source=SourceRouting(source, overlay.assignment.gateway)
        if source is not None and address is not None
        else None,
    )
